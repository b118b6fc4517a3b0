/** Intervals that hold the true time of an event: how two of them compare, and their bytes. */

import * as argument from '../arguments'
import { invalidArgument, VmClockError } from '../errors'
import { withJson } from '../json'
import type { Timescale } from '../reading'
import { int64At, putInt64, viewOf } from './bytes'

const INTERVAL_BYTES = 16

/**
 * The interval that holds the true time of an event. A `Reading` with a bound is one, from this machine or
 * another.
 */
export interface Interval {
  /** The start, in nanoseconds since the timescale's epoch, signed 64-bit; undefined without a bound. */
  readonly earliestNs: bigint | undefined
  /** The end, included; undefined without a bound. */
  readonly latestNs: bigint | undefined
  /** The timescale of both; if absent the caller answers for it. */
  readonly timescale?: Timescale | undefined
}

/**
 * How two events follow each other: `before` and `after` are certain, and with `concurrent` nobody can
 * tell.
 */
export type IntervalOrder = 'before' | 'after' | 'concurrent'

/** An interval with a bound. */
export interface BoundedInterval {
  /** The start, in nanoseconds since the timescale's epoch, signed 64-bit. */
  readonly earliestNs: bigint
  /** The end, included. */
  readonly latestNs: bigint
}

/** An interval that was checked. */
export interface CheckedInterval extends BoundedInterval {
  readonly timescale: Timescale | undefined
}

/**
 * Returns how event `a` follows event `b`, by the intervals of their true times.
 *
 * `a` is before `b` if `a.latestNs < b.earliestNs`. Both bounds are true, so the true time of `a` is then
 * less than that of `b`. Intervals that touch or overlap are concurrent.
 *
 * Do not pass readings of a clock with `ordered: false`. Their true time is that of the counter, which may have been
 * read some hundred nanoseconds before or after the event.
 *
 * @param a - a reading with a bound, or any `{ earliestNs, latestNs }`, from this machine or another
 * @param b - the same
 * @throws VmClockError `ERR_VMCLOCK_TOO_UNCERTAIN` if one has no bound; `ERR_VMCLOCK_INVALID_ARGUMENT` if
 * one is no interval or their timescales differ
 */
export function compareIntervals(a: Interval, b: Interval): IntervalOrder {
  const first = checkedInterval(a, 'a')
  const second = checkedInterval(b, 'b')
  const { timescale } = first
  if (timescale !== undefined && second.timescale !== undefined && timescale !== second.timescale) {
    throw invalidArgument(
      `the intervals are of two timescales: ${timescale} and ${second.timescale}`,
      'read both from clocks that were opened with the same timescale',
    )
  }
  if (first.latestNs < second.earliestNs) return 'before'
  if (second.latestNs < first.earliestNs) return 'after'
  return 'concurrent'
}

/**
 * Returns an interval as 16 bytes, whose order is that of `latestNs`, and of `earliestNs` if that is equal.
 *
 * With commit wait the order of `latestNs` is the order of events. Bytes 0 to 7 are `latestNs` and bytes 8 to
 * 15 `earliestNs`. Both are big-endian with the sign bit inverted, so that bytes compare as numbers do.
 * The timescale is not part of it.
 *
 * @param interval - a reading with a bound, or any `{ earliestNs, latestNs }`
 * @throws VmClockError as {@link compareIntervals}
 */
export function encodeInterval(interval: Interval): Uint8Array {
  const { earliestNs, latestNs } = checkedInterval(interval, 'interval')
  const bytes = new Uint8Array(INTERVAL_BYTES)
  const view = new DataView(bytes.buffer)
  putInt64(view, 0, latestNs)
  putInt64(view, 8, earliestNs)
  return bytes
}

/**
 * Returns the interval of 16 bytes that {@link encodeInterval} made.
 *
 * @param bytes - exactly 16 bytes; a `Buffer` too
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT` if they are no interval
 */
export function decodeInterval(bytes: Uint8Array): BoundedInterval {
  const view = viewOf(bytes, [INTERVAL_BYTES])
  const latestNs = int64At(view, 0)
  const earliestNs = int64At(view, 8)
  if (earliestNs > latestNs) {
    throw invalidArgument(
      'these bytes are no interval: it would end before it starts',
      'pass what encodeInterval() returned',
    )
  }
  return withJson({ earliestNs, latestNs })
}

/** Checks an interval, and that it has a bound. */
export function checkedInterval(value: unknown, name: string): CheckedInterval {
  if (typeof value !== 'object' || value === null) {
    throw invalidArgument(`${name} must be a reading or { earliestNs, latestNs }`)
  }
  const { earliestNs, latestNs, timescale } = value as { [Name in keyof Interval]: unknown }
  if (earliestNs === undefined && latestNs === undefined) throw noBound(name)
  const earliest = argument.int64(earliestNs, `${name}.earliestNs`)
  const latest = argument.int64(latestNs, `${name}.latestNs`)
  if (earliest > latest) {
    throw invalidArgument(`${name} ends before it starts: ${earliest}n to ${latest}n`)
  }
  return { earliestNs: earliest, latestNs: latest, timescale: timescale as Timescale | undefined }
}

/** Makes the error for an order that depends on an absent bound. */
export function noBound(what: string): VmClockError {
  return new VmClockError(
    'ERR_VMCLOCK_TOO_UNCERTAIN',
    `${what} has no bound on its time, so nothing about its order is certain`,
    { remedy: 'await waitUntilSynchronized(clock), and ask `npx vmclock doctor` for the reason' },
  )
}
