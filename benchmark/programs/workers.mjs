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

// Of the shared state: how many workers are at work, how many there are to be, whether they are to end,
// and when the last of them began, which is written before that is told. What all of them do between
// that and the end counts, over the same time for each: whoever had no CPU meanwhile did nothing in it.
const AT_WORK = 0
const EXPECTED = 1
const ENDED = 2
const SHARED_BYTES = 24
const BEGAN_NS = 2

function views(shared) {
  return { flags: new Int32Array(shared), times: new BigInt64Array(shared) }
}

if (isMainThread) await compare(...process.argv.slice(2))
else answer(workerData)

async function compare(page, rounds, most) {
  freeze(page)
  const shared = new SharedArrayBuffer(SHARED_BYTES)
  const { flags, times } = views(shared)
  const workers = Array.from(
    { length: Number(most) },
    () => new Worker(new URL(import.meta.url), { workerData: { page, shared } }),
  )
  const figures = {}
  for (let round = -WARM_UP_ROUNDS; round < Number(rounds); round++) {
    for (let count = 1; count <= workers.length; count++) {
      for (const call of ['nowNs', 'hrtime.bigint']) {
        flags.set([0, count, 0])
        const answers = workers.slice(0, count).map(async (worker) => {
          worker.postMessage(call)
          const [done] = await once(worker, 'message')
          return done
        })
        while (Atomics.load(flags, AT_WORK) < count) await delay(1)
        await delay(SPAN_MS)
        Atomics.store(flags, ENDED, 1)
        const tookNs = Number(process.hrtime.bigint() - Atomics.load(times, BEGAN_NS))
        const done = (await Promise.all(answers)).reduce((sum, some) => sum + some)
        const name = `${call} by ${count}`
        figures[name] ??= []
        if (round >= 0) figures[name].push((done / tookNs) * 1e6)
      }
    }
  }
  await Promise.all(workers.map((worker) => worker.terminate()))
  report(figures)
}

// The latest of all that began: one that lost its CPU on the way here may come after a later one.
function beginsAt(times, ns) {
  let latest = Atomics.load(times, BEGAN_NS)
  while (latest < ns) {
    const found = Atomics.compareExchange(times, BEGAN_NS, latest, ns)
    if (found === latest) return
    latest = found
  }
}

function answer({ page, shared }) {
  const { flags, times } = views(shared)
  const clock = vmclock.VmClock.open(page)
  const calls = {
    nowNs(count) {
      let last
      for (let i = 0; i < count; i++) last = clock.nowNs()
      return last
    },
    'hrtime.bigint'(count) {
      let last
      for (let i = 0; i < count; i++) last = process.hrtime.bigint()
      return last
    },
  }
  for (const call of Object.values(calls)) {
    for (let run = 0; run < WARM_UP_RUNS; run++) call(WARM_UP_BATCH)
  }
  parentPort.on('message', (name) => {
    const call = calls[name]
    beginsAt(times, process.hrtime.bigint())
    Atomics.add(flags, AT_WORK, 1)
    while (Atomics.load(flags, AT_WORK) < Atomics.load(flags, EXPECTED)) call(BATCH)
    let done = 0
    while (Atomics.load(flags, ENDED) === 0) {
      call(BATCH)
      done += BATCH
    }
    parentPort.postMessage(done)
  })
}
