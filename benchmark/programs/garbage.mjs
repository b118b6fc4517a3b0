// How many garbage collections so many calls of readInto make.
//
// garbage.mjs PAGE CALLS

import { PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { freeze, report, vmclock } from './page.mjs'

const [page, calls] = process.argv.slice(2)

freeze(page)
const clock = vmclock.VmClock.open(page)
const slots = new BigInt64Array(vmclock.SLOT_COUNT)
const readInto = (times) => {
  for (let i = 0; i < times; i++) clock.readInto(slots)
}
// Many short runs, and pauses in which V8 can put in what it compiled.
for (let run = 0; run < 100; run++) {
  for (let part = 0; part < 10; part++) readInto(500)
  await delay(1)
}

// What the warm-up left is collected now, and not when V8 finds the time.
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')
collect()
collect()

let collections = 0
const observer = new PerformanceObserver((list) => {
  collections += list.getEntries().length
})
observer.observe({ entryTypes: ['gc'] })
await delay(10)
observer.takeRecords()
collections = 0
for (let done = 0; done < Number(calls); done += 1000) readInto(1000)
await delay(10)
collections += observer.takeRecords().length
report({ collections: [collections] })
