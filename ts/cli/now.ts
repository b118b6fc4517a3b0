/** `vmclock now`: one timestamp. */

import type { Reading } from '../reading'
import type { TimeSource } from '../time-source'
import { type Bound, boundOf } from './bound'
import { json } from './escape'
import { distance, timestamp } from './figures'
import { line, table } from './output'
import { openClock, type ReadingOptions } from './page-options'
import { pageName } from './source'

/** Options of `vmclock now`. */
export interface NowOptions extends ReadingOptions {
  readonly json?: boolean
}

/** Prints one timestamp. */
export function now(path: string | undefined, options: NowOptions): void {
  const clock = openClock(path, options)
  try {
    const reading = clock.read()
    const bound = boundOf(reading, clock)
    const { timeSource } = clock
    if (options.json) {
      const { boundUnavailable } = bound
      line(json({ path: clock.path, ...reading.toJSON(), boundUnavailable, timeSource }))
      return
    }
    line(table(rows(timeSource, reading, bound)))
  } finally {
    clock.close()
  }
}

function rows(source: TimeSource, reading: Reading, bound: Bound): Array<[string, string]> {
  const { epochNs, earliestNs, latestNs, timescale, leapSecond, estErrorNs } = reading
  const shown: Array<[string, string]> = [
    ['time', timestamp(epochNs, timescale, leapSecond)],
    ['bound', bound.text],
    ...(bound.remedy === undefined ? [] : [['remedy', bound.remedy] satisfies [string, string]]),
  ]
  if (earliestNs !== undefined && latestNs !== undefined) {
    shown.push(['earliest', timestamp(earliestNs, timescale)])
    shown.push(['latest', timestamp(latestNs, timescale)])
  }
  if (estErrorNs !== undefined) shown.push(['estimated', `± ${distance(estErrorNs)}`])
  shown.push(['clock', reading.status], ['timescale', timescale], ['page', pageName(source)])
  return shown
}
