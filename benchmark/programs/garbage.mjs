// Counts the garbage collections during many calls of readInto, the growth of the process meanwhile, and the
// bytes that single calls allocate.
//
//   garbage.mjs PAGE CALLS

import { PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { freeze, report, vmclock } from './page.mjs'

const [page, calls] = process.argv.slice(2)

freeze(page)
const clock = vmclock.VmClock.open(page)
const slots = new BigInt64Array(vmclock.READING_SLOT_COUNT)
const readInto = (times) => {
  for (let i = 0; i < times; i++) clock.readInto(slots)
}
// Many short runs, with pauses in which V8 can install compiled code.
for (let run = 0; run < 100; run++) {
  for (let part = 0; part < 10; part++) readInto(500)
  await delay(1)
}

// Collects the garbage of the warm-up now, so that V8 does not collect it during the measurement.
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')
collect()
collect()

let collections = []
const observer = new PerformanceObserver((list) => {
  collections.push(...list.getEntries())
})
observer.observe({ entryTypes: ['gc'] })
await delay(10)
observer.takeRecords()
collections = []
const beforeBytes = process.memoryUsage.rss()
for (let done = 0; done < Number(calls); done += 1000) readInto(1000)
// Some seconds after the collection above V8 makes another one, which is not caused by these calls. `endedMs`
// excludes it.
const endedMs = performance.now()
await delay(10)
collections.push(...observer.takeRecords())
const growthKib = (process.memoryUsage.rss() - beforeBytes) / 1024
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
  collections: [collections.filter(({ startTime }) => startTime < endedMs).length],
  'growth KiB': [growthKib],
  'bytes a readInto': allocated(() => clock.readInto(slots)),
  'bytes a nowNs': allocated(() => clock.nowNs()),
  'bytes a nowMs': allocated(() => clock.nowMs()),
  'bytes a read': allocated(() => clock.read()),
})
