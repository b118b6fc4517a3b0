/** A reading: the time, its bound, and what the page said at the same instant. */

import * as argument from './arguments'
import { detached, refuseDetached } from './detached'
import { invalidArgument, VmClockError } from './errors'
import { isoText } from './format'
import { type HrTime, hrTimeOf } from './hr-time'
import { KNOWN, SLOT } from './slots'

/**
 * The timescale of a time: what it counts.
 *
 * - `utc`: nanoseconds since 1970-01-01 UTC without leap seconds, as POSIX counts; an inserted leap
 *   second repeats the second before midnight (`leapSecond` distinguishes the two)
 * - `tai`: nanoseconds since 1970-01-01 TAI; no leap seconds, 37 s ahead of UTC since 2017
 * - `monotonic`: nanoseconds since an epoch that the page does not state
 * - `utc-noon-linear`: UTC with each leap second smeared from noon to noon
 * - `utc-sls`: UTC with each leap second smeared over the 1000 s before its end
 */
export type Timescale = 'utc' | 'tai' | 'monotonic' | 'utc-noon-linear' | 'utc-sls'

/** All timescales. */
export const TIMESCALES: readonly Timescale[] = Object.freeze([
  'utc',
  'tai',
  'monotonic',
  'utc-noon-linear',
  'utc-sls',
] as const)

/**
 * The state of the clock behind a time: `clock_status` 2 or 3 of `vmclock-abi.h`. In any other state the calls
 * that return time throw `ERR_VMCLOCK_UNSYNCHRONIZED`.
 */
export type UsableClockStatus = 'synchronized' | 'free-running'

/**
 * The positions of the figures that `readInto` writes, counted from `at`.
 *
 * A figure that the page does not state is -1n, which can also be a figure. The bits of {@link READING_KNOWN}
 * in the slot `KNOWN` say which it is. Figures that are unsigned 64-bit in the page (`COUNTER`,
 * `DISRUPTION_MARKER`, `VM_GENERATION`) are two's complement: `BigInt.asUintN(64, slot)`.
 */
export const READING_SLOTS: {
  /** The time, nanoseconds since the timescale's epoch. */
  readonly EPOCH_NS: 0
  /** How far the truth is from `EPOCH_NS` at most, in nanoseconds; 2^63 - 1 means that or more. */
  readonly MAX_ERROR_NS: 1
  /** The provider's estimate of the error, in nanoseconds. */
  readonly EST_ERROR_NS: 2
  /** The start of the interval that holds the truth. */
  readonly EARLIEST_NS: 3
  /** The end of that interval. */
  readonly LATEST_NS: 4
  /** The CPU counter that was converted. */
  readonly COUNTER: 5
  /** Changes when the counter was disrupted. */
  readonly DISRUPTION_MARKER: 6
  /** Changes when the machine was restored or cloned. */
  readonly VM_GENERATION: 7
  /** `clock_status`: 2n is synchronized, 3n is free-running. */
  readonly STATUS: 8
  /** 1n within an inserted leap second, else 0n. */
  readonly LEAP_SECOND: 9
  /** TAI - UTC at this time, in seconds. */
  readonly TAI_MINUS_UTC_SEC: 10
  /**
   * The page's reference, its last update, on the scale of `EPOCH_NS`. The age of the figures is `EPOCH_NS`
   * minus this, as signed 64-bit: `BigInt.asIntN(64, …)`.
   */
  readonly REFERENCE_NS: 11
  /** Which figures are known: the bits of {@link READING_KNOWN}. */
  readonly KNOWN: 12
} = Object.freeze({
  EPOCH_NS: SLOT.EpochNs,
  MAX_ERROR_NS: SLOT.MaxErrorNs,
  EST_ERROR_NS: SLOT.EstErrorNs,
  EARLIEST_NS: SLOT.EarliestNs,
  LATEST_NS: SLOT.LatestNs,
  COUNTER: SLOT.Counter,
  DISRUPTION_MARKER: SLOT.DisruptionMarker,
  VM_GENERATION: SLOT.VmGeneration,
  STATUS: SLOT.Status,
  LEAP_SECOND: SLOT.LeapSecond,
  TAI_MINUS_UTC_SEC: SLOT.TaiMinusUtcSec,
  REFERENCE_NS: SLOT.ReferenceNs,
  KNOWN: SLOT.Known,
})

/** How many figures `readInto` writes. */
export const READING_SLOT_COUNT: 13 = 13

/** Bits of the slot `KNOWN`. */
export const READING_KNOWN: {
  /** `MAX_ERROR_NS`, `EARLIEST_NS` and `LATEST_NS` are known. */
  readonly BOUND: 1n
  /** `EST_ERROR_NS` is known. */
  readonly EST_ERROR: 2n
  /** `VM_GENERATION` is known. */
  readonly VM_GENERATION: 4n
  /** `TAI_MINUS_UTC_SEC` is known. */
  readonly TAI_MINUS_UTC: 8n
} = Object.freeze({
  BOUND: KNOWN.Bound,
  EST_ERROR: KNOWN.EstError,
  VM_GENERATION: KNOWN.VmGeneration,
  TAI_MINUS_UTC: KNOWN.TaiMinusUtc,
})

