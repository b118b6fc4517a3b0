// Throughput of one worker and of several at once, of ours and of the built-in.
//
// workers.mjs PAGE ROUNDS WORKERS

import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { freeze, report, vmclock } from './page.mjs'

const WARM_UP_ROUNDS = 2
// Short, so that there can be many rounds: what disturbs one for longer is not of the middle one.
const SPAN_MS = 20
const BATCH = 500
// As in rounds.mjs: many short runs, before any long one.
const WARM_UP_RUNS = 100_000
const WARM_UP_BATCH = 10

// Of the shared state: how many workers are at work, and whether they are to end. Only what they do
// between the last one's beginning and the end counts, so that no one has a CPU to itself meanwhile.
const AT_WORK = 0
const ENDED = 1
const EXPECTED = 2

if (isMainThread) await compare(...process.argv.slice(2))
else answer(workerData)

async function compare(page, rounds, most) {
  freeze(page)
  const shared = new Int32Array(new SharedArrayBuffer(12))
  const workers = Array.from(
    { length: Number(most) },
    () => new Worker(new URL(import.meta.url), { workerData: { page, shared } }),
  )
  const figures = {}
  for (let round = -WARM_UP_ROUNDS; round < Number(rounds); round++) {
    for (let count = 1; count <= workers.length; count++) {
      for (const call of ['nowNs', 'hrtime.bigint']) {
        shared.set([0, 0, count])
        const answers = workers.slice(0, count).map(async (worker) => {
          worker.postMessage(call)
          const [callsPerMs] = await once(worker, 'message')
          return callsPerMs
        })
        while (Atomics.load(shared, AT_WORK) < count) await delay(1)
        await delay(SPAN_MS)
        Atomics.store(shared, ENDED, 1)
        const callsPerMs = (await Promise.all(answers)).reduce((sum, some) => sum + some)
        const name = `${call} by ${count}`
        figures[name] ??= []
        if (round >= 0) figures[name].push(callsPerMs)
      }
    }
  }
  await Promise.all(workers.map((worker) => worker.terminate()))
  report(figures)
}

function answer({ page, shared }) {
  const clock = vmclock.VmClock.open(page)
  const calls = {
    nowNs(times) {
      let last
      for (let i = 0; i < times; i++) last = clock.nowNs()
      return last
    },
    'hrtime.bigint'(times) {
      let last
      for (let i = 0; i < times; i++) last = process.hrtime.bigint()
      return last
    },
  }
  for (const call of Object.values(calls)) {
    for (let run = 0; run < WARM_UP_RUNS; run++) call(WARM_UP_BATCH)
  }
  parentPort.on('message', (name) => {
    const call = calls[name]
    Atomics.add(shared, AT_WORK, 1)
    while (Atomics.load(shared, AT_WORK) < Atomics.load(shared, EXPECTED)) call(BATCH)
    const start = performance.now()
    let done = 0
    while (Atomics.load(shared, ENDED) === 0) {
      call(BATCH)
      done += BATCH
    }
    parentPort.postMessage(done / (performance.now() - start))
  })
}
