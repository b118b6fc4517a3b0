// Measures how late waits end, beside a loop that polls with timers of a millisecond, and what a wait costs at rest.
//
//   waits.mjs PAGE ROUNDS

import { createRequire } from 'node:module'
import { setTimeout as delay } from 'node:timers/promises'
import { freeze, report, vmclock } from './page.mjs'

const { waitUntilPast } = createRequire(import.meta.url)('../../dist/ordering.cjs')

const [path, rounds] = process.argv.slice(2)
// Commit waits of twice these bounds. None is a whole number of milliseconds, as none is in practice.
const BOUNDS_NS = [350_000n, 720_000n, 1_110_000n, 2_370_000n]
const WAITS = 5
const REST_NS = 500_000_000n

const clocks = BOUNDS_NS.map((timeMaxerrorNanosec, index) => {
  const page = `${path}-${index}`
  freeze(page, { timeMaxerrorNanosec, counterPeriodMaxerrorRateFracSec: 0n })
  return vmclock.VmClock.open(page)
})

const poll = async (clock, ns) => {
  while (clock.read().earliestNs <= ns) await delay(1)
}

/** Returns how long after the first possible instant a wait ends, in nanoseconds on average. */
async function lateness(wait) {
  let lateNs = 0n
  for (const clock of clocks) {
    for (let count = 0; count < WAITS; count++) {
      const { latestNs } = clock.read()
      await wait(clock, latestNs)
      lateNs += clock.read().earliestNs - latestNs
    }
  }
  return Number(lateNs) / (clocks.length * WAITS)
}

/** Returns the share of a CPU that one long wait takes. */
async function shareAtRest() {
  const [clock] = clocks
  const before = process.cpuUsage()
  const { epochNs } = clock.read()
  await waitUntilPast(clock, epochNs + REST_NS)
  const { user, system } = process.cpuUsage(before)
  return ((user + system) * 1000) / Number(REST_NS)
}

const found = { 'waitUntilPast late': [], 'poll late': [], 'CPU at rest': [] }
await lateness(waitUntilPast)
await lateness(poll)
for (let round = 0; round < Number(rounds); round++) {
  found['waitUntilPast late'].push(await lateness(waitUntilPast))
  found['poll late'].push(await lateness(poll))
}
for (let round = 0; round < 3; round++) found['CPU at rest'].push(await shareAtRest())
report(found)
