/**
 * Orders events across machines by the bounds of their clocks: certain answers, commit waits, timestamps
 * whose bytes sort as the events do, and hybrid logical clocks.
 *
 * All of it is functions over any clock, so the main entry need not load it.
 *
 * @module vmclock/ordering
 */

export {
  compareHybrid,
  decodeHybrid,
  encodeHybrid,
  HybridClock,
  type HybridClockOptions,
  type HybridStamp,
} from './hybrid'
export {
  type BoundedInterval,
  compareIntervals,
  decodeInterval,
  encodeInterval,
  type Interval,
  type IntervalOrder,
} from './interval'
export type { SynchronizedWaitOptions, WaitOptions } from './past'
export { isFuture, isPast, waitUntilPast, waitUntilSynchronized } from './past'
export { CLOCK_TIMER, type ClockWithTimer, type ReadableClock } from './wait'
