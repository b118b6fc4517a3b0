/** `nowHrTime` and `toHrTime` split the nanoseconds of `nowNs` and `read` exactly. */

import test from 'ava'
import {
  type Clock,
  type HrTime,
  READING_SLOT_COUNT,
  READING_SLOTS,
  Reading,
  VmClock,
} from 'vmclock'
import { SimulatedClock } from 'vmclock/testing'
import { frozenFields, liveFields, open, page, refuses } from './pages'

const NS_PER_SEC = 1_000_000_000n

/** Puts a pair together again. */
function nsOf([seconds, nanoseconds]: HrTime): bigint {
  return BigInt(seconds) * NS_PER_SEC + BigInt(nanoseconds)
}

function readingAt(epochNs: bigint): Reading {
  const slots = new BigInt64Array(READING_SLOT_COUNT)
  slots[READING_SLOTS.EPOCH_NS] = epochNs
  return new Reading(slots, 'utc')
}

/** Times at both ends of the range, and around its borders. */
const TIMES: ReadonlyArray<readonly [bigint, HrTime]> = [
  [0n, [0, 0]],
  [1n, [0, 1]],
  [-1n, [-1, 999_999_999]],
  [-NS_PER_SEC, [-1, 0]],
  [-NS_PER_SEC - 1n, [-2, 999_999_999]],
  [-500_000_000n, [-1, 500_000_000]],
  [1_795_392_000_123_456_789n, [1_795_392_000, 123_456_789]],
  [2n ** 63n - 1n, [9_223_372_036, 854_775_807]],
  [-(2n ** 63n), [-9_223_372_037, 145_224_192]],
]

test('toHrTime rounds the seconds down, so that the nanoseconds are never negative', (t) => {
  for (const [epochNs, pair] of TIMES) {
    t.deepEqual(readingAt(epochNs).toHrTime(), pair)
    t.is(nsOf(pair), epochNs)
  }
})

test('nowHrTime is nowNs to the nanosecond, in every timescale', (t) => {
  for (const timescale of ['utc', 'tai', 'utc-noon-linear', 'utc-sls'] as const) {
    for (const [sec, frac] of [
      [0n, 0n],
      [36n, 2n ** 63n],
      [1_767_225_600n, 1n],
      [1_767_225_600n, 2n ** 64n - 1n],
      [4_294_967_295n, 2n ** 64n - 1n],
      [4_294_967_296n, 12_345_678_901_234_567_890n],
    ] as const) {
      // A TAI page's UTC is 37 s behind, and so before 1970 for the first of these.
      const fields = { ...frozenFields(), timeType: 1, taiOffsetSec: -37 }
      const flags = fields.flags | 1n
      const made = page(t, { ...fields, flags, timeSec: sec, timeFracSec: frac })
      const clock = open(t, made.path, { timescale })
      const [seconds, nanoseconds] = clock.nowHrTime()
      t.is(nsOf([seconds, nanoseconds]), clock.nowNs())
      t.true(Number.isInteger(nanoseconds) && nanoseconds >= 0 && nanoseconds < 1e9)
      t.deepEqual(clock.read().toHrTime(), [seconds, nanoseconds])
    }
  }
})

// At ticks of whole nanoseconds every counter takes the slow path. On the page that runs 1,024 times as fast, a second
// ends within a millisecond.
const PERIODS = {
  swift: { counterPeriodShift: 21, counterPeriodFracSec: 0xd3aa_2c69_8a5c_4b02n },
  uneven: { counterPeriodShift: 31, counterPeriodFracSec: 0xd3aa_2c69_8a5c_4b02n },
  whole: { counterPeriodShift: 29, counterPeriodFracSec: (1n << 93n) / NS_PER_SEC },
}

