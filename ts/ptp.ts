/**
 * Reads the kernel's PTP clocks, alone and together with the system's clocks.
 *
 * @module vmclock/ptp
 */

import * as argument from './arguments'
import { nativeClock, type VmClock } from './clock'
import { makeDisposable } from './disposable'
import { checked, closedError, invalidArgument } from './errors'
import { type NativePtpClock, native, obstacle } from './native'

/** A PTP clock that this machine has. */
export interface PtpDevice {
  /** `/dev/ptpN`. */
  readonly path: string
  /** What its driver calls it: `vmclock0`, or a network card's or driver's name. Not unique. */
  readonly name: string
}

/**
 * What a PTP clock and its driver can do: `struct ptp_clock_caps` of `linux/ptp_clock.h`. A kernel that
 * does not know a figure yet says 0 or false.
 */
export interface PtpCapabilities {
  /** The most by which its rate may be adjusted, parts per billion; 0 for a clock that cannot be. */
  readonly maxAdjustmentPpb: number
  /** The largest phase adjustment, nanoseconds (Linux 6.5). */
  readonly maxPhaseAdjustmentNs: number
  /** Programmable alarms. */
  readonly alarms: number
  /** Channels that stamp external events. */
  readonly externalTimestamps: number
  /** Programmable periodic outputs. */
  readonly periodicOutputs: number
  /** Programmable pins. */
  readonly pins: number
  /** Whether it calls back every second. */
  readonly pulsePerSecond: boolean
  /** Whether its driver has `crossTimestamp`. */
  readonly crossTimestamping: boolean
  /** Whether its phase can be adjusted. */
  readonly phaseAdjustment: boolean
}

/** A PTP clock and two of the system's at one and the same instant. */
export interface CrossTimestamp {
  /** The PTP clock, nanoseconds since the epoch of its timescale. */
  readonly deviceNs: bigint
  /** CLOCK_REALTIME, nanoseconds since 1970. */
  readonly realtimeNs: bigint
  /** CLOCK_MONOTONIC_RAW, nanoseconds since some point in the past. */
  readonly monotonicRawNs: bigint
}

/**
 * A system clock that samples are taken of: CLOCK_REALTIME, CLOCK_MONOTONIC (never set, slewed as
 * CLOCK_REALTIME is), CLOCK_MONOTONIC_RAW (never set, never slewed). The last two need Linux 6.12,
 * and of a vmclock's own clock a later one: its driver gave CLOCK_REALTIME for them at first, which is
 * refused.
 */
export type SampledClock = 'realtime' | 'monotonic' | 'monotonic-raw'

/** A PTP clock between two readings of a system clock. */
export interface PtpSample {
  /** The system clock just before, nanoseconds since its epoch. */
  readonly beforeNs: bigint
  /** The PTP clock, nanoseconds since the epoch of its timescale. */
  readonly deviceNs: bigint
  /** The system clock just after, never less than `beforeNs`. */
  readonly afterNs: bigint
  /**
   * System clock - PTP clock, nanoseconds: what lies halfway between `beforeNs` and `afterNs`, rounded
   * down, less `deviceNs`.
   */
  readonly offsetNs: bigint
  /**
   * Half the bracket, rounded up, nanoseconds: `offsetNs` is at most this far from the difference of the
   * two clocks' readings at the instant at which the PTP clock read `deviceNs`. Not so where
   * CLOCK_REALTIME was set back in between by less than what went by, which shows nowhere; the other two
   * clocks are never set.
   *
   * It is 0n where all three were computed from one reading of the counter, as for a vmclock whose
   * counter the system's clocks run on, and where the system clock did not advance in between. The
   * difference of the two *readings* is exact then. What a reading is itself off by, for it is cut off
   * at whole nanoseconds or at the ticks of what it counts, is no part of this on any clock.
   */
  readonly maxErrorNs: bigint
}

const MOST_SAMPLES = 25
const SAMPLED_CLOCKS = ['realtime', 'monotonic', 'monotonic-raw'] as const

// Only this module makes PTP clocks, whatever a caller does with the class. By way of the static
// block, because a class that names itself in its own body would lose its name to the bundler.
const KEY: unique symbol = Symbol('PtpClock.open')
let make: (clock: NativePtpClock) => PtpClock

