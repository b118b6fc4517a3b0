// open() takes the page that the options ask for, limits its age and its error, and says what it took.

import test, { type ExecutionContext } from 'ava'
import { VmClock, type VmClockOptions, type VmClockWatcher } from 'vmclock'
import { bootIdHere, type Made, publishWith, writeExtension } from './extension'
import { evaluate } from './node-command'
import { liveFields, newPath, open, page, refuses } from './pages'

/** Makes a page as a publisher of this package does, and returns its path. */
function published(t: ExecutionContext, made: Made = {}): string {
  const { path } = page(t, liveFields(t))
  writeExtension(path, made)
  return path
}

const SECOND_NS = 1_000_000_000n

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
    [{ from: 'phc2' }, /options.from must be 'auto' or 'kernel'/],
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
