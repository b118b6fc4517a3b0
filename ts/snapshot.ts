/** Every field of a page, decoded and raw. */

import type { NativeSnapshot } from './native'

/** A value that this release does not know, with its number. */
export type UnknownValue = `unrecognized (${number})`

/** `time_type`: what the page's own time counts. Smeared time is refused, whatever is asked for. */
export type TimeType = 'utc' | 'tai' | 'monotonic' | 'smeared' | 'maybe-smeared' | UnknownValue

/** `clock_status`. Time is given for `synchronized` and `free-running` only. */
export type ClockStatus =
  | 'unknown'
  | 'initializing'
  | 'synchronized'
  | 'free-running'
  | 'unreliable'
  | UnknownValue

/** `leap_second_smearing_hint`: what the provider recommends to readers. */
export type SmearingHint = 'strict' | 'noon-linear' | 'utc-sls' | UnknownValue

/**
 * `leap_indicator`, relative to the month of the page's reference time. `negative` exists in RFC
 * PATCH v4 only.
 */
export type LeapIndicator =
  | 'none'
  | 'pre-positive'
  | 'pre-negative'
  | 'positive'
  | 'negative'
  | 'post-positive'
  | 'post-negative'
  | UnknownValue

/** `counter_id`: which counter the page's time belongs to. */
export type CounterKind = 'arm-virtual-counter' | 'x86-tsc' | 'none' | UnknownValue

/**
 * The page's fields as they stand there, by the names of `vmclock-abi.h` in camel case. 64-bit ones
 * are unsigned bigints; fields that the page's size does not cover are undefined.
 */
export interface RawPage {
  /** Bytes of the region that holds the structure; fields beyond it do not exist. */
  readonly size: number
  /** 1. */
  readonly version: number
  /** 0 is Arm's virtual counter, 1 the x86 TSC, 255 none. */
  readonly counterId: number
  /** 0 is UTC, 1 TAI, 2 monotonic, 3 and 4 smeared. */
  readonly timeType: number
  /** Even; it grows by 2 with every update, and wraps. */
  readonly seqCount: number
  /** Changes when the counter was disrupted. */
  readonly disruptionMarker: bigint
  /** The bits `VMCLOCK_FLAG_…`. */
  readonly flags: bigint
  /** 0 is unknown, 1 initializing, 2 synchronized, 3 free-running, 4 unreliable. */
  readonly clockStatus: number | undefined
  /** 0 is strict, 1 noon-linear, 2 UTC-SLS. */
  readonly leapSecondSmearingHint: number | undefined
  /** Seconds, of either sign: documents disagree. `Snapshot.taiMinusUtcSec` is the one to use. */
  readonly taiOffsetSec: number | undefined
  /** 0 is none; the other values depend on the page's ABI. */
  readonly leapIndicator: number | undefined
  /** The period's unit is 2^-(64 + this) s. */
  readonly counterPeriodShift: number | undefined
  /** The counter at the reference time. */
  readonly counterValue: bigint | undefined
  /** One tick, in 2^-(64 + shift) s. */
  readonly counterPeriodFracSec: bigint | undefined
  /** The period's estimated error per tick, in the period's unit. */
  readonly counterPeriodEsterrorRateFracSec: bigint | undefined
  /** The period's maximum error per tick, in the period's unit. */
  readonly counterPeriodMaxerrorRateFracSec: bigint | undefined
  /** The reference time in seconds since the epoch of `timeType`. */
  readonly timeSec: bigint | undefined
  /** The reference time's fraction, in 2^-64 s. */
  readonly timeFracSec: bigint | undefined
  /** Nanoseconds (picoseconds in RFC PATCH v4). */
  readonly timeEsterrorNanosec: bigint | undefined
  /** Nanoseconds (picoseconds in RFC PATCH v4). */
  readonly timeMaxerrorNanosec: bigint | undefined
  /** Changes when the machine was restored from a snapshot or cloned. */
  readonly vmGenerationCounter: bigint | undefined
}