/** A {@link Reading} in JSON: 64-bit figures as decimal strings, unknown figures left out. */
export interface ReadingJson {
  /** As {@link Reading.epochNs}. */
  epochNs: string
  /** As {@link Reading.maxErrorNs}. */
  maxErrorNs?: string
  /** As {@link Reading.estErrorNs}. */
  estErrorNs?: string
  /** As {@link Reading.earliestNs}. */
  earliestNs?: string
  /** As {@link Reading.latestNs}. */
  latestNs?: string
  /** As {@link Reading.ageNs}. */
  ageNs: string
  /** As {@link Reading.counter}. */
  counter: string
  /** As {@link Reading.disruptionMarker}. */
  disruptionMarker: string
  /** As {@link Reading.vmGeneration}. */
  vmGeneration?: string
  /** As {@link Reading.status}. */
  status: UsableClockStatus
  /** As {@link Reading.leapSecond}. */
  leapSecond: boolean
  /** As {@link Reading.timescale}. */
  timescale: Timescale
  /** As {@link Reading.taiMinusUtcSec}. */
  taiMinusUtcSec?: number
}

/**
 * The figures that are the same in all readings of one page state, as {@link Reading} returns them. A clock
 * makes them once for each state: they are a third of the cost of a reading.
 */
export class ReadingConstants {
  // Nothing outside this class can put the mark on an object, so no caller can pass figures of its own.
  readonly #mark = true
  readonly hasBound: boolean
  readonly hasEstError: boolean
  readonly disruptionMarker: bigint
  readonly vmGeneration: bigint | undefined
  readonly status: UsableClockStatus
  readonly leapSecond: boolean
  readonly timescale: Timescale
  readonly taiMinusUtcSec: number | undefined
  readonly referenceNs: bigint

  constructor(slots: BigInt64Array, timescale: Timescale, at = 0) {
    const known = slots[at + SLOT.Known] as bigint
    this.hasBound = (known & READING_KNOWN.BOUND) !== 0n
    this.hasEstError = (known & READING_KNOWN.EST_ERROR) !== 0n
    this.disruptionMarker = BigInt.asUintN(64, slots[at + SLOT.DisruptionMarker] as bigint)
    this.vmGeneration =
      (known & READING_KNOWN.VM_GENERATION) !== 0n
        ? BigInt.asUintN(64, slots[at + SLOT.VmGeneration] as bigint)
        : undefined
    this.status = slots[at + SLOT.Status] === 2n ? 'synchronized' : 'free-running'
    this.leapSecond = slots[at + SLOT.LeapSecond] !== 0n
    this.timescale = timescale
    this.taiMinusUtcSec =
      (known & READING_KNOWN.TAI_MINUS_UTC) !== 0n
        ? Number(slots[at + SLOT.TaiMinusUtcSec] as bigint)
        : undefined
    this.referenceNs = slots[at + SLOT.ReferenceNs] as bigint
  }

  static is(value: unknown): value is ReadingConstants {
    return typeof value === 'object' && value !== null && #mark in value
  }
}

function constantsIn(slots: BigInt64Array, timescale: Timescale, at: number): ReadingConstants {
  argument.room(slots, at, READING_SLOT_COUNT)
  return new ReadingConstants(slots, timescale, at)
}

/**
 * A time with its bound, and what the page said at the same instant. All of it belongs to one state of the
 * page. Its fields are own properties, so it can be spread, cloned and posted.
 */
export class Reading {
  /** The time in nanoseconds since the epoch of `timescale`, within signed 64 bits. */
  readonly epochNs: bigint
  /**
   * How far the truth is from `epochNs` at most, in nanoseconds; 2^63 - 1 means that or more. Undefined if
   * the page states no bound: unknown, not 0.
   */
  readonly maxErrorNs: bigint | undefined
  /** The provider's estimate of the error, in nanoseconds; undefined if the page states none. */
  readonly estErrorNs: bigint | undefined
  /**
   * The start of the interval that holds the truth, on the scale of `epochNs`; undefined without a bound.
   * Near a leap second the interval is not symmetric around `epochNs`.
   */
  readonly earliestNs: bigint | undefined
  /** The end of that interval; undefined without a bound. */
  readonly latestNs: bigint | undefined
  /**
   * The age of the page at this time, in nanoseconds: the time since its last update. Negative if the counter is
   * from before that. A page that nobody updates any more goes on giving time, and its bound grows.
   */
  readonly ageNs: bigint
  /** The CPU counter that was converted, unsigned 64-bit (TSC, or CNTVCT_EL0 on Arm). */
  readonly counter: bigint
  /** `disruption_marker`, unsigned 64-bit: changes when the counter was disrupted (live migration). */
  readonly disruptionMarker: bigint
  /**
   * `vm_generation_counter`, unsigned 64-bit: changes when the machine was restored from a snapshot or cloned.
   * Undefined if the page has none.
   */
  readonly vmGeneration: bigint | undefined
  /** The state of the page's clock. */
  readonly status: UsableClockStatus
  /** True within an inserted second of UTC, 23:59:60. */
  readonly leapSecond: boolean
  /** The timescale of `epochNs`, `earliestNs` and `latestNs`. */
  readonly timescale: Timescale
  /** TAI - UTC at this time, in seconds, 10 to 255; undefined if the page does not state it. */
  readonly taiMinusUtcSec: number | undefined

