// Measures the throughput of one worker and of several workers at once, of nowNs and of the built-in.
//
//   workers.mjs PAGE ROUNDS WORKERS

import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { freeze, report, vmclock } from './page.mjs'

const WARM_UP_ROUNDS = 2
// Short, so that there are many rounds and the median ignores disturbed ones.
const SPAN_MS = 20
const BATCH = 500
// Many short runs before any long one, for the reason in rounds.mjs.
const WARM_UP_RUNS = 100_000
const WARM_UP_BATCH = 10

// Indices of the shared state: how many workers have started, how many are expected, whether they must end, and
// the time at which the last of them started (in the 64-bit view). Each worker writes the time before it counts
// itself. Calls between that time and the end count, so a worker without a CPU counts as idle.
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

// Stores the latest start. A worker that lost its CPU can get here after one that started later.
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
