// Tests the page through the real driver: it is mapped, readable by the right users, equal to the driver's own
// `read`, and true.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { withGuest } from '../guest.mjs'
import { compareFields, inShell, program, trueReading } from '../in-guest.mjs'
import { pairWithHost } from '../page.mjs'

const PAUSE_MS = 1000

export const inGuest = {
  async 'the driver gives the page to root only, and registers a PTP clock'(guest) {
    const shown = await inShell(
      guest,
      'stat -c %a:%u:%F /dev/vmclock0 && cat /sys/class/ptp/ptp0/clock_name && ls /dev/ptp0',
    )
    assert.deepEqual(shown, ['600:0:character special file', 'vmclock0', '/dev/ptp0'])
  },

  async 'the interval of a reading contains the true time'(guest) {
    const { maxErrorNs } = await trueReading(guest, 'uapi')
    // A very wide bound would contain anything.
    assert.ok(maxErrorNs < 50_000_000n, `a bound of ${maxErrorNs} ns`)
  },

  async 'the udev rule in the error is all that a user without root needs'(guest) {
    assert.deepEqual(await program(guest, 'access.mjs', ['refused']), ['refused'])
    await inShell(guest, 'chmod 0444 /dev/vmclock0')
    assert.deepEqual(await program(guest, 'access.mjs', ['granted']), ['granted'])
    await inShell(guest, 'chmod 0600 /dev/vmclock0')
  },

  async 'a page of RFC PATCH v4 is read in picoseconds'(guest) {
    const { timeFields } = guest
    // The same bound in picoseconds, without the fields that came after the RFC.
    const picoseconds = { timeMaxerrorNanosec: timeFields.timeMaxerrorNanosec * 1000n }
    guest.page.write({ ...picoseconds, flags: timeFields.flags & 0xffn, vmGenerationCounter: 0n })
    const asRfc = await trueReading(guest, 'rfc-v4')
    const asReleased = await trueReading(guest, 'uapi')
    guest.page.write(timeFields)
    // Both include the same growth since the reference. The rest differs by a factor of 1,000.
    const least = timeFields.timeMaxerrorNanosec
    assert.ok(asRfc.maxErrorNs >= least)
    assert.ok(asReleased.maxErrorNs >= asRfc.maxErrorNs + 998n * least)
  },

  async 'a paused guest sees a disruption when the host corrects the page'(guest) {
    const [before] = await program(guest, 'continuity.mjs', [])
    await guest.control.execute('stop')
    await setTimeout(PAUSE_MS)
    await guest.control.execute('cont')
    // The counter paused too, so the page lags by the length of the pause until the host corrects it.
    const behind = await hostAheadNs(guest)
    assert.ok(behind > BigInt(PAUSE_MS) * 900_000n, `the page is only ${behind} ns behind`)
    assert.deepEqual(await program(guest, 'continuity.mjs', [before]), ['continuous'])
    await guest.writeTime({ disruptionMarker: BigInt(before) + 1n })
    assert.deepEqual(await program(guest, 'continuity.mjs', [before]), ['disrupted'])
    await trueReading(guest, 'uapi')
  },

  async 'snapshot() has the same fields as pread of the device, beside a live writer'(guest) {
    const shown = await compareFields(guest, { comparisons: 2000, updates: 200 })
    console.log(`    ${shown.join('\n    ')}`)
  },

  async 'a page with only a marker supports continuity and refuses the time'(guest) {
    const { timeFields } = guest
    guest.removeTime()
    guest.page.write({ disruptionMarker: 41n })
    const shown = await program(guest, 'marker-only.mjs', [], (text) => {
      if (text === 'token\n') guest.page.write({ disruptionMarker: 42n })
    })
    assert.deepEqual(shown, ['token', 'disrupted'])
    guest.page.write(timeFields)
  },

  async 'beside a page with only a marker a clock makes its own page, which the device guards'(
    guest,
  ) {
    const { timeFields } = guest
    guest.removeTime()
    guest.page.write({ disruptionMarker: 51n })
    const shown = await program(guest, 'process-page.mjs', [], (text) => {
      if (text === 'token\n') guest.page.write({ disruptionMarker: 52n })
    })
    assert.deepEqual(shown, ['token', 'disrupted'])
    guest.page.write(timeFields)
  },
}

export const ownGuests = {
  'two devices are two independent pages'(prepared) {
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
