/** Looks at a clock again and again, with one timer at a time and none left behind. */

import * as timers from 'node:timers'
import type { AbortSignalLike } from '../abort-signal'
import type { VmClock } from '../clock'

// From `VmClock` and not from `Clock`: the bundler of declarations would move `Clock` to a file of its own.
/** Anything that gives readings: a `VmClock`, a `SimulatedClock`, or a wrapper around one. */
export interface ReadableClock extends Pick<VmClock, 'read'> {
  /** False if its stamps may not have the program's order: no order follows from such a clock, so it is refused. */
  readonly ordered?: boolean | undefined
}

/**
 * The name of the method by which a clock brings its own timers. A clock without it uses Node's.
 *
 * `SimulatedClock` has it, so waits on one end by simulated time, whatever replaced `setTimeout`.
 */
export const CLOCK_TIMER: unique symbol = Symbol.for('vmclock.clockTimer') as never

/** A clock whose time is not the time of Node's timers. */
export interface ClockWithTimer extends ReadableClock {
  /**
   * Calls back once `delayNs` have passed by this clock, or earlier. Returns the function that cancels it.
   *
   * @param delayNs - in nanoseconds, at least 1
   * @param callback - is called at most once, not from within this call
   */
  [CLOCK_TIMER](delayNs: bigint, callback: () => void): () => void
}

// Taken when the module loads: a fake that is installed later must not stop waits for a real clock.
const { setTimeout, clearTimeout, setImmediate, clearImmediate } = timers

const NS_PER_MS = 1_000_000n
// A longer timer would end at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1

/** The result of one look at the clock: an end with a value, or the time until the next look. */
export type Look<Value> = { readonly value: Value } | { readonly delayNs: bigint }

/**
 * Looks until a look ends the wait. Rejects with what a look throws, or with the signal's reason.
 *
 * The first look happens within this call. The pending timer keeps the process alive.
 */
export function lookUntil<Value>(
  clock: ReadableClock,
  signal: AbortSignalLike | undefined,
  look: () => Look<Value>,
): Promise<Value> {
  return new Promise((resolve, reject) => {
    let cancel: (() => void) | undefined
    const end = (): void => {
      cancel?.()
      cancel = undefined
      signal?.removeEventListener('abort', onAbort)
    }
    const onAbort = (): void => {
      end()
      reject(signal?.reason)
    }
    const next = (): void => {
      cancel = undefined
      try {
        const looked = look()
        if ('value' in looked) {
          end()
          resolve(looked.value)
        } else {
          cancel = startTimer(clock, looked.delayNs, next)
        }
      } catch (error) {
        end()
        reject(error)
      }
    }
    if (signal?.aborted) {
      reject(signal.reason)
      return
    }
    signal?.addEventListener('abort', onAbort, ONCE)
    next()
  })
}

// It has no prototype, because a program may have added a `signal` to `Object.prototype`.
const ONCE: { readonly once: true } = Object.assign(Object.create(null), { once: true })

/**
 * Starts one timer, and returns the function that cancels it.
 *
 * Node's timers count whole milliseconds. One that is rounded down ends within the last millisecond before
 * the aim, and turns of the event loop fill the rest: they neither block other work nor overshoot by a
 * millisecond.
 */
function startTimer(clock: ReadableClock, delayNs: bigint, callback: () => void): () => void {
  if (hasTimer(clock)) return clock[CLOCK_TIMER](delayNs, callback)
  if (delayNs < NS_PER_MS) {
    const immediate = setImmediate(callback)
    return () => clearImmediate(immediate)
  }
  const wholeMs = delayNs / NS_PER_MS
  const timer = setTimeout(
    callback,
    wholeMs > LONGEST_TIMER_MS ? LONGEST_TIMER_MS : Number(wholeMs),
  )
  return () => clearTimeout(timer)
}

function hasTimer(clock: ReadableClock): clock is ClockWithTimer {
  return typeof (clock as Partial<ClockWithTimer>)[CLOCK_TIMER] === 'function'
}