/** One consistent state of a page: what its fields mean, and `raw`, the fields themselves. */
export interface Snapshot {
  /** Which counter the page's time belongs to. */
  readonly counterKind: CounterKind
  /** This machine's CPU counter, read under the same state of the page; unsigned 64-bit. */
  readonly counter: bigint
  /** Changes when the counter was disrupted (live migration); unsigned 64-bit. */
  readonly disruptionMarker: bigint
  /** Changes when the machine was restored or cloned; undefined where the page has none. */
  readonly vmGeneration: bigint | undefined
  /** What the page's own time counts. */
  readonly timeType: TimeType
  /** The state of the page's clock; undefined where the page ends before it. */
  readonly clockStatus: ClockStatus | undefined
  /** What the provider recommends to readers; undefined where the page ends before it. */
  readonly smearingHint: SmearingHint | undefined
  /** The leap second near the reference time; undefined where the page ends before it. */
  readonly leapIndicator: LeapIndicator | undefined
  /**
   * TAI - UTC at the reference time in seconds, 10 to 255, by the rule that reads every provider's
   * sign; undefined where the page marks none valid or says something impossible.
   */
  readonly taiMinusUtcSec: number | undefined
  /** The maximum error at the reference time in nanoseconds; undefined where it is not valid. */
  readonly maxErrorNs: bigint | undefined
  /** The estimated error at the reference time in nanoseconds; undefined where it is not valid. */
  readonly estErrorNs: bigint | undefined
  /** A disruption is expected within about a day. */
  readonly disruptionSoon: boolean
  /** A disruption is expected within about an hour. */
  readonly disruptionImminent: boolean
  /** The provider promises that the time never steps back from one update to the next. */
  readonly timeMonotonic: boolean
  /** The provider notifies the guest of updates. */
  readonly notificationPresent: boolean
  /** The fields as they stand in the page. */
  readonly raw: RawPage
}

const COUNTER_KINDS: ReadonlyMap<number, CounterKind> = new Map([
  [0, 'arm-virtual-counter'],
  [1, 'x86-tsc'],
  [0xff, 'none'],
] as const)

/** The public form of what the native part decoded. */
export function snapshotFrom(result: NativeSnapshot): Snapshot {
  // What the page has not is not there, and must not come from a prototype.
  const native: NativeSnapshot = Object.assign(Object.create(null), result)
  return {
    counterKind: COUNTER_KINDS.get(native.counterId) ?? `unrecognized (${native.counterId})`,
    counter: native.counter,
    disruptionMarker: native.disruptionMarker,
    vmGeneration: native.vmGeneration,
    timeType: native.timeTypeName as TimeType,
    clockStatus: native.clockStatusName as ClockStatus | undefined,
    smearingHint: native.smearingHintName as SmearingHint | undefined,
    leapIndicator: native.leapIndicatorName as LeapIndicator | undefined,
    taiMinusUtcSec: native.taiMinusUtcSec,
    maxErrorNs: native.maxErrorNs,
    estErrorNs: native.estErrorNs,
    disruptionSoon: native.disruptionSoon,
    disruptionImminent: native.disruptionImminent,
    timeMonotonic: native.timeMonotonic,
    notificationPresent: native.notificationPresent,
    raw: {
      size: native.sizeBytes,
      version: native.version,
      counterId: native.counterId,
      timeType: native.timeType,
      seqCount: native.seqCount,
      disruptionMarker: native.disruptionMarker,
      flags: native.flags,
      clockStatus: native.clockStatus,
      leapSecondSmearingHint: native.leapSecondSmearingHint,
      taiOffsetSec: native.taiOffsetSec,
      leapIndicator: native.leapIndicator,
      counterPeriodShift: native.counterPeriodShift,
      counterValue: native.counterValue,
      counterPeriodFracSec: native.counterPeriodFracSec,
      counterPeriodEsterrorRateFracSec: native.counterPeriodEsterrorRateFracSec,
      counterPeriodMaxerrorRateFracSec: native.counterPeriodMaxerrorRateFracSec,
      timeSec: native.timeSec,
      timeFracSec: native.timeFracSec,
      timeEsterrorNanosec: native.timeEsterrorNanosec,
      timeMaxerrorNanosec: native.timeMaxerrorNanosec,
      vmGenerationCounter: native.vmGenerationCounter,
    },
  }
}
