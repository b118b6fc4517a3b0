// A caller chooses the source of the time, learns which source is used and why no better one is, and is told of options
// that can have no effect.

import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type PublisherTimeSource, VmClock, type VmClockOptions, VmClockPublisher } from 'vmclock'
import { commandLine, evaluate, inOwnMounts, type Running, run, start } from './node-command'
import { liveFields, newPath, page, refuses } from './pages'

const NS_PER_SEC = 1_000_000_000n
const UNKNOWN = 0
const SYNCHRONIZED = 1
const DRIFT_PPB = 1_000_000

/** Makes the memory of ClockBound's daemon on this machine: version 3, which is at most 20 ms off. */
function memory(t: ExecutionContext, status: number): Buffer {
  const publisher = VmClockPublisher.create(newPath(t), { allowUntrustedCounter: true })
  const clock = VmClock.open(publisher.path)
  const { counterPeriodFracSec = 0n, counterPeriodShift = 0 } = clock.snapshot().raw
  const { counter, epochNs } = clock.read()
  clock.close()
  publisher.close()
  const bytes = Buffer.alloc(104)
  bytes.writeUInt32LE(0x414d5a4e, 0x00)
  bytes.writeUInt32LE(0x43420200, 0x04)
  bytes.writeUInt32LE(104, 0x08)
  bytes.writeUInt16LE(0x0303, 0x0c)
  bytes.writeUInt16LE(2, 0x0e)
  bytes.writeBigUInt64LE(counter, 0x10)
  bytes.writeBigInt64LE(epochNs / NS_PER_SEC, 0x18)
  bytes.writeBigInt64LE(epochNs % NS_PER_SEC, 0x20)
  bytes.writeBigInt64LE(epochNs / NS_PER_SEC + 1000n, 0x28)
  bytes.writeBigUInt64LE(counterPeriodFracSec, 0x38)
  bytes.writeBigInt64LE(20_000_000n, 0x48)
  // The period was measured for milliseconds only.
  bytes.writeUInt32LE(DRIFT_PPB, 0x58)
  bytes.writeInt32LE(status, 0x5c)
  bytes.writeUInt8(counterPeriodShift, 0x61)
  return bytes
}

/** A machine with that memory: `by` runs a command on it, and `set` changes the memory. */
interface Staged {
  readonly by: readonly string[]
  set(status: number): void
}

function staged(t: ExecutionContext, status: number): Staged | undefined {
  // In memory, as /run is.
  const directory = mkdtempSync('/dev/shm/clockbound-')
  t.teardown(() => rmSync(directory, { recursive: true }))
  const set = (status: number): void => {
    // A reader never sees half a file.
    const path = join(directory, 'shm1')
    writeFileSync(`${path}.new`, memory(t, status), { mode: 0o644 })
    renameSync(`${path}.new`, path)
  }
  set(status)
  const mounts = [
    'mount -t tmpfs none /run',
    'mkdir /run/clockbound',
    `mount --bind '${directory}' /run/clockbound`,
  ]
  const by = inOwnMounts(t, mounts.join(' && '))
  return by === undefined ? undefined : { by, set }
}

interface Line {
  readonly event: string
  readonly from?: string
  readonly passedOver?: PublisherTimeSource['passedOver']
}

/** Waits for the next line of an event, or for the end of the output. */
async function next(running: Running, event: string): Promise<Line> {
  for (;;) {
    const line = JSON.parse(await running.line()) as Line
    if (line.event === event) return line
  }
}

test('publish: a change of source is an event that says why no better source is used', async (t) => {
  const machine = staged(t, SYNCHRONIZED)
  if (machine === undefined) return
  const words = [commandLine, 'publish', newPath(t), '--allow-untrusted-counter', '--json']
  const running = start(words, { by: machine.by })
  t.teardown(() => running.child.kill('SIGKILL'))
  const published = await next(running, 'published')
  t.deepEqual([published.from, published.passedOver], ['clockbound', undefined])
  machine.set(UNKNOWN)
  const left = await next(running, 'source')
  t.is(left.from, 'kernel')
  t.like(left.passedOver, [{ from: 'clockbound', code: 'ERR_VMCLOCK_NO_SOURCE' }])
  t.regex(left.passedOver?.[0]?.reason ?? '', /status is unknown/)
  machine.set(SYNCHRONIZED)
  const back = await next(running, 'source')
  t.deepEqual([back.from, back.passedOver], ['clockbound', undefined])
})

