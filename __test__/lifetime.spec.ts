// A page is mapped as long as its clock can read it, and no longer.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { VmClock, VmClockPublisher } from 'vmclock'
import { VmClockPage } from 'vmclock/testing'
import { evaluate, isEmulated, rootDirectory, run } from './node-command'
import { held, liveFields, newDirectory, newPath, open, page } from './pages'

test('close unmaps at once, and an open clock holds no descriptor', (t) => {
  const made = page(t, liveFields(t))
  made.close()
  const clocks = Array.from({ length: 10 }, () => VmClock.open(made.path))
  // All clocks on one page share its mapping.
  t.is(held(made.path).length, 1)
  t.true(held(made.path).every((entry) => entry !== made.path))
  const last = clocks.pop()
  for (const clock of clocks) clock.close()
  t.is(held(made.path).length, 1)
  last?.close()
  t.deepEqual(held(made.path), [])
})

test('closing one clock does not close another on the same page', (t) => {
  const { path } = page(t, liveFields(t))
  const [first, second] = [VmClock.open(path), open(t, path)]
  first.close()
  t.true(second.nowNs() > 0n)
})

test('a clock goes on reading a page whose file was replaced', (t) => {
  const made = page(t, liveFields(t))
  const clock = open(t, made.path)
  VmClockPage.create(made.path, {}).close()
  t.true(clock.nowNs() > 0n)
})

test('a dropped clock is unmapped when it is collected', async (t) => {
  const { path } = page(t, liveFields(t))
  const left = await evaluate<number[]>(
    `const { VmClock } = require('vmclock')
    const { copyFileSync, readFileSync } = require('node:fs')
    const path = ${JSON.stringify(path)}
    const mapped = () => readFileSync('/proc/self/maps', 'utf8').split(path).length - 1
    let kept = VmClock.open(path)
    function drop() {
      for (let count = 0; count < 50; count++) {
        // Clocks on one page would share a mapping.
        copyFileSync(path, path + count)
        const clock = VmClock.open(path + count)
        clock.nowNs()
        clock.read()
        if (count % 2 === 0) clock.snapshot()
      }
    }
    drop()
    const before = mapped()
    let turns = 0
    function turn() {
      gc()
      if (mapped() > 1 && ++turns < 200) return setImmediate(turn)
      kept.nowNs()
      const withOne = mapped()
      kept.close()
      console.log(JSON.stringify([before, withOne, mapped()]))
    }
    turn()`,
    ['--expose-gc'],
  )
  t.true((left[0] ?? 0) > 1)
  t.deepEqual(left.slice(1), [1, 0])
})

test('a worker has its own clock, which ends with the worker', async (t) => {
  const made = page(t, liveFields(t))
  made.close()
  const here = VmClock.open(made.path)
  const times = await Promise.all(
    [1, 2, 3].map(
      () =>
        new Promise<bigint>((resolve, reject) => {
          let time = 0n
          new Worker(
            `const { parentPort, workerData } = require('node:worker_threads')
            const { VmClock } = require('vmclock')
            globalThis.clock = VmClock.open(workerData)
            parentPort.postMessage(clock.nowNs())`,
            { eval: true, workerData: made.path },
          )
            .on('message', (message: bigint) => {
              time = message
            })
            .once('error', reject)
            .once('exit', () => resolve(time))
        }),
    ),
  )
  for (const time of times) t.true(time > 0n && time <= here.nowNs())
  here.close()
  t.deepEqual(held(made.path), [])
})

test('a worker that is ended in the middle of a call harms no other clock', async (t) => {
  const { path } = page(t, liveFields(t))
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
    const { VmClock } = require('vmclock')
    const clock = VmClock.open(workerData)
    clock.nowNs()
    parentPort.postMessage('stamping')
    for (;;) clock.read()`,
    { eval: true, workerData: path },
  )
  await new Promise((resolve) => worker.once('message', resolve))
  await worker.terminate()
  t.true(open(t, path).nowNs() > 0n)
})

test('a thousand opened and closed clocks leave no descriptors and no mappings', async (t) => {
  const { path } = page(t, liveFields(t))
  const [before, after] = await evaluate<number[][]>(
    `const { VmClock } = require('vmclock')
    const { readdirSync, readFileSync } = require('node:fs')
    const path = ${JSON.stringify(path)}
    const figures = () => [
      readdirSync('/proc/self/fd').length,
      readFileSync('/proc/self/maps', 'utf8').split(path).length - 1,
    ]
    const before = figures()
    for (let round = 0; round < 1000; round++) {
      const clock = VmClock.open(path)
      clock.nowNs()
      clock.close()
    }
    console.log(JSON.stringify([before, figures()]))`,
  )
  t.deepEqual(after, before)
})

test('64 workers that are ended in the middle of calls leave nothing', async (t) => {
  const made = page(t, liveFields(t))
  made.close()
  const here = open(t, made.path)
  const started = Array.from({ length: 64 }, (_, number) => {
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads')
      const { VmClock } = require('vmclock')
      parentPort.postMessage('reading')
      for (;;) {
        const clock = VmClock.open(workerData)
        for (let call = 0; call < 100; call++) clock.read()
        clock.close()
      }`,
      { eval: true, workerData: made.path },
    )
    const isReading = new Promise((resolve, reject) =>
      worker.once('message', resolve).once('error', reject),
    )
    // Each worker is ended while others begin.
    return async () => {
      await isReading
      here.nowNs()
      t.is(await worker.terminate(), 1, `worker ${number}`)
    }
  })
  await Promise.all(started.map((end) => end()))
  t.true(here.nowNs() > 0n)
  t.is(held(made.path).length, 1)
})

