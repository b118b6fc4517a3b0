// Throughput of one worker and of several at once, of ours and of the built-in.
//
// workers.mjs PAGE ROUNDS WORKERS

import { once } from 'node:events'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { freeze, report, vmclock } from './page.mjs'

const WARM_UP_ROUNDS = 2
// Short, so that there can be many rounds: what disturbs one for longer is not of the middle one.
const SPAN_MS = 20
const BATCH = 500
// As in rounds.mjs: many short runs, before any long one.
const WARM_UP_RUNS = 100_000
const WARM_UP_BATCH = 10

if (isMainThread) await compare(...process.argv.slice(2))
else answer(workerData)

async function compare(page, rounds, most) {
  freeze(page)
  const workers = Array.from(
    { length: Number(most) },
    () => new Worker(new URL(import.meta.url), { workerData: page }),
  )
  const figures = {}
  for (let round = -WARM_UP_ROUNDS; round < Number(rounds); round++) {
    for (let count = 1; count <= workers.length; count++) {
      for (const call of ['nowNs', 'hrtime.bigint']) {
        const answers = workers.slice(0, count).map(async (worker) => {
          worker.postMessage(call)
          const [callsPerMs] = await once(worker, 'message')
          return callsPerMs
        })
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

function answer(page) {
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
    const start = performance.now()
    let done = 0
    let tookMs = 0
    while (tookMs < SPAN_MS) {
      call(BATCH)
      done += BATCH
      tookMs = performance.now() - start
    }
    parentPort.postMessage(done / tookMs)
  })
}
