// Checks a page with the disruption marker only, like that of most of today's hypervisors: continuity works,
// and calls for the time fail with their code. Prints `token` when it has a token; the host then changes the
// marker.

import assert from 'node:assert/strict'
import { VmClock } from 'vmclock'

const MOST_MS = 10_000

const clock = VmClock.open('/dev/vmclock0')
const token = clock.continuityToken()
assert.equal(token.vmGeneration, undefined)
assert.equal(clock.isContinuous(token), true)

assert.equal(clock.hasTime, false)
const askingForTime = [
  ...['nowNs', 'nowMs', 'nowDate', 'read', 'systemOffset'].map((call) => () => clock[call]()),
  () => clock.convert(clock.counter(), token),
]
for (const ask of askingForTime) assert.throws(ask, { code: 'ERR_VMCLOCK_NO_TIME' })
assert.ok(clock.counter() > 0n)

console.log('token')
const startMs = performance.now()
while (clock.isContinuous(token)) {
  assert.ok(performance.now() - startMs < MOST_MS, 'the disruption is not seen')
}
const later = clock.continuityToken()
assert.equal(later.disruptionMarker, token.disruptionMarker + 1n)
assert.equal(clock.isContinuous(later), true)
clock.close()
console.log('disrupted')
