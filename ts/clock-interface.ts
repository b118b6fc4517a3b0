/** The part of a clock that does not depend on a page. */

import type { ContinuityToken } from './continuity'
import type { VmClockError } from './errors'
import type { HrTime } from './hr-time'
import type { Instant } from './instant'
import type { Reading, Timescale } from './reading'
import type { TimeSource } from './time-source'
import type { VmClockWatcher, VmClockWatchOptions } from './watcher'

/**
 * A clock with error bounds and with notice of disruptions. `VmClock` implements it; accept this type where any
 * such clock will do, as the one that `VmClock.open({ unsupported: 'system-clock' })` gives on macOS.
 *
 * `VmClock` documents each member, and the errors that the calls throw.
 */
export interface Clock {
  /** The path of the page; undefined if the clock reads no page, or one without a path. */
  readonly path: string | undefined
  /** The timescale of all times of this clock. */
  readonly timescale: Timescale
  /** True if every stamp has the program's order. */
  readonly ordered: boolean
  /** Where the time comes from, and what guards it. */
  readonly timeSource: TimeSource
  /** True after `close`. */
  readonly closed: boolean
  /** True if the clock has time at all now. */
  readonly hasTime: boolean
  /** True if a call for the time would succeed now. False after `close`. */
  readonly isUsable: boolean
  /** Returns the time now in nanoseconds since the timescale's epoch. */
  nowNs(): bigint
  /** Returns the time now in milliseconds since 1970-01-01 UTC, with a fraction. */
  nowMs(): number
  /** Returns the time now as whole seconds and the nanoseconds after them, since the timescale's epoch. */
  nowHrTime(out?: HrTime): HrTime
  /** Returns the time now as a `Date`, floored to milliseconds. */
  nowDate(): Date
  /** Returns the time now as a `Temporal.Instant`. */
  nowInstant(): Instant
  /** Returns the time now with its bound. */
  read(): Reading
  /** As `read`, but returns the error instead of throwing it. */
  tryRead(): Reading | VmClockError
  /** Writes the figures of `read`, by the names of `READING_SLOTS`. */
  readInto(slots: BigInt64Array, at?: number): void
  /** Returns the counter now, unsigned 64-bit. */
  counter(): bigint
  /** Converts a counter that was captured after the token was taken. */
  convert(counter: bigint, token: ContinuityToken): Reading
  /** Converts many counters at once to nanoseconds since the timescale's epoch. */
  convertInto(counters: BigUint64Array, out: BigInt64Array, token: ContinuityToken): void
  /** Takes a token for `isContinuous` and `convert`. */
  continuityToken(): ContinuityToken
  /** Returns whether this is the same machine with the same clock as when the token was taken. */
  isContinuous(token: ContinuityToken): boolean
  /** Watches for disruptions, clones, announced maintenance, and changes of the clock's state. */
  watch(options?: VmClockWatchOptions): VmClockWatcher
  /** Closes the clock. Closing again does nothing. */
  close(): void
  /** Closes the clock at the end of a `using` scope. */
  [Symbol.dispose](): void
}