test('a publisher and a clock say which source they use, and why no better one', async (t) => {
  const machine = staged(t, SYNCHRONIZED)
  if (machine === undefined) return
  const script = `
    const { VmClock, VmClockPublisher } = require('vmclock')
    const { PAGE: path, CHOICE: from } = process.env
    const options = { from, allowUntrustedCounter: true }
    const attempt = (call) => { try { return call() } catch ({ code, message }) { return { code, message } } }
    const publisher = attempt(() => VmClockPublisher.create(path, options).timeSource)
    const clock = attempt(() => VmClock.open({ source: 'process', ...options }).timeSource.from)
    console.log(JSON.stringify([publisher, clock]))
    process.exit()`
  const seen = (from: string): Promise<[PublisherTimeSource, unknown]> =>
    evaluate(script, [], { by: machine.by, env: { CHOICE: from, PAGE: newPath(t) } })
  for (const from of ['auto', 'clockbound']) {
    const [publisher, clock] = await seen(from)
    t.deepEqual([publisher, clock], [{ from: 'clockbound', passedOver: [] }, 'clockbound'], from)
  }
  machine.set(UNKNOWN)
  const [publisher, clock] = await seen('auto')
  t.like(publisher, { from: 'kernel', passedOver: [{ from: 'clockbound' }] })
  t.is(clock, 'kernel')
  const refused = await seen('clockbound')
  for (const one of refused) {
    t.like(one as object, { code: 'ERR_VMCLOCK_NO_SOURCE' })
    t.regex(JSON.stringify(one), /ClockBound.*status is unknown/)
  }
})

test('a chosen source that no page has is named, in a program and on the command line', async (t) => {
  for (const from of ['phc', 'clockbound'] as const) {
    refuses(t, () => VmClock.open({ source: 'page', from }), 'ERR_VMCLOCK_NO_SOURCE', RegExp(from))
    const words = ['now', '--source', 'page', '--from', from, '--json']
    const { exitCode, stderr } = await run([commandLine, ...words])
    t.is(exitCode, 1)
    t.regex(stderr, RegExp(`ERR_VMCLOCK_NO_SOURCE.*${from}|${from}.*ERR_VMCLOCK_NO_SOURCE`, 's'))
  }
})

test('an error that a caller states is refused where it can have no effect, and is named', (t) => {
  const { path } = page(t, liveFields(t))
  const hostErrorNs = 1n
  const assumedErrorNs = 1n
  const cases: ReadonlyArray<[path: string | undefined, VmClockOptions, RegExp]> = [
    [path, { hostErrorNs }, /hostErrorNs has no effect/],
    [undefined, { source: 'page', hostErrorNs }, /hostErrorNs has no effect/],
    [undefined, { from: 'clockbound', hostErrorNs }, /hostErrorNs has no effect: ClockBound/],
    [undefined, { source: 'process', assumedErrorNs }, /assumedErrorNs has no effect/],
    [undefined, { from: 'kernel', assumedErrorNs }, /assumedErrorNs has no effect/],
    [undefined, { from: 'phc', assumedErrorNs }, /assumedErrorNs has no effect/],
  ]
  for (const [at, options, why] of cases) {
    refuses(t, () => VmClock.open(at, options), 'ERR_VMCLOCK_INVALID_ARGUMENT', why)
  }
  const create = (): unknown =>
    VmClockPublisher.create(newPath(t), { from: 'clockbound', hostErrorNs })
  refuses(t, create, 'ERR_VMCLOCK_INVALID_ARGUMENT', /host's error has no effect.*hostErrorNs/s)
})
