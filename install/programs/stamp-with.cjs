// Compares the package as two loaders give it. Prints as JSON whether both give the same values, whether
// all entry points share one error class, and whether a time stamp holds this machine's time.

const { mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')

/** `one` and `other` hold what each entry point exports, by the entry point's name. */
module.exports = function stampWith(one, other) {
  const result = {
    isOneClass: Object.keys(one).every((name) => isSame(one[name], other[name])),
    isOneErrorClass: errorFromPtp(other.ptp) instanceof one.vmclock.VmClockError,
    holdsTheTime: holdsTheTime(one.vmclock.VmClockPublisher, other.vmclock.VmClock),
  }
  console.log(JSON.stringify(result))
}

// An ES module's namespace and module.exports differ as objects, so compare what they hold.
function isSame(one, other) {
  const names = Object.keys(one).filter((name) => !['default', 'module.exports'].includes(name))
  return names.length > 0 && names.every((name) => one[name] === other[name])
}

function errorFromPtp({ PtpClock }) {
  try {
    PtpClock.find('')
  } catch (error) {
    return error
  }
  return undefined
}

function holdsTheTime(VmClockPublisher, VmClock) {
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-stamp-'))
  const path = join(directory, 'page')
  // The publisher follows this machine's clock, and Date reads the same clock. So a stamp differs from
  // Date only by the time that reading the clock takes.
  const publisher = VmClockPublisher.create(path, {
    allowUntrustedCounter: true,
    maxErrorNs: 1_000_000n,
  })
  const clock = VmClock.open(path)
  const beforeMs = Date.now()
  const { earliestNs, latestNs } = clock.read()
  const afterMs = Date.now()
  clock.close()
  publisher.close()
  rmSync(directory, { recursive: true })
  // Date cuts off at the millisecond, so the true time after the stamp is up to 1 ms later.
  return earliestNs < BigInt(afterMs + 1) * 1_000_000n && latestNs >= BigInt(beforeMs) * 1_000_000n
}
