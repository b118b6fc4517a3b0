/** Explains the bound of a reading. */

import type { VmClock } from '../clock'
import type { Reading } from '../reading'
import type { Snapshot } from '../snapshot'
import { distance } from './figures'

/** Formats the bound of a reading that `clock` gave, or says why there is none. */
export function boundText(reading: Reading, clock: VmClock): string {
  if (reading.maxErrorNs !== undefined) return `± ${distance(reading.maxErrorNs)}`
  return `unknown: ${whyUnbounded(reading, clock.snapshot())}`
}

function whyUnbounded(reading: Reading, snapshot: Snapshot): string {
  if (reading.status === 'free-running') {
    return "the page's clock is not synchronized to anything, so this time is relative to that clock"
  }
  return snapshot.maxErrorNs === undefined
    ? 'the page states no maximum error of its time'
    : 'the page states no maximum error of its rate; --assumed-drift supplies it'
}
