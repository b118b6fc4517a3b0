/** The clock: one reader of one page. */

import * as argument from './arguments'
import type { Clock } from './clock-interface'
import { type ContinuityToken, continuityToken, isIssued, issueToken } from './continuity'
import { detached, refuseDetached } from './detached'
import { makeDisposable } from './disposable'
import { checked, closedError, errorFrom, invalidArgument, VmClockError } from './errors'
import { checkFound, type FfiCalls, ffiCalls } from './ffi'
import { type ClockClass, type Inside, makeFfiClock } from './ffi-clock'
import { givePair, type HrTime } from './hr-time'
import { type Instant, instantMaker } from './instant'
import { ofThisRealm, withJson } from './json'
import {
  environmentPath,
  type Failure,
  type HotCalls,
  hotCalls,
  type NativeChoice,
  type NativeClock,
  type NativeClockOptions,
  native,
  obstacle,
} from './native'
import {
  READING_SLOT_COUNT,
  type Reading,
  ReadingConstants,
  readingOf,
  TIMESCALES,
  type Timescale,
} from './reading'
import { lookAfterStamp } from './restored'
import { copyFigures, DOUBLE, KNOWN, SLOT } from './slots'
import { type Snapshot, snapshotFrom } from './snapshot'
import { SystemClock } from './system-clock'
import { SOURCE_CHOICES, type SourceChoice, type TimeSource, timeSourceFrom } from './time-source'
import { type VmClockWatcher, type VmClockWatchOptions, watch } from './watcher'

const NS_PER_MS = 1_000_000n
const PPB_PER_PPM = 1000
const MOST_PPM = 1e6
const LONGEST_AGE_MS = 1e9
const SELECTABLE = [...TIMESCALES, 'page'] as const
const SOURCES = ['auto', 'page', 'process'] as const
const CALLS = ['node-api', 'ffi'] as const
type Calls = (typeof CALLS)[number]

