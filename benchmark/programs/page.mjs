// The package as its users load it, and a page for it to read.

import { createRequire } from 'node:module'

/** The package. */
export const vmclock = createRequire(import.meta.url)('../../dist/index.cjs')

/** Publishes a page with a bound from this machine's clock; what the bound says is made up. */
export function publish(path) {
  return vmclock.VmClockPublisher.create(path, {
    acceptCounter: true,
    statedMaxErrorNs: 1_000_000n,
  })
}

/** Makes a page of what a publisher says, that nobody changes. */
export function freeze(path) {
  const publisher = publish(path)
  const clock = vmclock.VmClock.open(path)
  const { raw } = clock.snapshot()
  clock.close()
  publisher.close()
  vmclock.VmClockPage.create(path, raw).close()
}

/** Makes a page with ticks of whole nanoseconds from a whole one, as an uncorrected counter of 1 GHz has. */
export function freezeWhole(path) {
  const publisher = publish(path)
  const clock = vmclock.VmClock.open(path)
  const { raw } = clock.snapshot()
  clock.close()
  publisher.close()
  const counterPeriodShift = 29
  const counterPeriodFracSec = (1n << BigInt(64 + counterPeriodShift)) / 1_000_000_000n
  const whole = { counterPeriodShift, counterPeriodFracSec, timeFracSec: 0n }
  vmclock.VmClockPage.create(path, { ...raw, ...whole }).close()
}

/** Prints what a program found, for whoever started it. */
export function report(found) {
  process.stdout.write(JSON.stringify(found))
}