  /**
   * Makes a reading from the figures that `readInto` wrote.
   *
   * @param slots - at least {@link READING_SLOT_COUNT} figures, by the names of {@link READING_SLOTS}
   * @param timescale - the timescale of the clock that wrote them
   * @param at - index of the first figure; default 0
   */
  constructor(slots: BigInt64Array, timescale: Timescale, at?: number)
  constructor(slots: BigInt64Array, from: Timescale | ReadingConstants, at = 0) {
    const constants = ReadingConstants.is(from) ? from : constantsIn(slots, from, at)
    const { hasBound } = constants
    // Each slot is read here: a function that reads one would take longer than everything else.
    const epochNs = slots[at + SLOT.EpochNs] as bigint
    this.epochNs = epochNs
    this.maxErrorNs = hasBound
      ? BigInt.asUintN(64, slots[at + SLOT.MaxErrorNs] as bigint)
      : undefined
    this.estErrorNs = constants.hasEstError
      ? BigInt.asUintN(64, slots[at + SLOT.EstErrorNs] as bigint)
      : undefined
    this.earliestNs = hasBound ? (slots[at + SLOT.EarliestNs] as bigint) : undefined
    this.latestNs = hasBound ? (slots[at + SLOT.LatestNs] as bigint) : undefined
    this.ageNs = BigInt.asIntN(64, epochNs - constants.referenceNs)
    this.counter = BigInt.asUintN(64, slots[at + SLOT.Counter] as bigint)
    this.disruptionMarker = constants.disruptionMarker
    this.vmGeneration = constants.vmGeneration
    this.status = constants.status
    this.leapSecond = constants.leapSecond
    this.timescale = constants.timescale
    this.taiMinusUtcSec = constants.taiMinusUtcSec
  }

  /**
   * Returns the time as ISO 8601 with nanoseconds, such as `2026-01-01T00:00:00.123456789Z`. An inserted leap
   * second is `23:59:60`.
   *
   * @throws VmClockError `ERR_VMCLOCK_TIMESCALE` if the timescale does not follow UTC
   */
  toISOString(): string {
    if (this.timescale === 'tai' || this.timescale === 'monotonic') {
      throw new VmClockError(
        'ERR_VMCLOCK_TIMESCALE',
        `ISO 8601 has no designator for the timescale ${this.timescale}`,
        { remedy: "read the time with timescale 'utc', or use epochNs" },
      )
    }
    return `${isoText(this.epochNs, this.leapSecond)}Z`
  }

  /**
   * Returns `epochNs` as whole seconds and the nanoseconds after them, as `VmClock.nowHrTime` does: the seconds are
   * rounded down, and the nanoseconds are 0 to 999,999,999.
   */
  toHrTime(): HrTime {
    if (this === undefined) throw detached('toHrTime')
    return hrTimeOf(this.epochNs)
  }

  /** Returns what `JSON.stringify` writes: 64-bit figures as decimal strings, unknown figures left out. */
  toJSON(): ReadingJson {
    const { maxErrorNs, estErrorNs, earliestNs, latestNs, vmGeneration, taiMinusUtcSec } = this
    return {
      epochNs: String(this.epochNs),
      ...(maxErrorNs !== undefined && { maxErrorNs: String(maxErrorNs) }),
      ...(estErrorNs !== undefined && { estErrorNs: String(estErrorNs) }),
      ...(earliestNs !== undefined && { earliestNs: String(earliestNs) }),
      ...(latestNs !== undefined && { latestNs: String(latestNs) }),
      ageNs: String(this.ageNs),
      counter: String(this.counter),
      disruptionMarker: String(this.disruptionMarker),
      ...(vmGeneration !== undefined && { vmGeneration: String(vmGeneration) }),
      status: this.status,
      leapSecond: this.leapSecond,
      timescale: this.timescale,
      ...(taiMinusUtcSec !== undefined && { taiMinusUtcSec }),
    }
  }
}

refuseDetached(Reading, ['toHrTime'])

/** Makes a reading of the figures in the slots, whose state has these constants. */
export function readingOf(slots: BigInt64Array, constants: ReadingConstants): Reading {
  // The declarations of the package leave out that the constructor takes these.
  return new Reading(slots, constants as unknown as Timescale)
}

/**
 * Formats a time as ISO 8601 with nanoseconds, such as `2026-01-01T00:00:00.123456789Z`.
 *
 * @param epochNs - nanoseconds since 1970-01-01 UTC, as `nowNs` returns them, within signed 64 bits
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
 */
export function formatNs(epochNs: bigint): string {
  if (typeof epochNs !== 'bigint' || BigInt.asIntN(64, epochNs) !== epochNs) {
    throw invalidArgument(
      'epochNs must be a bigint within signed 64 bits',
      'give what nowNs() returned',
    )
  }
  return `${isoText(epochNs)}Z`
}
