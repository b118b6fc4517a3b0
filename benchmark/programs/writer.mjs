// Updates a page so many times a second, as it is told: each update writes the fields that stand
// there, so that readers have to look again and see the same time.
//
// writer.mjs PAGE, with a channel on which rates come and are answered.

import { vmclock } from './page.mjs'

const CHUNK_NS = 2_000_000n

const page = vmclock.VmClockPage.open(process.argv[2])
let intervalNs = 0n
let dueNs = 0n

process.on('message', (updatesPerSec) => {
  intervalNs = updatesPerSec === 0 ? 0n : 1_000_000_000n / BigInt(updatesPerSec)
  dueNs = process.hrtime.bigint()
  process.send(updatesPerSec)
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
    // What was missed while others had the CPU is not made up for.
    dueNs = (nowNs > dueNs + intervalNs ? nowNs : dueNs) + intervalNs
  }
  setImmediate(spin)
}
