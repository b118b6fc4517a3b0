// Counts the garbage collections during many calls of readInto and of nowHrTime(out), the growth of the process
// meanwhile, and the bytes that single calls allocate.
//
//   garbage.mjs PAGE CALLS
//
// It makes CALLS calls of readInto, and a tenth of that of nowHrTime.

import { PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { freeze, report, vmclock } from './page.mjs'

const [page, calls] = process.argv.slice(2)

freeze(page)
const clock = vmclock.VmClock.open(page)
const slots = new BigInt64Array(vmclock.READING_SLOT_COUNT)
const pair = [0, 0]
const readInto = (times) => {
  for (let i = 0; i < times; i++) clock.readInto(slots)
}
const nowHrTime = (times) => {
  for (let i = 0; i < times; i++) clock.nowHrTime(pair)
}
// Many short runs, with pauses in which V8 can install compiled code.
for (let run = 0; run < 100; run++) {
  for (let part = 0; part < 10; part++) {
    readInto(500)
    nowHrTime(500)
  }
  await delay(1)
}

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')
let collections = []
const observer = new PerformanceObserver((list) => {
  collections.push(...list.getEntries())
})
observer.observe({ entryTypes: ['gc'] })

/** Returns the collections during so many calls, and how much the process grew. */
async function collectionsOver(times, call) {
  // Collects earlier garbage now, so that V8 does not collect it during the measurement.
  collect()
  collect()
  await delay(10)
  observer.takeRecords()
  collections = []
  const beforeBytes = process.memoryUsage.rss()
  for (let done = 0; done < times; done += 1000) call(1000)
  // Some seconds after the collection above V8 makes another one, which is not caused by these calls. `endedMs`
  // excludes it.
  const endedMs = performance.now()
  await delay(10)
  collections.push(...observer.takeRecords())
  const growthKib = (process.memoryUsage.rss() - beforeBytes) / 1024
  return [collections.filter(({ startTime }) => startTime < endedMs).length, growthKib]
}

const [ofReadings, growthKib] = await collectionsOver(Number(calls), readInto)
const [ofPairs] = await collectionsOver(Number(calls) / 10, nowHrTime)
observer.disconnect()

// Returns the bytes of each round. A collection makes a round too small, and the median ignores it.
function allocated(call) {
  return Array.from({ length: 25 }, () => {
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < 1000; i++) call()
    return (process.memoryUsage().heapUsed - before) / 1000
  })
}
report({
  collections: [ofReadings],
  'pair collections': [ofPairs],
  'growth KiB': [growthKib],
  'bytes a readInto': allocated(() => clock.readInto(slots)),
  'bytes a nowHrTime': allocated(() => clock.nowHrTime(pair)),
  'bytes a nowNs': allocated(() => clock.nowNs()),
  'bytes a nowMs': allocated(() => clock.nowMs()),
  'bytes a read': allocated(() => clock.read()),
})
