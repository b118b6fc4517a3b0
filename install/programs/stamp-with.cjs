// Publishes a page with one loader's classes, stamps from it with those of the other, and says as JSON
// whether they are the same and whether the stamp holds this machine's time.

const { mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')

module.exports = function stampWith({ VmClock, VmClockPublisher }, other) {
  const folder = mkdtempSync(join(tmpdir(), 'vmclock-stamp-'))
  const path = join(folder, 'page')
  // This machine's clock is what is asked for, so it is off by no more than it takes to read it.
  const publisher = VmClockPublisher.create(path, {
    allowUntrustedCounter: true,
    maxErrorNs: 1_000_000n,
  })
  const clock = other.VmClock.open(path)
  const beforeMs = Date.now()
  const { earliestNs, latestNs } = clock.read()
  const afterMs = Date.now()
  clock.close()
  publisher.close()
  rmSync(folder, { recursive: true })
  const told = {
    isOneClass: VmClock === other.VmClock && clock instanceof VmClock,
    // The millisecond of the second look may be over but for its last nanosecond.
    holdsTheTime:
      earliestNs < BigInt(afterMs + 1) * 1_000_000n && latestNs >= BigInt(beforeMs) * 1_000_000n,
  }
  console.log(JSON.stringify(told))
}
