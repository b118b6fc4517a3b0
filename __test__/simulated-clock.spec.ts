// A simulated clock does what the test says, to the nanosecond, and waits on it end by simulated time.

import { getActiveResourcesInfo } from 'node:process'
import test, { type ExecutionContext } from 'ava'
import {
  type Clock,
  Reading,
  VmClockError,
  type VmClockErrorCode,
  type VmClockEvent,
} from 'vmclock'
import { perMachine } from 'vmclock/clones'
import { waitUntilPast, waitUntilSynchronized } from 'vmclock/ordering'
import { SimulatedClock, type SimulatedClockOptions, SimulatedTime } from 'vmclock/testing'
import { evaluate } from './node-command'
import { refuses } from './pages'

const START_NS = 1_767_225_600_000_000_000n
const MS = 1_000_000n
const SEC = 1_000_000_000n

/** The figures that a test compares, relative to the start. */
function figures(clock: SimulatedClock): ReadonlyArray<bigint | undefined> {
  const { epochNs, earliestNs, latestNs } = clock.read()
  const since = (ns: bigint | undefined) => (ns === undefined ? undefined : ns - START_NS)
  return [since(epochNs), since(earliestNs), since(latestNs)]
}

test('a new simulated clock is right, stands still, and has a bound of a millisecond', (t) => {
  const clock: Clock = new SimulatedClock()
  const reading = clock.read()
  t.true(reading instanceof Reading)
  t.deepEqual({ ...reading, counter: 0n }, {
    epochNs: START_NS,
    maxErrorNs: MS,
    estErrorNs: undefined,
    earliestNs: START_NS - MS,
    latestNs: START_NS + MS,
    counter: 0n,
    disruptionMarker: 1n,
    vmGeneration: 1n,
    status: 'synchronized',
    leapSecond: false,
    timescale: 'utc',
    taiMinusUtcSec: 37,
    ageNs: 0n,
  } as never)
  t.deepEqual(clock.read(), reading)
  t.is(clock.nowNs(), START_NS)
  t.is(clock.nowMs(), 1_767_225_600_000)
  t.deepEqual(clock.nowDate(), new Date('2026-01-01'))
  t.true(clock.hasTime)
  t.true(clock.isUsable)
  const slots = new BigInt64Array(20)
  clock.readInto(slots, 3)
  t.deepEqual(new Reading(slots, 'utc', 3), reading)
})

test('time passes only as the test says', (t) => {
  const clock = new SimulatedClock({ maxErrorNs: 5n })
  clock.advance(7n)
  t.deepEqual(figures(clock), [7n, 2n, 12n])
  clock.set(START_NS + 100n)
  t.deepEqual(figures(clock), [100n, 95n, 105n])
  refuses(t, () => clock.set(START_NS), 'ERR_VMCLOCK_INVALID_ARGUMENT', /cannot go back.*100 ns/)
  clock.advance(123_356n)
  t.is(clock.nowMs(), Number('1767225600000.123456'))
})

test('skew, drift and step make the clock wrong, and only the test knows by how much', (t) => {
  const clock = new SimulatedClock({ maxErrorNs: 10n })
  clock.skew(4n)
  t.deepEqual(figures(clock), [4n, -6n, 14n])
  t.deepEqual([clock.errorNs, clock.trueNs, clock.isBoundTrue], [4n, START_NS, true])
  clock.step(7n)
  t.deepEqual([clock.errorNs, clock.isBoundTrue], [11n, false])
  clock.skew(-10n)
  t.true(clock.isBoundTrue)
  clock.skew(0n)
  clock.drift(-2.5)
  clock.advance(SEC)
  t.deepEqual([clock.errorNs, clock.nowNs() - START_NS], [-2500n, SEC - 2500n])
  clock.drift(0)
  clock.advance(SEC)
  t.is(clock.errorNs, -2500n)
})

