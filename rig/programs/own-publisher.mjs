// Checks that a publisher in a guest passes each disruption of the device on to its own page.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { VmClock, VmClockPublisher } from 'vmclock'

const [intervalMs] = process.argv.slice(2).map(Number)

const publisher = VmClockPublisher.create('/tmp/own-page', {
  allowUntrustedCounter: true,
  intervalMs,
})
const clock = VmClock.open('/tmp/own-page')
const device = VmClock.open('/dev/vmclock0')
const watcher = clock.watch({ intervalMs: 1 })
// Keeps the process alive, which neither the publisher nor the watcher does.
const alive = setInterval(() => {}, 1000)
const token = clock.continuityToken()
assert.ok(clock.isContinuous(token))
assert.equal(clock.read().status, 'free-running')

for (const event of [...Array(5).fill('disruption'), 'generation']) {
  // Much longer than an interval. It ends the test if an event never comes.
  const passedOn = once(watcher, event, { signal: AbortSignal.timeout(20_000) })
  const before = device.continuityToken()
  const { disruptionMarker, vmGeneration } = before
  console.log(`${event} ${disruptionMarker} ${vmGeneration}`)
  await passedOn
  console.log('forwarded')
  assert.ok(!device.isContinuous(before))
}
assert.ok(!clock.isContinuous(token))
assert.throws(() => clock.convert(clock.counter(), token), { code: 'ERR_VMCLOCK_DISRUPTED' })
clearInterval(alive)
watcher.close()
publisher.close()
