// On machines whose bounds are true no decision contradicts the true order; a false bound is found.

import test from 'ava'
import {
  compareHybrid,
  compareIntervals,
  encodeInterval,
  HybridClock,
  type HybridStamp,
  waitUntilPast,
} from 'vmclock/ordering'
import { type SimulatedClock, SimulatedFleet } from 'vmclock/testing'

const PAIRS = Number(process.env['VMCLOCK_ORDERING_PAIRS'] ?? 20_000)
const SEED = Number(process.env['VMCLOCK_ORDERING_SEED'] ?? 1)
const MOST_ERROR_NS = 5_000_000n
const SYNCHRONIZE_EVERY = 1000

interface Stamp {
  readonly earliestNs: bigint
  readonly latestNs: bigint
}

function stampOf(clock: SimulatedClock): Stamp {
  const { earliestNs, latestNs } = clock.read()
  if (earliestNs === undefined || latestNs === undefined) throw new Error('a fleet has bounds')
  return { earliestNs, latestNs }
}

/** Lets true time pass until a time is certainly past on this clock: the commit wait. */
function commitWait(fleet: SimulatedFleet, clock: SimulatedClock, ns: bigint): void {
  for (;;) {
    const { earliestNs } = stampOf(clock)
    if (earliestNs > ns) return
    fleet.advance(ns - earliestNs + 1n)
  }
}

/** Stamps pairs of which the first event happened before the second, and counts what contradicts that. */
function contradictions(
  fleet: SimulatedFleet,
  pairs: number,
  waits: boolean,
): { readonly inversions: number; readonly byBytes: number; readonly comparisons: number } {
  let inversions = 0
  let byBytes = 0
  let comparisons = 0
  for (let pair = 0; pair < pairs; pair++) {
    if (pair % SYNCHRONIZE_EVERY === 0 && pair > 0) fleet.synchronize()
    const cause = fleet.pick()
    const first = stampOf(cause)
    if (waits) commitWait(fleet, cause, first.latestNs)
    // The message to the other machine takes up to 50 µs.
    fleet.advance(BigInt(Math.floor(fleet.random() * 50_000)))
    const second = stampOf(fleet.pick())
    if (first.latestNs >= second.latestNs) inversions++
    if (pair % 16 === 0 && Buffer.compare(encodeInterval(first), encodeInterval(second)) >= 0) {
      byBytes++
    }
    if (compareIntervals(first, second) === 'after') comparisons++
  }
  return { inversions, byBytes, comparisons }
}

test(`with commit wait no pair of causally related events is inverted: ${PAIRS} pairs`, (t) => {
  const fleet = new SimulatedFleet({ clocks: 7, seed: SEED, mostErrorNs: MOST_ERROR_NS })
  const found = contradictions(fleet, PAIRS, true)
  t.deepEqual(found, { inversions: 0, byBytes: 0, comparisons: 0 })
  t.true(fleet.clocks.every(({ isBoundTrue }) => isBoundTrue))
  t.log(`seed ${SEED}: ${PAIRS} pairs, 0 inversions, 0 contradictions`)
})

test('without commit wait pairs are inverted, and no certain answer contradicts the truth', (t) => {
  const fleet = new SimulatedFleet({ clocks: 7, seed: SEED, mostErrorNs: MOST_ERROR_NS })
  const { inversions, byBytes, comparisons } = contradictions(fleet, PAIRS, false)
  t.true(inversions > 0)
  t.true(byBytes > 0)
  t.is(comparisons, 0)
  t.log(`seed ${SEED}: ${inversions} of ${PAIRS} inverted without the wait`)
})

test('a bound that is made false on purpose is found, with commit wait too', (t) => {
  const fleet = new SimulatedFleet({ clocks: 7, seed: SEED, mostErrorNs: MOST_ERROR_NS })
  const [liar] = fleet.clocks
  liar?.skew(-4n * MOST_ERROR_NS)
  t.is(liar?.isBoundTrue, false)
  const { inversions, comparisons } = contradictions(fleet, SYNCHRONIZE_EVERY, true)
  t.true(inversions > 0)
  t.true(comparisons > 0)
})