test('the bound widens, is lost, and returns with a synchronization', (t) => {
  const clock = new SimulatedClock({ maxErrorNs: 10n })
  clock.widen(20n)
  t.deepEqual(figures(clock), [0n, -20n, 20n])
  clock.skew(3n)
  clock.loseBound()
  t.deepEqual(figures(clock), [3n, undefined, undefined])
  t.is(clock.read().maxErrorNs, undefined)
  clock.synchronize()
  t.deepEqual(figures(clock), [0n, -10n, 10n])
  clock.synchronize(1n)
  t.deepEqual(figures(clock), [0n, -1n, 1n])
})

test('the bound of a stale page grows by the largest drift, and ends after 1,000 s', (t) => {
  const clock = new SimulatedClock({ maxErrorNs: 10n, maxDriftPpm: 2, maxAgeMs: 2000 })
  const lenient = new SimulatedClock({ time: clock.time, maxErrorNs: 10n, maxDriftPpm: 2 })
  clock.advance(SEC)
  t.is(clock.read().maxErrorNs, 10n)
  for (const one of [clock, lenient]) one.goStale()
  clock.advance(SEC + 1n)
  // 2 ppm of a second, and of a nanosecond more, rounded up.
  t.is(clock.read().maxErrorNs, 2011n)
  t.is(clock.read().ageNs, SEC + 1n)
  clock.advance(SEC)
  refuses(t, () => clock.nowNs(), 'ERR_VMCLOCK_STALE', /simulated/)
  lenient.advance(1000n * SEC - 2n * SEC - 1n)
  t.is(lenient.read().maxErrorNs, 2_000_010n)
  lenient.advance(1n)
  t.is(lenient.read().maxErrorNs, undefined)
  clock.synchronize()
  clock.advance(SEC)
  t.is(clock.read().maxErrorNs, 10n)
})

test('a leap second is announced, repeats or leaves out a label, and changes TAI - UTC', (t) => {
  const newMonth = BigInt(Date.UTC(2026, 1)) * MS
  for (const [kind, labels, offsets] of [
    ['inserted', [-1n * SEC, -1n * SEC, 0n], [37, 38, 38]],
    ['deleted', [0n, SEC, 2n * SEC], [36, 36, 36]],
  ] as const) {
    const clock = new SimulatedClock({ maxErrorNs: 0n })
    const tai = new SimulatedClock({ time: clock.time, timescale: 'tai' })
    clock.leapSecond(kind)
    tai.leapSecond(kind)
    clock.set(newMonth - 2n * SEC)
    const taiThen = tai.nowNs()
    const seen = [1n, 2n, 3n].map(() => {
      clock.advance(SEC)
      return clock.read()
    })
    t.deepEqual(
      seen.map(({ epochNs }) => epochNs - newMonth),
      labels as unknown as bigint[],
    )
    t.deepEqual(
      seen.map(({ leapSecond }) => leapSecond),
      [false, kind === 'inserted', false],
    )
    t.deepEqual(
      seen.map(({ taiMinusUtcSec }) => taiMinusUtcSec),
      offsets as unknown as number[],
    )
    t.is(tai.nowNs() - taiThen, 3n * SEC)
  }
})

test('near an inserted second the interval holds every label that it can be', (t) => {
  const newMonth = BigInt(Date.UTC(2026, 1)) * MS
  const clock = new SimulatedClock({ maxErrorNs: 10n })
  clock.leapSecond('inserted')
  clock.set(newMonth - 5n)
  const { earliestNs, latestNs } = clock.read()
  t.deepEqual([earliestNs, latestNs], [newMonth - SEC, newMonth])
})

test('a second leap second follows the first', (t) => {
  const clock = new SimulatedClock()
  clock.leapSecond('inserted')
  clock.set(BigInt(Date.UTC(2026, 1, 2)) * MS)
  clock.leapSecond('inserted')
  clock.set(BigInt(Date.UTC(2026, 2, 2)) * MS)
  t.is(clock.nowNs(), BigInt(Date.UTC(2026, 2, 2)) * MS)
  t.is(clock.read().taiMinusUtcSec, 39)
  t.is(clock.time.nowNs, BigInt(Date.UTC(2026, 2, 2)) * MS + 2n * SEC)
})

