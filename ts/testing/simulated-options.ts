/** The options of a simulated clock, and the state in which they start it. */

import * as argument from '../arguments'
import { invalidArgument } from '../errors'
import {
  DEFAULT_ERROR_NS,
  FIRST_COUNTER,
  NS_PER_MS,
  type Policy,
  type State,
} from './simulated-model'
import { SimulatedTime } from './simulated-time'

const PPB_PER_PPM = 1000
const MOST_PPM = 1e5
const DEFAULT_TAI_MINUS_UTC_SEC = 37
/** The age from which watchers call a page stale, if the clock has no limit of its own. */
const DEFAULT_STALE_AFTER_NS = 3000n * NS_PER_MS

const TIMESCALES = ['utc', 'tai', 'monotonic'] as const

/** Options of `SimulatedClock`. */
export interface SimulatedClockOptions {
  /** The true time that this clock shares with others; default: a time of its own. */
  readonly time?: SimulatedTime | undefined
  /** The true time at the start, in nanoseconds since 1970-01-01 UTC; default 2026-01-01. Not with `time`. */
  readonly startNs?: bigint | undefined
  /** As `followsDate` of {@link SimulatedTime}. Not with `time`. */
  readonly followsDate?: boolean | undefined
  /** The timescale of all times; default `utc`. */
  readonly timescale?: 'utc' | 'tai' | 'monotonic' | undefined
  /** The bound at the last update, in nanoseconds, 0 to 2^63 - 1; null for none. Default 1 ms. */
  readonly maxErrorNs?: bigint | null | undefined
  /** How much the bound grows after the last update, in parts per million, 0 to 10^5; default 0. */
  readonly maxDriftPpm?: number | undefined
  /** The clock's time minus the true time at the start, in nanoseconds; default 0. */
  readonly errorNs?: bigint | undefined
  /** How much faster than true time the clock runs, in parts per million, ±10^5; default 0. */
  readonly driftPpm?: number | undefined
  /** The generation, unsigned 64-bit; null for a page without one. Default 1n. */
  readonly vmGeneration?: bigint | null | undefined
  /** TAI - UTC at the start in seconds, 10 to 255; null if the page does not say. Default 37. */
  readonly taiMinusUtcSec?: number | null | undefined
  /** As `requireSynchronized` of `VmClock.open`. */
  readonly requireSynchronized?: boolean | undefined
  /** As `errorLimitNs` of `VmClock.open`. */
  readonly errorLimitNs?: bigint | undefined
  /** As `maxAgeMs` of `VmClock.open`. */
  readonly maxAgeMs?: number | undefined
  /** As `nonDecreasing` of `VmClock.open`. */
  readonly nonDecreasing?: boolean | undefined
}

const OPTIONS = [
  'time',
  'startNs',
  'followsDate',
  'timescale',
  'maxErrorNs',
  'maxDriftPpm',
  'errorNs',
  'driftPpm',
  'vmGeneration',
  'taiMinusUtcSec',
  'requireSynchronized',
  'errorLimitNs',
  'maxAgeMs',
  'nonDecreasing',
] as const satisfies ReadonlyArray<keyof SimulatedClockOptions>

/** The checked options of a simulated clock. */
export interface Start {
  readonly time: SimulatedTime
  readonly policy: Policy
  readonly state: State
}

/**
 * Checks the options of a simulated clock.
 *
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
 */
export function startOf(options: unknown): Start {
  const given = argument.record(options, 'options', OPTIONS)
  const time = timeOf(given)
  const maxAgeMs = argument.number(given['maxAgeMs'], 'options.maxAgeMs', 0, 2 ** 31)
  const maxAgeNs = maxAgeMs === undefined ? undefined : BigInt(Math.floor(maxAgeMs * 1e6))
  const flag = (name: 'requireSynchronized' | 'nonDecreasing'): boolean =>
    argument.flag(given[name], `options.${name}`) ?? false
  const state = stateOf(given, time.nowNs)
  const policy: Policy = {
    timescale: argument.choice(given['timescale'], 'options.timescale', TIMESCALES) ?? 'utc',
    requireSynchronized: flag('requireSynchronized'),
    nonDecreasing: flag('nonDecreasing'),
    errorLimitNs: argument.int63(given['errorLimitNs'], 'options.errorLimitNs'),
    maxAgeNs,
    staleAfterNs: maxAgeNs ?? DEFAULT_STALE_AFTER_NS,
    firstErrorNs: state.maxErrorNs ?? DEFAULT_ERROR_NS,
  }
  return { time, policy, state }
}

function stateOf(given: Record<string, unknown>, nowNs: bigint): State {
  const { maxErrorNs = DEFAULT_ERROR_NS, vmGeneration = 1n, taiMinusUtcSec } = given
  const taiSec = taiMinusUtcSec === undefined ? DEFAULT_TAI_MINUS_UTC_SEC : taiMinusUtcSec
  return {
    errorNs: argument.int64(given['errorNs'] ?? 0n, 'options.errorNs'),
    errorSinceNs: nowNs,
    driftPpb: partsPerBillion(given['driftPpm'], 'options.driftPpm', -MOST_PPM),
    shiftNs: 0n,
    leap: undefined,
    taiMinusUtcSec:
      taiSec === null ? undefined : argument.integer(taiSec, 'options.taiMinusUtcSec', 10, 255),
    maxErrorNs: maxErrorNs === null ? undefined : argument.int63(maxErrorNs, 'options.maxErrorNs'),
    maxDriftPpb: partsPerBillion(given['maxDriftPpm'], 'options.maxDriftPpm', 0),
    staleSinceNs: undefined,
    counterAheadNs: FIRST_COUNTER - nowNs,
    disruptionMarker: 1n,
    vmGeneration:
      vmGeneration === null
        ? undefined
        : argument.optionalUint64(vmGeneration, 'options.vmGeneration'),
    status: 'synchronized',
    maintenance: 'none',
    failure: undefined,
    lastNs: undefined,
  }
}

function timeOf(given: Record<string, unknown>): SimulatedTime {
  const { time, startNs, followsDate } = given
  if (time === undefined) {
    return new SimulatedTime({
      startNs: startNs as bigint | undefined,
      followsDate: followsDate as boolean | undefined,
    })
  }
  if (!(time instanceof SimulatedTime)) {
    throw invalidArgument('options.time must be a SimulatedTime', 'pass new SimulatedTime()')
  }
  if (startNs !== undefined || followsDate !== undefined) {
    throw invalidArgument(
      'options.startNs and options.followsDate belong to the time, and options.time was given',
      'pass them to new SimulatedTime()',
    )
  }
  return time
}

/** Checks a rate in parts per million, `least` to 10^5, and returns it in parts per billion. */
export function partsPerBillion(ppm: unknown, name: string, least: number = -MOST_PPM): bigint {
  return BigInt(Math.round((argument.number(ppm, name, least, MOST_PPM) ?? 0) * PPB_PER_PPM))
}
