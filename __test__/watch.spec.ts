// A watcher reports every change that is still visible, and nothing after close. It keeps no process alive.

import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import {
  VmClock,
  type VmClockError,
  type VmClockEvent,
  VmClockPublisher,
  VmClockWatcher,
  type VmClockWatchOptions,
} from 'vmclock'
import { VmClockPage } from 'vmclock/testing'
import { evaluate, run } from './node-command'
import { FLAG, held, liveFields, newPath, open, page, refuses } from './pages'

// Tests await the events, so the interval only decides how long that takes.
const OFTEN: VmClockWatchOptions = { intervalMs: 1 }

/** Makes a watcher that is closed when the test ends. */
function watch(t: ExecutionContext, path: string, options = OFTEN): VmClockWatcher {
  const watcher = open(t, path).watch(options)
  t.teardown(() => watcher.close())
  return watcher
}

/** Waits for the next event of a type, and keeps the process alive until it comes. */
function next<Type extends VmClockEvent['type']>(
  watcher: VmClockWatcher,
  type: Type,
): Promise<Extract<VmClockEvent, { type: Type }>> {
  return alive(
    new Promise((resolve) => {
      watcher.once(type, resolve as never)
    }),
  )
}

/** Keeps the thread alive until a promise is settled; a watcher does not. */
async function alive<Value>(promise: Promise<Value>): Promise<Value> {
  const timer = setInterval(() => {}, 1 << 30)
  try {
    return await promise
  } finally {
    clearInterval(timer)
  }
}

const generation = FLAG.VM_GEN_COUNTER_PRESENT

for (const [type, fields, previous, current] of [
  ['disruption', { disruptionMarker: 2n ** 64n - 1n }, 1n, 2n ** 64n - 1n],
  ['generation', { vmGenerationCounter: 6n }, 5n, 6n],
  ['generation', { flags: 0n }, 5n, undefined],
  ['maintenance', { flags: generation | FLAG.DISRUPTION_SOON }, 'none', 'soon'],
  ['maintenance', { flags: generation | FLAG.DISRUPTION_IMMINENT }, 'none', 'imminent'],
  ['status', { clockStatus: 3 }, 'synchronized', 'free-running'],
  ['leap', { leapIndicator: 1 }, 'none', 'pre-positive'],
] as const) {
  test(`a change is reported by its own event: ${type} ${previous} to ${current}`, async (t) => {
    const made = page(t, {
      disruptionMarker: 1n,
      flags: generation,
      vmGenerationCounter: 5n,
      clockStatus: 2,
    })
    const watcher = watch(t, made.path)
    const reported: VmClockEvent[] = []
    for (const name of ['disruption', 'generation', 'maintenance', 'status', 'leap', 'replaced']) {
      watcher.on(name as 'replaced', (event: VmClockEvent) => reported.push(event))
    }
    const seen = next(watcher, type)
    made.write({ timeSec: 1n })
    made.write(fields)
    await seen
    t.deepEqual(reported, [
      { type, previous, current, updates: 2, seqCount: made.seqCount } as VmClockEvent,
    ])
    t.true(Object.isFrozen(reported[0]))
  })
}

test('a watcher reports what a publisher does', async (t) => {
  const publisher = VmClockPublisher.create(newPath(t), { shape: 'marker-and-generation' })
  t.teardown(() => publisher.close())
  const watcher = watch(t, publisher.path)
  const disruption = next(watcher, 'disruption')
  publisher.disrupt()
  const { previous, current } = await disruption
  t.not(previous, current)
  const cloned = next(watcher, 'generation')
  publisher.bumpGeneration()
  t.not((await cloned).previous, undefined)
  for (const announced of ['soon', 'imminent', 'none'] as const) {
    const maintenance = next(watcher, 'maintenance')
    publisher.setMaintenance(announced)
    t.is((await maintenance).current, announced)
  }
  const status = next(watcher, 'status')
  publisher.close()
  t.is((await status).current, 'unreliable')
})

