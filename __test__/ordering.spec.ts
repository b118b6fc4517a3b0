// The order of two events follows from their intervals alone where it is certain, and bytes sort as stamps do.

import test from 'ava'
import fc from 'fast-check'
import { VmClockError } from 'vmclock'
import {
  compareHybrid,
  compareIntervals,
  decodeHybrid,
  decodeInterval,
  encodeHybrid,
  encodeInterval,
  type HybridStamp,
  isFuture,
  isPast,
} from 'vmclock/ordering'
import { frozenFields, open, page, refuses } from './pages'

const anyNs = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const anyInterval = fc
  .tuple(anyNs, anyNs)
  .map(([a, b]) => (a < b ? { earliestNs: a, latestNs: b } : { earliestNs: b, latestNs: a }))
// Small ranges, so that equal and neighbouring figures are frequent.
const nearNs = fc.bigInt({ min: -3n, max: 3n })
const nearInterval = fc
  .tuple(nearNs, nearNs)
  .map(([a, b]) => (a < b ? { earliestNs: a, latestNs: b } : { earliestNs: b, latestNs: a }))
const interval = fc.oneof(anyInterval, nearInterval)

const fullStamp: fc.Arbitrary<HybridStamp> = fc.record({
  wallNs: fc.oneof(anyNs, nearNs),
  counter: fc.integer({ min: 0, max: 65_535 }),
  nodeId: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
})
const shortStamp: fc.Arbitrary<HybridStamp> = fc.record({
  wallNs: fc
    .oneof(fc.bigInt({ min: 0n, max: (2n ** 63n - 1n) / 1_000_000n }), fc.constantFrom(0n, 1n, 2n))
    .map((ms) => ms * 1_000_000n),
  counter: fc.integer({ min: 0, max: 65_535 }),
  nodeId: fc.constant(undefined),
})

function sign(a: bigint, b: bigint): number {
  return a === b ? 0 : a < b ? -1 : 1
}

test('intervals that do not touch are ordered, and all others are concurrent', (t) => {
  const at = (earliestNs: bigint, latestNs: bigint) => ({ earliestNs, latestNs })
  t.is(compareIntervals(at(1n, 2n), at(3n, 4n)), 'before')
  t.is(compareIntervals(at(3n, 4n), at(1n, 2n)), 'after')
  t.is(compareIntervals(at(1n, 3n), at(3n, 4n)), 'concurrent')
  t.is(compareIntervals(at(1n, 9n), at(3n, 4n)), 'concurrent')
  t.is(compareIntervals(at(1n, 1n), at(1n, 1n)), 'concurrent')
})

test('an order is certain exactly if every pair of true times has it', (t) => {
  fc.assert(
    fc.property(nearInterval, nearInterval, (a, b) => {
      const orders = new Set<number>()
      for (let x = a.earliestNs; x <= a.latestNs; x++) {
        for (let y = b.earliestNs; y <= b.latestNs; y++) orders.add(sign(x, y))
      }
      const [only] = [...orders]
      const certain = orders.size === 1 && only !== 0
      const expected = certain ? (only === -1 ? 'before' : 'after') : 'concurrent'
      return compareIntervals(a, b) === expected
    }),
    { numRuns: 2000 },
  )
  t.pass()
})

test('readings of two timescales are not compared', (t) => {
  const fields = { ...frozenFields(), flags: frozenFields().flags | 1n, taiOffsetSec: 37 }
  const made = page(t, fields)
  const utc = open(t, made.path).read()
  const tai = open(t, made.path, { timescale: 'tai' }).read()
  refuses(t, () => compareIntervals(utc, tai), 'ERR_VMCLOCK_INVALID_ARGUMENT', /utc and tai/)
  const { earliestNs, latestNs } = tai
  t.is(compareIntervals(utc, { earliestNs, latestNs }), 'before')
})

test('without a bound nothing is certain: the answers throw', (t) => {
  const made = page(t, { ...frozenFields(), flags: 0n })
  const clock = open(t, made.path)
  const reading = clock.read()
  t.is(reading.latestNs, undefined)
  for (const call of [
    () => isPast(clock, 0n),
    () => isFuture(clock, 0n),
    () => compareIntervals(reading, reading),
    () => encodeInterval(reading),
  ]) {
    refuses(t, call, 'ERR_VMCLOCK_TOO_UNCERTAIN', /no bound.*waitUntilSynchronized/)
  }
})

