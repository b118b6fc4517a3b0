// Compares cross timestamps with `systemOffset()` before and after each. The offset of the system clock from
// the page changes at a constant rate in between. The page states an error of 0, so the bounds are those of
// the readings alone.

import assert from 'node:assert/strict'
import { VmClock } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'

const TAI_MINUS_UTC_NS = 37_000_000_000n
const [rounds] = process.argv.slice(2).map(Number)

const clock = VmClock.open('/dev/vmclock0')
const ptp = PtpClock.find('vmclock0')
const bounds = []
for (let round = 0; round < rounds; round++) {
  const before = clock.systemOffset()
  const { deviceNs, realtimeNs } = ptp.crossTimestamp()
  const [sample] = ptp.samples(1)
  const after = clock.systemOffset()
  const least = [before, after].map((offset) => offset.offsetNs - offset.maxErrorNs)
  const most = [before, after].map((offset) => offset.offsetNs + offset.maxErrorNs)
  for (const [name, offsetNs, maxErrorNs] of [
    ['precise', realtimeNs - (deviceNs - TAI_MINUS_UTC_NS), 0n],
    ['sampled', sample.offsetNs + TAI_MINUS_UTC_NS, sample.maxErrorNs],
  ]) {
    assert.ok(
      offsetNs + maxErrorNs >= smaller(...least) && offsetNs - maxErrorNs <= larger(...most),
      `${name} ${offsetNs} within ${maxErrorNs}, from ${least} to ${most}`,
    )
  }
  bounds.push(larger(before.maxErrorNs, after.maxErrorNs))
}
clock.close()
ptp.close()
bounds.sort((one, other) => Number(one - other))
console.log(`${rounds} cross timestamps on the line, within ${bounds[0]} to ${bounds.at(-1)} ns`)

function smaller(one, other) {
  return one < other ? one : other
}

function larger(one, other) {
  return one > other ? one : other
}
