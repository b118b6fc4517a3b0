// Stands in for two or more machines with clocks of their own: pages whose times differ, on one computer.
// A program in production opens its machine's own clock instead: VmClock.open().

import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { VmClock, VmClockPublisher } from '../../dist/index.mjs'
import { VmClockPage } from '../../dist/testing.mjs'

const TIME_MAXERROR_VALID = 0x40n
const PERIOD_MAXERROR_VALID = 0x10n
const NS_PER_SEC = 1_000_000_000n

/** Measures this computer's counter, and returns the fields of a page without an error. */
export function exactFields(directory) {
  const path = join(mkdtempSync(join(directory, 'reference-')), 'page')
  const publisher = VmClockPublisher.create(path, {
    allowUntrustedCounter: true,
    maxErrorNs: 1_000_000n,
  })
  const clock = VmClock.open(path)
  const { raw } = clock.snapshot()
  clock.close()
  publisher.close()
  const { counterId, counterValue, counterPeriodShift, counterPeriodFracSec, timeSec } = raw
  return { counterId, counterValue, counterPeriodShift, counterPeriodFracSec, timeSec }
}

/** Makes the page of a machine whose clock is off by `skewNs` and states the bound `maxErrorNs`. */
export function machinePage(path, fields, skewNs, maxErrorNs) {
  // Half a second is more than any skew of these examples, and keeps the fraction within its second.
  const shiftedNs = NS_PER_SEC / 2n + skewNs
  return VmClockPage.create(path, {
    ...fields,
    clockStatus: 2,
    flags: TIME_MAXERROR_VALID | PERIOD_MAXERROR_VALID,
    timeFracSec: (shiftedNs * 2n ** 64n) / NS_PER_SEC,
    timeMaxerrorNanosec: maxErrorNs,
  })
}

/** Makes the page state a bound, or none. */
export function setBound(page, hasBound) {
  page.write({ flags: hasBound ? TIME_MAXERROR_VALID | PERIOD_MAXERROR_VALID : 0n })
}