/** Options of {@link VmClock.open}. */
export interface VmClockOptions {
  /**
   * The timescale of all times; `utc` if left out. With `page` it is the page's own, UTC, TAI or monotonic:
   * `VmClock.timescale` and `Reading.timescale` say which. It is found when the page is opened. A page that
   * changes its own afterwards gives times in the first timescale or refuses them.
   */
  readonly timescale?: Timescale | 'page' | undefined
  /**
   * The document that the page follows: the released header `vmclock-abi.h` (`uapi`, the default) or RFC
   * PATCH v4. Both state version 1, so the page does not show which it is.
   */
  readonly abi?: 'uapi' | 'rfc-v4' | undefined
  /**
   * How far the counter's rate may be off, in parts per million, 0 to 10^6, on pages that state no maximum
   * error of their period. Default: the bound is unknown on such pages.
   */
  readonly assumedDriftPpm?: number | undefined
  /**
   * How far the page's time may be off at its reference, in nanoseconds, 0n to 2^63 - 1. It is for pages that
   * state no maximum error of their time, such as those of the proposed host driver. The bound is this figure plus the
   * growth since the reference. You answer for it, and `timeSource.assumed` says so. Default: the bound is
   * unknown on such pages.
   *
   * It counts only while the page's status is `synchronized`. It never counts for a page of this package: if such
   * a page states no bound, then its maker knows of none. So it is refused with `source: 'process'`, and with a
   * `from` other than `auto`.
   */
  readonly assumedErrorNs?: bigint | undefined
  /**
   * Refuse the time of a page whose clock is free-running, with `ERR_VMCLOCK_UNSYNCHRONIZED`; default
   * false.
   */
  readonly requireSynchronized?: boolean | undefined
  /**
   * Never return a time before one that this clock returned earlier; default false. A page update or a leap
   * second may step time back. The clock then repeats its last time, and the bound grows by the difference.
   */
  readonly nonDecreasing?: boolean | undefined
  /**
   * User IDs, besides root's and the caller's, that may own a page that is a regular file. The owner of a
   * page decides the time, and can truncate the file under its readers.
   */
  readonly trustedUids?: readonly number[] | undefined
  /**
   * Which pages to choose from if no path is given; `auto` if left out.
   *
   * - `auto`: the best page that the machine has now
   * - `page`: a page that the hypervisor or a publisher keeps
   * - `process`: only the page that this process keeps itself, also where `$VMCLOCK_PATH` names another
   */
  readonly source?: 'auto' | 'page' | 'process' | undefined
  /**
   * The source that the time must come from. Default: `auto`. It is refused with a path. A page that `$VMCLOCK_PATH`
   * names is opened all the same, and has no bound while its time comes from another source.
   *
   * - `auto`: any, the hypervisor included. A page that this process makes takes the best source that works:
   *   ClockBound, a PTP hardware clock with a bound, the kernel's clock
   * - `kernel`: the kernel's clock
   * - `phc`: a PTP hardware clock with a bound
   * - `clockbound`: the shared memory of ClockBound's daemon
   *
   * If `phc` or `clockbound` gives no time with a bound when the clock is opened, that is an error with the source's
   * own code. If it gives none later, the time is the kernel's without a bound, with the reason `source-unavailable`.
   * With `kernel` the time may lack a bound from the start.
   */
  readonly from?: SourceChoice | undefined
  /**
   * Give the bound also if nobody can notice that the machine was migrated: it has a vmclock device, and this
   * process or the page's maker cannot look at it. You answer for that, and `timeSource.assumed` says so. Default
   * false: the time has no bound then.
   */
  readonly allowUnguarded?: boolean | undefined
  /**
   * The error that neither the time daemon nor a PTP clock's driver reports, for the page that this process keeps
   * itself. It says how far the clock of the host may be off, in nanoseconds, 0n to 2^63 - 1. You answer for it, and
   * `timeSource.assumed` says so. Default: nothing is added. {@link VmClockPublisherOptions.hostErrorNs} says
   * what it has to cover. A publisher's page is not changed by it. So it is refused with a path, with
   * `source: 'page'`, and with `from: 'clockbound'`, whose daemon states the whole error. A page that `$VMCLOCK_PATH`
   * names is opened all the same.
   */
  readonly hostErrorNs?: bigint | undefined
  /**
   * Make a page in this process also from a counter that the kernel does not trust. You answer for the counter,
   * and `timeSource.assumed` says so. Default false: `ERR_VMCLOCK_UNTRUSTED_COUNTER`.
   */
  readonly allowUntrustedCounter?: boolean | undefined
  /**
   * Refuse the time of a page that was last updated longer ago than this, with `ERR_VMCLOCK_STALE`; whole
   * milliseconds, 1 to 10^9. Default: any age, and the bound grows with it. This package's publishers and
   * processes update their pages at least once per second. The option does not apply to the pages of others,
   * because a hypervisor may update its page rarely.
   */
  readonly maxAgeMs?: number | undefined
  /**
   * Refuse a time whose bound is greater, or that has none, with `ERR_VMCLOCK_TOO_UNCERTAIN`; nanoseconds, 0n to
   * 2^63 - 1. Default: any bound, or none.
   */
  readonly errorLimitNs?: bigint | undefined
  /**
   * Read the counter in the program's order; default true. With false the calls that stamp do not wait for what
   * precedes them. They take about a fifth less time, or a third less with `calls: 'ffi'`. For tracing and metrics.
   *
   * The reading's interval then holds the truth for the instant of the counter read as ever. That instant may lie some
   * hundred nanoseconds before or after the call's place in the program. So two threads' stamps may contradict what
   * the threads told each other, and the functions of `vmclock/ordering` refuse such a clock. Migrations and page
   * updates are noticed as ever.
   */
  readonly ordered?: boolean | undefined
  /**
   * How the calls that stamp reach the native part; `node-api` if left out, or what the variable `VMCLOCK_CALLS`
   * names. The variable changes no clock that this package opens for itself, except that of
   * `vmclock/opentelemetry/register`.
   *
   * - `node-api`: by Node-API, which every runtime has
   * - `ffi`: by the foreign function interface of Node 26 (`node:ffi`, which is experimental), Deno or Bun. A call
   *   takes less time, once the runtime has compiled its caller. Checks, results and errors are the same. A runtime
   *   without it, or a process that may not use it, gets `ERR_VMCLOCK_UNSUPPORTED`. In a worker the calls go by
   *   Node-API all the same, because Node may end the process if a worker that calls by FFI is terminated
   */
  readonly calls?: 'node-api' | 'ffi' | undefined
}

/** Options of {@link VmClock.open} for programs that also run where this package does not work. */
export interface VmClockFallbackOptions extends VmClockOptions {
  /**
   * The answer on a system that this package does not support, such as macOS or Windows. Without the option, or if
   * it is undefined, the call throws `ERR_VMCLOCK_UNSUPPORTED` there.
   *
   * With `system-clock` the call gives a clock over `Date` and `performance` there. It states no bound, its
   * status is `free-running`, its counter is `process.hrtime.bigint()`, and its tokens stay valid. It ignores
   * the path, and has no timescale but UTC. On supported systems this option changes nothing.
   */
  readonly unsupported: 'system-clock' | undefined
}

/** How far the system clock is ahead of the page. */
export interface SystemOffset {
  /** CLOCK_REALTIME - page, in nanoseconds: positive where the system clock is ahead. */
  readonly offsetNs: bigint
  /**
   * How far that may be off, in nanoseconds: the page's bound, and half the distance of the two counter
   * reads around the system clock's. Undefined if the page states no bound.
   */
  readonly maxErrorNs: bigint | undefined
}

const OPTIONS = [
  'timescale',
  'abi',
  'assumedDriftPpm',
  'assumedErrorNs',
  'requireSynchronized',
  'nonDecreasing',
  'trustedUids',
  'source',
  'from',
  'allowUnguarded',
  'hostErrorNs',
  'allowUntrustedCounter',
  'maxAgeMs',
  'errorLimitNs',
  'ordered',
  'calls',
  'unsupported',
] as const satisfies ReadonlyArray<keyof VmClockFallbackOptions>

// A token that no caller has. Not undefined, which callers may pass.
const NO_TOKEN: ContinuityToken = Object.freeze({ disruptionMarker: 0n, vmGeneration: undefined })

