/** `vmclock now`: one stamp. */

import { VmClock } from '../clock'
import type { Reading, Timescale } from '../reading'
import { json } from './escape'
import { distance, timestamp } from './figures'
import { line, table } from './output'

/** What `vmclock now` was told. */
export interface NowOptions {
  readonly json?: boolean
  readonly timescale: Timescale
  readonly abi: 'uapi' | 'rfc-v4'
  readonly assumedDriftPpm?: number
}

/** Stamps once and prints it. */
export function now(path: string | undefined, options: NowOptions): void {
  const { timescale, abi, assumedDriftPpm } = options
  const clock = VmClock.open(path, { timescale, abi, assumedDriftPpm })
  try {
    const reading = clock.read()
    if (options.json) {
      line(json({ path: clock.path, ...reading.toJSON() }))
      return
    }
    line(table(rows(clock.path, reading)))
  } finally {
    clock.close()
  }
}

function rows(path: string, reading: Reading): Array<[string, string]> {
  const { epochNs, earliestNs, latestNs, timescale, leapSecond, estErrorNs } = reading
  return [
    ['time', timestamp(epochNs, timescale, leapSecond)],
    ['bound', bound(reading)],
    ...(earliestNs === undefined || latestNs === undefined
      ? []
      : [
          ['earliest', timestamp(earliestNs, timescale)] satisfies [string, string],
          ['latest', timestamp(latestNs, timescale)] satisfies [string, string],
        ]),
    ...(estErrorNs === undefined
      ? []
      : [['estimated', `± ${distance(estErrorNs)}`] satisfies [string, string]]),
    ['clock', reading.status],
    ['timescale', timescale],
    ['page', path],
  ]
}

/** The bound of a reading, or why there is none. */
export function bound(reading: Reading): string {
  if (reading.maxErrorNs !== undefined) return `± ${distance(reading.maxErrorNs)}`
  return reading.status === 'free-running'
    ? "unknown: the page's clock is not synchronized to anything, so this time is relative to that clock"
    : 'unknown: the page states none, or none for its rate; --assumed-drift-ppm supplies the latter'
}
