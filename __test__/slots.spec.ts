/** Whatever was called before, the figures of one call are all of the page as it stands. */

import test from 'ava'
import { type PageFields, type Reading, SLOT_COUNT, SLOTS, VmClock } from 'vmclock'
import { FLAG, liveFields, open, page } from './pages'

// Numbers that look random and are the same in every run (Lehmer's, modulus 2^31 - 1).
function numbersFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state * 48271) % 0x7fffffff
    return state % below
  }
}

/** The figures of a reading that the counter does not change, as `readInto` writes them. */
function restOf(reading: Reading): Record<string, bigint | undefined> {
  const { disruptionMarker, vmGeneration, taiMinusUtcSec } = reading
  return {
    disruptionMarker,
    vmGeneration,
    taiMinusUtcSec: taiMinusUtcSec === undefined ? undefined : BigInt(taiMinusUtcSec),
    hasBound: reading.maxErrorNs === undefined ? 0n : 1n,
    hasEstimate: reading.estErrorNs === undefined ? 0n : 1n,
  }
}

function restIn(slots: BigInt64Array): Record<string, bigint | undefined> {
  const known = slots[SLOTS.KNOWN] as bigint
  const where = (bit: bigint, slot: number): bigint | undefined =>
    (known & bit) === 0n ? undefined : (slots[slot] as bigint)
  return {
    disruptionMarker: BigInt.asUintN(64, slots[SLOTS.DISRUPTION_MARKER] as bigint),
    vmGeneration: where(4n, SLOTS.VM_GENERATION),
    taiMinusUtcSec: where(8n, SLOTS.TAI_MINUS_UTC_SEC),
    hasBound: known & 1n,
    hasEstimate: (known & 2n) >> 1n,
  }
}

for (const nonDecreasing of [false, true]) {
  const kind = nonDecreasing ? 'a clock that never goes back' : 'a clock'
  test(`the slots of ${kind} are of one state of the page, whatever wrote them last`, (t) => {
    const random = numbersFrom(20261125)
    const fields = liveFields(t)
    const published = page(t, fields)
    const clock = open(t, published.path, { nonDecreasing })
    const slots = new BigInt64Array(SLOT_COUNT)
    const token = clock.continuity()
    const calls: Array<() => unknown> = [
      () => clock.nowNs(),
      () => clock.nowMs(),
      () => clock.counter(),
      () => clock.read(),
      () => clock.continuity(),
      () => clock.isContinuous(token),
      () => clock.convert(fields.counterValue + 5n, clock.continuity()),
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
    for (let update = 0; update < 200; update++) {
      const state: PageFields = {
        disruptionMarker: BigInt(random(3)),
        vmGenerationCounter: BigInt(random(3)),
        clockStatus: 2 + random(2),
        leapIndicator: random(4) === 0 ? random(6) : 0,
        taiOffsetSec: -36 - random(3),
        timeMaxerrorNanosec: BigInt(random(1_000_000)),
        flags: flags.reduce((all, flag) => (random(4) === 0 ? all : all | flag), 0n),
      }
      published.write(state)
      for (let look = 0; look < 6; look++) {
        calls[random(calls.length)]?.()
        // Another clock has no slots that an earlier call left, and goes the long way at first.
        const fresh = VmClock.open(published.path)
        const before = fresh.read()
        clock.readInto(slots)
        const after = fresh.read()
        fresh.close()
        t.deepEqual(restIn(slots), restOf(before), `update ${update}, look ${look}`)
        t.is(slots[SLOTS.STATUS], BigInt(state.clockStatus as number))
        t.is(slots[SLOTS.LEAP_SECOND], before.leapSecond ? 1n : 0n)
        const counter = BigInt.asUintN(64, slots[SLOTS.COUNTER] as bigint)
        t.true(before.counter <= counter && counter <= after.counter)
        const epochNs = slots[SLOTS.EPOCH_NS] as bigint
        t.true(before.epochNs <= epochNs)
        if (before.maxErrorNs === undefined) {
          t.deepEqual([...slots.subarray(SLOTS.EARLIEST_NS, SLOTS.LATEST_NS + 1)], [-1n, -1n])
        } else {
          t.true((slots[SLOTS.EARLIEST_NS] as bigint) <= epochNs)
          t.true((slots[SLOTS.LATEST_NS] as bigint) >= epochNs)
          // The error at the reference does not grow on this page.
          if (!nonDecreasing && state.leapIndicator === 0) {
            const bound = (state.timeMaxerrorNanosec as bigint) + 1n
            t.is(slots[SLOTS.MAX_ERROR_NS], bound)
            t.is(slots[SLOTS.EARLIEST_NS], epochNs - bound)
            t.is(slots[SLOTS.LATEST_NS], epochNs + bound)
          }
        }
      }
    }
  })
}