test('a burst of updates is one event of each type, and counts every update', async (t) => {
  const made = page(t, {})
  const watcher = watch(t, made.path)
  const reported: Array<{ updates: number; previous: bigint; current: bigint }> = []
  watcher.on('disruption', (event) => reported.push(event))
  const begun = made.seqCount
  // The thread sees some of the updates during the loop, and JavaScript none until the loop ends.
  for (let marker = 1n; marker <= 20_000n; marker++) made.write({ disruptionMarker: marker })
  const end = new Promise<void>((resolve) => {
    watcher.on('disruption', ({ current }) => {
      if (current === 20_000n) resolve()
    })
  })
  await alive(end)
  // One event for the updates that the thread saw during the loop, and one for the later ones.
  t.true(reported.length <= 2, `${reported.length} events`)
  t.is(
    reported.reduce((sum, { updates }) => sum + updates, 0),
    (made.seqCount - begun) / 2,
  )
  t.is(reported[0]?.previous, 0n)
})

test('a change that was undone before the report is reported', async (t) => {
  const made = page(t, {})
  const watcher = watch(t, made.path)
  const reported = next(watcher, 'replaced')
  const seen: VmClockEvent[] = []
  watcher.on('maintenance', (event) => seen.push(event))
  watcher.on('disruption', (event) => seen.push(event))
  made.write({ flags: FLAG.DISRUPTION_SOON, disruptionMarker: 1n })
  VmClockPage.create(made.path, {}).close()
  await reported
  t.deepEqual(
    seen.map(({ type }) => type),
    ['disruption', 'maintenance'],
  )
})

test('a change between watch() and the first listener is reported', async (t) => {
  const made = page(t, {})
  const watcher = watch(t, made.path)
  made.write({ disruptionMarker: 1n })
  t.is((await next(watcher, 'disruption')).updates, 1)
})

test('a file that replaces the page is reported once, and the old page stays watched', async (t) => {
  const made = page(t, {})
  const watcher = watch(t, made.path)
  let count = 0
  watcher.on('replaced', () => count++)
  const replaced = next(watcher, 'replaced')
  VmClockPage.create(made.path, {}).close()
  t.deepEqual(await replaced, { type: 'replaced', path: made.path })
  const disruption = next(watcher, 'disruption')
  made.write({ disruptionMarker: 1n })
  await disruption
  t.is(count, 1)
})

test('a stuck page emits one error, and the watcher goes on', async (t) => {
  const made = page(t, {})
  const watcher = watch(t, made.path)
  const errors: unknown[] = []
  const stuck = new Promise<VmClockError>((resolve) => {
    watcher.on('error', (error) => {
      errors.push(error)
      resolve(error)
    })
  })
  made.begin()
  const { code, remedy } = await alive(stuck)
  t.is(code, 'ERR_VMCLOCK_TIMEOUT')
  t.regex(remedy ?? '', /restart what publishes the page/)
  const disruption = next(watcher, 'disruption')
  made.write({ disruptionMarker: 1n })
  await disruption
  t.is(errors.length, 1)
})

test('an error without a listener is thrown', async (t) => {
  const made = page(t, {})
  made.close()
  const { exitCode, stderr } = await run([
    '--input-type=commonjs',
    '-e',
    `const { VmClock } = require('vmclock')
    const { VmClockPage } = require('vmclock/testing')
    const path = ${JSON.stringify(made.path)}
    VmClock.open(path).watch({ intervalMs: 1 })
    setInterval(() => {}, 1 << 30)
    VmClockPage.open(path).begin()`,
  ])
  t.is(exitCode, 1)
  t.regex(stderr, /ERR_VMCLOCK_TIMEOUT/)
})

test('watch() refuses a page that is stuck', (t) => {
  const made = page(t, {})
  const clock = open(t, made.path)
  made.begin()
  refuses(t, () => clock.watch(), 'ERR_VMCLOCK_TIMEOUT', /restart what publishes the page/)
})

