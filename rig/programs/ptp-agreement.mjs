// Compares each reading of this package with two of the kernel's PTP clock, one before and one after. Both
// read the same page, and the host changes all of its fields meanwhile.
//
//   ptp-agreement.mjs MODE READINGS UPDATES
//
// READINGS is the least number of readings to compare, and UPDATES the least number of updates to see.
//
// `steadily`: the page never steps back, so each reading must be between the two. At least UPDATES readings
// must have met an update.
// `anyhow`: the page may step, so only readings during which the sequence number did not change are compared.
// If the two PTP readings are equal too, the reading is equal to the nanosecond.

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
    (ask) => unlessTimeout(ask),
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

// During a long update neither this package nor the kernel has a time, and any writer may lose its CPU in the
// middle of an update.
function unlessTimeout(ask) {
  try {
    return ask()
  } catch (error) {
    if (error.code === 'ERR_VMCLOCK_TIMEOUT') return undefined
    throw error
  }
}

function sequence() {
  return unlessTimeout(() => clock.snapshot().raw.seqCount)
}