test('a disruption and a migration refuse old tokens and lose the bound until synchronized', (t) => {
  for (const disturb of ['disrupt', 'migrate'] as const) {
    const clock = new SimulatedClock()
    const token = clock.continuityToken()
    const counter = clock.counter()
    t.is(clock.convert(counter, token).epochNs, START_NS)
    clock[disturb]()
    t.false(clock.isContinuous(token))
    refuses(t, () => clock.convert(counter, token), 'ERR_VMCLOCK_DISRUPTED', /simulated/)
    t.is(clock.read().maxErrorNs, undefined)
    t.is(clock.read().vmGeneration, token.vmGeneration)
    clock.synchronize()
    t.is(clock.read().maxErrorNs, MS)
    t.is(clock.counter() !== counter, disturb === 'migrate')
  }
  const clock = new SimulatedClock()
  clock.migrate(500n)
  t.is(clock.errorNs, 500n)
})

test('a clone is a second machine with the same new generation and the same true time', (t) => {
  const clock = new SimulatedClock({ errorNs: 3n, timescale: 'tai' })
  const token = clock.continuityToken()
  const twin = clock.clone()
  t.false(clock.isContinuous(token))
  t.false(twin.isContinuous(token))
  t.deepEqual(twin.continuityToken(), clock.continuityToken())
  t.is(twin.continuityToken().vmGeneration, 2n)
  t.deepEqual(twin.read(), clock.read())
  clock.advance(5n)
  t.deepEqual(twin.read(), clock.read())
  twin.step(1n)
  t.is(twin.nowNs() - clock.nowNs(), 1n)
})

test('counters convert to the times at which they were taken', (t) => {
  const clock = new SimulatedClock({ maxErrorNs: 1n, maxDriftPpm: 1, driftPpm: 100 })
  const token = clock.continuityToken()
  const counters = new BigUint64Array(3)
  const seen = counters.map(() => 0n)
  for (const index of counters.keys()) {
    counters[index] = clock.counter()
    seen[index] = clock.nowNs()
    clock.advance(MS)
  }
  const out = new BigInt64Array(3)
  clock.convertInto(counters, out, token)
  t.deepEqual([...out], [...seen])
  // A bound grows with the distance from the reference, on either side.
  t.is(clock.convert(counters[0] as bigint, token).maxErrorNs, 4n)
  t.is(clock.convert(clock.counter() + MS, token).maxErrorNs, 2n)
})

test('a clock that is told to fail fails with that code, and no call hides it', (t) => {
  const clock = new SimulatedClock()
  const token = clock.continuityToken()
  const timeCalls = [
    () => clock.nowNs(),
    () => clock.nowMs(),
    () => clock.nowHrTime(),
    () => clock.nowDate(),
    () => clock.read(),
    () => clock.readInto(new BigInt64Array(20)),
    () => clock.convert(1n, token),
    () => clock.convertInto(new BigUint64Array(1), new BigInt64Array(1), token),
  ]
  const otherCalls = [
    () => clock.continuityToken(),
    () => clock.isContinuous(token),
    () => clock.watch(),
  ]
  const codes: VmClockErrorCode[] = ['ERR_VMCLOCK_NO_TIME', 'ERR_VMCLOCK_TIMEOUT']
  for (const code of codes) {
    clock.fail(code)
    for (const call of timeCalls) refuses(t, call, code, /simulated/)
    t.false(clock.isUsable)
    t.is((clock.tryRead() as VmClockError).code, code)
  }
  for (const call of otherCalls) refuses(t, call, 'ERR_VMCLOCK_TIMEOUT', /simulated/)
  clock.fail('ERR_VMCLOCK_NO_TIME')
  t.false(clock.hasTime)
  t.true(clock.isContinuous(token))
  clock.recover()
  t.is(clock.nowNs(), START_NS)
})

