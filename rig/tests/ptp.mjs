// Tests the kernel's PTP clock of the page: it gives the same time as this package, and each call of `PtpClock`
// returns or throws as documented.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { rootDirectory } from '../../tools/command.mjs'
import { withCards } from '../cards.mjs'
import { inShell, program } from '../in-guest.mjs'
import { continued, lineOf, wandering } from '../line.mjs'
import { FLAGS } from '../page.mjs'
import { counterBounds, withUpdates } from '../updates.mjs'

// The least number of compared readings, and of pages.
const READINGS = 10_000
const UPDATES = 200

// The deviation of the periods of the pages that never step back.
const WANDER_PPM = 100_000

// One update in five is followed by 200 more without a pause.
const BURST = 200
const ONE_BURST_IN = 5

const NS_PER_S = 1_000_000_000n

export const inGuest = {
  async 'each reading is between two of the kernel, on pages that never step back'(guest) {
    const { timeFields } = guest
    const where = await counterBounds(guest)
    let line = lineOf(timeFields)
    // Each reference is far from the last, so a mixture of two pages gives a wrong time.
    const next = (period, counters) => {
      const behind = BigInt(randomInt(2 ** 40))
      line = continued(line, period, counters, counters.least - behind)
      return { ...line, counterValue: BigInt.asUintN(64, line.counterValue) }
    }
    const fields = () => {
      const counters = where()
      // A deviation so large that a step back would be longer than the time between two readings.
      const period = wandering(timeFields.counterPeriodFracSec, WANDER_PPM)
      const page = next(period, counters)
      // Pages with the same period can follow at any counter.
      const following = randomInt(ONE_BURST_IN) === 0 ? BURST : 0
      return { ...page, atOnce: Array.from({ length: following }, () => next(period, counters)) }
    }
    await agreement(guest, 'steadily', fields)
  },

  async 'each reading of an unchanged page is between two of the kernel, on any pages'(guest) {
    const { timeFields } = guest
    const where = await counterBounds(guest)
    await agreement(guest, 'anyhow', () => anyTime(timeFields, where()))
  },

  async 'cross timestamps agree with systemOffset() within both bounds'(guest) {
    const { timeFields } = guest
    guest.page.write({ timeMaxerrorNanosec: 0n, counterPeriodMaxerrorRateFracSec: 0n })
    const shown = await program(guest, 'ptp-offsets.mjs', ['1000']).finally(() =>
      guest.page.write(timeFields),
    )
    console.log(`    ${shown}`)
  },

  async 'each call on the page’s PTP clock is true, and phc_ctl gives the same time'(guest) {
    const shown = await program(guest, 'ptp-calls.mjs', [])
    console.log(`    ${shown}`)
  },

  async 'PTP calls report an endless update as a timeout, and refuse an unreliable clock'(guest) {
    guest.page.begin()
    await refusal(guest, 'stuck').finally(() => guest.page.end())
    const { timeFields } = guest
    guest.page.write({ clockStatus: 4 })
    await refusal(guest, 'unreliable').finally(() => guest.page.write(timeFields))
  },

  async 'the PTP clock’s udev rule in the error is all that a user without root needs'(guest) {
    await refusal(guest, 'refused')
    await inShell(guest, 'chmod 0444 /dev/ptp0')
    await refusal(guest, 'granted').finally(() => inShell(guest, 'chmod 0600 /dev/ptp0'))
  },

  async 'on another clocksource cross timestamps are refused, and samples work'(guest) {
    const list = '/sys/devices/system/clocksource/clocksource0/available_clocksource'
    const [available] = await inShell(guest, `cat ${list}`)
    if (available.trim().split(' ').length < 2) return `the only clocksource is ${available}`
    const [others] = await refusal(guest, 'clocksource')
    console.log(`    ${others}`)
  },

  async 'an unbound PTP clock is ERR_VMCLOCK_VANISHED, and is found when bound again'(guest) {
    await refusal(guest, 'gone')
  },

  async 'the page distinguishes TAI from UTC, for its own PTP clock and for others'(guest) {
    const { timeFields } = guest
    const boundNs = (ns) => ({ timeMaxerrorNanosec: ns })
    await guest
      .converse('ptp-timescale.mjs', [], async (ask) => {
        const expect = async (fields, own, other) => {
          guest.page.write({ ...timeFields, ...fields })
          const answers = (await ask()).split(' ')
          assert.deepEqual(answers, [own, other], JSON.stringify(fields, String))
        }
        // The other clock runs from 1970.
        await expect(boundNs(10n * NS_PER_S), 'tai', 'undefined')
        // It was set to CLOCK_REALTIME, which is true to a second.
        await expect(boundNs(10n * NS_PER_S), 'tai', 'utc')
        await expect(boundNs(40n * NS_PER_S), 'undefined', 'undefined')
        // Without a bound the timescale of a clock that is only close is undefined.
        await expect({ flags: timeFields.flags & ~FLAGS.TIME_MAXERROR_VALID }, 'tai', 'undefined')
        await expect({ flags: timeFields.flags & ~FLAGS.TAI_OFFSET_VALID }, 'tai', 'undefined')
        // With an offset of 0 the driver takes UTC for TAI, and this package does not.
        await expect({ timeType: 0, taiOffsetSec: 0 }, 'utc', 'undefined')
        await expect({ clockStatus: 0 }, ...twice('ERR_VMCLOCK_UNSYNCHRONIZED'))
        await expect({ counterId: 0xff }, ...twice('ERR_VMCLOCK_NO_TIME'))
      })
      .finally(() => guest.page.write(timeFields))
  },

  async 'vmclock ptp shows the clock, as text and as JSON'(guest) {
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
    assert.match(text, /\btimescale +TAI, compared with \/dev\/vmclock0/)
  },

  async 'the example in docs/ptp.md works'(guest) {
    const document = readFileSync(join(rootDirectory, 'docs/ptp.md'), 'utf8')
    const [, block] = /^```ts\n(.*?)^```$/ms.exec(document)
    const encoded = Buffer.from(block).toString('base64')
    const shown = await inShell(
      guest,
      // In a subshell, so that the console's shell keeps its directory.
      `(cd / && echo ${encoded} | base64 -d | node --input-type=module -)`,
    )
    // It prints five samples, and the timescale last, so it caught no error.
    assert.equal(shown.at(-1), 'tai')
    assert.equal(shown.filter((line) => /^-?\d+n \d+n$/.test(line)).length, 6, shown.join('\n'))
  },
}

