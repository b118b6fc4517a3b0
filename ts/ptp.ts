/**
 * Reads the kernel's PTP clocks, alone and together with the system's clocks.
 *
 * @module vmclock/ptp
 */

import * as argument from './arguments'
import { nativeClock, type VmClock } from './clock'
import { refuseDetached } from './detached'
import { makeDisposable } from './disposable'
import { checked, closedError, invalidArgument } from './errors'
import { ofThisRealm, withJson } from './json'
import { type NativePtpClock, native, obstacle } from './native'
import { SAMPLED_CLOCKS, type SampledClock } from './sampled-clock'
import type { UnknownValue } from './snapshot'

export type { AuxiliaryClock, SampledClock } from './sampled-clock'

/** One of this machine's PTP clocks. */
export interface PtpDevice {
  /** `/dev/ptpN`. */
  readonly path: string
  /** The name that the driver gave the clock, such as `vmclock0` or a network card's name. Not unique. */
  readonly name: string
}

/**
 * The capabilities of a PTP clock and its driver: `struct ptp_clock_caps` of `linux/ptp_clock.h`. A figure
 * that the kernel does not know yet is 0 or false.
 */
export interface PtpCapabilities {
  /** The largest adjustment of the clock's rate, parts per billion; 0 for a clock without adjustment. */
  readonly maxAdjustmentPpb: number
  /** The largest phase adjustment, nanoseconds (since Linux 6.5). */
  readonly maxPhaseAdjustmentNs: number
  /** The number of programmable alarms. */
  readonly alarms: number
  /** The number of channels that timestamp external events. */
  readonly externalTimestamps: number
  /** The number of programmable periodic outputs. */
  readonly periodicOutputs: number
  /** The number of programmable pins. */
  readonly pins: number
  /** True if the clock gives a pulse every second. */
  readonly pulsePerSecond: boolean
  /** True if the driver supports `crossTimestamp`. */
  readonly crossTimestamping: boolean
  /** True if the clock's phase can be adjusted. */
  readonly phaseAdjustment: boolean
  /** True if the driver states attributes with `samples`. */
  readonly extendedAttributes: boolean
  /** True if the driver states attributes with `crossTimestamp`. */
  readonly preciseAttributes: boolean
}

/**
 * The quality of a PTP clock's time, as its driver states it (`struct ptp_clock_attrs`, which needs a kernel
 * with PTP_SYS_OFFSET_EXTENDED_ATTRS). A driver need not state each part.
 */
export interface PtpAttributes {
  /**
   * How far the clock may be off its timescale, nanoseconds. Undefined if the driver states none, or 2^32 - 1,
   * which stands for unknown. The kernel's header forbids to trust it while the status is `unknown` or
   * `unreliable`.
   */
  readonly errorBoundNs: bigint | undefined
  /** The clock's timescale. */
  readonly timescale:
    | 'unknown'
    | 'tai'
    | 'tt'
    | 'gps'
    | 'utc'
    | 'posix'
    | 'monotonic'
    | 'monotonic-raw'
    | 'boottime'
    | 'proprietary'
    | UnknownValue
    | undefined
  /** The state of the clock's synchronization. */
  readonly status:
    | 'unknown'
    | 'initializing'
    | 'synchronized'
    | 'holdover'
    | 'free-running'
    | 'unreliable'
    | UnknownValue
    | undefined
}

/** The kind of the CPU's counter that the kernel computed its clocks from. */
export type PtpCounterKind = 'x86-tsc' | 'arm-virtual-counter' | UnknownValue

/** The CPU's counter at one instant. */
export interface PtpCounter {
  /** The kind of the counter. */
  readonly kind: PtpCounterKind
  /** The counter, unsigned 64-bit. */
  readonly value: bigint
}

/** The CPU's counter at both ends of a sample. */
export interface PtpCounterBracket {
  /** The kind of the counter. */
  readonly kind: PtpCounterKind
  /** The counter that `beforeNs` was computed from, unsigned 64-bit. */
  readonly before: bigint
  /** The counter that `afterNs` was computed from, unsigned 64-bit. */
  readonly after: bigint
}

