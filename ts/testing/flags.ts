/** The bits of a page's flags, and the fields of a page that exists. */

import type { Snapshot } from '../snapshot'
import type { PageFields } from './page'

/** The bits of `PageFields.flags`: `VMCLOCK_FLAG_…` of `vmclock-abi.h`. */
export const PAGE_FLAGS: {
  /** `taiOffsetSec` is valid. */
  readonly TAI_OFFSET_VALID: 0x1n
  /** A disruption is expected within about a day. */
  readonly DISRUPTION_SOON: 0x2n
  /** A disruption is expected within about an hour. */
  readonly DISRUPTION_IMMINENT: 0x4n
  /** `counterPeriodEsterrorRateFracSec` is valid. */
  readonly PERIOD_ESTERROR_VALID: 0x8n
  /** `counterPeriodMaxerrorRateFracSec` is valid. */
  readonly PERIOD_MAXERROR_VALID: 0x10n
  /** `timeEsterrorNanosec` is valid. */
  readonly TIME_ESTERROR_VALID: 0x20n
  /** `timeMaxerrorNanosec` is valid. */
  readonly TIME_MAXERROR_VALID: 0x40n
  /** The time never steps back from one update to the next. */
  readonly TIME_MONOTONIC: 0x80n
  /** `vmGenerationCounter` is valid. */
  readonly VM_GEN_COUNTER_PRESENT: 0x100n
  /** The provider notifies of updates. */
  readonly NOTIFICATION_PRESENT: 0x200n
} = Object.freeze({
  TAI_OFFSET_VALID: 0x1n,
  DISRUPTION_SOON: 0x2n,
  DISRUPTION_IMMINENT: 0x4n,
  PERIOD_ESTERROR_VALID: 0x8n,
  PERIOD_MAXERROR_VALID: 0x10n,
  TIME_ESTERROR_VALID: 0x20n,
  TIME_MAXERROR_VALID: 0x40n,
  TIME_MONOTONIC: 0x80n,
  VM_GEN_COUNTER_PRESENT: 0x100n,
  NOTIFICATION_PRESENT: 0x200n,
})

/**
 * Returns the fields of a page that a snapshot shows, to write the same page elsewhere:
 * `VmClockPage.create(path, fieldsOf(clock.snapshot()))`.
 *
 * @param snapshot - of `VmClock.snapshot()`
 */
export function fieldsOf(snapshot: Snapshot): PageFields {
  // Each page has a sequence number of its own.
  const { seqCount: _own, ...fields } = snapshot.raw
  return fields
}
