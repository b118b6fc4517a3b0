/** A clock with `ordered: false` gives the same times and notices the same changes, and claims no order. */

import test from 'ava'
import { type HrTime, READING_SLOT_COUNT, READING_SLOTS, VmClock } from 'vmclock'
import {
  HybridClock,
  isFuture,
  isPast,
  waitUntilPast,
  waitUntilSynchronized,
} from 'vmclock/ordering'
import { frozenFields, liveFields, open, page, refuses } from './pages'

const REFUSED = 'ERR_VMCLOCK_INVALID_ARGUMENT'
// The CPU looks ahead by less than a microsecond. The rest is for a counter of any rate.
const SLACK_NS = 100_000n

test('ordered says how the clock was opened, and true is the default', (t) => {
  const { path } = page(t, frozenFields())
  t.true(open(t, path).ordered)
  t.true(open(t, path, { ordered: undefined }).ordered)
  t.true(open(t, path, { ordered: true }).ordered)
  t.false(open(t, path, { ordered: false }).ordered)
  refuses(
    t,
    () => VmClock.open(path, { ordered: 1 as never }),
    REFUSED,
    /ordered must be true or false/,
  )
})

test('every call of an unordered clock gives the time of the same page', (t) => {
  // A page with a clear fraction of a nanosecond, so that the fast path has a result.
  const fields = { ...frozenFields(), timeFracSec: 2n ** 33n }
  const made = page(t, fields)
  const clock = open(t, made.path, { ordered: false })
  const slots = new BigInt64Array(READING_SLOT_COUNT)
  const out: HrTime = [0, 0]
  for (const timeSec of [1_767_225_600n, 1_767_225_601n, 1_767_225_599n]) {
    made.write({ timeSec })
    const ns = timeSec * 1_000_000_000n
    // The first call of each state takes the slow path.
    for (let call = 0; call < 3; call++) {
      t.is(clock.nowNs(), ns)
      t.is(clock.nowMs(), Number(timeSec) * 1000)
      t.deepEqual(clock.nowHrTime(out), [Number(timeSec), 0])
      t.is(clock.read().epochNs, ns)
      clock.readInto(slots)
      t.is(slots[READING_SLOTS.EPOCH_NS], ns)
    }
  }
})

test('an unordered stamp lies between two ordered ones, but for what the CPU looks ahead', (t) => {
  const { path } = page(t, liveFields(t))
  const ordered = open(t, path)
  const unordered = open(t, path, { ordered: false })
  const outside: bigint[][] = []
  for (let stamp = 0; stamp < 100_000; stamp++) {
    const before = ordered.nowNs()
    const ns = unordered.nowNs()
    const after = ordered.nowNs()
    if (ns < before - SLACK_NS || ns > after + SLACK_NS) outside.push([before, ns, after])
  }
  t.deepEqual(outside.slice(0, 5), [])
})

test('an unordered clock notices a disruption at once, and keeps no time of before', (t) => {
  const fields = { ...frozenFields(), timeFracSec: 2n ** 33n }
  const made = page(t, fields)
  const clock = open(t, made.path, { ordered: false })
  const token = clock.continuityToken()
  t.is(clock.nowNs(), 1_767_225_600_000_000_000n)
  t.true(clock.isContinuous(token))
  made.write({ disruptionMarker: 1n, timeSec: 5n })
  t.is(clock.nowNs(), 5_000_000_000n)
  t.false(clock.isContinuous(token))
  made.write({ clockStatus: 1 })
  for (const call of [
    () => clock.nowNs(),
    () => clock.nowMs(),
    () => clock.nowHrTime(),
    () => clock.read(),
  ]) {
    refuses(t, call, 'ERR_VMCLOCK_UNSYNCHRONIZED', /./)
  }
})

test('vmclock/ordering refuses an unordered clock', async (t) => {
  const clock = open(t, page(t, liveFields(t)).path, { ordered: false })
  const says = /may not have the program's order.*without ordered: false/
  refuses(t, () => isPast(clock, 0n), REFUSED, says)
  refuses(t, () => isFuture(clock, 0n), REFUSED, says)
  refuses(t, () => new HybridClock(clock, { nodeId: 1, maxSkewNs: 1n }), REFUSED, says)
  await t.throwsAsync(waitUntilPast(clock, 0n), { code: REFUSED })
  await t.throwsAsync(waitUntilSynchronized(clock), { code: REFUSED })
  const ordered = open(t, page(t, liveFields(t)).path)
  t.true(isPast(ordered, 0n))
})

test('a converted counter of an unordered clock has the time that any clock gives it', (t) => {
  const { path } = page(t, liveFields(t))
  const [unordered, ordered] = [open(t, path, { ordered: false }), open(t, path)]
  const token = unordered.continuityToken()
  const counter = unordered.counter()
  t.deepEqual(unordered.convert(counter, token), ordered.convert(counter, token))
})