test('only a synchronized or free-running clock gives time, as the options say', (t) => {
  const time = new SimulatedTime()
  const clock = new SimulatedClock({ time })
  const strict = new SimulatedClock({ time, requireSynchronized: true, errorLimitNs: MS })
  for (const one of [clock, strict]) one.setStatus('free-running')
  t.is(clock.read().status, 'free-running')
  refuses(t, () => strict.read(), 'ERR_VMCLOCK_UNSYNCHRONIZED', /simulated/)
  clock.setStatus('unreliable')
  refuses(t, () => clock.read(), 'ERR_VMCLOCK_UNSYNCHRONIZED', /simulated/)
  strict.synchronize(MS + 1n)
  refuses(t, () => strict.nowNs(), 'ERR_VMCLOCK_TOO_UNCERTAIN', /simulated/)
  strict.loseBound()
  refuses(t, () => strict.nowNs(), 'ERR_VMCLOCK_TOO_UNCERTAIN', /simulated/)
  strict.widen(MS)
  t.true(strict.isUsable)
})

test('watchers get the events of what the test does, and none after close', async (t) => {
  const clock = new SimulatedClock()
  const watcher = clock.watch()
  const events: unknown[] = []
  const note = ({ type, ...event }: VmClockEvent) =>
    events.push('previous' in event ? [type, event.previous, event.current, event.updates] : type)
  for (const type of ['disruption', 'generation', 'maintenance', 'status', 'leap'] as const) {
    watcher.on(type as 'leap', note)
  }
  clock.widen(5n)
  clock.setMaintenance('soon')
  clock.setMaintenance('none')
  await Promise.resolve()
  clock.migrate()
  await Promise.resolve()
  clock.clone()
  await Promise.resolve()
  clock.setStatus('free-running')
  clock.leapSecond('inserted')
  await Promise.resolve()
  t.deepEqual(events, [
    ['maintenance', 'none', 'none', 3],
    ['disruption', 1n, 2n, 1],
    ['disruption', 2n, 3n, 1],
    ['generation', 1n, 2n, 1],
    ['status', 'synchronized', 'free-running', 2],
    ['leap', 'none', 'pre-positive', 2],
  ])
  const codes: string[] = []
  watcher.on('error', ({ code }) => codes.push(code))
  clock.fail('ERR_VMCLOCK_TIMEOUT')
  await Promise.resolve()
  t.deepEqual(codes, ['ERR_VMCLOCK_TIMEOUT'])
  clock.recover()
  clock.migrate()
  watcher.close()
  await Promise.resolve()
  t.is(events.length, 6)
})

test('watchers hear once that nobody updates the page, at its own time, and of the next update', async (t) => {
  const clock = new SimulatedClock({ maxAgeMs: 2 })
  const seen: unknown[] = []
  const watcher = clock.watch()
  watcher.on('freshness', ({ isStale, ageNs }) => seen.push([isStale, ageNs]))
  const after = async (ns: bigint): Promise<unknown[]> => {
    clock.advance(ns)
    await Promise.resolve()
    return seen.splice(0)
  }
  clock.advance(SEC)
  clock.goStale()
  t.deepEqual(await after(2n * MS), [])
  // A look at the limit itself.
  clock.skew(0n)
  t.deepEqual(await after(0n), [])
  t.deepEqual(await after(1n), [[true, 2n * MS + 1n]])
  t.deepEqual(await after(SEC), [])
  // A skew is no update, and a widened bound is one. From it the page ages anew.
  clock.skew(1n)
  t.deepEqual(await after(1n), [])
  clock.widen(5n)
  t.deepEqual(await after(2n * MS), [[false, undefined]])
  t.deepEqual(await after(1n), [[true, 2n * MS + 1n]])
  clock.synchronize()
  t.deepEqual(await after(SEC), [[false, undefined]])
  clock.goStale()
  watcher.close()
  t.deepEqual(await after(SEC), [])
  // Without a limit of its own a page counts as stale after 3 s.
  const lenient = new SimulatedClock({ time: clock.time })
  const other = lenient.watch()
  other.on('freshness', ({ ageNs }) => seen.push(ageNs))
  lenient.goStale()
  t.deepEqual(await after(3n * SEC), [])
  t.deepEqual(await after(1n), [3n * SEC + 1n])
  other.close()
})

