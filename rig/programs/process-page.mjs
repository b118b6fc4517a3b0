// Checks the choice beside a device that has only the disruption marker: without a path a clock makes a page of its
// own, which gives time, and the device guards it. Prints `token` when it has a token; the host then changes the
// marker, and the first call that sees the device's change sees another token and no bound.

import assert from 'node:assert/strict'
import { VmClock } from 'vmclock'

const MOST_MS = 10_000

const device = VmClock.open('/dev/vmclock0')
const clock = VmClock.open({ allowUntrustedCounter: true })
assert.equal(clock.path, undefined)
assert.equal(clock.timeSource.kind, 'process')
assert.equal(clock.timeSource.from, 'kernel')
assert.deepEqual(
  [clock.timeSource.guard.state, clock.timeSource.guard.path],
  ['guarded', '/dev/vmclock0'],
)
assert.ok(Math.abs(clock.nowMs() - Date.now()) < 1000)
assert.equal(clock.read().maxErrorNs, undefined)
assert.throws(
  () => device.nowNs(),
  ({ code, remedy }) => code === 'ERR_VMCLOCK_NO_TIME' && remedy.includes('without a path'),
)

const [before, own] = [device.continuityToken(), clock.continuityToken()]
assert.equal(clock.isContinuous(own), true)
console.log('token')
const startMs = performance.now()
while (device.isContinuous(before)) {
  assert.ok(performance.now() - startMs < MOST_MS, 'the disruption is not seen')
}
assert.equal(clock.isContinuous(own), false)
assert.equal(clock.continuityToken().disruptionMarker, own.disruptionMarker + 1n)
assert.equal(clock.read().maxErrorNs, undefined)
clock.close()
device.close()
console.log('disrupted')
