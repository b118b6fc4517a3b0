// The kernel's PTP clock of the page: it and this package tell the same time, and every call of
// `PtpClock` does, or refuses, what it promises.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { rootFolder } from '../../tools/command.mjs'
import { withGuest } from '../guest.mjs'
import { inShell, program } from '../in-guest.mjs'
import { continued, lineOf, wandering } from '../line.mjs'
import { FLAGS } from '../page.mjs'
import { counterBounds, withUpdates } from '../updates.mjs'

// How many readings of ours are compared with the kernel's, over how many pages at least.
const READINGS = 10_000
const UPDATES = 200

// How far the pages' periods are off that never step back.
const WANDER_PPM = 100_000

// How many pages follow one of theirs at once, and how often.
const BURST = 200
const ONE_BURST_IN = 5

const NS_PER_S = 1_000_000_000n

export const inGuest = {
  async 'every reading lies between two of the kernel’s, over pages that never step back'(guest) {
    const told = guest.timeFields
    const where = await counterBounds(guest)
    let line = lineOf(told)
    // Each reference is far from the last, so that one page's with another's time is a wrong time.
    const goOn = (period, counters) => {
      const behind = BigInt(randomInt(2 ** 40))
      line = continued(line, period, counters, counters.least - behind)
      return { ...line, counterValue: BigInt.asUintN(64, line.counterValue) }
    }
    const next = () => {
      const counters = where()
      // By so much that a step back would be longer than the time between two readings.
      const period = wandering(told.counterPeriodFracSec, WANDER_PPM)
      const page = goOn(period, counters)
      // At the same period it goes on from wherever the counter is.
      const following = randomInt(ONE_BURST_IN) === 0 ? BURST : 0
      return { ...page, atOnce: Array.from({ length: following }, () => goOn(period, counters)) }
    }
    await agreement(guest, 'steadily', next)
  },

  async 'over pages that step and stand half written as well, where the page stood still'(guest) {
    const told = guest.timeFields
    const where = await counterBounds(guest)
    await agreement(guest, 'anyhow', () => anyTime(told, where()))
  },

  async 'cross timestamps lie on the line of systemOffset(), within both bounds'(guest) {
    const told = guest.timeFields
    guest.page.write({ timeMaxerrorNanosec: 0n, counterPeriodMaxerrorRateFracSec: 0n })
    const shown = await program(guest, 'ptp-offsets.mjs', ['1000']).finally(() =>
      guest.page.write(told),
    )
    console.log(`    ${shown}`)
  },

  async 'every call on the page’s PTP clock is true, and phc_ctl tells the same'(guest) {
    const shown = await program(guest, 'ptp-calls.mjs', [])
    console.log(`    ${shown}`)
  },

  async 'an update that does not end is ERR_VMCLOCK_TIMEOUT, an unreliable clock refused'(guest) {
    guest.page.begin()
    await refusal(guest, 'stuck').finally(() => guest.page.end())
    const told = guest.timeFields
    guest.page.write({ clockStatus: 4 })
    await refusal(guest, 'unreliable').finally(() => guest.page.write(told))
  },

  async 'a user who is not root is told the PTP clock’s udev rule, and needs no more'(guest) {
    await refusal(guest, 'refused')
    await inShell(guest, 'chmod 0444 /dev/ptp0')
    await refusal(guest, 'granted').finally(() => inShell(guest, 'chmod 0600 /dev/ptp0'))
  },

  async 'a clocksource that is not the counter is ERR_VMCLOCK_CLOCKSOURCE, and samples work'(
    guest,
  ) {
    const list = '/sys/devices/system/clocksource/clocksource0/available_clocksource'
    const [available] = await inShell(guest, `cat ${list}`)
    if (available.trim().split(' ').length < 2) return `the only clocksource is ${available}`
    const [others] = await refusal(guest, 'clocksource')
    console.log(`    ${others}`)
  },

  async 'a clock whose driver was unbound is ERR_VMCLOCK_VANISHED, and found again when it is back'(
    guest,
  ) {
    await refusal(guest, 'gone')
  },

  async 'TAI is told from UTC by what the page knows, and of another clock as well'(guest) {
    const told = guest.timeFields
    const boundNs = (ns) => ({ timeMaxerrorNanosec: ns })
    await guest
      .converse('ptp-timescale.mjs', [], async (ask) => {
        const expect = async (fields, own, other) => {
          guest.page.write({ ...told, ...fields })
          const answers = (await ask()).split(' ')
          assert.deepEqual(answers, [own, other], JSON.stringify(fields, String))
        }
        // Free-running from 1970.
        await expect(boundNs(10n * NS_PER_S), 'tai', 'undefined')
        // Set to CLOCK_REALTIME, which the emulated machine's own clock set to the second.
        await expect(boundNs(10n * NS_PER_S), 'tai', 'utc')
        await expect(boundNs(40n * NS_PER_S), 'undefined', 'undefined')
        // Without a bound a clock that is merely close is not told.
        await expect({ flags: told.flags & ~FLAGS.TIME_MAXERROR_VALID }, 'tai', 'undefined')
        await expect({ flags: told.flags & ~FLAGS.TAI_OFFSET_VALID }, 'tai', 'undefined')
        // By which the driver takes the page's UTC for TAI, and this package does not.
        await expect({ timeType: 0, taiOffsetSec: 0 }, 'utc', 'undefined')
        await expect({ clockStatus: 0 }, ...twice('ERR_VMCLOCK_UNSYNCHRONIZED'))
        await expect({ counterId: 0xff }, ...twice('ERR_VMCLOCK_NO_TIME'))
      })
      .finally(() => guest.page.write(told))
  },

  async 'vmclock ptp shows the clock, and says so in JSON'(guest) {
    const cli = 'node /node_modules/vmclock/dist/cli.cjs ptp'
    const [line] = await inShell(guest, `${cli} --json --samples 3`)
    const shown = JSON.parse(line)
    assertFits('ptp', shown)
    assert.equal(`${shown.path} ${shown.name}`, '/dev/ptp0 vmclock0')
    assert.equal(`${shown.timescale} ${shown.page}`, 'tai /dev/vmclock0')
    assert.equal(shown.capabilities.crossTimestamping, true)
    assert.equal(shown.samples.length, 3)
    const { deviceNs, realtimeNs, monotonicRawNs } = shown.crossTimestamp
    for (const ns of [shown.nowNs, deviceNs, realtimeNs, monotonicRawNs]) assert.match(ns, /^\d+$/)
    assert.ok(BigInt(shown.nowNs) <= BigInt(deviceNs))

    const text = (await inShell(guest, `${cli} /dev/ptp0`)).join('\n')
    assert.match(text, /\btime +\S+ TAI\b/)
    assert.match(text, /\btimescale +TAI, by \/dev\/vmclock0/)
  },

  async 'what docs/ptp.md shows does what it says'(guest) {
    const document = readFileSync(join(rootFolder, 'docs/ptp.md'), 'utf8')
    const [, block] = /^```ts\n(.*?)^```$/ms.exec(document)
    const encoded = Buffer.from(block).toString('base64')
    const shown = await inShell(
      guest,
      // In a shell of its own: the console's stays where it is.
      `(cd / && echo ${encoded} | base64 -d | node --input-type=module -)`,
    )
    // Its five samples, and the timescale last: nothing was caught.
    assert.equal(shown.at(-1), 'tai')
    assert.equal(shown.filter((line) => /^-?\d+n \d+n$/.test(line)).length, 6, shown.join('\n'))
  },
}

