// The package as its users load it, and a page for it to read.

import { createRequire } from 'node:module'

/** The package. */
export const vmclock = createRequire(import.meta.url)('../../dist/index.cjs')

const { VmClockPage } = createRequire(import.meta.url)('../../dist/testing.cjs')

/** Publishes a page with a bound from this machine's clock; what the bound says is made up. */
export function publish(path) {
  return vmclock.VmClockPublisher.create(path, {
    allowUntrustedCounter: true,
    maxErrorNs: 1_000_000n,
  })
}

/** Makes a page of what a publisher says, but for these fields, that nobody changes. */
export function freeze(path, fields = {}) {
  const publisher = publish(path)
  const clock = vmclock.VmClock.open(path)
  const { raw } = clock.snapshot()
  clock.close()
  publisher.close()
  VmClockPage.create(path, { ...raw, ...fields }).close()
}

/** Ticks of whole nanoseconds from a whole one, as an uncorrected counter of 1 GHz has. */
export const WHOLE_TICKS = {
  counterPeriodShift: 29,
  counterPeriodFracSec: (1n << 93n) / 1_000_000_000n,
  timeFracSec: 0n,
}

/** Prints what a program found, for whoever started it. */
export function report(found) {
  process.stdout.write(JSON.stringify(found))
}