/** A PTP clock and two system clocks at one instant. */
export interface CrossTimestamp {
  /** The PTP clock, nanoseconds since the epoch of its timescale. */
  readonly deviceNs: bigint
  /** CLOCK_REALTIME, nanoseconds since 1970. */
  readonly realtimeNs: bigint
  /** CLOCK_MONOTONIC_RAW, nanoseconds since an unspecified point in the past. */
  readonly monotonicRawNs: bigint
  /** The quality of `deviceNs`. Undefined if the kernel lacks the request, or the driver states nothing. */
  readonly attributes: PtpAttributes | undefined
  /**
   * The CPU's counter at the same instant, unsigned 64-bit. Undefined if the kernel lacks the request, or its
   * clocks run on no counter of the CPU, such as kvm-clock.
   */
  readonly counter: PtpCounter | undefined
}

/** A reading of a PTP clock between two readings of a system clock. */
export interface PtpSample {
  /** The system clock just before, nanoseconds since its epoch. */
  readonly beforeNs: bigint
  /** The PTP clock, nanoseconds since the epoch of its timescale. */
  readonly deviceNs: bigint
  /** The system clock just after, nanoseconds since its epoch; never less than `beforeNs`. */
  readonly afterNs: bigint
  /**
   * System clock minus PTP clock, nanoseconds: the middle of `beforeNs` and `afterNs`, rounded down, minus
   * `deviceNs`.
   */
  readonly offsetNs: bigint
  /**
   * The bound of `offsetNs`, nanoseconds: half the bracket, rounded up.
   *
   * When the PTP clock read `deviceNs`, the difference of the two clocks' readings was within this bound of
   * `offsetNs`. There is one exception: a step of CLOCK_REALTIME back within the bracket, by less than the
   * bracket's length, cannot be seen. The other two clocks are never stepped.
   *
   * It is 0n if all three readings were computed from one counter value, as with a vmclock whose counter the
   * system's clocks run on. It is also 0n if the system clock did not advance within the bracket. The
   * difference of the two *readings* is then exact. The bound never includes a reading's own rounding to
   * whole nanoseconds or ticks.
   */
  readonly maxErrorNs: bigint
  /** The quality of `deviceNs`. Undefined if the kernel lacks the request, or the driver states nothing. */
  readonly attributes: PtpAttributes | undefined
  /**
   * The CPU's counter that `beforeNs` and `afterNs` were computed from, unsigned 64-bit. Undefined if the kernel
   * lacks the request, or its clocks run on no counter of the CPU, such as kvm-clock.
   */
  readonly counters: PtpCounterBracket | undefined
}

const MOST_SAMPLES = 25

// Only this module can make PTP clocks: the constructor requires KEY. A static block sets `make`, because the
// bundler would rename a class that names itself in its own body.
const KEY: unique symbol = Symbol('PtpClock.open')
let make: (clock: NativePtpClock) => PtpClock

/**
 * Reads one of the kernel's PTP hardware clocks (`/dev/ptpN`), by the requests of `linux/ptp_clock.h` and as
 * a POSIX clock. It works with every PTP clock and never changes it. It needs only the right to read the
 * device, which by default only root has.
 *
 * The driver `ptp_vmclock.c` registers a PTP clock named `vmclock0` if the vmclock page has time when the
 * driver starts: from Linux 7.0 on in TAI, or in UTC with TAI_OFFSET_VALID; before, in UTC, or in TAI with that
 * flag. That clock gives the page's time, in TAI from Linux 7.0 on and in UTC before:
 * `timescale` determines which.
 *
 * A clock that is collected without `close` is closed then. After `close` everything except `closed`, `path`
 * and `name` throws `ERR_VMCLOCK_CLOSED`.
 *
 * Every method that reads the clock throws
 *
 * - `ERR_VMCLOCK_VANISHED`: the clock's driver was unbound, or its device removed
 * - `ERR_VMCLOCK_TIMEOUT`: the clock did not answer within its driver's limit; a vmclock's driver waits
 *   100 ms for the end of an update of the page
 * - `ERR_VMCLOCK_NOT_SUPPORTED`: the kernel or the clock's driver lacks the call
 * - `ERR_VMCLOCK_OUT_OF_RANGE`: the clock's time exceeds signed 64-bit nanoseconds
 * - `ERR_VMCLOCK_SYSTEM`: another error, see `errno`; EINVAL if a vmclock's page is unreliable
 *
 * @example
 * ```ts
 * import { PtpClock } from 'vmclock/ptp'
 *
 * const ptp = PtpClock.find('vmclock0')
 * const { deviceNs, realtimeNs } = ptp.crossTimestamp()
 * ptp.close()
 * ```
 */
