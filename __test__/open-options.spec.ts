// open() takes the page that the options ask for, limits its age and its error, and says what it took.

import test, { type ExecutionContext } from 'ava'
import { VmClock, type VmClockOptions, type VmClockWatcher } from 'vmclock'
import type { VmClockPage } from 'vmclock/testing'
import { bootIdHere, type Made, publishWith, writeExtension } from './extension'
import { evaluate } from './node-command'
import { FLAG, liveFields, newPath, open, page, refuses } from './pages'

/** Makes a page as a publisher of this package does, and returns its path. */
function published(t: ExecutionContext, made: Made = {}): string {
  const { path } = page(t, liveFields(t))
  writeExtension(path, made)
  return path
}

const SECOND_NS = 1_000_000_000n

/**
 * Makes a page as version 3 of the proposed host driver writes it: without errors, with a marker of 0, and with a
 * promise of monotonic time. The driver writes TAI with the offset's positive sign where the host knows the
 * offset, and UTC without the flag elsewhere.
 */
function hostDriverPage(
  t: ExecutionContext,
  mode: 'tai' | 'utc',
): { made: VmClockPage; path: string; utcNs: bigint } {
  const live = liveFields(t)
  const utcSec = live.timeSec ?? 0n
  const always = FLAG.TIME_MONOTONIC | FLAG.NOTIFICATION_PRESENT
  const fields = {
    ...live,
    flags: mode === 'tai' ? always | FLAG.TAI_OFFSET_VALID : always,
    timeType: mode === 'tai' ? 1 : 0,
    taiOffsetSec: mode === 'tai' ? 37 : 0,
    timeSec: mode === 'tai' ? utcSec + 37n : utcSec,
    timeMaxerrorNanosec: 0n,
  }
  const made = page(t, fields)
  return { made, path: made.path, utcNs: utcSec * SECOND_NS }
}

/** Makes a page of this package that was last updated so long ago. */
function updatedAgo(t: ExecutionContext, seconds: number, made: Made = {}): string {
  const fields = liveFields(t)
  // The pages of these tests count nanoseconds.
  const ticks = BigInt(seconds) * SECOND_NS
  const { path } = page(t, {
    ...fields,
    counterValue: BigInt.asUintN(64, fields.counterValue - ticks),
    timeSec: (fields.timeSec ?? 0n) - BigInt(seconds),
  })
  writeExtension(path, made)
  return path
}

test('maxAgeMs refuses the time of a page of this package that nobody updates', (t) => {
  const path = updatedAgo(t, 10)
  const strict = open(t, path, { maxAgeMs: 5_000 })
  t.false(strict.isUsable)
  for (const call of [() => strict.nowNs(), () => strict.nowMs(), () => strict.read()]) {
    refuses(t, call, 'ERR_VMCLOCK_STALE', /5000 ms.*vmclock publish|vmclock publish/)
  }
  t.like(strict.tryRead(), { code: 'ERR_VMCLOCK_STALE' })
  t.true(open(t, path, { maxAgeMs: 3_600_000 }).isUsable)
  t.true(open(t, path).isUsable)
})

test('maxAgeMs does not refuse the pages of others', (t) => {
  const { path } = page(t, liveFields(t))
  t.true(open(t, path, { maxAgeMs: 1 }).isUsable)
})

test('the age of a reading and of a snapshot is the time since the last update', (t) => {
  const clock = open(t, updatedAgo(t, 100))
  const { ageNs } = clock.read()
  t.true(ageNs >= 100n * SECOND_NS && ageNs < 160n * SECOND_NS)
  const later = clock.snapshot().ageNs ?? 0n
  t.true(later > ageNs)
  t.true(clock.read().ageNs > later)
  t.is(open(t, page(t, {}).path).snapshot().ageNs, undefined)
})

test('errorLimitNs refuses a greater bound, and time without a bound', (t) => {
  const fields = liveFields(t)
  const { path } = page(t, fields)
  t.true(open(t, path, { errorLimitNs: 1_001n }).isUsable)
  const strict = open(t, path, { errorLimitNs: 1_000n })
  for (const call of [() => strict.nowNs(), () => strict.nowMs(), () => strict.read()]) {
    refuses(t, call, 'ERR_VMCLOCK_TOO_UNCERTAIN', /vmclock doctor/)
  }
  const boundless = open(t, page(t, { ...fields, flags: 0n }).path, {
    errorLimitNs: 2n ** 63n - 1n,
  })
  t.false(boundless.isUsable)
  t.like(boundless.tryRead(), { code: 'ERR_VMCLOCK_TOO_UNCERTAIN' })
})

