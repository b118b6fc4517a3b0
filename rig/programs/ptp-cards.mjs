// Checks the PTP clocks of two network cards, in a guest whose page states a bound of 10 s.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { VmClock } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'

// The drivers name the clocks after the cards' addresses, or after the value before the address is set.
const others = PtpClock.list().filter(({ name }) => name !== 'vmclock0')
assert.equal(others.length, 2)
const page = VmClock.open('/dev/vmclock0')

for (const { path, name } of others) {
  const card = PtpClock.find(name)
  assert.equal(card.path, path)

  const capabilities = card.capabilities()
  assert.equal(capabilities.crossTimestamping, false)
  assert.ok(capabilities.maxAdjustmentPpb > 0)
  assert.throws(() => card.crossTimestamp(), {
    code: 'ERR_VMCLOCK_NOT_SUPPORTED',
    errno: 95,
    syscall: 'ioctl',
    path,
  })

  for (const clock of ['realtime', 'monotonic', 'monotonic-raw']) {
    let lastNs = card.nowNs()
    const samples = card.samples(25, clock)
    assert.ok(samples.some(({ beforeNs, afterNs }) => beforeNs < afterNs))
    for (const { beforeNs, deviceNs, afterNs, offsetNs, maxErrorNs } of samples) {
      assert.ok(lastNs < deviceNs)
      lastNs = deviceNs
      for (const end of [beforeNs, afterNs]) {
        const offNs = end - deviceNs - offsetNs
        assert.ok(-maxErrorNs <= offNs && offNs <= maxErrorNs)
      }
    }
    assert.ok(lastNs < card.nowNs())
  }
  const [{ offsetNs, maxErrorNs }] = card.samples(1)
  console.log(`${path}, ${name}: CLOCK_REALTIME - clock ${offsetNs} ns within ${maxErrorNs}`)
  card.close()
}

const [{ path }] = others
const card = PtpClock.open(path)
assert.equal(card.timescale(page), 'utc')
move(37)
assert.equal(card.timescale(page), 'tai')
move(3600)
assert.equal(card.timescale(page), undefined)
card.close()
page.close()

function move(seconds) {
  assert.equal(spawnSync('phc_ctl', [path, 'adj', String(seconds)]).status, 0)
}
