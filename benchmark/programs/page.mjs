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

/** Prints what a program found, for whoever started it. */
export function report(found) {
  process.stdout.write(JSON.stringify(found))
}