test('a clock that nobody watches keeps no timer while its page ages', (t) => {
  const clock = new SimulatedClock({ followsDate: true })
  const timersOf = (): number =>
    getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
  const before = timersOf()
  clock.goStale()
  t.is(timersOf(), before)
  const watcher = clock.watch()
  t.is(timersOf(), before + 1)
  watcher.close()
  t.is(timersOf(), before)
})

test('a clone keeps the options of its machine, and the time that it has returned', (t) => {
  const clock = new SimulatedClock({ nonDecreasing: true, maxErrorNs: 7n, errorLimitNs: SEC })
  clock.advance(9n)
  const before = clock.nowNs()
  const twin = clock.clone()
  for (const one of [clock, twin]) {
    one.synchronize()
    one.step(-5n)
    t.is(one.nowNs(), before)
    t.is(one.read().maxErrorNs, 12n)
    one.loseBound()
    refuses(t, () => one.nowNs(), 'ERR_VMCLOCK_TOO_UNCERTAIN', /simulated/)
  }
})

test('a value that is made for each machine renews itself when its clock is cloned', (t) => {
  const clock = new SimulatedClock()
  let made = 0
  const value = perMachine(() => ++made, { clock })
  t.deepEqual([value(), value()], [1, 1])
  const twin = clock.clone()
  const other = perMachine(() => ++made, { clock: twin })
  t.deepEqual([value(), value(), other(), value()], [2, 2, 3, 2])
  clock.migrate()
  t.deepEqual([value(), other()], [4, 3])
  // A restore while the value is made discards it.
  const hasty = perMachine(
    () => {
      if (++made === 5) clock.clone()
      return made
    },
    { clock },
  )
  t.deepEqual([hasty(), hasty()], [6, 6])
  clock.fail('ERR_VMCLOCK_TIMEOUT')
  refuses(t, value, 'ERR_VMCLOCK_TIMEOUT', /simulated/)
  t.throws(() => perMachine(() => 1, { clock: {} as never }), {
    code: 'ERR_VMCLOCK_INVALID_ARGUMENT',
  } as never)
})

test('waits on a simulated clock end by simulated time, in order and at their own times', async (t) => {
  const clock = new SimulatedClock({ maxErrorNs: 0n })
  const ends: Array<[string, bigint]> = []
  const wait = async (name: string, afterNs: bigint) => {
    const { epochNs } = await waitUntilPast(clock, START_NS + afterNs)
    ends.push([name, epochNs - START_NS])
  }
  const waits = [wait('late', 20n), wait('early', 10n), wait('never', 30n)]
  clock.advance(9n)
  await Promise.resolve()
  t.deepEqual(ends, [])
  clock.advance(15n)
  await Promise.all(waits.slice(0, 2))
  t.deepEqual(ends, [
    ['early', 11n],
    ['late', 21n],
  ])
  clock.close()
  await t.throwsAsync(waits[2] as Promise<void>, { code: 'ERR_VMCLOCK_CLOSED' } as never)
})

test('waits look again after each change that the test makes', async (t) => {
  const clock = new SimulatedClock()
  clock.loseBound()
  const synchronized = waitUntilSynchronized(clock, { errorLimitNs: 7n })
  clock.widen(8n)
  clock.synchronize(7n)
  t.is((await synchronized).maxErrorNs, 7n)
  const wait = waitUntilPast(clock, START_NS)
  clock.migrate()
  await t.throwsAsync(wait, { instanceOf: VmClockError, message: /migrated/ })
})

