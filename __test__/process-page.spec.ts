// A process makes one page for the clocks of all its threads. It lives as long as a clock or a watcher reads it.

import test from 'ava'
import { evaluate, isEmulated, run } from './node-command'

// Looks at the parts of a process's own page: the memory pages that a fork wipes, the calibrator's threads, and descriptors.
const FIGURES = `
  const { readdirSync, readFileSync, readlinkSync } = require('node:fs')
  const { Worker, isMainThread } = require('node:worker_threads')
  const tryTo = (call) => { try { return call() } catch { return undefined } }
  function memory() {
    let wiped = 0
    const figures = {}
    for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\\n')) {
      const [name, text] = line.split(':')
      figures[name] = text
      const { Size, KernelPageSize } = figures
      if (name === 'VmFlags' && / wf( |$)/.test(text)) wiped += parseInt(Size) / parseInt(KernelPageSize)
    }
    return wiped
  }
  function calibrators() {
    const names = readdirSync('/proc/self/task').map((id) =>
      tryTo(() => readFileSync('/proc/self/task/' + id + '/comm', 'utf8').trim()))
    return names.filter((name) => name === 'vmclock-publish').length
  }
  function descriptors() {
    const open = readdirSync('/proc/self/fd').map((fd) => tryTo(() => readlinkSync('/proc/self/fd/' + fd)))
    return open.filter((target) => target?.startsWith('anon_inode:[eventfd]')
      || target?.startsWith('anon_inode:[timerfd]')).length
  }
  // A new thread has no name yet, and one that was joined may still be listed.
  async function figures(threads) {
    const end = Date.now() + 20_000
    while (calibrators() !== threads && Date.now() < end) await new Promise(setImmediate)
    return [memory(), calibrators(), descriptors()]
  }
  const print = (value) => console.log(JSON.stringify(value))
`

const SOURCE = `const { VmClock } = require('vmclock')
  const openOwn = () => VmClock.open({ source: 'process', allowUntrustedCounter: true })
`

/** Runs a script in a process of its own. */
function inProcess<Value>(body: string, args: readonly string[] = []): Promise<Value> {
  return evaluate<Value>(`${FIGURES}${SOURCE};(async () => { ${body} })()`, args)
}

function isHidden(t: { log(text: string): void; pass(): void }): boolean {
  if (!isEmulated) return false
  t.log('not shown: an emulator does not say which memory a fork wipes')
  t.pass()
  return true
}

test('the last clock that is closed takes page, thread and descriptors with it', async (t) => {
  if (isHidden(t)) return
  const [before, ...rounds] = await inProcess<number[][]>(`
    VmClock.list()
    const seen = [await figures(0)]
    for (let round = 0; round < 3; round++) {
      const [first, second] = [openOwn(), openOwn()]
      first.nowNs()
      seen.push(await figures(1))
      first.close()
      second.nowNs()
      seen.push(await figures(1))
      second.close()
      seen.push(await figures(0))
    }
    print(seen)`)
  const [memory, threads, open = -1] = before ?? []
  t.deepEqual([memory, threads], [0, 0])
  for (const [index, figures] of rounds.entries()) {
    if (index % 3 === 2) {
      t.deepEqual(figures, before)
      continue
    }
    t.deepEqual(figures.slice(0, 2), [1, 1])
    t.true((figures[2] ?? 0) > open)
  }
})

test('a watcher goes on without its clock, and takes the page with it', async (t) => {
  if (isHidden(t)) return
  const seen = await inProcess<number[][]>(`
    const clock = openOwn()
    const watcher = clock.watch()
    clock.close()
    const watched = await figures(1)
    watcher.close()
    // The watcher's thread ends by itself.
    const end = Date.now() + 20_000
    while (memory() > 0 && Date.now() < end) await new Promise(setImmediate)
    print([watched.slice(0, 2), (await figures(0)).slice(0, 2)])`)
  t.deepEqual(seen, [
    [1, 1],
    [0, 0],
  ])
})