test('a page that nobody updates has no bound from its void-after on', (t) => {
  const path = updatedAgo(t, 10, { voidAfterNs: 5n * SECOND_NS })
  const clock = open(t, path)
  t.is(clock.read().maxErrorNs, undefined)
  t.deepEqual(clock.snapshot().boundUnavailable, {
    reason: 'void',
    updatesLeft: undefined,
  })
  t.not(open(t, updatedAgo(t, 10, { voidAfterNs: 3600n * SECOND_NS })).read().maxErrorNs, undefined)
})

test('a page of another boot or another machine is refused', (t) => {
  const path = published(t, { bootId: bootIdHere() ^ 1n })
  const clock = open(t, path)
  refuses(t, () => clock.nowNs(), 'ERR_VMCLOCK_OTHER_BOOT', /another boot.*publish a page/)
  t.false(clock.isUsable)
})

test('source and from are refused beside a path', (t) => {
  const path = published(t)
  for (const options of [{ source: 'page' }, { source: 'auto' }, { from: 'kernel' }] as const) {
    const call = (): VmClock => VmClock.open(path, options)
    refuses(t, call, 'ERR_VMCLOCK_INVALID_ARGUMENT', /choose a page.*leave them out, or the path/)
  }
})

test('wrong options are refused, and their message says what is allowed', (t) => {
  const path = published(t)
  const wrong: Array<[VmClockOptions | object, RegExp]> = [
    [{ source: 'device' }, /options.source must be 'auto' or 'page' or 'process'/],
    [{ from: 'phc2' }, /options.from must be 'auto' or 'kernel' or 'phc' or 'clockbound'/],
    [{ maxAgeMs: 0 }, /options.maxAgeMs must be a whole number from 1 to 1000000000/],
    [{ maxAgeMs: 1.5 }, /options.maxAgeMs must be a whole number/],
    [{ maxAgeMs: 5n }, /options.maxAgeMs must be a whole number/],
    [{ errorLimitNs: 5 }, /options.errorLimitNs must be a bigint from 0n/],
    [{ errorLimitNs: -1n }, /options.errorLimitNs must be a bigint from 0n/],
    [{ errorLimitNs: 2n ** 63n }, /options.errorLimitNs must be a bigint from 0n/],
    [{ allowUnguarded: 1 }, /options.allowUnguarded must be true or false/],
    [{ allowUntrustedCounter: 'yes' }, /options.allowUntrustedCounter must be true or false/],
  ]
  for (const [options, says] of wrong) {
    const chosen = 'source' in options || 'from' in options ? undefined : path
    const call = (): VmClock => VmClock.open(chosen, options as VmClockOptions)
    refuses(t, call, 'ERR_VMCLOCK_INVALID_ARGUMENT', says)
  }
})

test('timeSource says which page was taken, and is frozen and JSON-able', (t) => {
  const path = published(t, { beganNs: 1_767_225_600_123_456_789n })
  const source = open(t, path, { assumedDriftPpm: 5 }).timeSource
  t.like(source, { kind: 'path', path, from: 'kernel', sinceMs: 1_767_225_600_123 })
  const deep = [source, source.guard, source.assumed, ...source.assumed]
  t.true(deep.every((part) => Object.isFrozen(part)))
  t.deepEqual(structuredClone(source), source)
  const read = JSON.parse(JSON.stringify(source)) as typeof source
  t.like(read, { kind: 'path', path, from: 'kernel', sinceMs: 1_767_225_600_123 })
  t.is(read.guard.state, source.guard.state)
})

test('timeSource says which parts are assumed, and by whom', (t) => {
  const { path } = page(t, { ...liveFields(t), flags: 0n })
  t.deepEqual(open(t, path).timeSource.assumed, [])
  const [assumed] = open(t, path, { assumedDriftPpm: 5 }).timeSource.assumed
  t.deepEqual(assumed, { part: 'rate-error', by: 'caller' })
})

test('assumedErrorNs completes a page without a base error, and its caller answers for it', (t) => {
  const { path, made } = hostDriverPage(t, 'tai')
  const given = { assumedErrorNs: 50_000n, assumedDriftPpm: 1 }
  t.is(open(t, path).read().maxErrorNs, undefined)
  t.is(open(t, path, { assumedErrorNs: 50_000n }).read().maxErrorNs, undefined)
  const clock = open(t, path, given)
  const { maxErrorNs = 0n } = clock.read()
  t.true(maxErrorNs > 50_000n, `${maxErrorNs}`)
  t.deepEqual(clock.timeSource.assumed, [
    { part: 'time-error', by: 'caller' },
    { part: 'rate-error', by: 'caller' },
  ])
  // A clock that nothing corrects may be off by any amount.
  made.write({ clockStatus: 3 })
  t.is(clock.read().maxErrorNs, undefined)
  t.deepEqual(clock.timeSource.assumed, [{ part: 'rate-error', by: 'caller' }])
})

