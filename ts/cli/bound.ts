/** Explains the bound of a reading. */

import { boundUnavailableText } from '../bound-unavailable'
import type { VmClock } from '../clock'
import type { Reading } from '../reading'
import type { BoundUnavailable, Snapshot } from '../snapshot'
import { distance } from './figures'

/** The bound of a reading in words, or why there is none. */
export interface Bound {
  readonly text: string
  /** The reason that the page's publisher gives, if the reading has no bound. */
  readonly boundUnavailable?: BoundUnavailable | undefined
}

/** Explains the bound of a reading that `clock` gave. */
export function boundOf({ maxErrorNs, status }: Reading, clock: VmClock): Bound {
  if (maxErrorNs !== undefined) return { text: `± ${distance(maxErrorNs)}` }
  const snapshot = clock.snapshot()
  const { boundUnavailable } = snapshot
  const why =
    boundUnavailable === undefined
      ? whyUnstated(status, snapshot)
      : boundUnavailableText(boundUnavailable)
  return { text: `unknown: ${why}`, boundUnavailable }
}

function whyUnstated(status: Reading['status'], { maxErrorNs }: Snapshot): string {
  if (status === 'free-running') {
    return "the page's clock is not synchronized to anything, so this time is relative to that clock"
  }
  return maxErrorNs === undefined
    ? 'the page states no maximum error of its time'
    : 'the page states no maximum error of its rate; --assumed-drift supplies it'
}