test('every bound of a fleet is true, at every age, for every seed', (t) => {
  for (let seed = SEED; seed < SEED + 200; seed++) {
    const fleet = new SimulatedFleet({ clocks: 5, seed, mostErrorNs: 1000n })
    for (const ns of [0n, 1n, 999n, 1_000_003n, 10n ** 9n, 9n * 10n ** 11n]) {
      fleet.advance(ns)
      for (const clock of fleet.clocks) {
        const { earliestNs, latestNs } = stampOf(clock)
        t.true(earliestNs <= clock.trueNs && clock.trueNs <= latestNs, `seed ${seed}`)
      }
    }
  }
})

test('errors reach both ends of the bounds, and equal seeds give equal fleets', (t) => {
  const shares = Array.from({ length: 200 }, (_, seed) => {
    const options = { clocks: 1, seed, mostErrorNs: 1000n }
    const [clock] = new SimulatedFleet(options).clocks
    const [same] = new SimulatedFleet(options).clocks
    t.deepEqual(clock?.read(), same?.read())
    return Number(clock?.errorNs) / Number(clock?.read().maxErrorNs)
  })
  t.true(Math.max(...shares) > 0.95)
  t.true(Math.min(...shares) < -0.95)
})

test('advanceAsync of a fleet lets a program wait again and again, at the right times', async (t) => {
  const fleet = new SimulatedFleet({ clocks: 3, seed: SEED, mostErrorNs: MOST_ERROR_NS })
  const startNs = fleet.time.nowNs
  const endsNs: bigint[] = []
  const waits = (async () => {
    for (const clock of fleet.clocks) {
      await waitUntilPast(clock, stampOf(clock).latestNs)
      endsNs.push(fleet.time.nowNs - startNs)
    }
  })()
  await fleet.advanceAsync(10n ** 9n)
  t.is(endsNs.length, fleet.clocks.length)
  await waits
  t.is(fleet.time.nowNs - startNs, 10n ** 9n)
  // Each wait takes no more than twice the largest bound, and what drift and rounding add to it.
  let beforeNs = 0n
  for (const endNs of endsNs) {
    t.true(beforeNs < endNs && endNs - beforeNs < 3n * MOST_ERROR_NS)
    beforeNs = endNs
  }
})

test('hybrid clocks respect causality, and stay as near to the truth as proven', (t) => {
  const fleet = new SimulatedFleet({ clocks: 7, seed: SEED, mostErrorNs: MOST_ERROR_NS })
  // Every bound stays below this: the simulation lasts less than 1,000 s, at 50 ppm.
  const mostNs = MOST_ERROR_NS + 50_000_000n
  for (const resolution of ['ns', 'ms'] as const) {
    const unitNs = resolution === 'ms' ? 1_000_000n : 1n
    const nodes = fleet.clocks.map((clock, nodeId) => ({
      clock,
      hybrid: new HybridClock(clock, { nodeId, maxSkewNs: mostNs, resolution }),
    }))
    let message: HybridStamp | undefined
    let wrong = 0
    let far = 0
    for (let event = 0; event < PAIRS; event++) {
      const node = nodes[Math.floor(fleet.random() * nodes.length)]
      if (node === undefined) return t.fail()
      const before = node.hybrid.last
      const sends = message === undefined || fleet.random() < 0.5
      const stamp = sends ? node.hybrid.now() : node.hybrid.receive(message as HybridStamp)
      if (before !== undefined && compareHybrid(before, stamp) >= 0) wrong++
      if (!sends && compareHybrid(message as HybridStamp, stamp) >= 0) wrong++
      const { maxErrorNs } = node.clock.read()
      const distanceNs = stamp.wallNs - node.clock.trueNs
      if (distanceNs <= -(maxErrorNs as bigint) - unitNs || distanceNs > mostNs) far++
      message = stamp
      fleet.advance(BigInt(Math.floor(fleet.random() * 1000)))
    }
    t.is(wrong, 0)
    t.is(far, 0)
  }
})

test('wrong options of a fleet are refused', (t) => {
  for (const options of [
    undefined,
    { clocks: 1 },
    { seed: 1 },
    { clocks: 0, seed: 1 },
    { clocks: 1, seed: -1 },
    { clocks: 1, seed: 1, mostErrorNs: 0n },
    { clocks: 1, seed: 1, mostDriftPpm: 1001 },
    { clocks: 1, seed: 1, time: {} },
  ]) {
    t.throws(() => new SimulatedFleet(options as never), {
      code: 'ERR_VMCLOCK_INVALID_ARGUMENT',
    } as never)
  }
})
