// Measures the cost of a stamp beside a writer: the mean at several update rates, and the tail of single
// stamps. The writer is another process, on another CPU if there is one.
//
//   churn.mjs PAGE ROUNDS STAMPS [COMMAND…]
//
// COMMAND starts the writer on its CPU.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { freeze, report, vmclock } from './page.mjs'

const [page, rounds, stamps, ...command] = process.argv.slice(2)
const RATES = [0, 1_000, 10_000, 100_000]
const WATCHED_RATE = 1_000
const BATCH = 500
const WARM_UP_ROUNDS = 20
// Many short runs before any long one, for the reason in rounds.mjs.
const WARM_UP_RUNS = 100_000
const WARM_UP_BATCH = 10
// 20 ms at each rate.
const BATCHES = 1_000

freeze(page)
const clock = vmclock.VmClock.open(page)
const [program, ...words] = [...command, process.execPath]
const writer = spawn(
  program,
  [...words, fileURLToPath(new URL('writer.mjs', import.meta.url)), page],
  {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  },
)

// Sets the writer's rate, and returns the rate that it reached before.
async function setRate(rate) {
  writer.send(rate)
  const [reached] = await once(writer, 'message')
  return reached
}

function stampMany(times) {
  let last
  for (let i = 0; i < times; i++) last = clock.nowNs()
  return last
}

function fill(times) {
  for (let i = 0; i < times.length; i++) times[i] = clock.nowNs()
}

const figures = Object.fromEntries(
  RATES.flatMap((rate) => [
    [`nowNs at ${rate} Hz`, []],
    [`updates a second at ${rate} Hz`, []],
  ]),
)
for (let run = 0; run < WARM_UP_RUNS; run++) stampMany(WARM_UP_BATCH)
for (let round = -WARM_UP_ROUNDS; round < Number(rounds); round++) {
  for (const rate of RATES) {
    await setRate(rate)
    const start = process.hrtime.bigint()
    for (let batch = 0; batch < BATCHES; batch++) stampMany(BATCH)
    const tookNs = Number(process.hrtime.bigint() - start)
    const reached = await setRate(0)
    if (round < 0) continue
    figures[`nowNs at ${rate} Hz`].push(tookNs / (BATCHES * BATCH))
    figures[`updates a second at ${rate} Hz`].push(reached)
  }
}

// The difference of two stamps is the cost of one: the page's own time is the stopwatch.
await setRate(WATCHED_RATE)
const times = new BigInt64Array(1_000)
for (let run = 0; run < 500; run++) fill(times)
const costs = []
while (costs.length < Number(stamps)) {
  fill(times)
  for (let i = 1; i < times.length; i++) costs.push(Number(times[i] - times[i - 1]))
}
const watchedReached = await setRate(0)
costs.sort((a, b) => a - b)
const at = (share) => costs[Math.floor(share * costs.length)]
const tail = [at(0.999) / at(0.5)]
writer.disconnect()
report({
  ...figures,
  'median stamp': [at(0.5)],
  'p99.9 stamp': [at(0.999)],
  tail,
  'updates a second beside single stamps': [watchedReached],
})
