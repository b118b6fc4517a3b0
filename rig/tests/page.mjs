// The page through the real driver: mapped, readable by whom it should be, equal to what the driver's
// own read gives, and true.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { withGuest } from '../guest.mjs'
import { compareFields, inShell, program, trueReading } from '../in-guest.mjs'
import { pairWithHost } from '../page.mjs'

const STANDSTILL_MS = 1000

export const inGuest = {
  async 'the driver offers the page to root alone, and its clock to PTP'(guest) {
    const shown = await inShell(
      guest,
      'stat -c %a:%u:%F /dev/vmclock0 && cat /sys/class/ptp/ptp0/clock_name && ls /dev/ptp0',
    )
    assert.deepEqual(shown, ['600:0:character special file', 'vmclock0', '/dev/ptp0'])
  },

  async 'a reading holds the time that the host knows'(guest) {
    const { maxErrorNs } = await trueReading(guest, 'uapi')
    // A bound so wide that it holds everything would show nothing.
    assert.ok(maxErrorNs < 50_000_000n, `a bound of ${maxErrorNs} ns`)
  },

  async 'a user who is not root is told the udev rule, and needs no more than it'(guest) {
    assert.deepEqual(await program(guest, 'access.mjs', ['refused']), ['refused'])
    await inShell(guest, 'chmod 0444 /dev/vmclock0')
    assert.deepEqual(await program(guest, 'access.mjs', ['granted']), ['granted'])
    await inShell(guest, 'chmod 0600 /dev/vmclock0')
  },

  async 'a page of RFC PATCH v4 is read in its own units'(guest) {
    const told = guest.timeFields
    // The same figure in picoseconds. What the RFC had not yet is not there.
    const picoseconds = { timeMaxerrorNanosec: told.timeMaxerrorNanosec * 1000n }
    guest.page.write({ ...picoseconds, flags: told.flags & 0xffn, vmGenerationCounter: 0n })
    const asRfc = await trueReading(guest, 'rfc-v4')
    const asReleased = await trueReading(guest, 'uapi')
    guest.page.write(told)
    // Growth since the reference is in both; the rest is a thousandfold.
    const least = told.timeMaxerrorNanosec
    assert.ok(asRfc.maxErrorNs >= least)
    assert.ok(asReleased.maxErrorNs >= asRfc.maxErrorNs + 998n * least)
  },

  async 'a guest that stood still learns of it with the page that is right again'(guest) {
    const [before] = await program(guest, 'continuity.mjs', [])
    await guest.control.execute('stop')
    await setTimeout(STANDSTILL_MS)
    await guest.control.execute('cont')
    // The counter stood still as well, and so the page lags by as much until the host corrects it.
    const behind = await hostAheadNs(guest)
    assert.ok(behind > BigInt(STANDSTILL_MS) * 900_000n, `the page is only ${behind} ns behind`)
    assert.deepEqual(await program(guest, 'continuity.mjs', [before]), ['continuous'])
    await guest.tellTime({ disruptionMarker: BigInt(before) + 1n })
    assert.deepEqual(await program(guest, 'continuity.mjs', [before]), ['disrupted'])
    await trueReading(guest, 'uapi')
  },

  async 'snapshot() is what pread of the device returns, field by field, under a live writer'(
    guest,
  ) {
    const shown = await compareFields(guest, { comparisons: 2000, updates: 200 })
    console.log(`    ${shown.join('\n    ')}`)
  },

  async 'a page with the marker only answers continuity and refuses time'(guest) {
    const told = guest.timeFields
    guest.tellNoTime()
    guest.page.write({ disruptionMarker: 41n })
    const shown = await program(guest, 'marker-only.mjs', [], (text) => {
      if (text === 'token\n') guest.page.write({ disruptionMarker: 42n })
    })
    assert.deepEqual(shown, ['token', 'disrupted'])
    guest.page.write(told)
  },
}

export const ownGuests = {
  'two devices at once are two pages'(prepared) {
    const { ownVmclock } = prepared.machine
    if (ownVmclock === undefined) return 'this machine has no device of the emulator’s own'
    return withGuest(prepared, { devices: [ownVmclock] }, async (guest) => {
      const shown = await program(guest, 'two-devices.mjs', [], (text) => {
        if (text === 'tokens\n') guest.page.write({ disruptionMarker: 2n })
      })
      console.log(`    ${shown.at(-1)}`)
    })
  },
}

async function hostAheadNs(guest) {
  const { answer, epochNs } = await guest.converse('reading.mjs', ['uapi'], pairWithHost)
  const [earliestNs] = answer.split(' ').map(BigInt)
  return epochNs - earliestNs
}
