// Readings of ours, each between two of the kernel's PTP clock, which is made of the same page. All that
// the page says goes on changing meanwhile. The first argument is the least number of readings to
// compare, the second of updates to have seen.
//
// `steadily`: the page never steps back, and so every reading lies between the two. As many as updates must
// have met one.
// `anyhow`: the page may do anything, and so only those readings say something during which its sequence
// number stood still. Where the two PTP readings are equal besides, ours is the same to the nanosecond.

import assert from 'node:assert/strict'
import { VmClock } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'

const MOST_MS = 120_000

const [mode, ...least] = process.argv.slice(2)
const [leastReadings, leastUpdates] = least.map(Number)

const clock = VmClock.open('/dev/vmclock0', { timescale: 'tai' })
const ptp = PtpClock.find('vmclock0')

const seen = { readings: 0, updates: 0, exact: 0, across: 0, looks: 0 }
const enough = {
  steadily: () =>
    seen.readings >= leastReadings && seen.updates >= leastUpdates && seen.across >= leastUpdates,
  anyhow: () =>
    seen.readings >= leastReadings &&
    seen.updates >= leastUpdates &&
    seen.exact >= leastReadings / 10,
}[mode]

let seq = 0
const startMs = performance.now()
while (!enough()) {
  assert.ok(performance.now() - startMs < MOST_MS, JSON.stringify(seen))
  seen.looks += 1
  const seqBefore = sequence()
  const [before, ours, after] = [() => ptp.nowNs(), () => clock.nowNs(), () => ptp.nowNs()].map(
    (ask) => told(ask),
  )
  const seqAfter = sequence()
  if (seqAfter !== undefined && seqAfter !== seq) {
    seq = seqAfter
    seen.updates += 1
  }
  const isStill = seqBefore !== undefined && seqBefore === seqAfter
  if (mode === 'anyhow' ? !isStill : [before, ours, after].includes(undefined)) continue
  assert.ok(
    before <= ours && ours <= after,
    `${before} <= ${ours} <= ${after} (${seqBefore}, ${seqAfter})`,
  )
  seen.readings += 1
  if (isStill && before === after) seen.exact += 1
  if (!isStill) seen.across += 1
}
ptp.close()
clock.close()
console.log(JSON.stringify(seen))

// A page that is being updated for longer than one waits has no time, for us and for the kernel. Any
// writer may lose its CPU in the middle.
function told(ask) {
  try {
    return ask()
  } catch (error) {
    if (error.code === 'ERR_VMCLOCK_TIMEOUT') return undefined
    throw error
  }
}

function sequence() {
  return told(() => clock.snapshot().raw.seqCount)
}
