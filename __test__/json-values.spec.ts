// Everything that carries a bigint can be written as JSON, and is still an ordinary value of its realm.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import type * as Vmclock from 'vmclock'
import { tokenFromJSON, type VmClockEvent } from 'vmclock'
import { rootDirectory } from './node-command'
import { FLAG, liveFields, newPath, open, page } from './pages'

const LARGE = 2n ** 64n - 1n

/** Returns what `JSON.stringify` makes of a value, parsed. */
function json(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value))
}

test('a token comes back from JSON, and is good for every call that takes one', (t) => {
  for (const fields of [
    { disruptionMarker: LARGE, vmGenerationCounter: 7n, flags: FLAG.VM_GEN_COUNTER_PRESENT },
    { disruptionMarker: 5n, flags: 0n },
  ]) {
    const made = page(t, { ...liveFields(t), ...fields })
    const clock = open(t, made.path)
    const token = clock.continuityToken()
    const written = json(token) as Vmclock.ContinuityTokenJson
    const again = tokenFromJSON(written)
    t.deepEqual(again, token)
    t.true(Object.isFrozen(again))
    t.is(written.disruptionMarker, String(token.disruptionMarker))
    t.is('vmGeneration' in written, token.vmGeneration !== undefined)
    t.true(clock.isContinuous(again))
    t.true(clock.isContinuous(again))
    t.is(clock.convert(clock.counter(), again).disruptionMarker, fields.disruptionMarker)
    clock.convertInto(BigUint64Array.of(clock.counter()), new BigInt64Array(1), again)
    made.write({ disruptionMarker: 6n })
    t.false(clock.isContinuous(again))
  }
})

test('an error written as JSON has its message, code and remedy, and its details', (t) => {
  const error = t.throws(() => open(t, '/nonexistent/page')) as Vmclock.VmClockError
  const { name, code, message, remedy, path, errno, syscall } = error
  t.deepEqual(json({ error }), {
    error: JSON.parse(JSON.stringify({ name, code, message, remedy, path, errno, syscall })),
  })
  t.true(message.length > 0)
})

test('JSON whose figures are no decimal strings is no token', (t) => {
  for (const disruptionMarker of [
    '',
    '-1',
    '1n',
    '0x5',
    ' 5',
    '1e3',
    '9'.repeat(30),
    `${2n ** 64n}`,
    5,
  ]) {
    t.throws(() => tokenFromJSON({ disruptionMarker } as never), {
      code: 'ERR_VMCLOCK_INVALID_ARGUMENT',
    })
  }
  for (const none of [undefined, null, '{}', [], {}, { disruptionMarker: '1', other: '2' }]) {
    t.throws(() => tokenFromJSON(none as never), { code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
  }
})

test('an offset of the system clock is written with decimal strings', (t) => {
  const clock = open(t, page(t, liveFields(t)).path)
  const offset = clock.systemOffset()
  t.deepEqual(json(offset), {
    offsetNs: String(offset.offsetNs),
    maxErrorNs: String(offset.maxErrorNs),
  })
})

test('a snapshot and its raw fields are written with decimal strings', (t) => {
  const made = page(t, { ...liveFields(t), disruptionMarker: LARGE })
  const clock = open(t, made.path)
  const snapshot = json(clock.snapshot()) as Record<string, Record<string, unknown>>
  t.is(snapshot['disruptionMarker'] as unknown, String(LARGE))
  t.is(snapshot['raw']?.['disruptionMarker'], String(LARGE))
  t.false('vmGeneration' in snapshot)
  const raw = json(clock.snapshot().raw) as Record<string, unknown>
  t.is(raw['disruptionMarker'], String(LARGE))
})

test('an event is written with decimal strings, by listeners and in iterations', async (t) => {
  const made = page(t, { ...liveFields(t), disruptionMarker: 1n })
  const watcher = open(t, made.path).watch({ intervalMs: 1 })
  t.teardown(() => watcher.close())
  const keepsAlive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(keepsAlive))
  const heard = new Promise<VmClockEvent>((resolve) => watcher.once('disruption', resolve))
  const iterated = watcher[Symbol.asyncIterator]().next()
  made.write({ disruptionMarker: LARGE })
  for (const event of [await heard, (await iterated).value]) {
    const { previous, current, seenMs, reading } = json(event) as Record<string, unknown>
    t.deepEqual([previous, current], ['1', String(LARGE)])
    const of = event as Vmclock.DisruptionEvent
    t.is(seenMs, of.seenMs)
    t.is((reading as Vmclock.ReadingJson).epochNs, String(of.reading?.epochNs))
  }
})

test('toJSON is no part of a value: it can be compared, spread, cloned and posted', (t) => {
  const made = page(t, { disruptionMarker: 3n })
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  for (const value of [token, clock.snapshot()]) {
    t.false(Object.keys(value).includes('toJSON'))
    t.false('toJSON' in { ...value })
    t.deepEqual(structuredClone(value), { ...value } as never)
  }
  t.deepEqual(token, { disruptionMarker: 3n, vmGeneration: undefined })
  t.is(token.constructor, Object)
})

test('results are arrays and objects of the realm that loaded the package', (t) => {
  const made = page(t, liveFields(t))
  const path = newPath(t)
  const require = createRequire(join(rootDirectory, 'dist/index.cjs'))
  // The package's files run in a context of their own, as in Jest. The addon and Node's modules do not.
  const load = (name: string): unknown => {
    if (!name.startsWith('./') || !name.endsWith('.cjs')) return require(name)
    loaded[name] ??= evaluate(name)
    return loaded[name]
  }
  const loaded: Record<string, unknown> = {}
  const evaluate = (name: string): unknown => {
    const module = { exports: {} }
    const file = join(rootDirectory, 'dist', name)
    const text = readFileSync(file, 'utf8')
    const wrapped = runInContext(`(function (module, exports, require, __dirname) {${text}\n})`)
    wrapped(module, module.exports, load, join(rootDirectory, 'dist'))
    return module.exports
  }
  const globals = { process, Buffer, structuredClone, VMCLOCK: {} as unknown }
  const runInContext = makeRealm(globals)
  const { VmClock, VmClockPublisher } = load('./index.cjs') as typeof Vmclock
  const { PtpClock } = load('./ptp.cjs') as typeof import('vmclock/ptp')
  const clock = VmClock.open(made.path)
  const publisher = VmClockPublisher.create(path, { allowUntrustedCounter: true })
  const [own, ownObject] = runInContext('[Array, Object]') as unknown as [
    ArrayConstructor,
    ObjectConstructor,
  ]
  t.not(own, Array)
  t.true(VmClock.list() instanceof own)
  t.true(PtpClock.list() instanceof own)
  const { boundUnavailable } = publisher
  const values = [clock.snapshot(), clock.snapshot().raw, clock.systemOffset(), boundUnavailable]
  for (const value of values) {
    if (value !== undefined) t.is(Object.getPrototypeOf(value), ownObject.prototype)
  }
  publisher.close()
  clock.close()
})

/** Makes a realm, and returns its `eval`. */
function makeRealm(globals: object): (text: string) => (...all: unknown[]) => unknown {
  return runInNewContext('(text) => (0, eval)(text)', globals) as never
}