/**
 * One of the kernel's PTP hardware clocks (`/dev/ptpN`), read-only: by the requests of
 * `linux/ptp_clock.h` and as a POSIX clock. Works on any, and needs no more than the right to read the
 * device, which by default only root has.
 *
 * Of a vmclock page that has time when it is loaded, the driver `ptp_vmclock.c` makes one called
 * `vmclock0`. It tells the page's own time, in TAI from Linux 7.0 on and in UTC before: `timescale` finds
 * out which.
 *
 * One that is dropped without `close` is closed when it is collected. After `close` everything throws
 * `ERR_VMCLOCK_CLOSED` but `closed`, `path` and `name`.
 *
 * Whatever asks the clock throws
 *
 * - `ERR_VMCLOCK_VANISHED`: its driver was unbound or its device removed
 * - `ERR_VMCLOCK_TIMEOUT`: it did not answer in its driver's time; a vmclock's waits 100 ms for an
 *   update of the page to end
 * - `ERR_VMCLOCK_NOT_SUPPORTED`: the kernel or its driver does not have the call
 * - `ERR_VMCLOCK_OUT_OF_RANGE`: its time does not fit into signed 64-bit nanoseconds
 * - `ERR_VMCLOCK_SYSTEM`: anything else, by its `errno`; EINVAL where a vmclock's page is unreliable
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

  /** As `close`, for `using`. */
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
   * @throws VmClockError `ERR_VMCLOCK_NOT_FOUND`; `ERR_VMCLOCK_ACCESS`, whose message names the udev rule of a clock that sysfs has;
   * `ERR_VMCLOCK_NOT_PTP` where it is no PTP clock; `ERR_VMCLOCK_VANISHED`; `ERR_VMCLOCK_SYSTEM`;
   * `ERR_VMCLOCK_INVALID_ARGUMENT`; `ERR_VMCLOCK_UNSUPPORTED` on systems other than Linux on x86-64 and
   * 64-bit Arm; `ERR_VMCLOCK_NATIVE` where the native part does not load
   */
  static open(path: string): PtpClock {
    return make(checked(native().openPtpClock(argument.path(path))))
  }

  /**
   * Opens the first clock that its driver calls so (`/sys/class/ptp/ptpN/clock_name`).
   *
   * @param clockName - `vmclock0` is that of `/dev/vmclock0`
   * @throws VmClockError as {@link PtpClock.open}; `ERR_VMCLOCK_NOT_FOUND` says which there are
   */
  static find(clockName: string): PtpClock {
    return make(checked(native().findPtpClock(argument.called(clockName, 'clockName'))))
  }

  /**
   * The PTP clocks that this machine has, in the order of their numbers. None on systems that vmclock
   * does not support.
   *
   * @throws VmClockError `ERR_VMCLOCK_NATIVE` where the native part does not load
   */
  static list(): PtpDevice[] {
    return obstacle()?.code === 'ERR_VMCLOCK_UNSUPPORTED' ? [] : native().listPtpClocks()
  }

  /** The path, as it was opened. */
  get path(): string {
    return this.#path
  }

  /** What the clock's driver calls it; undefined where sysfs does not tell. */
  get name(): string | undefined {
    return this.#name
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * What the clock can do: PTP_CLOCK_GETCAPS.
   *
   * @throws VmClockError `ERR_VMCLOCK_VANISHED`, `ERR_VMCLOCK_SYSTEM`, `ERR_VMCLOCK_CLOSED`
   */
  capabilities(): PtpCapabilities {
    return checked(this.#open().capabilities())
  }

  /**
   * The clock's time in nanoseconds since the epoch of its timescale: `clock_gettime` of the clock.
   *
   * @throws VmClockError as listed at {@link PtpClock}
   */
  nowNs(): bigint {
    return checked(this.#open().nowNs())
  }

  /**
   * The clock, CLOCK_REALTIME and CLOCK_MONOTONIC_RAW at one and the same instant:
   * PTP_SYS_OFFSET_PRECISE.
   *
   * @throws VmClockError `ERR_VMCLOCK_NOT_SUPPORTED` where the clock or the kernel has none (as
   * `capabilities().crossTimestamping` says unless the driver finds out only now); `ERR_VMCLOCK_CLOCKSOURCE` where the system's clocks run
   * on another counter than this clock; and as listed at {@link PtpClock}
   */
  crossTimestamp(): CrossTimestamp {
    return checked(this.#open().crossTimestamp())
  }

  /**
   * The clock's time between two readings of a system clock, some times over: PTP_SYS_OFFSET_EXTENDED,
   * or PTP_SYS_OFFSET where the clock has no better, which has `realtime` only, and in which one sample's
   * `afterNs` is the next one's `beforeNs`.
   *
   * @param count - 1 to 25
   * @param clock - the system clock; `realtime` if left out
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`; `ERR_VMCLOCK_NOT_SUPPORTED` where kernel or clock
   * have no samples of `clock`; `ERR_VMCLOCK_STEPPED` where the system clock was set back within each
   * bracket; and as listed at {@link PtpClock}
   */
  samples(count: number, clock: SampledClock = 'realtime'): PtpSample[] {
    const checkedCount = argument.integer(count, 'count', 1, MOST_SAMPLES)
    if (checkedCount === undefined)
      throw invalidArgument('count must be a whole number from 1 to 25')
    const checkedClock = argument.choice(clock, 'clock', SAMPLED_CLOCKS) ?? 'realtime'
    return checked(this.#open().samples(checkedCount, checkedClock))
  }

  /**
   * Whether this clock tells TAI or UTC, by comparison with a page; undefined where that decides
   * nothing.
   *
   * The clock is read between two readings of the page. It tells TAI if its time lies in the interval in
   * which TAI lay meanwhile by the page, and certainly not in that of UTC; and the other way round. The
   * interval is from the page's earliest time to its latest; where the page states no bound, from its one
   * time to its other: a clock that is made of this very page is told then, and none that is merely
   * close. A page that gives only one of the two timescales leaves the other wherever it can be, 10 to
   * 255 s away. So undefined is a clock that is set to neither, one that is further from the truth than
   * the page's bound, and one beside a page whose bound spans both or that changes all the while.
   *
   * @param clock - the page, in any timescale
   * @throws VmClockError where the page gives neither UTC nor TAI, as listed at {@link VmClock}
   * (`ERR_VMCLOCK_NO_TIME`, `ERR_VMCLOCK_TIMESCALE`, …); `ERR_VMCLOCK_INVALID_ARGUMENT`; and as listed at
   * {@link PtpClock}
   */
  timescale(clock: VmClock): 'tai' | 'utc' | undefined {
    const told = checked(this.#open().timescale(nativeClock(clock, 'clock')))
    return told === 'tai' || told === 'utc' ? told : undefined
  }

  /** Closes the clock. Closing again does nothing. */
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
