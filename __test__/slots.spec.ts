/** The figures of one call all belong to the page as it is now, whichever call came before. */

import test from 'ava'
import { READING_KNOWN, READING_SLOT_COUNT, READING_SLOTS, Reading, VmClock } from 'vmclock'
import type { PageFields } from 'vmclock/testing'
import { KINDS } from './kinds'
import { FLAG, liveFields, open, page } from './pages'

// Numbers that look random and are the same in every run (Lehmer's, modulus 2^31 - 1).
function numbersFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state * 48271) % 0x7fffffff
    return state % below
  }
}

// Ticks of 2.6 GHz, and ticks of whole nanoseconds. From a reference of whole nanoseconds on, every tick of
// the latter lies next to a border between two results. There the fast path leaves its counter to the slow
// path.
const PERIODS = {
  uneven: { counterPeriodShift: 31, counterPeriodFracSec: 0xd3aa_2c69_8a5c_4b02n },
  whole: { counterPeriodShift: 29, counterPeriodFracSec: (1n << 93n) / 1_000_000_000n },
}

/** The slots that `readInto` has to write for a reading whose time was raised by `raisedNs`. */
function slotsOf(reading: Reading, raisedNs: bigint): bigint[] {
  const { epochNs, maxErrorNs, estErrorNs, earliestNs, latestNs } = reading
  const { ageNs, vmGeneration, taiMinusUtcSec } = reading
  const epochRaisedNs = epochNs + raisedNs
  const bits: Array<[unknown, bigint]> = [
    [maxErrorNs, READING_KNOWN.BOUND],
    [estErrorNs, READING_KNOWN.EST_ERROR],
    [vmGeneration, READING_KNOWN.VM_GENERATION],
    [taiMinusUtcSec, READING_KNOWN.TAI_MINUS_UTC],
  ]
  const known = bits.reduce((all, [figure, bit]) => (figure === undefined ? all : all | bit), 0n)
  // The raised time may lie beyond the interval's end, which is then extended to it.
  const ends = latestNs === undefined ? [-1n] : [latestNs, epochRaisedNs]
  const slots = new BigInt64Array(READING_SLOT_COUNT)
  slots[READING_SLOTS.EPOCH_NS] = epochRaisedNs
  slots[READING_SLOTS.MAX_ERROR_NS] = maxErrorNs === undefined ? -1n : maxErrorNs + raisedNs
  slots[READING_SLOTS.EST_ERROR_NS] = estErrorNs === undefined ? -1n : estErrorNs + raisedNs
  slots[READING_SLOTS.EARLIEST_NS] = earliestNs ?? -1n
  slots[READING_SLOTS.LATEST_NS] = ends.reduce((latest, end) => (end > latest ? end : latest))
  slots[READING_SLOTS.COUNTER] = reading.counter
  slots[READING_SLOTS.DISRUPTION_MARKER] = reading.disruptionMarker
  slots[READING_SLOTS.VM_GENERATION] = vmGeneration ?? -1n
  slots[READING_SLOTS.STATUS] = reading.status === 'synchronized' ? 2n : 3n
  slots[READING_SLOTS.LEAP_SECOND] = reading.leapSecond ? 1n : 0n
  slots[READING_SLOTS.TAI_MINUS_UTC_SEC] = BigInt(taiMinusUtcSec ?? -1)
  slots[READING_SLOTS.REFERENCE_NS] = epochNs - ageNs
  slots[READING_SLOTS.KNOWN] = known
  return [...slots]
}

const FLAGS = [
  FLAG.TAI_OFFSET_VALID,
  FLAG.PERIOD_MAXERROR_VALID,
  FLAG.TIME_MAXERROR_VALID,
  FLAG.PERIOD_ESTERROR_VALID,
  FLAG.TIME_ESTERROR_VALID,
  FLAG.VM_GEN_COUNTER_PRESENT,
]

/** Returns fields of a page that differ from those before in some of the figures of a reading. */
function anyState(random: (below: number) => number): PageFields {
  return {
    disruptionMarker: BigInt(random(3)),
    vmGenerationCounter: BigInt(random(3)),
    clockStatus: 2 + random(2),
    leapIndicator: random(4) === 0 ? random(6) : 0,
    taiOffsetSec: -36 - random(3),
    // Steps back and ahead by eighths of a second.
    timeFracSec: BigInt(random(3)) << 61n,
    timeMaxerrorNanosec: BigInt(random(1_000_000)),
    timeEsterrorNanosec: BigInt(random(1_000_000)),
    // The errors grow, so that each timestamp has its own.
    counterPeriodMaxerrorRateFracSec: BigInt(random(2 ** 30)) << 20n,
    counterPeriodEsterrorRateFracSec: BigInt(random(2 ** 30)) << 20n,
    flags: FLAGS.reduce((all, flag) => (random(4) === 0 ? all : all | flag), 0n),
  }
}