test('an open watcher or a pending iteration keeps no process alive', async (t) => {
  const { path } = page(t, {})
  const script = (iteration: string): string =>
    `const { VmClock } = require('vmclock')
    const watcher = VmClock.open(${JSON.stringify(path)}).watch()
    watcher.on('disruption', () => {})
    ${iteration}
    console.log('true')`
  t.true(await evaluate(script('')))
  t.true(await evaluate(script('watcher[Symbol.asyncIterator]().next()')))
})

test('a watcher that a listener closes emits no further event', async (t) => {
  const made = page(t, {})
  const watcher = watch(t, made.path)
  const reported: string[] = []
  watcher.on('disruption', () => {
    reported.push('disruption')
    watcher.close()
  })
  watcher.on('maintenance', () => reported.push('maintenance'))
  const disruption = next(watcher, 'disruption')
  made.write({ disruptionMarker: 1n, flags: FLAG.DISRUPTION_SOON })
  await disruption
  t.true(watcher.closed)
  // Another watcher reports the next change, and so would this one.
  const other = next(watch(t, made.path), 'disruption')
  made.write({ disruptionMarker: 2n, flags: 0n })
  await other
  t.deepEqual(reported, ['disruption'])
})

for (const closes of [false, true]) {
  const what = closes ? 'is dropped by close' : 'emits its event'
  test(`a call that the native thread has queued ${what}`, async (t) => {
    const { path } = page(t, {})
    const reported = await evaluate<number>(
      `const { VmClock } = require('vmclock')
      const { VmClockPage } = require('vmclock/testing')
      const { readdirSync, readFileSync } = require('node:fs')
      const writer = VmClockPage.open(${JSON.stringify(path)})
      const watcher = VmClock.open(writer.path).watch({ intervalMs: 1 })
      let reported = 0
      watcher.on('disruption', () => reported++)
      const read = (id, name) => readFileSync('/proc/self/task/' + id + '/' + name, 'utf8')
      const isOurs = (id) => read(id, 'comm').startsWith('vmclock-watch')
      let thread
      while (thread === undefined) thread = readdirSync('/proc/self/task').find(isOurs)
      const waits = () => Number(/^voluntary_ctxt_switches:\\s+(\\d+)/m.exec(read(thread, 'status'))[1])
      writer.write({ disruptionMarker: 1n })
      // The thread has looked at the page when it waits for the second time.
      const before = waits()
      while (waits() < before + 2);
      if (${closes}) watcher.close()
      setTimeout(() => setImmediate(() => console.log(reported)), 0)`,
    )
    t.is(reported, closes ? 0 : 1)
  })
}

test('an error in a listener is uncaught, and the other listeners are called', async (t) => {
  const { path } = page(t, {})
  const reported = await evaluate<string[]>(
    `const { VmClock } = require('vmclock')
    const { VmClockPage } = require('vmclock/testing')
    const reported = []
    const watcher = VmClock.open(${JSON.stringify(path)}).watch({ intervalMs: 1 })
    const alive = setInterval(() => {}, 1 << 30)
    process.on('uncaughtException', ({ message }) => {
      reported.push(message)
      clearInterval(alive)
      console.log(JSON.stringify(reported))
    })
    watcher.on('disruption', () => { throw new Error('mine') })
    watcher.on('maintenance', ({ current }) => reported.push(current))
    VmClockPage.open(${JSON.stringify(path)}).write({ disruptionMarker: 1n, flags: 2n })`,
  )
  t.deepEqual(reported, ['soon', 'mine'])
})

test('abort closes the watcher', async (t) => {
  const made = page(t, {})
  const controller = new AbortController()
  const watcher = watch(t, made.path, { ...OFTEN, signal: controller.signal })
  const pending = watcher[Symbol.asyncIterator]().next()
  t.false(watcher.closed)
  controller.abort()
  t.true(watcher.closed)
  t.deepEqual(await pending, { done: true, value: undefined })
  const late = watch(t, made.path, { signal: AbortSignal.abort() })
  t.true(late.closed)
})

