// Checks two devices, QEMU's own and the rig's: each has its own page, and a disruption of one is none of the
// other. Prints `tokens` when it has a token of each; the host then changes the marker of the rig's device.

import assert from 'node:assert/strict'
import { VmClock } from 'vmclock'

const MOST_MS = 10_000

const paths = ['/dev/vmclock0', '/dev/vmclock1']
assert.deepEqual(VmClock.list(), paths)
const clocks = paths.map((path) => VmClock.open(path))
// The firmware determines their order.
const own = clocks.find((clock) => !clock.hasTime)
const rigs = clocks.find((clock) => clock.hasTime)
assert.ok(own !== undefined && rigs !== undefined)

const { raw, counterKind, clockStatus } = own.snapshot()
assert.equal(raw.size, 4096)
assert.equal(counterKind, 'none')
assert.equal(clockStatus, 'unknown')
assert.throws(() => own.read(), { code: 'ERR_VMCLOCK_NO_TIME' })
rigs.read()

const [ownToken, rigsToken] = [own.continuityToken(), rigs.continuityToken()]
console.log('tokens')
const startMs = performance.now()
while (rigs.isContinuous(rigsToken)) {
  assert.ok(performance.now() - startMs < MOST_MS, 'the disruption is not seen')
}
assert.equal(own.isContinuous(ownToken), true)
for (const clock of clocks) clock.close()
console.log(`QEMU's is ${own.path}`)