test('advanceAsync lets a program wait again and again at the right times', async (t) => {
  const clock = new SimulatedClock({ maxErrorNs: 0n })
  const times: bigint[] = []
  const program = (async () => {
    for (let round = 1n; round <= 5n; round++) {
      const { epochNs } = await waitUntilPast(clock, clock.nowNs() + 9n)
      times.push(epochNs - START_NS)
    }
  })()
  await clock.advanceAsync(50n)
  await program
  t.deepEqual(times, [10n, 20n, 30n, 40n, 50n])
  t.is(clock.time.nowNs - START_NS, 50n)
})

test('waits on a drifting clock end when its own time has come', async (t) => {
  for (const driftPpm of [-1000, 0, 1000]) {
    const clock = new SimulatedClock({ maxErrorNs: 0n, driftPpm })
    const wait = waitUntilPast(clock, START_NS + SEC)
    clock.advance(2n * SEC)
    const { epochNs } = await wait
    t.true(epochNs > START_NS + SEC && epochNs <= START_NS + SEC + 3n, String(epochNs))
  }
})

test('simulated clocks work where the package itself is not supported', async (t) => {
  const answer = await evaluate<string[]>(`
    Object.defineProperty(process, 'platform', { value: 'darwin' })
    const { VmClock } = require('vmclock')
    const { waitUntilPast } = require('vmclock/ordering')
    const { SimulatedClock, SimulatedFleet } = require('vmclock/testing')
    const clock = new SimulatedClock()
    const watcher = clock.watch()
    const wait = waitUntilPast(clock, clock.read().latestNs)
    clock.advance(10_000_000n)
    wait.then(({ epochNs }) => {
      watcher.close()
      const fleet = new SimulatedFleet({ clocks: 2, seed: 1 })
      console.log(JSON.stringify([String(VmClock.isSupported()), String(epochNs), String(fleet.clocks.length)]))
    })`)
  t.deepEqual(answer, ['false', String(START_NS + 2n * MS + 1n), '2'])
})

test('wrong arguments of simulated clocks are refused', (t) => {
  const clock = new SimulatedClock()
  const options: unknown[] = [
    1,
    { error: 1n },
    { maxErrorNs: -1n },
    { maxDriftPpm: -1 },
    { driftPpm: 1e6 },
    { timescale: 'utc-sls' },
    { vmGeneration: 1 },
    { taiMinusUtcSec: 9 },
    { time: {} },
    { time: clock.time, startNs: 1n },
    { startNs: 2n ** 63n },
    { followsDate: 1 },
  ]
  for (const option of options) {
    t.throws(() => new SimulatedClock(option as SimulatedClockOptions), {
      instanceOf: VmClockError,
      code: 'ERR_VMCLOCK_INVALID_ARGUMENT',
    })
  }
  const calls: Array<(t: ExecutionContext) => unknown> = [
    () => clock.advance(-1n),
    () => clock.advance(1 as never),
    () => clock.set(1 as never),
    () => clock.skew(1 as never),
    () => clock.drift(Number.NaN),
    () => clock.widen(undefined as never),
    () => clock.leapSecond('smeared' as never),
    () => clock.setStatus('fine' as never),
    () => clock.setMaintenance('now' as never),
    () => clock.fail('EACCES' as never),
    () => clock.time.after(1n, undefined as never),
  ]
  for (const call of calls) {
    t.throws(() => call(t), { instanceOf: VmClockError, code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
  }
})

test('a closed simulated clock answers nothing but closed, path and timescale', (t) => {
  const clock = new SimulatedClock()
  const token = clock.continuityToken()
  clock.close()
  clock.close()
  t.deepEqual(
    [clock.closed, clock.path, clock.timescale, clock.isUsable],
    [true, undefined, 'utc', false],
  )
  for (const call of [
    () => clock.read(),
    () => clock.counter(),
    () => clock.continuityToken(),
    () => clock.isContinuous(token),
    () => clock.watch(),
    () => clock.hasTime,
  ]) {
    refuses(t, call, 'ERR_VMCLOCK_CLOSED', /closed/)
  }
})