// Only this module can make clocks. `make` is set in a static block, because the bundler renames a class that
// names itself in its own body.
const KEY: unique symbol = Symbol('VmClock.open')

// The values for a new clock's fields, which take them where they are declared.
interface Opening {
  readonly clock: NativeClock
  readonly hot: HotCalls
  readonly timescale: Timescale
  readonly ordered: boolean
  readonly calls: Calls
}
let opening: Opening | undefined
let make: () => VmClock
let inside: Inside

function beingOpened(): Opening {
  if (opening !== undefined) return opening
  throw notPublic()
}

function notPublic(): VmClockError {
  return invalidArgument('VmClock has no public constructor', 'use VmClock.open()')
}

/** Returns the native part of an open clock, for other files of this package. */
export let nativeClock: (clock: unknown, name: string) => NativeClock

/**
 * A clock that reads one vmclock page, without a system call.
 *
 * The page is the hypervisor's (`/dev/vmclock0`, from the driver `ptp_vmclock.c`), a publisher's file, or one that
 * this process keeps in its own memory. Its layout is that of `vmclock-abi.h`, its meaning that of UAPI.13. Each
 * reading takes the CPU counter and the page's figures at one consistent instant, and computes the time with its
 * bound.
 *
 * A page without time opens too: `counter`, `continuityToken`, `isContinuous` and `snapshot` work on it,
 * and the calls that return time throw `ERR_VMCLOCK_NO_TIME`.
 *
 * A clock belongs to the thread that opened it; each worker opens its own. A clock that is dropped without
 * `close` is unmapped when it is collected. After `close` every other method throws `ERR_VMCLOCK_CLOSED`, as do
 * `hasTime` and `timeSource`. `tryRead` returns that error, and `isUsable` is false.
 *
 * The calls that return time throw
 *
 * - `ERR_VMCLOCK_NO_TIME`, `ERR_VMCLOCK_WRONG_COUNTER`, `ERR_VMCLOCK_UNSYNCHRONIZED`,
 *   `ERR_VMCLOCK_BAD_PERIOD`: the page gives none, for this machine, now
 * - `ERR_VMCLOCK_TIMESCALE`, `ERR_VMCLOCK_NO_TAI_OFFSET`: not in this timescale
 * - `ERR_VMCLOCK_COUNTER_MISMATCH`: the counter is over a second behind the page's reference
 * - `ERR_VMCLOCK_OUT_OF_RANGE`: outside the years 1677 to 2262
 * - `ERR_VMCLOCK_STALE`, `ERR_VMCLOCK_TOO_UNCERTAIN`: the page is older or the bound is greater than the options
 *   allow
 * - `ERR_VMCLOCK_OTHER_BOOT`: the page was made in another boot of this machine, or on another machine
 * - `ERR_VMCLOCK_FORKED`: the page was in the memory of the process that this one was forked from, and cannot be
 *   made here
 * - `ERR_VMCLOCK_BAD_VERSION`: the page has become one of another version, which no call can read
 * - `ERR_VMCLOCK_TIMEOUT`: the page was being updated for 100 ms on end; while it stays stuck in the
 *   same update, later calls fail at once
 *
 * @example
 * ```ts
 * import { VmClock } from 'vmclock'
 *
 * const clock = VmClock.open()
 * const { epochNs, maxErrorNs } = clock.read()
 * clock.close()
 * ```
 */
export class VmClock implements Clock {
  // Each field gets its value where it is declared. If it were undefined at first, V8 would check its type at
  // every timestamp.
  readonly #native: NativeClock = beingOpened().clock
  readonly #path: string | undefined = this.#native.path
  readonly #timescale: Timescale = beingOpened().timescale
  readonly #ordered: boolean = beingOpened().ordered
  readonly #calls: Calls = beingOpened().calls
  readonly #followsUtc: boolean = this.#timescale !== 'tai' && this.#timescale !== 'monotonic'
  // The arrays must not leave this object: the native part writes to their memory without a check. The calls
  // are made without a receiver, which V8 would check first, and with the array in a local variable.
  readonly #slots: BigInt64Array = beingOpened().hot.slots
  readonly #doubles: Float64Array = beingOpened().hot.doubles
  readonly #nowNs: HotCalls['nowNs'] = beingOpened().hot.nowNs
  readonly #nowMs: HotCalls['nowMs'] = beingOpened().hot.nowMs
  readonly #nowHrTime: HotCalls['nowHrTime'] = beingOpened().hot.nowHrTime
  readonly #read: HotCalls['read'] = beingOpened().hot.read
  readonly #counter: HotCalls['counter'] = beingOpened().hot.counter
  readonly #convert: HotCalls['convert'] = beingOpened().hot.convert
  readonly #continuity: HotCalls['continuityToken'] = beingOpened().hot.continuityToken
  readonly #isContinuous: HotCalls['isContinuous'] = beingOpened().hot.isContinuous
  /** The token whose figures are in the argument slots, if it is frozen; else `NO_TOKEN`. */
  #token: ContinuityToken = NO_TOKEN
  /** The figures that are the same in all readings of one page state, and the count `Filled` that they belong to. */
  #constants: ReadingConstants = new ReadingConstants(this.#slots, this.#timescale)
  #filled: number = this.#doubles[DOUBLE.Filled] as number
  #closed = false

