// Reads a page as the proposed host driver writes it, through the kernel's real driver. This kernel has no host driver,
// so /dev/vmclock_host is another node of the device /dev/vmclock0, whose page the host of this test writes.
//
// Arguments: the errors that the caller supplies, in nanoseconds and parts per million. Answers each line with an
// interval. Before the line `end` the host steps the page's time back, and the program checks that too.

import assert from 'node:assert/strict'
import { VmClock } from 'vmclock'
import { diagnose } from 'vmclock/doctor'
import { answerEach } from './answering.mjs'

const PATH = '/dev/vmclock_host'
const [errorNs, driftPpm] = process.argv.slice(2)
const answers = { assumedErrorNs: BigInt(errorNs), assumedDriftPpm: Number(driftPpm) }

assert.deepEqual(VmClock.list(), ['/dev/vmclock0', PATH])
const { checks } = diagnose({ path: PATH })
const { state, finding, remedy } = checks.find(({ name }) => name === 'time')
assert.equal(state, 'warning')
assert.match(finding, /time without a bound: it does not state the maximum error/)
assert.match(remedy, /assumedErrorNs .* assumedDriftPpm .* host driver/)

const silent = VmClock.open(PATH)
const half = ['assumedErrorNs', 'assumedDriftPpm'].map((name) =>
  VmClock.open(PATH, { [name]: answers[name] }),
)
const clock = VmClock.open(PATH, answers)
const kept = VmClock.open(PATH, { ...answers, nonDecreasing: true })
assert.equal(clock.timeSource.guard.state, 'device')
assert.deepEqual(clock.timeSource.assumed, [
  { part: 'time-error', by: 'caller' },
  { part: 'rate-error', by: 'caller' },
])
const snapshot = clock.snapshot()
assert.equal(snapshot.timeMonotonic, true)
assert.equal(snapshot.disruptionMarker, 0n)
const before = kept.nowNs()
answerEach(() => {
  for (const other of [silent, ...half]) assert.equal(other.read().maxErrorNs, undefined)
  const { earliestNs, latestNs } = clock.read()
  return `${earliestNs} ${latestNs}`
})
// The page promises that its time never steps back, and it did so.
assert.ok(clock.nowNs() < before, 'the page was not stepped back')
assert.ok(kept.nowNs() >= before, 'the promise of the page was believed')
for (const open of [silent, ...half, clock, kept]) open.close()