export class PtpClock {
  readonly #native: NativePtpClock
  readonly #path: string
  readonly #name: string | undefined
  #closed = false

  /** Calls `close`, for `using`. */
  declare readonly [Symbol.dispose]: () => void

  static {
    make = (clock) => new this(KEY, clock)
  }

  private constructor(key: symbol, clock: NativePtpClock) {
    if (key !== KEY) {
      throw invalidArgument(
        'PtpClock has no public constructor',
        'use PtpClock.open() or PtpClock.find()',
      )
    }
    this.#native = clock
    this.#path = clock.path
    this.#name = clock.name === '' ? undefined : clock.name
  }

  /**
   * Opens the clock at a path.
   *
   * @param path - such as `/dev/ptp0`
   * @throws VmClockError
   *
   * - `ERR_VMCLOCK_NOT_FOUND`: there is no device at the path
   * - `ERR_VMCLOCK_ACCESS`: this process may not read the device; for a PTP clock the remedy is a udev rule
   * - `ERR_VMCLOCK_NOT_PTP`: the path is no PTP clock
   * - `ERR_VMCLOCK_VANISHED`: the clock's driver was unbound, or its device removed
   * - `ERR_VMCLOCK_INVALID_ARGUMENT`: the path is no string, empty, or has a NUL character
   * - `ERR_VMCLOCK_UNSUPPORTED`: the system is not Linux on x86-64 or 64-bit Arm
   * - `ERR_VMCLOCK_NATIVE`: the native part does not load
   * - `ERR_VMCLOCK_SYSTEM`: another system call failed; see `errno` and `syscall`
   */
  static open(path: string): PtpClock {
    return make(checked(native().openPtpClock(argument.path(path))))
  }

  /**
   * Opens the first clock of this name (`/sys/class/ptp/ptpN/clock_name`).
   *
   * @param clockName - the driver's name for the clock; `vmclock0` belongs to `/dev/vmclock0`
   * @throws VmClockError as {@link PtpClock.open}; the message of `ERR_VMCLOCK_NOT_FOUND` lists the names
   * that exist
   */
  static find(clockName: string): PtpClock {
    return make(checked(native().findPtpClock(argument.called(clockName, 'clockName'))))
  }

  /**
   * Lists this machine's PTP clocks in the order of their numbers. The list is empty on a system that
   * vmclock does not support.
   *
   * @throws VmClockError `ERR_VMCLOCK_NATIVE` if the native part does not load
   */
  static list(): PtpDevice[] {
    return obstacle()?.code === 'ERR_VMCLOCK_UNSUPPORTED'
      ? []
      : ofThisRealm(native().listPtpClocks())
  }

  /** The path as it was opened. */
  get path(): string {
    return this.#path
  }

  /** The name that the driver gave the clock; undefined if sysfs does not have it. */
  get name(): string | undefined {
    return this.#name
  }