  /** Closes the clock at the end of a `using` scope. */
  declare readonly [Symbol.dispose]: () => void

  static {
    make = () => new this(KEY)
    inside = {
      opening: beingOpened,
      readingOf: (clock) => (clock as VmClock).#reading(),
      takeToken: (clock, token) => {
        if (token !== (clock as VmClock).#token) (clock as VmClock).#takeToken(token)
      },
      isContinuous: (clock) => isStillContinuous((clock as VmClock).#isContinuous),
    }
    nativeClock = (clock, name) => {
      if (typeof clock === 'object' && clock !== null && #native in clock) return clock.#open()
      throw invalidArgument(`${name} must be a VmClock`, 'use VmClock.open()')
    }
  }

  private constructor(key: symbol) {
    // `opening` alone does not permit it: a call that was terminated while it opened a clock may have left it set.
    if (key !== KEY) throw notPublic()
  }

  /**
   * Opens the best page that the machine has now, in this order:
   *
   * 1. the page that `$VMCLOCK_PATH` names, and no other
   * 2. the hypervisor's page (`/dev/vmclock0`), if it gives time with a bound
   * 3. the page of a live publisher, `/run/vmclock/page`
   * 4. a page that this process keeps itself, made from the best source of time that works
   * 5. if none can be made: the hypervisor's page without a bound, or without time, or else a publisher's that is not
   *    live
   *
   * `timeSource` says which it is. The clock never changes its page: open a new one to choose anew. The first
   * clock of a process that takes 4 blocks for some 10 ms, to measure the counter's rate. All clocks of all threads
   * share that page, and it ends with the last of them.
   *
   * @param options - how to choose it and how to read it
   * @throws VmClockError as with a path; `ERR_VMCLOCK_UNTRUSTED_COUNTER` if there is no page and the kernel does
   * not trust the counter to make one from; `ERR_VMCLOCK_NO_SOURCE` if the source `from` gives no bound
   */
  static open(options: VmClockFallbackOptions): Clock
  /**
   * Opens the best page that the machine has now, as above.
   *
   * @param options - how to choose it and how to read it
   * @throws VmClockError as above
   */
  static open(options?: VmClockOptions): VmClock
  /**
   * Opens the page at a path: the driver's character device, or a regular file that nobody but its
   * owner can write and whose owner is root, the caller, or one of `trustedUids`.
   *
   * @param path - the page; if undefined, the best page that the machine has now
   * @param options - how to read it. `source` and `from` are refused with a path
   * @throws VmClockError `ERR_VMCLOCK_NOT_FOUND`, `ERR_VMCLOCK_ACCESS`, `ERR_VMCLOCK_UNTRUSTED`,
   * `ERR_VMCLOCK_TOO_SMALL`, `ERR_VMCLOCK_BAD_MAGIC`, `ERR_VMCLOCK_BAD_VERSION`,
   * `ERR_VMCLOCK_SYSTEM`, `ERR_VMCLOCK_INVALID_ARGUMENT`; `ERR_VMCLOCK_UNSUPPORTED` on systems other
   * than Linux on x86-64 and 64-bit Arm, and for `calls: 'ffi'` where the runtime does not allow it;
   * `ERR_VMCLOCK_NATIVE` if the native part does not load
   */
  static open(path: string | undefined, options: VmClockFallbackOptions): Clock
  /**
   * Opens the page at a path.
   *
   * @param path - the page; if undefined, the best page that the machine has now
   * @param options - how to read it
   * @throws VmClockError as above
   */
  static open(path: string | undefined, options?: VmClockOptions): VmClock
  static open(pathOrOptions?: string | VmClockOptions, maybeOptions?: VmClockOptions): Clock {
    const [path, value] = argument.pathAndOptions(pathOrOptions, maybeOptions)
    const given = argument.record(value, 'options', OPTIONS)
    const options = clockOptions(given)
    const unsupported = argument.choice(given['unsupported'], 'options.unsupported', [
      'system-clock',
    ])
    if (unsupported !== undefined && obstacle()?.code === 'ERR_VMCLOCK_UNSUPPORTED') {
      return new SystemClock(options)
    }
    // It throws where the runtime lacks them, before anything is open.
    const ffi = options.named ? ffiCalls() : undefined
    const clock = checked(native().openClock(path, pageChoice(given, path), options))
    const hot = hotCalls(clock)
    // A clock has no name if all names are in use. Each of its calls by FFI would be made again by Node-API.
    const isByFfi = ffi !== undefined && !Number.isNaN(hot.name)
    try {
      if (isByFfi) checkFound(ffi, hot)
    } catch (error) {
      clock.close()
      throw error
    }
    opening = {
      clock,
      hot,
      timescale: clock.timescale as Timescale,
      ordered: options.ordered,
      calls: isByFfi ? 'ffi' : 'node-api',
    }
    try {
      return isByFfi ? makeByFfi(ffi) : make()
    } finally {
      opening = undefined
    }
  }

  /**
   * Lists the pages that exist on this machine: `$VMCLOCK_PATH`, the driver's devices, the publisher's page.
   * Empty on systems that vmclock does not support.
   *
   * @throws VmClockError `ERR_VMCLOCK_NATIVE` if the native part does not load
   */
  static list(): string[] {
    return obstacle()?.code === 'ERR_VMCLOCK_UNSUPPORTED'
      ? []
      : ofThisRealm(native().listPages(environmentPath()))
  }

  /** True if this package works on this system, with or without a page. */
  static isSupported(): boolean {
    return obstacle() === undefined
  }

  /** Why this package does not work on this system; undefined if it does. */
  static get unsupportedReason(): string | undefined {
    return obstacle()?.message
  }

  /** The page's path, as it was opened. Undefined for the page that this process keeps. */
  get path(): string | undefined {
    return this.#path
  }

  /** The timescale of all times of this clock. It is never `page`. */
  get timescale(): Timescale {
    return this.#timescale
  }

  /** True if every stamp has the program's order: the option `ordered`. */
  get ordered(): boolean {
    return this.#ordered
  }

  /**
   * How the calls that stamp reach the native part: the option `calls`. It is `node-api` in a worker, and if the
   * process has 65,536 clocks open by `ffi` already.
   */
  get calls(): 'node-api' | 'ffi' {
    return this.#calls
  }

  /**
   * The source of the time, as it is now: the page that was taken, what calibrates it, what guards it against
   * unnoticed migrations, and who answers for its assumed parts. Frozen.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get timeSource(): TimeSource {
    return timeSourceFrom(this.#ask((clock) => clock.timeSource()))
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * True if the page carries time at all now. False exactly if the calls that return time throw
   * `ERR_VMCLOCK_NO_TIME`.
   *
   * @throws VmClockError `ERR_VMCLOCK_BAD_VERSION`, `ERR_VMCLOCK_TIMEOUT`, `ERR_VMCLOCK_CLOSED`
   */
  get hasTime(): boolean {
    return this.#ask((clock) => clock.hasTime())
  }

  /**
   * True if a call for the time would succeed now, under the options of this clock. False after `close`.
   * `tryRead` gives the reason.
   */
  get isUsable(): boolean {
    const call = this.#read
    const failure = call()
    return failure === undefined || settled(failure, call) === undefined
  }

  /**
   * Returns the time now in nanoseconds since the timescale's epoch. Allocates nothing but its result.
   *
   * @throws VmClockError as listed at {@link VmClock}
   */
  nowNs(): bigint {
    if (this === undefined) throw detached('nowNs')
    const call = this.#nowNs
    const slots = this.#slots
    const failure = call()
    if (failure !== undefined) settle(failure, call)
    return slots[SLOT.EpochNs] as bigint
  }

  /**
   * Returns the time now in milliseconds since 1970-01-01 UTC, as `Date.now()` but with its fraction: the
   * double that is nearest to the time in whole nanoseconds. That is exact to 0.13 µs until 2039.
   *
   * @throws VmClockError `ERR_VMCLOCK_TIMESCALE` if the timescale does not follow UTC, and as listed at
   * {@link VmClock}
   */
  nowMs(): number {
    if (this === undefined) throw detached('nowMs')
    const call = this.#nowMs
    const doubles = this.#doubles
    const failure = call()
    if (failure !== undefined) {
      if (!this.#followsUtc) throw this.#notUtc('nowMs')
      settle(failure, call)
    }
    return doubles[DOUBLE.NowMs] as number
  }

  /**
   * Returns the time now as whole seconds and the nanoseconds after them, since the timescale's epoch: `nowNs`
   * without a bigint. Both are exact. Before the epoch the seconds are rounded down, and the nanoseconds are
   * still 0 to 999,999,999.
   *
   * With `out` the call allocates nothing.
   *
   * @param out - an array of two numbers, which receives the time and is returned. Default: a new one
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT` if `out` is no array that can be written, and as listed at
   * {@link VmClock}
   */
  nowHrTime(out?: HrTime): HrTime {
    if (this === undefined) throw detached('nowHrTime')
    const call = this.#nowHrTime
    const doubles = this.#doubles
    const failure = call()
    if (failure !== undefined) settle(failure, call)
    const seconds = doubles[DOUBLE.HrSeconds] as number
    return givePair(seconds, doubles[DOUBLE.HrNanoseconds] as number, out)
  }

  /**
   * Returns the time now as a `Date`, which holds whole milliseconds: floored, before 1970 too.
   *
   * @throws VmClockError as {@link VmClock.nowMs}
   */
  nowDate(): Date {
    if (!this.#followsUtc) throw this.#notUtc('nowDate')
    const epochNs = this.nowNs()
    const wholeMs = epochNs / NS_PER_MS
    return new Date(Number(epochNs < wholeMs * NS_PER_MS ? wholeMs - 1n : wholeMs))
  }

  /**
   * Returns the time now as a `Temporal.Instant`.
   *
   * @throws VmClockError `ERR_VMCLOCK_UNSUPPORTED` if the runtime has no Temporal, and as
   * {@link VmClock.nowMs}
   */
  nowInstant(): Instant {
    if (!this.#followsUtc) throw this.#notUtc('nowInstant')
    this.#open()
    const instant = instantMaker()
    return instant(this.nowNs())
  }

  /**
   * Returns the time now with its bound, and what the page says at the same instant.
   *
   * @throws VmClockError as listed at {@link VmClock}
   */
  read(): Reading {
    if (this === undefined) throw detached('read')
    const call = this.#read
    const failure = call()
    if (failure !== undefined) settle(failure, call)
    return this.#reading()
  }

  /**
   * As {@link VmClock.read}, but returns the error instead of throwing it. For callers that can do without
   * the time, and ask often: an error that is returned needs no `try`.
   *
   * @returns the reading, or the error that `read` would throw
   */
  tryRead(): Reading | VmClockError {
    const call = this.#read
    const failure = call()
    const error = failure === undefined ? undefined : settled(failure, call)
    return error ?? this.#reading()
  }

  /**
   * Writes the 13 figures of `read`, by the names of `READING_SLOTS`, without an allocation. A figure that the
   * page does not state is -1n; the bits of `READING_SLOTS.KNOWN` say which are known. Unsigned 64-bit figures
   * are two's complement. If it throws, it has written nothing.
   *
   * @param slots - receives the figures; any `BigInt64Array`, also over shared memory
   * @param at - index of the first figure; default 0
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT` if the figures do not fit or the buffer is detached,
   * and as listed at {@link VmClock}
   */
  readInto(slots: BigInt64Array, at = 0): void {
    if (this === undefined) throw detached('readInto')
    argument.room(slots, at, READING_SLOT_COUNT)
    const call = this.#read
    const figures = this.#slots
    const failure = call()
    if (failure !== undefined) {
      settle(failure, call)
      // A listener of a restore may have taken the array's memory.
      argument.room(slots, at, READING_SLOT_COUNT)
    }
    copyFigures(figures, slots, at)
  }

  /**
   * Returns the CPU counter now, unsigned 64-bit (TSC, or CNTVCT_EL0 on Arm). Works on any page, with or
   * without time.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  counter(): bigint {
    if (this === undefined) throw detached('counter')
    const call = this.#counter
    const slots = this.#slots
    const failure = call()
    if (failure !== undefined) settle(failure, call)
    return BigInt.asUintN(64, slots[SLOT.Counter] as bigint)
  }

  /**
   * Converts a counter that was captured earlier (or lies ahead). The bound grows with its distance
   * from the page's reference, on either side.
   *
   * @param counter - unsigned 64-bit
   * @param token - from `continuityToken()`, taken *before* the counter. After a disruption the counter cannot
   * be converted
   * @throws VmClockError `ERR_VMCLOCK_DISRUPTED`, `ERR_VMCLOCK_INVALID_ARGUMENT`, and as listed at
   * {@link VmClock}
   */
  convert(counter: bigint, token: ContinuityToken): Reading {
    if (this === undefined) throw detached('convert')
    const ticks = argument.uint64(counter, 'counter')
    if (token !== this.#token) this.#takeToken(token)
    this.#slots[SLOT.ArgumentCounter] = ticks
    const call = this.#convert
    const failure = call()
    // Before the listeners of a restore, which may use the slots.
    const reading = failure === undefined ? this.#reading() : undefined
    lookAfterStamp()
    if (failure !== undefined) throw errorFrom(failure)
    return reading as Reading
  }

  /**
   * Converts many counters at once, all by one state of the page. If it throws, it has written nothing.
   *
   * @param counters - captured after `token`, unsigned 64-bit
   * @param out - receives nanoseconds since the timescale's epoch; at least as long as `counters`; may be the
   * same memory
   * @param token - from `continuityToken()`, taken before the first of them
   * @throws VmClockError as {@link VmClock.convert}
   */
  convertInto(counters: BigUint64Array, out: BigInt64Array, token: ContinuityToken): void {
    // The token is read first, because its getters may change the arrays.
    const { disruptionMarker, vmGeneration } = continuityToken(token)
    argument.conversion(counters, out)
    this.#ask((clock) => clock.convertInto(counters, out, disruptionMarker, vmGeneration))
  }

  /**
   * Takes a token for `isContinuous` and `convert`: which machine and which clock this is now. Works on any
   * page.
   *
   * @throws VmClockError `ERR_VMCLOCK_BAD_VERSION`, `ERR_VMCLOCK_TIMEOUT`, `ERR_VMCLOCK_CLOSED`
   */
  continuityToken(): ContinuityToken {
    if (this === undefined) throw detached('continuityToken')
    const call = this.#continuity
    const failure = call()
    if (failure !== undefined) settle(failure, call)
    const slots = this.#slots
    const hasGeneration = ((slots[SLOT.Known] as bigint) & KNOWN.VmGeneration) !== 0n
    return issueToken(
      BigInt.asUintN(64, slots[SLOT.DisruptionMarker] as bigint),
      hasGeneration ? BigInt.asUintN(64, slots[SLOT.VmGeneration] as bigint) : undefined,
    )
  }

  /**
   * Returns whether this is the same machine with the same clock as when the token was taken. Synchronous: it
   * needs no event loop. Works on any page.
   *
   * @param token - from `continuityToken()`, of this page and this boot
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_TIMEOUT`, `ERR_VMCLOCK_CLOSED`
   */
  isContinuous(token: ContinuityToken): boolean {
    if (this === undefined) throw detached('isContinuous')
    if (token !== this.#token) this.#takeToken(token)
    return isStillContinuous(this.#isContinuous)
  }

  /**
   * Returns every field of the page, decoded and raw. Works on any page.
   *
   * @throws VmClockError `ERR_VMCLOCK_BAD_VERSION`, `ERR_VMCLOCK_TIMEOUT`, `ERR_VMCLOCK_CLOSED`
   */
  snapshot(): Snapshot {
    return snapshotFrom(this.#ask((clock) => clock.snapshot()))
  }

  /**
   * Compares the system clock (CLOCK_REALTIME) with the page, by the narrowest of a few pairs of counter
   * reads.
   *
   * @throws VmClockError as {@link VmClock.nowMs}; `ERR_VMCLOCK_DISRUPTED` if the machine was disrupted at
   * every try
   */
  systemOffset(): SystemOffset {
    if (!this.#followsUtc) throw this.#notUtc('systemOffset')
    const result = this.#ask((clock) => clock.systemOffset())
    // Without a bound the property is absent, and must not be read from a prototype.
    const maxErrorNs = Object.hasOwn(result, 'maxErrorNs') ? result.maxErrorNs : undefined
    return withJson({ offsetNs: result.offsetNs, maxErrorNs })
  }

  /**
   * Watches the page: emits events for disruptions, clones, announced maintenance, and changes of the clock's
   * state. Works on any page. The watcher lives until it is closed itself, even if this clock is closed.
   *
   * @param options - how to watch
   * @throws VmClockError `ERR_VMCLOCK_TIMEOUT` if the page is stuck in an update,
   * `ERR_VMCLOCK_BAD_VERSION`, `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_SYSTEM`,
   * `ERR_VMCLOCK_CLOSED`
   */
  watch(options?: VmClockWatchOptions): VmClockWatcher {
    return watch(this.#open(), this.#path, options, () => {
      if (this.#closed) return undefined
      const reading = this.tryRead()
      return VmClockError.isVmClockError(reading) ? undefined : reading
    })
  }

  /**
   * Closes the clock. Unmaps the page at once, unless an open watcher shares the mapping. Closing again does
   * nothing.
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native.close()
  }

  #open(): NativeClock {
    if (this.#closed) throw closedError('clock')
    return this.#native
  }

  /** Makes a call that may read the page, and looks: the next stamp would not read the page again, and so not look. */
  #ask<Value>(call: (clock: NativeClock) => Value): Exclude<Value, Failure> {
    const answer = call(this.#open())
    lookAfterStamp()
    return checked(answer) as Exclude<Value, Failure>
  }

  /** Makes a reading of the figures in the slots. */
  #reading(): Reading {
    const slots = this.#slots
    const filled = this.#doubles[DOUBLE.Filled] as number
    if (filled !== this.#filled) {
      this.#constants = new ReadingConstants(slots, this.#timescale)
      this.#filled = filled
    }
    return readingOf(slots, this.#constants)
  }

  /** Writes a token's figures to the argument slots, and remembers the token if it cannot change. */
  #takeToken(token: ContinuityToken): void {
    const { disruptionMarker, vmGeneration } = continuityToken(token)
    // No token is remembered while its figures are overwritten: the worker may be terminated in between.
    this.#token = NO_TOKEN
    const slots = this.#slots
    slots[SLOT.ArgumentDisruptionMarker] = disruptionMarker
    slots[SLOT.ArgumentVmGeneration] = vmGeneration ?? 0n
    slots[SLOT.ArgumentHasVmGeneration] = vmGeneration === undefined ? 0n : 1n
    this.#token = isIssued(token) ? token : NO_TOKEN
  }

  #notUtc(call: string): VmClockError {
    if (this.#closed) return closedError('clock')
    return new VmClockError(
      'ERR_VMCLOCK_TIMESCALE',
      `${call} needs a timescale that follows UTC, and this clock's is ${this.#timescale}`,
      { remedy: "open the page with timescale 'utc' as well, or use nowNs() or read()" },
    )
  }
}

makeDisposable(VmClock)
refuseDetached(VmClock, [
  'nowNs',
  'nowMs',
  'nowHrTime',
  'read',
  'readInto',
  'counter',
  'convert',
  'continuityToken',
  'isContinuous',
])

let FfiClock: ClockClass | undefined

function makeByFfi(calls: FfiCalls): VmClock {
  FfiClock ??= makeFfiClock(VmClock as unknown as ClockClass, calls, inside)
  return new FfiClock(KEY) as VmClock
}

type Answer = Failure | true | undefined

/**
 * Ends a call that did not simply succeed. After a restore that this thread did not know of, it calls the thread's
 * listeners, which may use the slots, and makes the call again. Otherwise the call has failed, and may have failed
 * because of a restore.
 */
function settled(answer: Failure | true, call: () => Answer): VmClockError | undefined {
  lookAfterStamp()
  const last = answer === true ? call() : answer
  return last === undefined || last === true ? undefined : errorFrom(last)
}

/** Makes the call with the token in the slots. */
function isStillContinuous(call: HotCalls['isContinuous']): boolean {
  const answer = call()
  if (answer === undefined) return true
  lookAfterStamp()
  if (answer === false) return false
  throw errorFrom(answer)
}

/** As {@link settled}, but throws the error. */
function settle(answer: Failure | true, call: () => Answer): void {
  const error = settled(answer, call)
  if (error !== undefined) throw error
}

/**
 * Returns whether this is a worker. Node ends the process if one is terminated while V8 compiles a call by FFI, and Deno
 * collects no clocks of a terminated one.
 */
function isWorker(): boolean {
  // Not imported, which would take each program a millisecond or two.
  const isMainThread = process.getBuiltinModule?.('node:worker_threads')?.isMainThread ?? false
  // For Deno, a web worker is a main thread.
  return !isMainThread || 'WorkerGlobalScope' in globalThis
}

function callsOf(given: unknown): Calls {
  const chosen = argument.choice(given, 'options.calls', CALLS)
  if (chosen !== undefined) return chosen
  // No call will be made. Deno may have denied the right to read variables.
  if (obstacle() !== undefined) return 'node-api'
  const variable = process.env['VMCLOCK_CALLS'] || undefined
  return argument.choice(variable, 'the variable VMCLOCK_CALLS', CALLS) ?? 'node-api'
}

function pageChoice(given: Record<string, unknown>, path: string | undefined): NativeChoice {
  const source = argument.choice(given['source'], 'options.source', SOURCES)
  const from = argument.choice(given['from'], 'options.from', SOURCE_CHOICES)
  if (path !== undefined && (source !== undefined || from !== undefined)) {
    throw invalidArgument(
      'options.source and options.from choose a page, and the path has chosen one already',
      'leave them out, or the path',
    )
  }
  const hostErrorNs = argument.int63(given['hostErrorNs'], 'options.hostErrorNs')
  refuseWithoutEffect(hostErrorNs, path, source, from)
  if (given['assumedErrorNs'] !== undefined && (source === 'process' || isOwn(from))) {
    throw invalidArgument(
      'options.assumedErrorNs has no effect: it is for pages of others, and these options choose a page of this package',
      "leave it out (--assumed-error); hostErrorNs (--host-error) states what this machine's sources do not report",
    )
  }
  return {
    environmentPath: environmentPath(),
    source: source ?? 'auto',
    from: from ?? 'auto',
    hostErrorNs: hostErrorNs ?? null,
    allowUntrustedCounter:
      argument.flag(given['allowUntrustedCounter'], 'options.allowUntrustedCounter') ?? false,
  }
}

// Only pages of this package name a source.
function isOwn(from: SourceChoice | undefined): boolean {
  return from !== undefined && from !== 'auto'
}

/** Refuses an error of the host's clock where no page is made that could take it up. */
function refuseWithoutEffect(
  hostErrorNs: bigint | undefined,
  path: string | undefined,
  source: string | undefined,
  from: SourceChoice | undefined,
): void {
  if (hostErrorNs === undefined) return
  if (path !== undefined || source === 'page') {
    throw invalidArgument(
      'options.hostErrorNs has no effect: it is for the page that this process makes, and these options choose another page',
      'give it to the publisher of that page (`vmclock publish --host-error`), or leave it out; assumedErrorNs (--assumed-error) is for pages of others',
    )
  }
  if (from === 'clockbound') {
    throw invalidArgument(
      "options.hostErrorNs has no effect: ClockBound's daemon states the whole error",
      'leave it out (--host-error), or choose another source',
    )
  }
}

function clockOptions(given: Record<string, unknown>): NativeClockOptions {
  const driftPpm = argument.number(given['assumedDriftPpm'], 'options.assumedDriftPpm', 0, MOST_PPM)
  return {
    timescale: argument.choice(given['timescale'], 'options.timescale', SELECTABLE) ?? 'utc',
    rfcV4: argument.choice(given['abi'], 'options.abi', ['uapi', 'rfc-v4']) === 'rfc-v4',
    // Rounded up, because an allowance must not shrink.
    assumedDriftPpb: driftPpm === undefined ? null : Math.ceil(driftPpm * PPB_PER_PPM),
    assumedErrorNs: argument.int63(given['assumedErrorNs'], 'options.assumedErrorNs') ?? null,
    requireSynchronized:
      argument.flag(given['requireSynchronized'], 'options.requireSynchronized') ?? false,
    nonDecreasing: argument.flag(given['nonDecreasing'], 'options.nonDecreasing') ?? false,
    trustedUids: argument.uids(given['trustedUids'], 'options.trustedUids'),
    allowUnguarded: argument.flag(given['allowUnguarded'], 'options.allowUnguarded') ?? false,
    maxAgeMs: argument.integer(given['maxAgeMs'], 'options.maxAgeMs', 1, LONGEST_AGE_MS) ?? null,
    errorLimitNs: argument.int63(given['errorLimitNs'], 'options.errorLimitNs') ?? null,
    ordered: argument.flag(given['ordered'], 'options.ordered') ?? true,
    named: callsOf(given['calls']) === 'ffi' && !isWorker(),
  }
}
