// Updates a page at a given rate. Each update writes the same fields, so that readers must read the page again
// and get the same time.
//
//   writer.mjs PAGE
//
// Rates come as messages. It answers each with the rate that it reached since the last message.

import { VmClockPage } from 'vmclock/testing'

const CHUNK_NS = 2_000_000n

const page = VmClockPage.open(process.argv[2])
let intervalNs = 0n
let dueNs = 0n
let sinceNs = process.hrtime.bigint()
let updates = 0
let next

process.on('message', (updatesPerSec) => {
  intervalNs = updatesPerSec === 0 ? 0n : 1_000_000_000n / BigInt(updatesPerSec)
  const nowNs = process.hrtime.bigint()
  process.send((updates * 1e9) / Number(nowNs - sinceNs))
  updates = 0
  sinceNs = nowNs
  // Starts in the middle of an interval, so that the count over a short time is right on average.
  dueNs = nowNs + intervalNs / 2n
  clearImmediate(next)
  spin()
})
process.on('disconnect', () => process.exit())

// Spins, because no timer is that precise, and yields to messages after each chunk.
function spin() {
  if (intervalNs === 0n) return
  const untilNs = process.hrtime.bigint() + CHUNK_NS
  for (let nowNs = 0n; nowNs < untilNs; ) {
    nowNs = process.hrtime.bigint()
    if (nowNs < dueNs) continue
    page.write({})
    updates++
    // Makes up for missed updates at once, but only for those of one chunk: readers see a burst as one update.
    const latestNs = nowNs - CHUNK_NS
    dueNs = (dueNs > latestNs ? dueNs : latestNs) + intervalNs
  }
  next = setImmediate(spin)
}
