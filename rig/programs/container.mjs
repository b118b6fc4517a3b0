// Runs in a container without /sys, `with` or `without` the device.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { VmClock } from 'vmclock'

const [wanted] = process.argv.slice(2)
assert.ok(!existsSync('/sys/class'), 'no /sys here')
if (wanted === 'without') {
  assert.throws(() => VmClock.open('/dev/vmclock0'), { code: 'ERR_VMCLOCK_NOT_FOUND' })
  assert.deepEqual(VmClock.list(), [])
} else {
  const clock = VmClock.open('/dev/vmclock0')
  const { earliestNs, latestNs } = clock.read()
  assert.ok(earliestNs < latestNs)
  assert.ok(clock.isContinuous(clock.continuityToken()))
  clock.close()
}
console.log(wanted)
