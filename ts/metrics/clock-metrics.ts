/** Collects the metrics of a clock, again and again. */

import type { ContinuityToken } from '../continuity'
import { refuseDetached } from '../detached'
import { invalidArgument, VmClockError } from '../errors'
import { familiesOf, type MeasuredClock, type MetricFamily } from './families'
import { CONTENT_TYPE, textOf } from './text'

/**
 * The metrics of a clock for Prometheus. Each call reads the clock anew, and a figure that is unknown then is left
 * out, so no figure is stale.
 *
 * It counts disruptions by tokens: it takes one at each collection, and compares it with the one before. It has no
 * thread and no timer, and never closes the clock.
 *
 * @example
 * ```ts
 * import { VmClock } from 'vmclock'
 * import { ClockMetrics } from 'vmclock/metrics'
 *
 * const metrics = new ClockMetrics(VmClock.open())
 * console.log(metrics.text())
 * ```
 */
export class ClockMetrics {
  /** The `Content-Type` of `text`: Prometheus' text format, version 0.0.4. */
  static readonly contentType: string = CONTENT_TYPE

  readonly #clock: () => MeasuredClock
  #seen: { readonly clock: MeasuredClock; readonly token: ContinuityToken } | undefined
  #disruptions = 0
  #generations = 0

  /**
   * Counts from here on.
   *
   * @param clock - any clock. Or a function that returns the clock to read now: it is called at each collection, may
   * return another clock than before, and may throw a `VmClockError`, which the metrics then show
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT` if it is neither
   */
  constructor(clock: MeasuredClock | (() => MeasuredClock)) {
    if (typeof clock === 'function') this.#clock = clock
    else if (isClock(clock)) this.#clock = () => clock
    else throw invalidArgument('clock must be a clock or a function', 'pass VmClock.open()')
    this.#read()
  }

  /**
   * Returns all metrics, in the same order at each call. One whose value is unknown now has no samples.
   *
   * @throws any error of the function that returns the clock, other than a `VmClockError`
   */
  collect(): MetricFamily[] {
    const seen = this.#read()
    const counts = { disruptions: this.#disruptions, generations: this.#generations }
    try {
      return familiesOf(seen, counts)
    } catch (error) {
      // The clock was closed, or its page cannot be read any more.
      return familiesOf(expected(error), counts)
    }
  }

  /**
   * Returns the metrics in Prometheus' text format, for the answer to a scrape.
   *
   * @throws as {@link ClockMetrics.collect}
   */
  text(): string {
    return textOf(this.collect())
  }

  /** Returns the clock after a look at its token, or why it cannot be read. */
  #read(): MeasuredClock | VmClockError {
    try {
      const clock = this.#clock()
      const token = clock.continuityToken()
      // Tokens of two clocks say nothing about each other.
      if (this.#seen?.clock === clock) this.#count(this.#seen.token, token)
      this.#seen = { clock, token }
      return clock
    } catch (error) {
      return expected(error)
    }
  }

  #count(before: ContinuityToken, now: ContinuityToken): void {
    if (before.disruptionMarker !== now.disruptionMarker) this.#disruptions++
    // A publisher may begin to give a generation, or end it.
    const isKnown = before.vmGeneration !== undefined && now.vmGeneration !== undefined
    if (isKnown && before.vmGeneration !== now.vmGeneration) this.#generations++
  }
}

refuseDetached(ClockMetrics)

function isClock(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as Partial<MeasuredClock>).tryRead === 'function'
  )
}

function expected(error: unknown): VmClockError {
  if (error instanceof VmClockError) return error
  throw error
}