export const ownGuests = {
  async 'network cards’ clocks are read as any other, and say what they have not'(prepared) {
    const { cards } = prepared.machine
    if (cards === undefined) return 'network cards are shown on x86-64'
    const kernel = await cards.kernel()
    const drivers = cards.drivers.map((driver) => [basename(driver), join(kernel.modules, driver)])
    const options = { devices: cards.devices, programs: drivers }
    const withCards = { ...prepared, parts: { ...prepared.parts, ...kernel } }
    return await withGuest(withCards, options, async (guest) => {
      for (const [driver] of drivers) {
        await inShell(guest, `xz -dc ${driver} > /tmp/driver && insmod /tmp/driver`)
      }
      // The cards' clocks are set to the system's, which is right to a second or two.
      guest.page.write({ timeMaxerrorNanosec: 10n * NS_PER_S })
      const shown = await program(guest, 'ptp-cards.mjs', [])
      console.log(`    ${shown.join('\n    ')}`)
    })
  },
}

const schema = JSON.parse(readFileSync(join(rootFolder, 'docs/json.schema.json'), 'utf8'))
const ajv = new Ajv2020({ strict: true, strictRequired: false, allErrors: true })
ajv.addSchema(schema, 'schema')

function assertFits(name, value) {
  const validate = ajv.getSchema(`schema#/$defs/${name}`)
  assert.ok(validate(value), `${JSON.stringify(value)}: ${ajv.errorsText(validate.errors)}`)
}

function twice(word) {
  return [word, word]
}

async function refusal(guest, state) {
  const shown = await program(guest, 'ptp-refusals.mjs', [state])
  assert.equal(shown.at(-1), state)
  return shown
}

async function agreement(guest, mode, fields) {
  const told = guest.timeFields
  const { result, updates } = await withUpdates(guest.page, fields, () =>
    program(guest, 'ptp-agreement.mjs', [mode, `${READINGS}`, `${UPDATES}`], undefined, 150_000),
  ).finally(() => guest.page.write(told))
  const seen = JSON.parse(result.at(-1))
  console.log(
    `    ${seen.readings} readings of ${seen.looks} compared over ${seen.updates} pages of ${updates}, ${seen.exact} of them to the nanosecond and ${seen.across} across updates`,
  )
}

// Any time and any period, in any unit, from a reference that the counter has passed: the driver takes the
// distance from it for an unsigned one. Of every other the period is so small that the time stands still
// while it is read three times.
function anyTime(told, { least }) {
  const behind = BigInt(randomInt(2 ** 47))
  const divisor = BigInt(randomInt(2) === 0 ? randomInt(1, 8) : randomInt(2 ** 24, 2 ** 32))
  const coarser = randomInt(told.counterPeriodShift + 1)
  return {
    stayMs: randomInt(50) === 0 ? randomInt(5, 50) : 0,
    timeType: randomInt(2),
    taiOffsetSec: -randomInt(10, 256),
    counterValue: BigInt.asUintN(64, least - behind),
    counterPeriodShift: told.counterPeriodShift - coarser,
    // Never 0, which is no period.
    counterPeriodFracSec: (told.counterPeriodFracSec / divisor) >> BigInt(coarser) || 1n,
    timeSec: told.timeSec + BigInt(randomInt(-(2 ** 30), 2 ** 30)),
    timeFracSec: (BigInt(randomInt(2 ** 32)) << 32n) + BigInt(randomInt(2 ** 32)),
  }
}