const kinds = KINDS.flatMap(([way, options]) =>
  [false, true].flatMap((nonDecreasing) =>
    Object.entries(PERIODS).map(([ticks, period]) => ({
      kind: `${nonDecreasing ? 'nonDecreasing' : 'plain'}, ${way}, ${ticks} ticks`,
      ...{ options, nonDecreasing, period },
    })),
  ),
)

for (const { kind, options, nonDecreasing, period } of kinds) {
  test(`readInto writes slots of one page state after any other call: ${kind}`, (t) => {
    const random = numbersFrom(20261125)
    const fields = { ...liveFields(t), ...period }
    const published = page(t, fields)
    const clock = open(t, published.path, { nonDecreasing, ...options })
    const slots = new BigInt64Array(READING_SLOT_COUNT)
    const token = clock.continuityToken()
    const calls: Array<() => unknown> = [
      () => clock.nowNs(),
      () => clock.nowMs(),
      () => clock.nowHrTime(),
      () => clock.counter(),
      () => clock.read(),
      () => clock.continuityToken(),
      () => clock.isContinuous(token),
      () => clock.convert(fields.counterValue + 5n, clock.continuityToken()),
      () => clock.snapshot(),
    ]
    let lastNs = 0n
    let raised = 0
    for (let update = 0; update < 200; update++) {
      if (random(4) === 0) {
        published.write({ clockStatus: 1 })
        const before = [...slots]
        t.throws(() => clock.readInto(slots), { code: 'ERR_VMCLOCK_UNSYNCHRONIZED' })
        t.deepEqual([...slots], before)
      }
      published.write(anyState(random))
      for (let reading = 0; reading < 6; reading++) {
        calls[random(calls.length)]?.()
        // A new clock has no slots from an earlier call, and a conversion takes the slow path.
        const fresh = VmClock.open(published.path)
        const before = fresh.counter()
        clock.readInto(slots)
        const after = fresh.counter()
        const counter = BigInt.asUintN(64, slots[READING_SLOTS.COUNTER] as bigint)
        const exact = fresh.convert(counter, fresh.continuityToken())
        fresh.close()
        if (options.ordered !== false) t.true(before <= counter && counter <= after)
        const epochNs = slots[READING_SLOTS.EPOCH_NS] as bigint
        const raisedNs = epochNs - exact.epochNs
        t.deepEqual([...slots], slotsOf(exact, raisedNs), `update ${update}, reading ${reading}`)
        if (nonDecreasing) {
          t.true(raisedNs >= 0n && epochNs >= lastNs)
          if (raisedNs > 0n) raised++
        } else {
          t.is(raisedNs, 0n)
        }
        lastNs = epochNs
      }
    }
    t.is(raised > 0, nonDecreasing)
  })
}

for (const [ticks, period] of Object.entries(PERIODS)) {
  test(`read returns figures of one page state after any other call: ${ticks} ticks`, (t) => {
    const random = numbersFrom(20261128)
    const published = page(t, { ...liveFields(t), ...period })
    const clock = open(t, published.path)
    const slots = new BigInt64Array(READING_SLOT_COUNT)
    const calls: Array<() => unknown> = [
      () => clock.nowNs(),
      () => clock.read(),
      () => clock.readInto(slots),
      () => clock.continuityToken(),
      () => clock.convert(clock.counter(), clock.continuityToken()),
      () => t.throws(() => new Reading(new BigInt64Array(3), 'utc')),
    ]
    for (let update = 0; update < 200; update++) {
      published.write(anyState(random))
      for (let reading = 0; reading < 4; reading++) {
        calls[random(calls.length)]?.()
        const read = clock.read()
        // A new clock has no figures from an earlier call.
        const fresh = VmClock.open(published.path)
        const exact = fresh.convert(read.counter, fresh.continuityToken())
        fresh.close()
        t.deepEqual({ ...read }, { ...exact }, `update ${update}, reading ${reading}`)
        t.deepEqual(structuredClone(read), { ...read })
      }
    }
  })
}

test('figures of one page state cannot be given to a Reading by its caller', (t) => {
  const slots = new BigInt64Array(READING_SLOT_COUNT)
  const timescale = { hasBound: true, disruptionMarker: 7n, status: 'synchronized' }
  const reading = new Reading(slots, timescale as never)
  t.is(reading.disruptionMarker, 0n)
  t.is(reading.maxErrorNs, undefined)
  t.is(reading.status, 'free-running')
})
