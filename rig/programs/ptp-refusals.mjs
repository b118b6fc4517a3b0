// Checks the errors of the page's PTP clock in the state that the argument names.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { VmClock } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'

const CLOCKSOURCE = '/sys/devices/system/clocksource/clocksource0/current_clocksource'
const DRIVER = '/sys/bus/platform/drivers/vmclock'
const GUEST = 1000

const states = {
  /** An update of the page that started and did not end. */
  stuck() {
    for (const ask of timeOf(ptp)) {
      assert.throws(ask, { code: 'ERR_VMCLOCK_TIMEOUT', errno: 110, path: '/dev/ptp0' })
    }
    assert.equal(ptp.capabilities().crossTimestamping, true)
  },

  /** A page whose clock is unreliable. */
  unreliable() {
    for (const ask of timeOf(ptp)) {
      assert.throws(ask, { code: 'ERR_VMCLOCK_SYSTEM', errno: 22, path: '/dev/ptp0' })
    }
    const clock = VmClock.open('/dev/vmclock0')
    assert.throws(() => ptp.timescale(clock), { code: 'ERR_VMCLOCK_UNSYNCHRONIZED' })
    clock.close()
  },

  /** The system clock on each clocksource that is not the page's counter. */
  clocksource() {
    const own = readFileSync(CLOCKSOURCE, 'utf8').trim()
    const available = readFileSync(CLOCKSOURCE.replace('current', 'available'), 'utf8').trim()
    const others = available.split(' ').filter((name) => name !== own)
    const clock = VmClock.open('/dev/vmclock0')
    try {
      for (const other of others) {
        changeClocksource(other)
        assert.throws(
          () => ptp.crossTimestamp(),
          (error) => {
            assert.equal(error.code, 'ERR_VMCLOCK_CLOCKSOURCE')
            assert.equal(error.errno, 19)
            assert.ok(error.message.includes(`clocksource ${other},`), error.message)
            assert.ok(error.remedy.includes(CLOCKSOURCE))
            return true
          },
        )
        // The two system readings are not equal now, because the kernel reads another counter.
        for (const name of ['realtime', 'monotonic', 'monotonic-raw']) {
          const samples = ptp.samples(25, name)
          assert.ok(samples.some(({ beforeNs, afterNs }) => beforeNs < afterNs))
          for (const { beforeNs, deviceNs, afterNs, offsetNs, maxErrorNs } of samples) {
            assert.ok(beforeNs <= afterNs)
            for (const end of [beforeNs, afterNs]) {
              const offNs = end - deviceNs - offsetNs
              assert.ok(-maxErrorNs <= offNs && offNs <= maxErrorNs)
            }
          }
        }
        assert.equal(ptp.timescale(clock), 'tai')
      }
    } finally {
      changeClocksource(own)
    }
    ptp.crossTimestamp()
    clock.close()
    console.log(others.join(' '))
  },

  /** The driver unbound from the device, and bound again. */
  gone() {
    const [device] = readdirSync(DRIVER).filter((name) => /AMZNC10C|\.ptp$/.test(name))
    const clock = VmClock.open('/dev/vmclock0')
    writeFileSync(`${DRIVER}/unbind`, device)
    try {
      const calls = [...timeOf(ptp), () => ptp.capabilities(), () => ptp.timescale(clock)]
      for (const ask of calls) {
        assert.throws(ask, { code: 'ERR_VMCLOCK_VANISHED', errno: 19, path: '/dev/ptp0' })
      }
      assert.deepEqual(PtpClock.list(), [])
      assert.throws(() => PtpClock.find('vmclock0'), { code: 'ERR_VMCLOCK_NOT_FOUND' })
      assert.throws(() => PtpClock.open('/dev/ptp0'), { code: 'ERR_VMCLOCK_NOT_FOUND' })
    } finally {
      clock.close()
      // Frees the number, so that the clock gets the same one again.
      ptp.close()
      writeFileSync(`${DRIVER}/bind`, device)
    }
    const back = PtpClock.find('vmclock0')
    assert.equal(back.path, '/dev/ptp0')
    back.crossTimestamp()
    back.close()
  },

  /** A user who is not root. */
  refused() {
    becomeUser()
    for (const open of [() => PtpClock.open('/dev/ptp0'), () => PtpClock.find('vmclock0')]) {
      assert.throws(open, (error) => {
        assert.equal(error.code, 'ERR_VMCLOCK_ACCESS')
        assert.equal(error.path, '/dev/ptp0')
        assert.equal(error.syscall, 'open')
        // The udev rule, and its directory.
        assert.match(
          error.remedy,
          /SUBSYSTEM=="ptp", ATTR\{clock_name\}=="vmclock0", MODE="0444" in \/etc\/udev\/rules\.d\//,
        )
        return true
      })
    }
  },

  /** A user who is not root, after the device is made readable. */
  granted() {
    becomeUser()
    const readable = PtpClock.find('vmclock0')
    assert.equal(readable.capabilities().crossTimestamping, true)
    for (const ask of timeOf(readable)) ask()
    readable.close()
  },
}

const [state] = process.argv.slice(2)
const ptp = PtpClock.open('/dev/ptp0')
states[state]()
ptp.close()
console.log(state)

function timeOf(clock) {
  return [
    () => clock.nowNs(),
    () => clock.crossTimestamp(),
    ...['realtime', 'monotonic', 'monotonic-raw'].map((name) => () => clock.samples(2, name)),
  ]
}

function changeClocksource(name) {
  writeFileSync(CLOCKSOURCE, name)
  assert.equal(readFileSync(CLOCKSOURCE, 'utf8').trim(), name)
}

function becomeUser() {
  process.setgroups([])
  process.setgid(GUEST)
  process.setuid(GUEST)
}