test('a signal whose methods throw leaves no watcher open', (t) => {
  const made = page(t, {})
  made.close()
  const thrower = (): never => {
    throw new RangeError('mine')
  }
  const mine = { instanceOf: RangeError, message: 'mine' }
  const clock = VmClock.open(made.path)
  const unlistenable = { aborted: false, addEventListener: thrower, removeEventListener() {} }
  t.throws(() => clock.watch({ signal: unlistenable as never }), mine)
  const unremovable = { aborted: false, addEventListener() {}, removeEventListener: thrower }
  const watcher = clock.watch({ signal: unremovable as never })
  t.throws(() => watcher.close(), mine)
  t.true(watcher.closed)
  clock.close()
  // A watcher's thread holds the mapping.
  t.deepEqual(held(made.path), [])
})

test('watchers that are made and closed in listeners each report, and none is left', async (t) => {
  const made = page(t, {})
  made.close()
  const writer = VmClockPage.open(made.path)
  t.teardown(() => writer.close())
  const clock = VmClock.open(made.path)
  const reported: number[] = []
  let older = clock.watch(OFTEN)
  const outer = older
  await alive(
    new Promise<void>((resolve) => {
      const listen = (watcher: VmClockWatcher, depth: number): void => {
        watcher.on('disruption', () => {
          reported.push(depth)
          if (depth === 20) return resolve()
          const newer = clock.watch(OFTEN)
          // By turns it closes the watcher whose listener runs and the other one.
          if (depth % 2 === 0) watcher.close()
          else older.close()
          older = watcher
          listen(newer, depth + 1)
          writer.write({ disruptionMarker: BigInt(depth + 2) })
          if (depth % 2 === 1) watcher.close()
        })
      }
      listen(outer, 0)
      writer.write({ disruptionMarker: 1n })
    }),
  )
  t.deepEqual(
    reported,
    Array.from({ length: 21 }, (_, depth) => depth),
  )
  clock.close()
  // Only the writer's mapping and the last watcher's are left.
  t.is(held(made.path).length, 2)
})

test('abort at any await of an iteration ends it and leaves nothing', async (t) => {
  const made = page(t, {})
  made.close()
  const writer = VmClockPage.open(made.path)
  t.teardown(() => writer.close())
  let marker = 0n
  const change = (): void => writer.write({ disruptionMarker: ++marker })
  const places = [
    'before the first',
    'while it waits',
    'in the body',
    'in a listener',
    'with one waiting',
  ] as const
  for (const place of places) {
    const controller = new AbortController()
    const clock = VmClock.open(made.path)
    const watcher = clock.watch({ ...OFTEN, signal: controller.signal })
    const reported: string[] = []
    if (place === 'before the first') controller.abort()
    if (place === 'in a listener') watcher.on('disruption', () => controller.abort())
    const iteration = (async () => {
      for await (const { type } of watcher) {
        reported.push(type)
        if (place === 'with one waiting') {
          const waiting = next(watcher, 'disruption')
          change()
          await waiting
        }
        if (place === 'in the body' || place === 'with one waiting') controller.abort()
      }
    })()
    if (place === 'while it waits') setImmediate(() => controller.abort())
    else change()
    await alive(iteration)
    t.true(watcher.closed, place)
    // A waiting iteration gets an event before the listeners.
    t.is(reported.length, place === 'before the first' || place === 'while it waits' ? 0 : 1, place)
    clock.close()
    // Only the writer's mapping is left.
    t.is(held(made.path).length, 1, place)
  }
})

test('watch() refuses wrong options', (t) => {
  const clock = open(t, page(t, {}).path)
  for (const options of [
    { intervalMs: 0 },
    { intervalMs: 1.5 },
    { intervalMs: 3_600_001 },
    { intervalMs: '100' },
    { signal: {} },
    { signal: null },
    // A signal without removeEventListener.
    { signal: { aborted: false, addEventListener() {} } },
    { interval: 1 },
    5,
  ]) {
    refuses(
      t,
      () => clock.watch(options as never),
      'ERR_VMCLOCK_INVALID_ARGUMENT',
      /must be|have no/,
    )
  }
  const make = (): unknown => Reflect.construct(VmClockWatcher, [])
  refuses(t, make, 'ERR_VMCLOCK_INVALID_ARGUMENT', /watch\(\)/)
})

