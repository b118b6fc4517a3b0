/** Answers and waits that follow from a clock's bound with certainty. */

import type { AbortSignalLike } from '../abort-signal'
import * as argument from '../arguments'
import { invalidArgument, VmClockError, type VmClockErrorCode } from '../errors'
import type { Reading } from '../reading'
import { noBound } from './interval'
import { type Look, lookUntil, type ReadableClock } from './wait'

/** Options of {@link waitUntilPast}. */
export interface WaitOptions {
  /** Ends the wait: the promise rejects with the signal's reason, and no timer is left. */
  readonly signal?: AbortSignalLike | undefined
}

/** Options of {@link waitUntilSynchronized}. */
export interface SynchronizedWaitOptions extends WaitOptions {
  /** The largest acceptable bound in nanoseconds, 0 to 2^63 - 1. Default: any bound. */
  readonly errorLimitNs?: bigint | undefined
  /** The time between two looks at the clock, in whole milliseconds, 1 to 3,600,000; default 100. */
  readonly intervalMs?: number | undefined
}

const WAIT = ['signal'] as const satisfies ReadonlyArray<keyof WaitOptions>
const SYNCHRONIZED = ['signal', 'errorLimitNs', 'intervalMs'] as const satisfies ReadonlyArray<
  keyof SynchronizedWaitOptions
>
const DEFAULT_INTERVAL_MS = 100
const LONGEST_INTERVAL_MS = 3_600_000
const NS_PER_MS = 1_000_000n

// A clock with one of these errors may give time later, without being opened anew.
const PASSING: ReadonlySet<VmClockErrorCode> = new Set([
  'ERR_VMCLOCK_NO_TIME',
  'ERR_VMCLOCK_UNSYNCHRONIZED',
  'ERR_VMCLOCK_BAD_PERIOD',
  'ERR_VMCLOCK_NO_TAI_OFFSET',
  'ERR_VMCLOCK_COUNTER_MISMATCH',
  'ERR_VMCLOCK_TOO_UNCERTAIN',
  'ERR_VMCLOCK_STALE',
  'ERR_VMCLOCK_TIMEOUT',
])

/**
 * Returns whether a time is certainly past: before the earliest that it can be now.
 *
 * Within the bound neither this nor {@link isFuture} is true.
 *
 * @param clock - any clock
 * @param ns - nanoseconds since the epoch of the clock's timescale, signed 64-bit
 * @throws VmClockError `ERR_VMCLOCK_TOO_UNCERTAIN` without a bound, `ERR_VMCLOCK_INVALID_ARGUMENT`, and as
 * `read` of the clock
 */
export function isPast(clock: ReadableClock, ns: bigint): boolean {
  const time = argument.int64(ns, 'ns')
  return bounded(readableClock(clock).read()).earliestNs > time
}

/**
 * Returns whether a time is certainly in the future: after the latest that it can be now.
 *
 * @param clock - any clock
 * @param ns - nanoseconds since the epoch of the clock's timescale, signed 64-bit
 * @throws VmClockError as {@link isPast}
 */
export function isFuture(clock: ReadableClock, ns: bigint): boolean {
  const time = argument.int64(ns, 'ns')
  return bounded(readableClock(clock).read()).latestNs < time
}

/**
 * Waits until a time is certainly past, which is commit wait if `ns` is the `latestNs` of a stamp.
 *
 * It resolves no earlier than {@link isPast} is true, and as soon afterwards as timers allow. One timer takes
 * the whole milliseconds, and turns of the event loop take the rest. So at rest it costs no CPU. It looks at
 * the clock when the timer ends: a bound that grew meanwhile prolongs the wait, and a disruption is noticed
 * then.
 *
 * @param clock - any clock
 * @param ns - nanoseconds since the epoch of the clock's timescale, signed 64-bit
 * @param options - a signal
 * @returns the reading that shows it
 * @throws VmClockError `ERR_VMCLOCK_DISRUPTED` if the machine was migrated, restored or cloned meanwhile,
 * and as {@link isPast}. On abort the signal's reason
 *
 * @example
 * ```ts
 * import { VmClock } from 'vmclock'
 * import { waitUntilPast } from 'vmclock/ordering'
 *
 * const clock = VmClock.open()
 * const { latestNs } = clock.read()
 * if (latestNs !== undefined) await waitUntilPast(clock, latestNs)
 * // Every later stamp, on any machine whose bound is true, has a later latestNs.
 * clock.close()
 * ```
 */
