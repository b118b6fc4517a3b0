/** Explains the bound of a reading. */

import { boundRemedy, boundUnavailableText } from '../bound-unavailable'
import type { VmClock } from '../clock'
import type { Reading } from '../reading'
import type { BoundUnavailable, Snapshot } from '../snapshot'
import { distance } from './figures'

/** The bound of a reading in words, or why there is none. */
export interface Bound {
  readonly text: string
  /** The way to get a bound, if the reading has none and the reason is known. */
  readonly remedy?: string
  /** The reason for a missing bound, if it is known. */
  readonly boundUnavailable?: BoundUnavailable | undefined
}

/** Explains the bound of a reading that `clock` gave. */
export function boundOf({ maxErrorNs, status }: Reading, clock: VmClock): Bound {
  if (maxErrorNs !== undefined) return { text: `± ${distance(maxErrorNs)}` }
  const snapshot = clock.snapshot()
  const { boundUnavailable } = snapshot
  if (boundUnavailable === undefined)
    return { text: `unknown: ${whyUnstated(status, snapshot, clock)}` }
  const guardRemedy =
    boundUnavailable.reason === 'unguarded' ? clock.timeSource.guard.remedy : undefined
  return {
    text: `unknown: ${boundUnavailableText(boundUnavailable)}`,
    remedy: guardRemedy ?? boundRemedy(boundUnavailable),
    boundUnavailable,
  }
}

function whyUnstated(status: Reading['status'], { maxErrorNs }: Snapshot, clock: VmClock): string {
  if (status === 'free-running') {
    return "the page's clock is not synchronized to anything, so this time is relative to that clock"
  }
  const isAssumed = clock.timeSource.assumed.some(({ part }) => part === 'time-error')
  return maxErrorNs === undefined && !isAssumed
    ? 'the page states no maximum error of its time; --assumed-error supplies it'
    : 'the page states no maximum error of its rate; --assumed-drift supplies it'
}