test('a closed clock cannot be watched, and a watcher outlives its clock', async (t) => {
  const made = page(t, {})
  made.close()
  const clock = VmClock.open(made.path)
  const watcher = clock.watch(OFTEN)
  clock.close()
  refuses(t, () => clock.watch(), 'ERR_VMCLOCK_CLOSED', /open a new one/)
  const writer = VmClockPage.open(made.path)
  const disruption = next(watcher, 'disruption')
  writer.write({ disruptionMarker: 1n })
  await disruption
  writer.close()
  t.is(held(made.path).length, 1)
  watcher[Symbol.dispose]()
  t.true(watcher.closed)
  t.deepEqual(held(made.path), [])
})

test('the end of a worker closes its watchers, however it ends', async (t) => {
  const made = page(t, liveFields(t))
  made.close()
  const script = `const { parentPort, workerData } = require('node:worker_threads')
    const { VmClock } = require('vmclock')
    const watchers = [1, 2, 3].map(() => VmClock.open(workerData.path).watch({ intervalMs: 1 }))
    watchers[0].close()
    parentPort.postMessage('watching')
    if (workerData.stays) for (;;);`
  for (const stays of [false, true]) {
    const worker = new Worker(script, { eval: true, workerData: { path: made.path, stays } })
    const exited = new Promise((resolve) => worker.once('exit', resolve))
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    if (stays) await worker.terminate()
    await exited
    // Every clock and every watcher's thread holds a mapping of the page.
    t.deepEqual(held(made.path), [])
  }
})

test('a watcher has one thread, which ends with it', async (t) => {
  const { path } = page(t, {})
  const opened = await evaluate<number>(
    `const { VmClock } = require('vmclock')
    const { readdirSync } = require('node:fs')
    const count = () => readdirSync('/proc/self/task').length
    const before = count()
    const watchers = [1, 2].map(() => VmClock.open(${JSON.stringify(path)}).watch())
    const opened = count() - before
    for (const watcher of watchers) watcher.close()
    // The system may list a joined thread a little longer.
    while (count() > before);
    console.log(opened)`,
  )
  t.is(opened, 2)
})

test('an iteration gives the events, and ends on close', async (t) => {
  const made = page(t, {})
  const watcher = watch(t, made.path)
  const reported: string[] = []
  const iteration = alive(
    (async () => {
      for await (const event of watcher) {
        reported.push(event.type)
        if (event.type === 'disruption') made.write({ leapIndicator: 1 })
        else watcher.close()
      }
    })(),
  )
  made.write({ disruptionMarker: 1n })
  await iteration
  t.deepEqual(reported, ['disruption', 'leap'])
  for await (const event of watcher) t.fail(event.type)
})

test('a busy iteration has at most one pending event of each type', async (t) => {
  const made = page(t, {})
  const watcher = watch(t, made.path)
  const iteration = watcher[Symbol.asyncIterator]()
  for (const marker of [1n, 2n, 3n]) {
    const disruption = next(watcher, 'disruption')
    made.write({ disruptionMarker: marker })
    await disruption
  }
  t.like(await iteration.next(), { value: { previous: 0n, current: 3n, updates: 3 } })
  await iteration.return?.()
  t.deepEqual(await iteration.next(), { done: true, value: undefined })
  t.false(watcher.closed)
})

test('an iteration rejects on an error, which then needs no listener', async (t) => {
  const made = page(t, {})
  const watcher = watch(t, made.path)
  const iteration = watcher[Symbol.asyncIterator]()
  made.begin()
  await t.throwsAsync(alive(iteration.next()), { code: 'ERR_VMCLOCK_TIMEOUT' })
  t.deepEqual(await iteration.next(), { done: true, value: undefined })
  const again = watcher[Symbol.asyncIterator]().next()
  made.write({ disruptionMarker: 1n })
  t.like(await alive(again), { value: { type: 'disruption' } })
})