export async function waitUntilPast(
  clock: ReadableClock,
  ns: bigint,
  options?: WaitOptions,
): Promise<Reading> {
  const time = argument.int64(ns, 'ns')
  const given = argument.record(options, 'options', WAIT)
  const signal = argument.abortSignal(given['signal'], 'options.signal')
  readableClock(clock)
  let first: Reading | undefined
  return await lookUntil(clock, signal, (): Look<Reading> => {
    const reading = clock.read()
    first ??= reading
    if (
      reading.disruptionMarker !== first.disruptionMarker ||
      reading.vmGeneration !== first.vmGeneration
    ) {
      throw new VmClockError(
        'ERR_VMCLOCK_DISRUPTED',
        'the machine was migrated, restored or cloned during the wait',
        { remedy: 'take a new stamp and wait again' },
      )
    }
    const { earliestNs } = bounded(reading)
    return earliestNs > time ? { value: reading } : { delayNs: time - earliestNs + 1n }
  })
}

/**
 * Waits until the clock gives time with a bound that is small enough, which a service does before it starts.
 *
 * It waits through every state that can pass without opening the clock anew, disruptions too, and rejects
 * with the errors that cannot. It has no timeout of its own: pass `AbortSignal.timeout(ms)`.
 *
 * @param clock - any clock
 * @param options - the limit and a signal
 * @returns the first reading whose bound is within the limit
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, and as `read` of the clock. On abort the signal's
 * reason
 */
export async function waitUntilSynchronized(
  clock: ReadableClock,
  options?: SynchronizedWaitOptions,
): Promise<Reading> {
  const given = argument.record(options, 'options', SYNCHRONIZED)
  const signal = argument.abortSignal(given['signal'], 'options.signal')
  const limitNs = argument.int63(given['errorLimitNs'], 'options.errorLimitNs')
  const intervalMs =
    argument.integer(given['intervalMs'], 'options.intervalMs', 1, LONGEST_INTERVAL_MS) ??
    DEFAULT_INTERVAL_MS
  readableClock(clock)
  const again: Look<Reading> = { delayNs: BigInt(intervalMs) * NS_PER_MS }
  return await lookUntil(clock, signal, (): Look<Reading> => {
    const reading = readIfPossible(clock)
    const errorNs = reading?.maxErrorNs
    if (reading === undefined || errorNs === undefined) return again
    return limitNs === undefined || errorNs <= limitNs ? { value: reading } : again
  })
}

/** Returns a reading; undefined if the clock gives none now and may give one later. */
function readIfPossible(clock: ReadableClock): Reading | undefined {
  try {
    return clock.read()
  } catch (error) {
    if (VmClockError.isVmClockError(error) && PASSING.has(error.code)) return undefined
    throw error
  }
}

interface Bounded {
  readonly earliestNs: bigint
  readonly latestNs: bigint
}

function bounded(reading: Reading): Bounded {
  const { earliestNs, latestNs } = reading
  if (earliestNs === undefined || latestNs === undefined) throw noBound('this clock')
  return { earliestNs, latestNs }
}

/** Checks that a value has the one method that this module calls, and that its stamps have the program's order. */
export function readableClock(clock: unknown): ReadableClock {
  if (
    typeof clock === 'object' &&
    clock !== null &&
    argument.holds(() => typeof (clock as Partial<ReadableClock>).read === 'function')
  ) {
    if (argument.holds(() => (clock as ReadableClock).ordered === false)) {
      throw invalidArgument(
        "this clock's stamps may not have the program's order, so nothing about their order is certain",
        'open another clock for this, without ordered: false',
      )
    }
    return clock as ReadableClock
  }
  throw invalidArgument('clock must be a clock with read()', 'pass what VmClock.open() returned')
}
