/** `vmclock now`: one timestamp. */

import { VmClock } from '../clock'
import type { Reading, Timescale } from '../reading'
import { type Bound, boundOf } from './bound'
import { json } from './escape'
import { distance, timestamp } from './figures'
import { line, OWN_PAGE, table } from './output'

/** Options of all commands that read the time of a page. */
export interface ReadingOptions {
  readonly timescale: Timescale | 'page'
  readonly abi: 'uapi' | 'rfc-v4'
  readonly assumedDrift?: number
  readonly requireSynchronized?: boolean
}

/** Options of `vmclock now`. */
export interface NowOptions extends ReadingOptions {
  readonly json?: boolean
}

/** Opens a page as the options say. */
export function openClock(path: string | undefined, options: ReadingOptions): VmClock {
  const { timescale, abi, assumedDrift, requireSynchronized } = options
  return VmClock.open(path, {
    timescale,
    abi,
    assumedDriftPpm: assumedDrift,
    requireSynchronized,
  })
}

/** Prints one timestamp. */
export function now(path: string | undefined, options: NowOptions): void {
  const clock = openClock(path, options)
  try {
    const reading = clock.read()
    const bound = boundOf(reading, clock)
    if (options.json) {
      const { boundUnavailable } = bound
      line(json({ path: clock.path, ...reading.toJSON(), boundUnavailable }))
      return
    }
    line(table(rows(clock, reading, bound)))
  } finally {
    clock.close()
  }
}

function rows(clock: VmClock, reading: Reading, bound: Bound): Array<[string, string]> {
  const { epochNs, earliestNs, latestNs, timescale, leapSecond, estErrorNs } = reading
  const shown: Array<[string, string]> = [
    ['time', timestamp(epochNs, timescale, leapSecond)],
    ['bound', bound.text],
  ]
  if (earliestNs !== undefined && latestNs !== undefined) {
    shown.push(['earliest', timestamp(earliestNs, timescale)])
    shown.push(['latest', timestamp(latestNs, timescale)])
  }
  if (estErrorNs !== undefined) shown.push(['estimated', `± ${distance(estErrorNs)}`])
  shown.push(['clock', reading.status], ['timescale', timescale], ['page', clock.path ?? OWN_PAGE])
  return shown
}
