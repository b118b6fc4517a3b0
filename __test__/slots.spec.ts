/** Whatever was called before, the figures of one call are all of the page as it stands. */

import test from 'ava'
import { READING_KNOWN, READING_SLOT_COUNT, READING_SLOTS, type Reading, VmClock } from 'vmclock'
import type { PageFields } from 'vmclock/testing'
import { FLAG, liveFields, open, page } from './pages'

// Numbers that look random and are the same in every run (Lehmer's, modulus 2^31 - 1).
function numbersFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state * 48271) % 0x7fffffff
    return state % below
  }
}

// Ticks of 2.6 GHz, and of whole nanoseconds. From a whole one all of the latter lie next to a border
// between two results, where the short way cannot tell and leaves the counter that it read to another.
const PERIODS = {
  uneven: { counterPeriodShift: 31, counterPeriodFracSec: 0xd3aa_2c69_8a5c_4b02n },
  whole: { counterPeriodShift: 29, counterPeriodFracSec: (1n << 93n) / 1_000_000_000n },
}

/** What `readInto` is to write for a reading that was held back by so much. */
function slotsOf(reading: Reading, heldNs: bigint): bigint[] {
  const { epochNs, maxErrorNs, estErrorNs, earliestNs, latestNs } = reading
  const { vmGeneration, taiMinusUtcSec } = reading
  const epochHeldNs = epochNs + heldNs
  const bits: Array<[unknown, bigint]> = [
    [maxErrorNs, READING_KNOWN.BOUND],
    [estErrorNs, READING_KNOWN.EST_ERROR],
    [vmGeneration, READING_KNOWN.VM_GENERATION],
    [taiMinusUtcSec, READING_KNOWN.TAI_MINUS_UTC],
  ]
  const known = bits.reduce((all, [figure, bit]) => (figure === undefined ? all : all | bit), 0n)
  // What is held back may lie beyond the interval's end, which then goes on to it.
  const ends = latestNs === undefined ? [-1n] : [latestNs, epochHeldNs]
  const slots = new BigInt64Array(READING_SLOT_COUNT)
  slots[READING_SLOTS.EPOCH_NS] = epochHeldNs
  slots[READING_SLOTS.MAX_ERROR_NS] = maxErrorNs === undefined ? -1n : maxErrorNs + heldNs
  slots[READING_SLOTS.EST_ERROR_NS] = estErrorNs === undefined ? -1n : estErrorNs + heldNs
  slots[READING_SLOTS.EARLIEST_NS] = earliestNs ?? -1n
  slots[READING_SLOTS.LATEST_NS] = ends.reduce((latest, end) => (end > latest ? end : latest))
  slots[READING_SLOTS.COUNTER] = reading.counter
  slots[READING_SLOTS.DISRUPTION_MARKER] = reading.disruptionMarker
  slots[READING_SLOTS.VM_GENERATION] = vmGeneration ?? -1n
  slots[READING_SLOTS.STATUS] = reading.status === 'synchronized' ? 2n : 3n
  slots[READING_SLOTS.LEAP_SECOND] = reading.leapSecond ? 1n : 0n
  slots[READING_SLOTS.TAI_MINUS_UTC_SEC] = BigInt(taiMinusUtcSec ?? -1)
  slots[READING_SLOTS.KNOWN] = known
  return [...slots]
}

const kinds = [false, true].flatMap((nonDecreasing) =>
  Object.entries(PERIODS).map(([ticks, period]) => ({ nonDecreasing, ticks, period })),
)

for (const { nonDecreasing, ticks, period } of kinds) {
  const kind = `${nonDecreasing ? 'a clock that never goes back' : 'a clock'}, ${ticks} ticks`
  test(`the slots are of one state of the page, whatever wrote them last: ${kind}`, (t) => {
    const random = numbersFrom(20261125)
    const fields = { ...liveFields(t), ...period }
    const published = page(t, fields)
    const clock = open(t, published.path, { nonDecreasing })
    const slots = new BigInt64Array(READING_SLOT_COUNT)
    const token = clock.continuityToken()
    const calls: Array<() => unknown> = [
      () => clock.nowNs(),
      () => clock.nowMs(),
      () => clock.counter(),
      () => clock.read(),
      () => clock.continuityToken(),
      () => clock.isContinuous(token),
      () => clock.convert(fields.counterValue + 5n, clock.continuityToken()),
      () => clock.snapshot(),
    ]
    const flags = [
      FLAG.TAI_OFFSET_VALID,
      FLAG.PERIOD_MAXERROR_VALID,
      FLAG.TIME_MAXERROR_VALID,
      FLAG.PERIOD_ESTERROR_VALID,
      FLAG.TIME_ESTERROR_VALID,
      FLAG.VM_GEN_COUNTER_PRESENT,
    ]
    let lastNs = 0n
    let held = 0
    for (let update = 0; update < 200; update++) {
      if (random(4) === 0) {
        published.write({ clockStatus: 1 })
        const before = [...slots]
        t.throws(() => clock.readInto(slots), { code: 'ERR_VMCLOCK_UNSYNCHRONIZED' })
        t.deepEqual([...slots], before)
      }
      const state: PageFields = {
        disruptionMarker: BigInt(random(3)),
        vmGenerationCounter: BigInt(random(3)),
        clockStatus: 2 + random(2),
        leapIndicator: random(4) === 0 ? random(6) : 0,
        taiOffsetSec: -36 - random(3),
        // Steps back and ahead by eighths of a second.
        timeFracSec: BigInt(random(3)) << 61n,
        timeMaxerrorNanosec: BigInt(random(1_000_000)),
        timeEsterrorNanosec: BigInt(random(1_000_000)),
        // They grow, so that each stamp has errors of its own.
        counterPeriodMaxerrorRateFracSec: BigInt(random(2 ** 30)) << 20n,
        counterPeriodEsterrorRateFracSec: BigInt(random(2 ** 30)) << 20n,
        flags: flags.reduce((all, flag) => (random(4) === 0 ? all : all | flag), 0n),
      }
      published.write(state)
      for (let look = 0; look < 6; look++) {
        calls[random(calls.length)]?.()
        // Another clock has no slots that an earlier call left, and a conversion goes the long way.
        const fresh = VmClock.open(published.path)
        const before = fresh.counter()
        clock.readInto(slots)
        const after = fresh.counter()
        const counter = BigInt.asUintN(64, slots[READING_SLOTS.COUNTER] as bigint)
        const exact = fresh.convert(counter, fresh.continuityToken())
        fresh.close()
        t.true(before <= counter && counter <= after)
        const epochNs = slots[READING_SLOTS.EPOCH_NS] as bigint
        const heldNs = epochNs - exact.epochNs
        t.deepEqual([...slots], slotsOf(exact, heldNs), `update ${update}, look ${look}`)
        if (nonDecreasing) {
          t.true(heldNs >= 0n && epochNs >= lastNs)
          if (heldNs > 0n) held++
        } else {
          t.is(heldNs, 0n)
        }
        lastNs = epochNs
      }
    }
    t.is(held > 0, nonDecreasing)
  })
}
