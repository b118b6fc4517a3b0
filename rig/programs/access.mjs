// Checks that a user who is not root cannot open the device (`refused`) or can open it (`granted`).

import assert from 'node:assert/strict'
import { VmClock } from 'vmclock'

const GUEST = 1000
process.setgroups([])
process.setgid(GUEST)
process.setuid(GUEST)

const [expected] = process.argv.slice(2)
if (expected === 'refused') {
  assert.throws(
    () => VmClock.open('/dev/vmclock0'),
    (error) => {
      assert.equal(error.code, 'ERR_VMCLOCK_ACCESS')
      assert.equal(error.path, '/dev/vmclock0')
      // The udev rule, and its directory.
      assert.match(error.remedy, /KERNEL=="vmclock\*", MODE="0444"/)
      assert.match(error.remedy, /\/etc\/udev\/rules\.d\//)
      return true
    },
  )
} else {
  const clock = VmClock.open()
  assert.equal(clock.path, '/dev/vmclock0')
  clock.read()
  clock.close()
}
console.log(expected)