  /** True once `close` was called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Returns the clock's capabilities: PTP_CLOCK_GETCAPS.
   *
   * @throws VmClockError `ERR_VMCLOCK_VANISHED`, `ERR_VMCLOCK_SYSTEM`, `ERR_VMCLOCK_CLOSED`
   */
  capabilities(): PtpCapabilities {
    return checked(this.#open().capabilities())
  }

  /**
   * Returns the clock's time in nanoseconds since the epoch of its timescale: `clock_gettime` on the clock.
   *
   * @throws VmClockError with the codes listed at {@link PtpClock}
   */
  nowNs(): bigint {
    return checked(this.#open().nowNs())
  }

  /**
   * Reads the clock, CLOCK_REALTIME and CLOCK_MONOTONIC_RAW at one instant: PTP_SYS_OFFSET_PRECISE_ATTRS, or
   * PTP_SYS_OFFSET_PRECISE where the kernel lacks that.
   *
   * @throws VmClockError
   *
   * - `ERR_VMCLOCK_NOT_SUPPORTED`: the clock or the kernel has no cross timestamps;
   *   `capabilities().crossTimestamping` is then false, unless the driver notices only now
   * - `ERR_VMCLOCK_CLOCKSOURCE`: the system's clocks run on another counter than this clock
   * - the codes listed at {@link PtpClock}
   */
  crossTimestamp(): CrossTimestamp {
    // The native part writes every property, and the names of values as the types here list them.
    return withJson(checked(this.#open().crossTimestamp()) as CrossTimestamp)
  }

  /**
   * Reads the clock between two readings of a system clock, several times: PTP_SYS_OFFSET_EXTENDED_ATTRS, or
   * PTP_SYS_OFFSET_EXTENDED where the kernel lacks that.
   *
   * If the clock's driver lacks both requests, this uses PTP_SYS_OFFSET, which has only `realtime`. There one
   * sample's `afterNs` is the next one's `beforeNs`.
   *
   * @param count - the number of samples, 1 to 25
   * @param clock - the system clock. Default: `realtime`
   * @throws VmClockError
   *
   * - `ERR_VMCLOCK_INVALID_ARGUMENT`: an argument is of the wrong type or out of its range
   * - `ERR_VMCLOCK_NOT_SUPPORTED`: the kernel or the clock has no samples of `clock`
   * - `ERR_VMCLOCK_STEPPED`: the system clock was stepped back within a bracket, at each of three attempts
   * - the codes listed at {@link PtpClock}
   */
  samples(count: number, clock: SampledClock = 'realtime'): PtpSample[] {
    const checkedCount = argument.integer(count, 'count', 1, MOST_SAMPLES)
    if (checkedCount === undefined)
      throw invalidArgument('count must be a whole number from 1 to 25')
    const checkedClock = argument.choice(clock, 'clock', SAMPLED_CLOCKS) ?? 'realtime'
    const samples = checked(this.#open().samples(checkedCount, checkedClock)) as PtpSample[]
    return samples.map(withJson)
  }

  /**
   * Determines whether this clock gives TAI or UTC, by comparison with a page; undefined if the comparison
   * is inconclusive.
   *
   * The clock is read between two readings of the page. Each timescale that the page gives has an interval
   * that held it meanwhile, from the earliest time of the two readings to the latest. The clock gives TAI if
   * its time is in TAI's interval and cannot be UTC, and the other way round. A page that gives only one of
   * the timescales leaves the other anywhere from 10 to 255 s away.
   *
   * If the page states no bound, the interval ends at the two readings themselves. Then this method
   * recognises a clock that is derived from this page, and no clock that is merely close to it.
   *
   * The result is undefined for a clock that gives neither timescale, or that is further from the truth than
   * the page's bound. It is also undefined for a page whose bound spans both timescales, and for a page that
   * changes during every comparison.
   *
   * @param clock - a clock of the page, in any timescale
   * @throws VmClockError
   *
   * - the codes listed at {@link VmClock}, such as `ERR_VMCLOCK_NO_TIME`, or `ERR_VMCLOCK_TIMESCALE` for a
   *   page that gives neither UTC nor TAI
   * - `ERR_VMCLOCK_INVALID_ARGUMENT`: `clock` is no `VmClock`
   * - the codes listed at {@link PtpClock}
   */
  timescale(clock: VmClock): 'tai' | 'utc' | undefined {
    const timescale = checked(this.#open().timescale(nativeClock(clock, 'clock')))
    return timescale === 'tai' || timescale === 'utc' ? timescale : undefined
  }

  /** Closes the clock. A second call does nothing. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native.close()
  }

  #open(): NativePtpClock {
    if (this.#closed) throw closedError('PTP clock')
    return this.#native
  }
}

makeDisposable(PtpClock)
refuseDetached(PtpClock)