for (const [how, ask] of [
  [
    'fork',
    `const child = fork(program)
    child.once('message', tell).once('exit', ended)`,
  ],
  [
    'cluster',
    `cluster.setupPrimary({ exec: program, execArgv: [] })
    cluster.fork().once('message', tell).once('exit', ended)`,
  ],
] as const) {
  test(`a process started by ${how} has its own clocks and none of its parent's`, async (t) => {
    if (isEmulated) {
      t.log('not shown: an emulated Node cannot start a second one by its own path')
      t.pass()
      return
    }
    const made = page(t, liveFields(t))
    const program = join(newDirectory(t), 'child.cjs')
    writeFileSync(
      program,
      `const { VmClock } = require(${JSON.stringify(`${rootDirectory}dist/index.cjs`)})
      const { readFileSync } = require('node:fs')
      const inherited = readFileSync('/proc/self/maps', 'utf8').includes(${JSON.stringify(made.path)})
      const clock = VmClock.open(${JSON.stringify(made.path)})
      const watcher = clock.watch()
      process.send([inherited, String(clock.nowNs())], () => process.exit(0))`,
    )
    const answer = await evaluate<[string, boolean, string, string, number, boolean]>(
      `const { VmClock } = require('vmclock')
      const cluster = require('node:cluster')
      const { fork } = require('node:child_process')
      const program = ${JSON.stringify(program)}
      const clock = VmClock.open(${JSON.stringify(made.path)})
      const watcher = clock.watch({ intervalMs: 1 })
      const token = clock.continuityToken()
      const before = String(clock.nowNs())
      let heard
      const tell = (message) => { heard = message }
      const ended = (code) => {
        console.log(JSON.stringify(
          [before, ...heard, String(clock.nowNs()), code, clock.isContinuous(token) && !watcher.closed],
        ))
        process.exit(0)
      }
      ${ask}`,
    )
    const [before, inherited, childs, after, code, goesOn] = answer
    t.false(inherited)
    t.true(BigInt(before) <= BigInt(childs) && BigInt(childs) <= BigInt(after))
    t.deepEqual([code, goesOn], [0, true])
  })
}

test('a worker opens and lists pages while the main thread changes the environment', async (t) => {
  const { path } = page(t, liveFields(t))
  // A native part that read the environment would meet it in the middle of a change, and crash. It would look
  // through all of it for the variable, which is therefore not there.
  const done = await evaluate<number>(
    `const { Worker } = require('node:worker_threads')
    const worker = new Worker(\`
      const { VmClock } = require('vmclock')
      let done = 0
      for (let round = 0; round < 10_000; round++) {
        VmClock.list()
        if (round % 10 === 0) VmClock.open(${JSON.stringify(path)}).close()
        done++
      }
      require('node:worker_threads').parentPort.postMessage(done)
    \`, { eval: true })
    let done
    worker.once('message', (count) => { done = count })
    let variables = 0
    function turn() {
      for (let count = 0; count < 1000; count++) process.env['V' + variables++] = 'value'
      if (variables >= 50_000) while (variables > 0) delete process.env['V' + --variables]
      if (done === undefined) setImmediate(turn)
      else console.log(JSON.stringify(done))
    }
    turn()`,
    [],
    { env: { VMCLOCK_PATH: undefined } },
  )
  t.is(done, 10_000)
})

test('a page that its owner truncates ends the process by SIGBUS, not with zeros', async (t) => {
  const { path } = page(t, liveFields(t))
  const outcome = await run([
    '--input-type=commonjs',
    '-e',
    `const { VmClock } = require('vmclock')
    const clock = VmClock.open(${JSON.stringify(path)})
    clock.nowNs()
    require('node:fs').truncateSync(${JSON.stringify(path)}, 0)
    require('node:fs').writeSync(1, 'truncated')
    require('node:fs').writeSync(1, String(clock.nowNs()))`,
  ])
  t.deepEqual([outcome.signal, outcome.stdout], ['SIGBUS', 'truncated'])
})

test('every object is disposable', (t) => {
  const path = newPath(t)
  const made = VmClockPage.create(path, liveFields(t))
  const clock = VmClock.open(path)
  const publisher = VmClockPublisher.create(newPath(t), { shape: 'marker' })
  for (const disposable of [made, clock, publisher]) {
    disposable[Symbol.dispose]()
    t.true(disposable.closed)
    t.notThrows(() => disposable[Symbol.dispose]())
  }
})

test('using closes a clock in a runtime that has it', (t) => {
  const { path } = page(t, liveFields(t))
  const body =
    'let seen; { using clock = VmClock.open(path); seen = clock; clock.nowNs() } return seen'
  let scope: (type: typeof VmClock, path: string) => VmClock
  try {
    scope = new Function('VmClock', 'path', body) as typeof scope
  } catch (error) {
    t.true(error instanceof SyntaxError)
    t.log('not shown: this runtime has no using')
    return
  }
  t.true(scope(VmClock, path).closed)
})

test('a clock prints as a VmClock and shows none of its slots', (t) => {
  const clock = open(t, page(t, liveFields(t)).path)
  t.is(Object.prototype.toString.call(clock), '[object Object]')
  t.is(clock.constructor.name, 'VmClock')
  t.deepEqual(Reflect.ownKeys(clock), [])
})
