/** Every field of a page, decoded and raw. */

import { withJson } from './json'
import type { NativeSnapshot, RawPage } from './native'

export type { RawPage }

/** A value that this release does not know, with its number. */
export type UnknownValue = `unrecognized (${number})`

/** `time_type`: the timescale of the page's own time. Smeared time is refused in every timescale. */
export type TimeType = 'utc' | 'tai' | 'monotonic' | 'smeared' | 'maybe-smeared' | UnknownValue

/** `clock_status`. Only `synchronized` and `free-running` clocks give time. */
export type ClockStatus =
  | 'unknown'
  | 'initializing'
  | 'synchronized'
  | 'free-running'
  | 'unreliable'
  | UnknownValue

/** `leap_second_smearing_hint`: the provider's recommendation to readers. */
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

/** `counter_id`: the counter that the page's time belongs to. */
export type CounterKind = 'arm-virtual-counter' | 'x86-tsc' | 'none' | UnknownValue

/**
 * Why the time of a page has no bound. The page's publisher gives most of these reasons. `unguarded`,
 * `not-followed`, `device-stuck` and `void` come from the clock that reads the page.
 */
export type BoundUnavailableReason =
  /** Nothing corrects the clock, or the kernel's maximum error has run out. */
  | 'unsynchronized'
  /** No daemon has reported an error: the kernel may have counted its figure up from 0. */
  | 'never-updated'
  /** The clock runs more than 500 ppm off nominal. */
  | 'off-nominal'
  /** The clock was just changed. The next update shows whether its daemon did that. */
  | 'change-pending'
  /** Distrusted: another process set the clock. */
  | 'stepped'
  /** Distrusted: another process slewed the clock, by `adjtime` or the kernel's loop. */
  | 'slewed'
  /** Distrusted: another process changed the clock's rate by more than 100 ppm. */
  | 'frequency-changed'
  /** Distrusted: the machine was suspended. */
  | 'suspended'
  /** Distrusted: the machine was migrated or restored, or its counter jumped. */
  | 'disrupted'
  /** Distrusted: the publisher took over a page that stated no bound. */
  | 'taken-over'
  /** Distrusted: the machine may have been disrupted before the publisher began. */
  | 'started'
  /** Distrusted: a daemon reported a maximum error of 0. */
  | 'zero-error'
  /** A disruption voided the error that the operator had stated. */
  | 'stated-error-voided'
  /** The source that the operator chose gives no bound now, so the time is the kernel's. */
  | 'source-unavailable'
  /**
   * The machine has a vmclock device, and the publisher or this process cannot look at it, so nobody here would
   * notice a migration. `timeSource.guard` says why and what to do.
   */
  | 'unguarded'
  /** The machine was disrupted, and the publisher has not updated the page since. */
  | 'not-followed'
  /** The machine's vmclock device is stuck in an update. */
  | 'device-stuck'
  /** The page was not updated for longer than its bound holds. */
  | 'void'
  | UnknownValue

/** Why the time of a page has no bound. */
export interface BoundUnavailable {
  /** The reason that the publisher gives, or else that of this clock. */
  readonly reason: BoundUnavailableReason
  /** The number of daemon updates that are missing until the clock is trusted again. */
  readonly updatesLeft: number | undefined
}

/** One consistent state of a page: the meaning of its fields, and the fields themselves in `raw`. */
export interface Snapshot {
  /** The counter that the page's time belongs to. */
  readonly counterKind: CounterKind
  /** This machine's CPU counter, read while the page was in this state; unsigned 64-bit. */
  readonly counter: bigint
  /**
   * The age of the page at `counter` in nanoseconds: the time since its last update. Negative if the counter is
   * from before that. Undefined if the page has no time for this machine's counter.
   */
  readonly ageNs: bigint | undefined
  /** Changes when the counter was disrupted (live migration); unsigned 64-bit. */
  readonly disruptionMarker: bigint
  /** Changes when the machine was restored or cloned; undefined if the page has none. */
  readonly vmGeneration: bigint | undefined
  /** The timescale of the page's own time. */
  readonly timeType: TimeType
  /** The state of the page's clock; undefined if the page ends before it. */
  readonly clockStatus: ClockStatus | undefined
  /** The provider's recommendation to readers; undefined if the page ends before it. */
  readonly smearingHint: SmearingHint | undefined
  /** The leap second near the reference time; undefined if the page ends before it. */
  readonly leapIndicator: LeapIndicator | undefined
  /**
   * TAI - UTC at the reference time in seconds, 10 to 255, whichever sign the provider uses. Undefined if
   * the page marks no offset valid, or an impossible one.
   */
  readonly taiMinusUtcSec: number | undefined
  /** The maximum error at the reference time in nanoseconds; undefined if the page states none. */
  readonly maxErrorNs: bigint | undefined
  /** The estimated error at the reference time in nanoseconds; undefined if the page states none. */
  readonly estErrorNs: bigint | undefined
  /** A disruption is expected within about a day. */
  readonly disruptionSoon: boolean
  /** A disruption is expected within about an hour. */
  readonly disruptionImminent: boolean
  /**
   * The provider promises that the time never steps back from one update to the next. Nothing here relies on it:
   * the proposed host driver says so of a clock that its operator can set back. See `nonDecreasing`.
   */
  readonly timeMonotonic: boolean
  /** The provider notifies the guest of updates. */
  readonly notificationPresent: boolean
  /**
   * Why the page's time has no bound. Undefined if it has one, if the page has no usable time, and if nobody
   * says why, as for a page that a hypervisor wrote.
   */
  readonly boundUnavailable: BoundUnavailable | undefined
  /** The fields as they are in the page. */
  readonly raw: RawPage
}

const COUNTER_KINDS: ReadonlyMap<number, CounterKind> = new Map([
  [0, 'arm-virtual-counter'],
  [1, 'x86-tsc'],
  [0xff, 'none'],
] as const)

/** Makes the public form of a native snapshot. */
export function snapshotFrom(snapshot: NativeSnapshot): Snapshot {
  const { counterId } = snapshot.raw
  const counterKind = COUNTER_KINDS.get(counterId) ?? (`unrecognized (${counterId})` as const)
  // The native part writes every property, and the names of values as the types here list them.
  return withJson({ counterKind, ...snapshot, raw: withJson(snapshot.raw) }) as Snapshot
}