test('within the bound a time is neither past nor future', (t) => {
  const clock = open(t, page(t, frozenFields()).path)
  const { earliestNs, latestNs } = clock.read()
  if (earliestNs === undefined || latestNs === undefined) return t.fail()
  t.true(earliestNs < latestNs)
  const answers = (ns: bigint) => [isPast(clock, ns), isFuture(clock, ns)]
  t.deepEqual(answers(earliestNs - 1n), [true, false])
  t.deepEqual(answers(earliestNs), [false, false])
  t.deepEqual(answers(latestNs), [false, false])
  t.deepEqual(answers(latestNs + 1n), [false, true])
})

test('the bytes of intervals sort by latest, then by earliest', (t) => {
  fc.assert(
    fc.property(interval, interval, (a, b) => {
      const order = sign(a.latestNs, b.latestNs) || sign(a.earliestNs, b.earliestNs)
      return Buffer.compare(encodeInterval(a), encodeInterval(b)) === order
    }),
    { numRuns: 2000 },
  )
  t.pass()
})

test('an interval comes back from its 16 bytes', (t) => {
  fc.assert(
    fc.property(interval, (given) => {
      const bytes = encodeInterval(given)
      t.is(bytes.length, 16)
      t.deepEqual(decodeInterval(bytes), given)
      t.deepEqual(decodeInterval(Buffer.from(bytes)), given)
    }),
  )
})

test('the 16 bytes of hybrid stamps sort as the stamps, and hold them', (t) => {
  fc.assert(
    fc.property(fullStamp, fullStamp, (a, b) => {
      t.deepEqual(decodeHybrid(encodeHybrid(a)), a)
      t.is(Buffer.compare(encodeHybrid(a), encodeHybrid(b)), compareHybrid(a, b))
    }),
    { numRuns: 2000 },
  )
})

test('the 8 bytes of hybrid stamps sort as the stamps, and hold time and counter', (t) => {
  fc.assert(
    fc.property(shortStamp, shortStamp, (a, b) => {
      t.is(encodeHybrid(a, 8).length, 8)
      t.deepEqual(decodeHybrid(encodeHybrid(a, 8)), a)
      t.is(Buffer.compare(encodeHybrid(a, 8), encodeHybrid(b, 8)), compareHybrid(a, b))
    }),
    { numRuns: 2000 },
  )
})

test('stamps that 8 bytes cannot hold are refused', (t) => {
  for (const wallNs of [1n, 1_500_000n, -1_000_000n]) {
    const stamp = { wallNs, counter: 0, nodeId: 1 }
    refuses(t, () => encodeHybrid(stamp, 8), 'ERR_VMCLOCK_INVALID_ARGUMENT', /resolution: 'ms'/)
  }
})

test('values that are no interval, stamp or bytes are refused with the package error', (t) => {
  const wrong: ReadonlyArray<unknown> = [
    undefined,
    null,
    1n,
    {},
    { earliestNs: 1n },
    { earliestNs: 1, latestNs: 2 },
    { earliestNs: 2n, latestNs: 1n },
    { earliestNs: 0n, latestNs: 2n ** 63n },
    { wallNs: 0n },
    { wallNs: 0n, counter: 65_536 },
    { wallNs: 0n, counter: 0, nodeId: -1 },
    { wallNs: 2n ** 63n, counter: 0, nodeId: 0 },
    new Uint8Array(15),
    new Uint16Array(16),
  ]
  for (const value of wrong) {
    for (const call of [
      encodeInterval,
      encodeHybrid,
      decodeInterval,
      decodeHybrid,
      (one: never) => compareIntervals(one, one),
      (one: never) => compareHybrid(one, one),
      (one: never) => isPast(one, 0n),
    ]) {
      t.throws(() => call(value as never), { instanceOf: VmClockError })
    }
  }
  const backwards = encodeInterval({ earliestNs: 1n, latestNs: 2n }).map((byte, index) =>
    index === 7 ? 0 : byte,
  )
  refuses(t, () => decodeInterval(backwards), 'ERR_VMCLOCK_INVALID_ARGUMENT', /end before/)
})
