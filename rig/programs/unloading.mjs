// Checks that the driver's module cannot be unloaded while a clock is open, and can be after that.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { VmClock } from 'vmclock'

const clock = VmClock.open('/dev/vmclock0')
const refused = unload()
assert.notEqual(refused.status, 0)
assert.match(refused.stderr, /Resource temporarily unavailable/)
assert.equal(clock.isContinuous(clock.continuityToken()), true)
clock.close()
const { status, stderr } = unload()
assert.equal(status, 0, stderr)

function unload() {
  return spawnSync('rmmod', ['ptp_vmclock'], { encoding: 'utf8' })
}
