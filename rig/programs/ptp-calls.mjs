// Checks each call on the page's PTP clock against other sources of the same time.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { VmClock } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'

const NS_PER_MS = 1_000_000n

const device = { path: '/dev/ptp0', name: 'vmclock0' }
assert.deepEqual(PtpClock.list(), [device])
const ptp = PtpClock.find('vmclock0')
const clock = VmClock.open('/dev/vmclock0', { timescale: 'tai' })

{
  const byPath = PtpClock.open('/dev/ptp0')
  assert.deepEqual(
    [byPath, ptp].map(({ path, name }) => ({ path, name })),
    [device, device],
  )
  byPath[Symbol.dispose ?? Symbol.for('Symbol.dispose')]()
  byPath.close()
  assert.deepEqual([byPath.closed, byPath.path, byPath.name], [true, device.path, device.name])
  for (const call of ['capabilities', 'nowNs', 'crossTimestamp', 'samples', 'timescale']) {
    const argument = { samples: 1, timescale: clock }[call]
    assert.throws(() => byPath[call](argument), { code: 'ERR_VMCLOCK_CLOSED' })
  }
}

assert.deepEqual(ptp.capabilities(), {
  maxAdjustmentPpb: 0,
  maxPhaseAdjustmentNs: 0,
  alarms: 0,
  externalTimestamps: 0,
  periodicOutputs: 0,
  pins: 0,
  pulsePerSecond: false,
  crossTimestamping: true,
  phaseAdjustment: false,
  extendedAttributes: false,
  preciseAttributes: false,
})

between(
  () => clock.nowNs(),
  () => ptp.nowNs(),
)

{
  const cross = between(
    () => clock.nowNs(),
    () => ptp.crossTimestamp(),
    ({ deviceNs }) => deviceNs,
  )
  const later = between(
    () => BigInt(Date.now()),
    () => ptp.crossTimestamp(),
    ({ realtimeNs }) => realtimeNs / NS_PER_MS,
  )
  assert.ok(cross.monotonicRawNs < later.monotonicRawNs)
}

const systemClocks = {
  realtime: { now: () => BigInt(Date.now()), unitNs: NS_PER_MS },
  monotonic: { now: () => process.hrtime.bigint(), unitNs: 1n },
  'monotonic-raw': { now: () => ptp.crossTimestamp().monotonicRawNs, unitNs: 1n },
}
for (const [name, { now, unitNs }] of Object.entries(systemClocks)) {
  for (const count of [1, 25]) {
    const first = clock.nowNs()
    const samples = between(
      now,
      () => ptp.samples(count, name),
      (all) => all[0].beforeNs / unitNs,
    )
    assert.equal(samples.length, count)
    let last = { deviceNs: first, afterNs: 0n }
    for (const sample of samples) {
      const { beforeNs, deviceNs, afterNs, offsetNs, maxErrorNs } = sample
      // The kernel reads the counter once for all three.
      assert.equal(beforeNs, afterNs)
      assert.equal(offsetNs, beforeNs - deviceNs)
      assert.equal(maxErrorNs, 0n)
      assert.ok(last.deviceNs <= deviceNs && last.afterNs <= beforeNs)
      last = sample
    }
    assert.ok(last.deviceNs <= clock.nowNs())
  }
}
assert.equal(typeof ptp.samples(1)[0].offsetNs, 'bigint')
for (const count of [0, 26, -1, 1.5, '1', undefined]) {
  assert.throws(() => ptp.samples(count), { code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
}
assert.throws(() => ptp.samples(1, 'tai'), { code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
for (const page of [undefined, null, '/dev/vmclock0', ptp, {}]) {
  assert.throws(() => ptp.timescale(page), { code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
}
{
  const closed = VmClock.open('/dev/vmclock0')
  closed.close()
  assert.throws(() => ptp.timescale(closed), { code: 'ERR_VMCLOCK_CLOSED' })
}

// linuxptp's phc_ctl reads the same clock.
const theirTime = between(
  () => ptp.nowNs(),
  () => {
    const [, seconds, nanoseconds] = /clock time is (\d+)\.(\d{9}) /.exec(phcCtl('get')) ?? []
    return BigInt(`${seconds}${nanoseconds}`)
  },
)
const [before, theirs, after] = [
  () => ptp.samples(1)[0].offsetNs,
  () => BigInt(/offset from CLOCK_REALTIME is (-?\d+)ns/.exec(phcCtl('cmp'))?.[1]),
  () => ptp.samples(1)[0].offsetNs,
].map((ask) => ask())
// The clocks drift apart at a constant rate, and each offset is rounded down to a nanosecond.
const [least, most] = before < after ? [before, after] : [after, before]
assert.ok(least - 1n <= theirs && theirs <= most + 1n, `${before}, ${theirs}, ${after}`)
ptp.close()
clock.close()
console.log(`phc_ctl: ${theirTime}, offset ${theirs} between ${before} and ${after}`)

function between(now, ask, instant = (answer) => answer) {
  const first = now()
  const answer = ask()
  const last = now()
  assert.ok(
    first <= instant(answer) && instant(answer) <= last,
    `${first}, ${instant(answer)}, ${last}`,
  )
  return answer
}

function phcCtl(command) {
  const { status, stdout, stderr } = spawnSync('phc_ctl', ['/dev/ptp0', command], {
    encoding: 'utf8',
  })
  assert.equal(status, 0, stderr)
  return stdout
}