test('assumedErrorNs gives no bound to a page whose publisher states none', (t) => {
  const { path } = page(t, { ...liveFields(t), flags: FLAG.PERIOD_MAXERROR_VALID })
  writeExtension(path, { noBound: { reason: 'unsynchronized' } })
  const clock = open(t, path, { assumedErrorNs: 50_000n, assumedDriftPpm: 1 })
  t.is(clock.read().maxErrorNs, undefined)
  t.false(clock.timeSource.assumed.some(({ part }) => part === 'time-error'))
})

test('a page as the host driver writes it gives UTC, with and without a TAI offset', (t) => {
  for (const mode of ['tai', 'utc'] as const) {
    const { path, utcNs } = hostDriverPage(t, mode)
    const clock = open(t, path, { assumedErrorNs: 10n * SECOND_NS, assumedDriftPpm: 1 })
    const { earliestNs = 0n, latestNs = 0n } = clock.read()
    t.true(earliestNs < utcNs && utcNs < latestNs, `${mode}: ${earliestNs} ${utcNs} ${latestNs}`)
    const { timeMonotonic, taiMinusUtcSec } = clock.snapshot()
    t.true(timeMonotonic)
    t.is(taiMinusUtcSec, mode === 'tai' ? 37 : undefined)
  }
})

test('nonDecreasing holds on a page that promises monotonic time and steps back', (t) => {
  const { made, path, utcNs } = hostDriverPage(t, 'utc')
  const clock = open(t, path, { nonDecreasing: true })
  const before = clock.nowNs()
  made.write({ timeSec: utcNs / SECOND_NS - 1000n })
  t.true(clock.nowNs() >= before)
  t.true(open(t, path).nowNs() < before)
})

test('timeSource throws after close', (t) => {
  const clock = VmClock.open(published(t))
  clock.close()
  refuses(t, () => clock.timeSource, 'ERR_VMCLOCK_CLOSED', /closed/)
})

/** Opens the default page with options in a process of its own, and returns what it took. */
function chosen(options: object, env: NodeJS.ProcessEnv = {}): Promise<unknown> {
  return evaluate(
    `const { VmClock } = require('vmclock')
    try {
      const clock = VmClock.open({ allowUntrustedCounter: true, ...${JSON.stringify(options)} })
      const { kind, path, from } = clock.timeSource
      console.log(JSON.stringify([kind, path ?? null, clock.path ?? null, clock.isUsable]))
      clock.close()
    } catch ({ code }) { console.log(JSON.stringify(code)) }`,
    [],
    { env },
  )
}

test('$VMCLOCK_PATH ends the choice, but source process keeps its own page', async (t) => {
  const path = published(t)
  const env = { VMCLOCK_PATH: path }
  t.deepEqual(await chosen({}, env), ['path', path, path, true])
  t.deepEqual(await chosen({ source: 'page' }, env), ['path', path, path, true])
  t.deepEqual(await chosen({ source: 'process' }, env), ['process', null, null, true])
  t.is(await chosen({}, { VMCLOCK_PATH: newPath(t) }), 'ERR_VMCLOCK_NOT_FOUND')
})

function next(watcher: VmClockWatcher, name: 'freshness'): Promise<unknown> {
  return new Promise((resolve, reject) => {
    watcher.once(name, resolve)
    watcher.once('error', reject)
  })
}

test('a watcher reports that nobody updates a page any more, and the next update', async (t) => {
  const fields = liveFields(t)
  const made = page(t, fields)
  writeExtension(made.path, {})
  const clock = open(t, made.path, { maxAgeMs: 50 })
  const watcher = clock.watch({ intervalMs: 10 })
  t.teardown(() => watcher.close())
  // A watcher keeps no process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const stale = (await next(watcher, 'freshness')) as { isStale: boolean; ageNs: bigint }
  t.like(stale, { type: 'freshness', isStale: true })
  t.true(stale.ageNs >= 50_000_000n)
  t.true(Object.isFrozen(stale))
  const fresh = next(watcher, 'freshness')
  const counterValue = clock.counter() + 60n * SECOND_NS
  publishWith(made, { counterValue, timeSec: (fields.timeSec ?? 0n) + 60n })
  t.deepEqual(
    { ...((await fresh) as object) },
    { type: 'freshness', isStale: false, ageNs: undefined },
  )
})
