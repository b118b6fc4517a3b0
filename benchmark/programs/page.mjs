// Loads the package, and makes pages to read.

import { createRequire } from 'node:module'

/** The package. */
export const vmclock = createRequire(import.meta.url)('../../dist/index.cjs')

const { VmClockPage } = createRequire(import.meta.url)('../../dist/testing.cjs')

/** Publishes a page from this machine's clock, with an arbitrary bound. */
export function publish(path) {
  return vmclock.VmClockPublisher.create(path, {
    allowUntrustedCounter: true,
    maxErrorNs: 1_000_000n,
  })
}

/** Writes a page like a publisher's, with some fields replaced, that does not change. */
export function freeze(path, fields = {}) {
  const publisher = publish(path)
  const clock = vmclock.VmClock.open(path)
  const { raw } = clock.snapshot()
  clock.close()
  publisher.close()
  VmClockPage.create(path, { ...raw, ...fields }).close()
}

/** The fields of an uncorrected counter of 1 GHz: each tick is a whole nanosecond. */
export const WHOLE_TICKS = {
  counterPeriodShift: 29,
  counterPeriodFracSec: (1n << 93n) / 1_000_000_000n,
  timeFracSec: 0n,
}

/** Prints the figures of a program, for the process that started it. */
export function report(found) {
  process.stdout.write(JSON.stringify(found))
}