test('the last clock that is collected takes page and thread with it', async (t) => {
  if (isHidden(t)) return
  const seen = await inProcess<number[]>(
    `
    function drop() {
      for (let count = 0; count < 20; count++) openOwn().nowNs()
    }
    drop()
    const end = Date.now() + 20_000
    while (memory() > 0 && Date.now() < end) {
      gc()
      await new Promise(setImmediate)
    }
    print((await figures(0)).slice(0, 2))`,
    ['--expose-gc'],
  )
  t.deepEqual(seen, [0, 0])
})

test('a process ends with open clocks and watchers of its own page', async (t) => {
  for (const thread of ['main', 'worker']) {
    const body = `${SOURCE}
      globalThis.clock = openOwn()
      process.stdout.write(String(clock.nowNs() > 0n))`
    const script =
      thread === 'main'
        ? body
        : `new (require('node:worker_threads').Worker)(${JSON.stringify(body)}, { eval: true })`
    const outcome = await run(['--input-type=commonjs', '-e', script])
    t.deepEqual([outcome.exitCode, outcome.stdout, outcome.stderr], [0, 'true', ''], thread)
  }
})

test('the clocks of all threads read one page', async (t) => {
  const [equal, figures] = await inProcess<[boolean, number[]]>(`
    const own = openOwn()
    const token = own.continuityToken()
    const answers = await Promise.all(Array.from({ length: 8 }, () => new Promise((resolve, reject) => {
      const worker = new Worker(\`${SOURCE}
        globalThis.clock = openOwn()
        const { parentPort } = require('node:worker_threads')
        parentPort.postMessage([clock.continuityToken().disruptionMarker, clock.nowNs()])
        parentPort.once('message', () => process.exit())\`, { eval: true })
      worker.once('error', reject).once('message', (answer) => resolve([worker, answer]))
    })))
    const seen = await figures(1)
    const ended = answers.map(([worker]) => new Promise((resolve) => worker.once('exit', resolve)))
    for (const [worker] of answers) worker.postMessage('end')
    await Promise.all(ended)
    const equal = answers.every(([, [marker, ns]]) => marker === token.disruptionMarker && ns > 0n)
    print([equal && own.isContinuous(token), seen])
    own.close()`)
  t.true(equal)
  if (!isEmulated) t.deepEqual(figures.slice(0, 2), [1, 1])
})

for (const whose of ['the main thread has a clock too', 'only workers have the addon']) {
  test(`64 workers that end while they open and read leave nothing: ${whose}`, async (t) => {
    if (isHidden(t)) return
    const isShared = whose.startsWith('the main')
    const seen = await inProcess<[number[], number[]]>(`
      ${isShared ? 'const own = openOwn()' : ''}
      const workers = Array.from({ length: 64 }, () => {
        const worker = new Worker(\`${SOURCE}
          const { parentPort } = require('node:worker_threads')
          openOwn().nowNs()
          parentPort.postMessage('reading')
          for (;;) {
            const clock = openOwn()
            for (let call = 0; call < 100; call++) clock.read()
            clock.close()
          }\`, { eval: true })
        const isReading = new Promise((resolve, reject) =>
          worker.once('message', resolve).once('error', reject))
        return isReading.then(() => worker.terminate())
      })
      const codes = await Promise.all(workers)
      ${isShared ? 'own.nowNs(); own.close()' : ''}
      print([[...new Set(codes)], (await figures(0)).slice(0, 2)])`)
    t.deepEqual(seen, [[1], [0, 0]])
  })
}

test('notifyRestored changes the generation of the process’s page, marked as asynchronous', async (t) => {
  const [before, after, ...seen] = await inProcess<unknown[]>(`
    const { notifyRestored, perMachine } = require('vmclock/clones')
    const clock = openOwn()
    const { generation = null } = clock.timeSource
    let made = 0
    const value = perMachine(() => ++made, { clock })
    const token = clock.continuityToken()
    value()
    notifyRestored()
    print([generation, clock.timeSource.generation, clock.isContinuous(token), value(),
      clock.continuityToken().vmGeneration !== token.vmGeneration])
    clock.close()`)
  // A machine whose device has a generation shows it at once.
  t.true(before === null || before === 'synchronous')
  t.is(after, before ?? 'asynchronous')
  t.deepEqual(seen, [false, 2, true])
})
