// Updates a page so many times a second, as it is told: each update writes the fields that stand
// there, so that readers have to look again and see the same time.
//
// writer.mjs PAGE, with a channel on which rates come, each answered with the updates a second that
// the last one came to.

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
  // From the middle of an interval: what is counted of a short span is then right on average.
  dueNs = nowNs + intervalNs / 2n
  clearImmediate(next)
  spin()
})
process.on('disconnect', () => process.exit())

// Spins, because no timer is that fine, and looks for messages every now and then.
function spin() {
  if (intervalNs === 0n) return
  const untilNs = process.hrtime.bigint() + CHUNK_NS
  for (let nowNs = 0n; nowNs < untilNs; ) {
    nowNs = process.hrtime.bigint()
    if (nowNs < dueNs) continue
    page.write({})
    updates++
    // What was missed while others had the CPU is made up for at once, but no more than what an update or a
    // message takes: readers meet a burst as one update.
    const latestNs = nowNs - CHUNK_NS
    dueNs = (dueNs > latestNs ? dueNs : latestNs) + intervalNs
  }
  next = setImmediate(spin)
}