export const ownGuests = {
  async 'PTP clocks of network cards work, and report what they do not support'(prepared) {
    return await withCards(prepared, async (guest) => {
      // The drivers set the cards' clocks to the system clock, which is true to a second or two.
      guest.page.write({ timeMaxerrorNanosec: 10n * NS_PER_S })
      const shown = await program(guest, 'ptp-cards.mjs', [])
      console.log(`    ${shown.join('\n    ')}`)
    })
  },
}

const schema = JSON.parse(readFileSync(join(rootDirectory, 'docs/json.schema.json'), 'utf8'))
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
  const { timeFields } = guest
  const { result, updates } = await withUpdates(guest.page, fields, () =>
    program(guest, 'ptp-agreement.mjs', [mode, `${READINGS}`, `${UPDATES}`], undefined, 150_000),
  ).finally(() => guest.page.write(timeFields))
  const seen = JSON.parse(result.at(-1))
  console.log(
    `    ${seen.readings} readings of ${seen.looks} compared over ${seen.updates} pages of ${updates}, ${seen.exact} of them to the nanosecond and ${seen.across} across updates`,
  )
}

// Returns a page with any time, period and shift. Its reference is before the counter, because the driver takes
// the distance for unsigned. Every second period is so small that time does not advance during three readings.
function anyTime(timeFields, { least }) {
  const behind = BigInt(randomInt(2 ** 47))
  const divisor = BigInt(randomInt(2) === 0 ? randomInt(1, 8) : randomInt(2 ** 24, 2 ** 32))
  const coarser = randomInt(timeFields.counterPeriodShift + 1)
  return {
    stayMs: randomInt(50) === 0 ? randomInt(5, 50) : 0,
    timeType: randomInt(2),
    taiOffsetSec: -randomInt(10, 256),
    counterValue: BigInt.asUintN(64, least - behind),
    counterPeriodShift: timeFields.counterPeriodShift - coarser,
    // Never 0, which is no period.
    counterPeriodFracSec: (timeFields.counterPeriodFracSec / divisor) >> BigInt(coarser) || 1n,
    timeSec: timeFields.timeSec + BigInt(randomInt(-(2 ** 30), 2 ** 30)),
    timeFracSec: (BigInt(randomInt(2 ** 32)) << 32n) + BigInt(randomInt(2 ** 32)),
  }
}
