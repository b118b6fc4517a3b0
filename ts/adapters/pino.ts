/**
 * Gives the lines of pino the times of a clock, to the nanosecond, with the bound on demand.
 *
 * It loads nothing of pino's.
 *
 * @module vmclock/pino
 */

import * as argument from '../arguments'
import type { VmClock } from '../clock'
import type { Clock } from '../clock-interface'
import { formatNs, type Reading } from '../reading'
import { utcClock } from './adapter'

/** Options of {@link vmclockTime}. */
export interface VmClockTimeOptions {
  // It names `VmClock`, or the bundler of declarations would move shared types to a file of their own.
  /** The clock of the times. Its timescale must follow UTC. You close it after the last line. */
  readonly clock: Clock | VmClock
  /**
   * How the time is written. Default: `iso`.
   *
   * - `iso`: a string, ISO 8601 with nanoseconds, such as `"2026-01-01T00:00:00.123456789Z"`
   * - `epochNs`: an integer, the nanoseconds since 1970-01-01 UTC. It has more digits than a double holds: a parser
   *   that reads numbers as doubles, such as `JSON.parse`, cuts it off to about 0.2 µs
   */
  readonly format?: 'iso' | 'epochNs' | undefined
  /**
   * Write how far the time may be off too, as the field `timeMaxErrorNs`, an integer in nanoseconds. An unknown bound is
   * left out. Default false.
   */
  readonly bound?: boolean | undefined
  /** The name of the time's field. Default: `time`, as pino's own. */
  readonly key?: string | undefined
}

const NS_PER_MS = 1_000_000n

/**
 * Returns a function for pino's option `timestamp`. Each line gets a new reading of the clock.
 *
 * If the clock gives no time, the line has the time of `Date` and the field `"timeSource":"system"`: logging must not
 * fail.
 *
 * @param options - the clock, and what to write
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_TIMESCALE`
 *
 * @example
 * ```ts
 * import pino from 'pino'
 * import { VmClock } from 'vmclock'
 * import { vmclockTime } from 'vmclock/pino'
 *
 * const logger = pino({ timestamp: vmclockTime({ clock: VmClock.open(), bound: true }) })
 * logger.info('hello')
 * ```
 */
export function vmclockTime(options: VmClockTimeOptions): () => string {
  const given = argument.record(options, 'options', ['clock', 'format', 'bound', 'key'])
  const clock = utcClock(given['clock'], 'options.clock')
  const format = argument.choice(given['format'], 'options.format', ['iso', 'epochNs']) ?? 'iso'
  const withBound = argument.flag(given['bound'], 'options.bound') ?? false
  const key = given['key'] === undefined ? 'time' : argument.called(given['key'], 'options.key')
  const field = `,${JSON.stringify(key)}:`
  const isIso = format === 'iso'
  return () => {
    let reading: Reading
    try {
      reading = clock.read()
    } catch {
      const epochNs = BigInt(Math.floor(Date.now())) * NS_PER_MS
      const time = isIso ? `"${formatNs(epochNs)}"` : epochNs
      return `${field}${time},"timeSource":"system"`
    }
    const time = isIso ? `"${reading.toISOString()}"` : reading.epochNs
    const { maxErrorNs } = reading
    const bound = withBound && maxErrorNs !== undefined ? `,"timeMaxErrorNs":${maxErrorNs}` : ''
    return `${field}${time}${bound}`
  }
}
