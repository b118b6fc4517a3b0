// A hybrid clock never steps back, respects causality, and stays near the true time or says that it cannot.

import test, { type ExecutionContext } from 'ava'
import type { Reading } from 'vmclock'
import {
  compareHybrid,
  decodeHybrid,
  decodeInterval,
  encodeHybrid,
  encodeInterval,
  HybridClock,
  type HybridStamp,
} from 'vmclock/ordering'
import type { VmClockPage } from 'vmclock/testing'
import { FLAG, frozenFields, open, page, refuses } from './pages'

const MS = 1_000_000n
const START_NS = 1_767_225_600_000_000_000n
// The stated 1000 ns, rounded up.
const ERROR_NS = 1001n

interface Node {
  readonly made: VmClockPage
  readonly clock: { read(): Reading }
  /** Sets the page's time, in nanoseconds after the start. */
  at(ns: bigint): void
}

function node(t: ExecutionContext): Node {
  const made = page(t, frozenFields())
  const clock = open(t, made.path)
  return {
    made,
    clock,
    at(ns) {
      const epochNs = START_NS + ns
      const fraction = ((epochNs % 1_000_000_000n) * 2n ** 64n) / 1_000_000_000n
      made.write({
        timeSec: epochNs / 1_000_000_000n,
        timeFracSec: epochNs % 1_000_000_000n === 0n ? 0n : fraction + 1n,
      })
    },
  }
}

function increases(t: ExecutionContext, stamps: readonly HybridStamp[]): void {
  for (const [index, stamp] of stamps.entries()) {
    const earlier = stamps[index - 1]
    if (earlier !== undefined) t.is(compareHybrid(earlier, stamp), -1)
  }
}

test('stamps increase while the clock stands still, goes on and steps back', (t) => {
  const { clock, at } = node(t)
  const hybrid = new HybridClock(clock, { nodeId: 1, maxSkewNs: MS })
  const stamps = [hybrid.now(), hybrid.now()]
  at(5n * MS)
  stamps.push(hybrid.now(), hybrid.now())
  at(4n * MS + 500_000n)
  stamps.push(hybrid.now(), hybrid.now())
  increases(t, stamps)
  t.deepEqual(
    stamps.map(({ wallNs, counter }) => [wallNs - START_NS, counter]),
    [
      [0n, 0],
      [0n, 1],
      [5n * MS, 0],
      [5n * MS, 1],
      [5n * MS, 2],
      [5n * MS, 3],
    ],
  )
})

test('a received stamp is before the stamp of its receipt and all later ones', (t) => {
  const ahead = node(t)
  const behind = node(t)
  ahead.at(900n)
  const sender = new HybridClock(ahead.clock, { nodeId: 1, maxSkewNs: MS })
  const receiver = new HybridClock(behind.clock, { nodeId: 2, maxSkewNs: MS })
  const sent = [sender.now(), sender.now()]
  const received = receiver.receive(sent[1] as HybridStamp)
  increases(t, [...sent, received, receiver.now()])
  t.is(received.nodeId, 2)
})

test('a remote stamp beyond latest and the allowed skew is refused without effect', (t) => {
  const { clock } = node(t)
  const hybrid = new HybridClock(clock, { nodeId: 1, maxSkewNs: MS })
  const first = hybrid.now()
  const latestNs = clock.read().latestNs as bigint
  const most = { wallNs: latestNs + MS, counter: 0, nodeId: 9 }
  const tooFar = { ...most, wallNs: most.wallNs + 1n }
  refuses(t, () => hybrid.receive(tooFar), 'ERR_VMCLOCK_AHEAD', /^the remote.*maxSkewNs/)
  t.deepEqual(hybrid.last, first)
  increases(t, [first, most, hybrid.receive(most)])
})

test('a full counter carries into the wall time, within latest and the skew', (t) => {
  const { clock } = node(t)
  const fullAt = (wallNs: bigint) => ({ wallNs, counter: 65_535, nodeId: 9 })
  const hybrid = new HybridClock(clock, { nodeId: 1, maxSkewNs: 2n * MS, resolution: 'ms' })
  const next = hybrid.receive(fullAt(START_NS))
  t.deepEqual([next.wallNs - START_NS, next.counter], [MS, 0])
  const limitNs = (clock.read().latestNs as bigint) + 2n * MS
  refuses(t, () => hybrid.receive(fullAt(limitNs)), 'ERR_VMCLOCK_AHEAD', /next stamp/)
})

test('with resolution ms every stamp is in whole milliseconds, after finer stamps too', (t) => {
  const { clock, at } = node(t)
  at(MS + 700n)
  const hybrid = new HybridClock(clock, { nodeId: 1, maxSkewNs: MS, resolution: 'ms' })
  t.is(hybrid.now().wallNs - START_NS, MS)
  const remote = { wallNs: START_NS + MS + 1n, counter: 3, nodeId: 9 }
  const received = hybrid.receive(remote)
  t.is(received.wallNs % MS, 0n)
  increases(t, [remote, received])
})