for (const [ticks, period] of Object.entries(PERIODS)) {
  test(`nowHrTime lies between two calls of nowNs, in its second: ${ticks} ticks`, (t) => {
    const clock = open(t, page(t, { ...liveFields(t), ...period }).path)
    const out: HrTime = [0, 0]
    const wrong: unknown[] = []
    for (let stamp = 0; stamp < 100_000; stamp++) {
      const before = clock.nowNs()
      clock.nowHrTime(out)
      const after = clock.nowNs()
      const ns = nsOf(out)
      const isPair = Number.isInteger(out[0]) && out[1] >= 0 && out[1] < 1e9
      if (!isPair || ns < before || ns > after) wrong.push([before, ...out, after])
    }
    t.deepEqual(wrong.slice(0, 5), [])
  })
}

test('nowHrTime writes to the array that it is given and returns that, or makes a new one', (t) => {
  const clock = open(t, page(t, frozenFields()).path)
  const out: HrTime = [0, 0]
  t.is(clock.nowHrTime(out), out)
  t.deepEqual(out, [1_767_225_600, 0])
  const first = clock.nowHrTime()
  const second = clock.nowHrTime(undefined)
  t.deepEqual([first, second], [out, out])
  t.not(first, second)
  t.not(first, out)
})

const revoked = Proxy.revocable([0, 0], {})
revoked.revoke()
const REFUSED: ReadonlyArray<readonly [string, unknown, RegExp]> = [
  ['null', null, /must be an array .* null/],
  ['a number', 5, /must be an array .* 5/],
  ['a typed array', new Float64Array(2), /must be an array .* a Float64Array/],
  ['a plain object', { 0: 0, 1: 0 }, /must be an array .* an object/],
  ['a frozen array', Object.freeze([0, 0]), /refused to be written.*not frozen/],
  ['a revoked proxy', revoked.proxy, /must be an array .* a proxy/],
]

for (const [name, out, says] of REFUSED) {
  test(`nowHrTime into ${name} is ERR_VMCLOCK_INVALID_ARGUMENT`, (t) => {
    for (const clock of [open(t, page(t, frozenFields()).path), new SimulatedClock()]) {
      refuses(t, () => clock.nowHrTime(out as never), 'ERR_VMCLOCK_INVALID_ARGUMENT', says)
    }
  })
}

test('nowHrTime that fails writes nothing', (t) => {
  const made = page(t, frozenFields())
  const clock = VmClock.open(made.path)
  const out: HrTime = [7, 7]
  made.write({ clockStatus: 1 })
  t.throws(() => clock.nowHrTime(out), { code: 'ERR_VMCLOCK_UNSYNCHRONIZED' })
  made.write({ clockStatus: 2 })
  clock.close()
  t.throws(() => clock.nowHrTime(out), { code: 'ERR_VMCLOCK_CLOSED' })
  t.deepEqual(out, [7, 7])
})

test('nowHrTime of a nonDecreasing clock never steps back, nor behind another call', (t) => {
  const made = page(t, frozenFields())
  const clock = open(t, made.path, { nonDecreasing: true })
  const out: HrTime = [0, 0]
  t.is(nsOf(clock.nowHrTime(out)), 1_767_225_600n * NS_PER_SEC)
  made.write({ timeSec: 1_767_225_599n })
  t.is(nsOf(clock.nowHrTime(out)), 1_767_225_600n * NS_PER_SEC)
  made.write({ timeSec: 1_767_225_601n })
  t.is(clock.nowNs(), 1_767_225_601n * NS_PER_SEC)
  made.write({ timeSec: 1_767_225_600n })
  t.is(nsOf(clock.nowHrTime(out)), 1_767_225_601n * NS_PER_SEC)
})

test('nowHrTime without its object says how to call it', (t) => {
  const clock = open(t, page(t, frozenFields()).path)
  const { nowHrTime } = clock
  refuses(t, () => nowHrTime(), 'ERR_VMCLOCK_INVALID_ARGUMENT', /clock|object\.nowHrTime/)
})

test('a simulated clock gives its time as a pair', (t) => {
  const clock: Clock = new SimulatedClock({ startNs: -1n })
  const out: HrTime = [0, 0]
  t.is(clock.nowHrTime(out), out)
  t.deepEqual(out, [-1, 999_999_999])
  t.deepEqual(clock.nowHrTime(), out)
  t.deepEqual(clock.read().toHrTime(), out)
})