test('a clock that stepped back beyond the skew refuses to stamp', (t) => {
  const { clock, at } = node(t)
  at(5n * MS)
  const hybrid = new HybridClock(clock, { nodeId: 1, maxSkewNs: MS })
  hybrid.now()
  at(0n)
  refuses(t, () => hybrid.now(), 'ERR_VMCLOCK_AHEAD', /next stamp/)
  at(5n * MS)
  t.is(hybrid.now().counter, 1)
})

test('a clock that is given its last stamp goes on after it', (t) => {
  const { clock } = node(t)
  const last = { wallNs: START_NS + 500n, counter: 7, nodeId: 1 }
  const hybrid = new HybridClock(clock, { nodeId: 1, maxSkewNs: MS, last })
  t.deepEqual(hybrid.last, last)
  t.deepEqual(hybrid.now(), { ...last, counter: 8 })
  const farAhead = { ...last, wallNs: START_NS + 5n * MS }
  refuses(
    t,
    () => new HybridClock(clock, { nodeId: 1, maxSkewNs: MS, last: farAhead }),
    'ERR_VMCLOCK_AHEAD',
    /last stamp/,
  )
})

test('a restored or cloned machine gets a new node id, and a migrated one keeps its own', (t) => {
  const made = page(t, {
    ...frozenFields(),
    flags: frozenFields().flags | FLAG.VM_GEN_COUNTER_PRESENT,
    vmGenerationCounter: 1n,
  })
  const clock = open(t, made.path)
  let obtained = 0
  const nodeId = () => ++obtained
  const hybrid = new HybridClock(clock, { nodeId, maxSkewNs: MS })
  const fixed = new HybridClock(clock, { nodeId: 9, maxSkewNs: MS })
  t.is(hybrid.now().nodeId, 1)
  made.write({ disruptionMarker: 1n })
  t.is(hybrid.now().nodeId, 1)
  made.write({ disruptionMarker: 2n, vmGenerationCounter: 2n })
  t.is(hybrid.now().nodeId, 2)
  t.is(hybrid.now().nodeId, 2)
  refuses(t, () => fixed.now(), 'ERR_VMCLOCK_DISRUPTED', /nodeId as a function/)
})

test('without a bound a hybrid clock refuses to stamp, and receives nothing', (t) => {
  const { made, clock } = node(t)
  const hybrid = new HybridClock(clock, { nodeId: 1, maxSkewNs: MS })
  const first = hybrid.now()
  made.write({ flags: 0n })
  refuses(t, () => hybrid.now(), 'ERR_VMCLOCK_TOO_UNCERTAIN', /no bound/)
  refuses(t, () => hybrid.receive(first), 'ERR_VMCLOCK_TOO_UNCERTAIN', /no bound/)
  t.deepEqual(hybrid.last, first)
})

test('stamps and intervals can be written as JSON', (t) => {
  const { clock } = node(t)
  const stamp = new HybridClock(clock, { nodeId: 1, maxSkewNs: MS }).now()
  const json = '{"wallNs":"1767225600000000000","counter":0,"nodeId":1}'
  t.is(JSON.stringify(stamp), json)
  t.is(JSON.stringify(decodeHybrid(encodeHybrid(stamp))), json)
  t.is(
    JSON.stringify(decodeInterval(encodeInterval({ earliestNs: 1n, latestNs: 2n }))),
    '{"earliestNs":"1","latestNs":"2"}',
  )
})

test('wrong options of a hybrid clock are refused', (t) => {
  const { clock } = node(t)
  for (const options of [
    undefined,
    {},
    { nodeId: 1 },
    { maxSkewNs: 1n },
    { nodeId: 2 ** 48, maxSkewNs: 1n },
    { nodeId: () => 0.5, maxSkewNs: 1n },
    { nodeId: 1, maxSkewNs: -1n },
    { nodeId: 1, maxSkewNs: 1n, resolution: 'us' },
    { nodeId: 1, maxSkewNs: 1n, last: {} },
    { nodeId: 1, maxSkewNs: 1n, skew: 1n },
  ]) {
    refuses(
      t,
      () => new HybridClock(clock, options as never),
      'ERR_VMCLOCK_INVALID_ARGUMENT',
      /nodeId|maxSkewNs|resolution|last|skew/,
    )
  }
})

test('a bound this small is what the other tests assume', (t) => {
  const { earliestNs, latestNs } = node(t).clock.read()
  t.deepEqual([earliestNs, latestNs], [START_NS - ERROR_NS, START_NS + ERROR_NS])
})
