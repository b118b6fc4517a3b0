/** A clock for tests, whose time, error and machine the test decides. */

import * as argument from '../arguments'
import type { VmClock } from '../clock'
import type { Clock } from '../clock-interface'
import { type ContinuityToken, continuityToken, issueToken } from '../continuity'
import { makeDisposable } from '../disposable'
import { closedError, invalidArgument, VmClockError, type VmClockErrorCode } from '../errors'
import { type Instant, instantMaker } from '../instant'
import { CLOCK_TIMER, type ClockWithTimer } from '../ordering/index'
import type { Maintenance } from '../publisher'
import { READING_KNOWN, READING_SLOT_COUNT, READING_SLOTS, Reading } from '../reading'
import type { TimeSource } from '../time-source'
import { type VmClockWatcher, type VmClockWatchOptions, watch } from '../watcher'
import {
  countAt,
  hasJumped,
  isLeapSecond,
  type Leap,
  type LeapSecond,
  leapAfter,
  leapIndicator,
  leapSign,
  utcAt,
  utcInterval,
} from './simulated-leap'
import { SimulatedTime } from './simulated-time'
import { type Watched, WatchedFigures } from './simulated-watch'

const NS_PER_SEC = 1_000_000_000n
const NS_PER_MS = 1_000_000n
const PPB = 1_000_000_000n
const PPB_PER_PPM = 1000
const MOST_PPM = 1e5
const LAST_NS = 2n ** 63n - 1n
const FIRST_NS = -(2n ** 63n)
const DEFAULT_ERROR_NS = 1_000_000n
const DEFAULT_TAI_MINUS_UTC_SEC = 37
/** Beyond this age nobody watches over the page's time any more. */
const VOID_AFTER_NS = 1000n * NS_PER_SEC
const FIRST_COUNTER = 2n ** 40n
/** A migration takes the machine to a host with another counter. */
const COUNTER_JUMP = 2n ** 41n

const TIMESCALES = ['utc', 'tai', 'monotonic'] as const
const STATUSES = ['unknown', 'initializing', 'synchronized', 'free-running', 'unreliable'] as const
const MAINTENANCE = ['none', 'soon', 'imminent'] as const satisfies readonly Maintenance[]
// With these no call can read the page at all.
const UNREADABLE: ReadonlySet<VmClockErrorCode> = new Set([
  'ERR_VMCLOCK_TIMEOUT',
  'ERR_VMCLOCK_BAD_VERSION',
])

const SOURCE: TimeSource = Object.freeze({
  kind: 'simulated',
  path: undefined,
  from: 'unknown',
  guard: Object.freeze({
    state: 'device',
    path: undefined,
    reason: undefined,
    remedy: undefined,
  }),
  assumed: Object.freeze([]),
  sinceMs: undefined,
})

let startTimer: (clock: SimulatedClock, delayNs: bigint, callback: () => void) => () => void

/** Options of {@link SimulatedClock}. */
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
] as const satisfies ReadonlyArray<keyof SimulatedClockOptions>

/** How the clock was opened; it never changes. */
interface Policy {
  readonly timescale: (typeof TIMESCALES)[number]
  readonly requireSynchronized: boolean
  readonly errorLimitNs: bigint | undefined
  readonly maxAgeNs: bigint | undefined
}

/** Everything that a clone of the machine takes along. Times are those of `SimulatedTime`. */
interface State {
  /** The clock's error at `errorSinceNs`. */
  errorNs: bigint
  errorSinceNs: bigint
  driftPpb: bigint
  /** Added to the true time, so that it equals UTC before `leap`. */
  shiftNs: bigint
  leap: Leap | undefined
  taiMinusUtcSec: number | undefined
  maxErrorNs: bigint | undefined
  maxDriftPpb: bigint
  /** When the page was updated last; undefined while it is updated all the time. */
  staleSinceNs: bigint | undefined
  counterAheadNs: bigint
  disruptionMarker: bigint
  vmGeneration: bigint | undefined
  status: (typeof STATUSES)[number]
  maintenance: Maintenance
  failure: VmClockErrorCode | undefined
}

/**
 * A clock for tests: pure JavaScript, on every operating system. Its time stands still until the test
 * advances it, and the test decides about its error, its bound and its machine.
 *
 * It implements `Clock`, so code under test takes it in place of a `VmClock`. Waits on it
 * (`waitUntilPast` and so on) end by simulated time, and look again after each change that the test makes.
 * No fake timers are needed, and any may be used beside it.
 *
 * The model. There is a true time, which several clocks may share. The clock's time differs from it by an
 * error, which grows by `drift`. The bound is what the clock claims about that error; nothing keeps it
 * true but the test (`isBoundTrue`). The page counts as updated all the time until `goStale`. From then on
 * its age and its bound grow.
 *
 * @example
 * ```ts
 * import { waitUntilPast } from 'vmclock/ordering'
 * import { SimulatedClock } from 'vmclock/testing'
 *
 * const clock = new SimulatedClock({ maxErrorNs: 2_000_000n })
 * const { latestNs } = clock.read()
 * const wait = waitUntilPast(clock, latestNs ?? 0n)
 * clock.advance(5_000_000n)
 * await wait
 * ```
 */
export class SimulatedClock implements Clock {
  readonly #time: SimulatedTime
  readonly #policy: Policy
  readonly #watched: WatchedFigures
  readonly #wakers: Set<() => void> = new Set()
  readonly #initialErrorNs: bigint
  #state: State
  #closed = false

  /** Closes the clock at the end of a `using` scope. */
  declare readonly [Symbol.dispose]: () => void

  static {
    startTimer = (clock, delayNs, callback) => clock.#startTimer(delayNs, callback)
  }

  /**
   * @param options - the clock and its machine
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  constructor(options?: SimulatedClockOptions) {
    const given = argument.record(options, 'options', OPTIONS)
    this.#time = timeOf(given)
    const maxAgeMs = argument.number(given['maxAgeMs'], 'options.maxAgeMs', 0, 2 ** 31)
    this.#policy = {
      timescale: argument.choice(given['timescale'], 'options.timescale', TIMESCALES) ?? 'utc',
      requireSynchronized:
        argument.flag(given['requireSynchronized'], 'options.requireSynchronized') ?? false,
      errorLimitNs: argument.int63(given['errorLimitNs'], 'options.errorLimitNs'),
      maxAgeNs: maxAgeMs === undefined ? undefined : BigInt(Math.floor(maxAgeMs * 1e6)),
    }
    const { maxErrorNs = DEFAULT_ERROR_NS, vmGeneration = 1n, taiMinusUtcSec } = given
    const taiSec = taiMinusUtcSec === undefined ? DEFAULT_TAI_MINUS_UTC_SEC : taiMinusUtcSec
    const nowNs = this.#time.nowNs
    this.#state = {
      errorNs: argument.int64(given['errorNs'] ?? 0n, 'options.errorNs'),
      errorSinceNs: nowNs,
      driftPpb: ppb(given['driftPpm'], 'options.driftPpm', -MOST_PPM),
      shiftNs: 0n,
      leap: undefined,
      taiMinusUtcSec:
        taiSec === null ? undefined : argument.integer(taiSec, 'options.taiMinusUtcSec', 10, 255),
      maxErrorNs:
        maxErrorNs === null ? undefined : argument.int63(maxErrorNs, 'options.maxErrorNs'),
      maxDriftPpb: ppb(given['maxDriftPpm'], 'options.maxDriftPpm', 0),
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
    }
    this.#initialErrorNs = this.#state.maxErrorNs ?? DEFAULT_ERROR_NS
    this.#watched = new WatchedFigures(this.#figures())
  }

  // What the code under test calls: as VmClock.

  /** Undefined: there is no page. */
  get path(): undefined {
    return undefined
  }

  /** The timescale of all times of this clock. */
  get timescale(): 'utc' | 'tai' | 'monotonic' {
    return this.#policy.timescale
  }

  /** Its kind is `simulated`. */
  get timeSource(): TimeSource {
    return SOURCE
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed
  }

  /** False while the clock fails with `ERR_VMCLOCK_NO_TIME`. */
  get hasTime(): boolean {
    this.#checkReadable()
    return this.#state.failure !== 'ERR_VMCLOCK_NO_TIME'
  }

  /** True if a call for the time would succeed now. False after `close`. */
  get isUsable(): boolean {
    return !(this.tryRead() instanceof VmClockError)
  }

  /** As `VmClock.nowNs`. */
  nowNs(): bigint {
    return this.read().epochNs
  }

  /** As `VmClock.nowMs`. */
  nowMs(): number {
    this.#checkUtc('nowMs')
    const ns = this.nowNs()
    const digits = String(ns < 0n ? -ns : ns).padStart(7, '0')
    // Parsing rounds once; a sum of two doubles would round twice.
    const ms = Number(`${digits.slice(0, -6)}.${digits.slice(-6)}`)
    return ns < 0n ? -ms : ms
  }

  /** As `VmClock.nowDate`. */
  nowDate(): Date {
    this.#checkUtc('nowDate')
    return new Date(Number(floorDivide(this.nowNs(), NS_PER_MS)))
  }

  /** As `VmClock.nowInstant`. */
  nowInstant(): Instant {
    this.#checkUtc('nowInstant')
    const instant = instantMaker()
    return instant(this.nowNs())
  }

  /** As `VmClock.read`. */
  read(): Reading {
    return new Reading(this.#slotsAt(this.#time.nowNs), this.timescale)
  }

  // The result is named by `VmClock`, or the bundler of declarations would move shared types to a file of their own.
  /** As `VmClock.tryRead`. */
  tryRead(): ReturnType<VmClock['tryRead']> {
    try {
      return this.read()
    } catch (error) {
      if (VmClockError.isVmClockError(error)) return error
      throw error
    }
  }

  /** As `VmClock.readInto`. */
  readInto(slots: BigInt64Array, at = 0): void {
    argument.room(slots, at, READING_SLOT_COUNT)
    slots.set(this.#slotsAt(this.#time.nowNs), at)
  }

  /** The simulated counter: 10^9 ticks a second of true time, unsigned 64-bit. */
  counter(): bigint {
    this.#checkOpen()
    return this.#counterAt(this.#time.nowNs)
  }

  /** As `VmClock.convert`. */
  convert(counter: bigint, token: ContinuityToken): Reading {
    const ticks = argument.uint64(counter, 'counter')
    this.#requireContinuous(token)
    return new Reading(this.#slotsAt(this.#trueAt(ticks)), this.timescale)
  }

  /** As `VmClock.convertInto`. */
  convertInto(counters: BigUint64Array, out: BigInt64Array, token: ContinuityToken): void {
    const checked = continuityToken(token)
    argument.conversion(counters, out)
    this.#requireContinuous(checked)
    const times = Array.from(
      counters,
      (counter) => this.#slotsAt(this.#trueAt(counter))[READING_SLOTS.EPOCH_NS] as bigint,
    )
    out.set(times)
  }

  /** As `VmClock.continuityToken`. */
  continuityToken(): ContinuityToken {
    this.#checkReadable()
    return issueToken(this.#state.disruptionMarker, this.#state.vmGeneration)
  }

  /** As `VmClock.isContinuous`. */
  isContinuous(token: ContinuityToken): boolean {
    const { disruptionMarker, vmGeneration } = continuityToken(token)
    this.#checkReadable()
    return (
      disruptionMarker === this.#state.disruptionMarker && vmGeneration === this.#state.vmGeneration
    )
  }

  /** As `VmClock.watch`. Events come as reactions of promises, after the call that made the change. */
  watch(options?: VmClockWatchOptions): VmClockWatcher {
    this.#checkReadable()
    return watch(this.#watched.asNative, undefined, options)
  }

  /** Closes the clock. Its time goes on, and clocks that share it stay open. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#wake()
  }

  #startTimer(delayNs: bigint, callback: () => void): () => void {
    const cancel = this.#time.after(this.#trueDelay(delayNs), () => wake())
    const wake = (): void => {
      cancel()
      if (this.#wakers.delete(wake)) callback()
    }
    this.#wakers.add(wake)
    return () => {
      cancel()
      this.#wakers.delete(wake)
    }
  }

  // What the test calls.

  /** The true time, which other clocks may share. */
  get time(): SimulatedTime {
    return this.#time
  }

  /** The true time now in this clock's timescale, in nanoseconds. No program could know it. */
  get trueNs(): bigint {
    return this.#label(this.#time.nowNs + this.#state.shiftNs)
  }

  /** The clock's time minus the true time, in nanoseconds. */
  get errorNs(): bigint {
    return this.#errorAt(this.#time.nowNs)
  }

  /** True if the clock states no bound, or one that holds. */
  get isBoundTrue(): boolean {
    const errorNs = this.errorNs
    const boundNs = this.#boundAt(this.#time.nowNs)
    return boundNs === undefined || (errorNs < 0n ? -errorNs : errorNs) <= boundNs
  }

  /**
   * Lets true time pass, for all clocks that share it. See {@link SimulatedTime.advance}.
   *
   * @param ns - nanoseconds, 0 to 2^63 - 1
   */
  advance(ns: bigint): void {
    this.#time.advance(ns)
  }

  /**
   * Lets true time pass and the event loop turn. See {@link SimulatedTime.advanceAsync}.
   *
   * @param ns - nanoseconds, 0 to 2^63 - 1
   */
  advanceAsync(ns: bigint): Promise<void> {
    return this.#time.advanceAsync(ns)
  }

  /**
   * Advances the true time to a time. The clock's error stays.
   *
   * @param ns - in this clock's timescale, not before `trueNs`
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  set(ns: bigint): void {
    const wanted = argument.int64(ns, 'ns')
    const { leap, shiftNs } = this.#state
    const countNs = this.timescale === 'utc' ? countAt(leap, wanted) : wanted - this.#taiShiftNs()
    const aheadNs = countNs - shiftNs - this.#time.nowNs
    if (aheadNs < 0n) {
      throw invalidArgument(
        `true time cannot go back: it is ${-aheadNs} ns after the wanted time`,
        'set the clock first, or use step() to set the clock back',
      )
    }
    this.#time.advance(aheadNs)
  }

  /**
   * Makes the clock wrong by a constant, and says nothing: a bound that is less than that becomes false.
   *
   * @param errorNs - the clock's time minus the true time, signed
   */
  skew(errorNs: bigint): void {
    const error = argument.int64(errorNs, 'errorNs')
    this.#change((state) => this.#setError(state, error), 'keeps age')
  }

  /**
   * Steps the clock, as a time daemon does. The bound stays.
   *
   * @param ns - nanoseconds, signed: positive steps ahead
   */
  step(ns: bigint): void {
    const stepNs = argument.int64(ns, 'ns')
    this.#change((state) => this.#setError(state, this.errorNs + stepNs))
  }

  /**
   * Makes the clock run faster than true time from now on.
   *
   * @param ppm - parts per million, ±10^5; negative is slower
   */
  drift(ppm: number): void {
    const driftPpb = ppb(ppm, 'ppm', -MOST_PPM)
    this.#change((state) => {
      this.#setError(state, this.errorNs)
      state.driftPpb = driftPpb
    }, 'keeps age')
  }

  /**
   * Announces a leap second at the end of the present UTC month, and lets it happen then.
   *
   * @param kind - `inserted` (23:59:60) or `deleted`
   */
  leapSecond(kind: LeapSecond): void {
    const checked = argument.choice(kind, 'kind', ['inserted', 'deleted'] as const)
    if (checked === undefined) throw invalidArgument("kind must be 'inserted' or 'deleted'")
    this.#change((state) => {
      const countNs = this.#countAt(this.#time.nowNs)
      const { leap } = state
      if (leap !== undefined && hasJumped(leap, countNs)) {
        state.shiftNs -= BigInt(leapSign(leap)) * NS_PER_SEC
        if (state.taiMinusUtcSec !== undefined) state.taiMinusUtcSec += leapSign(leap)
      }
      state.leap = leapAfter(checked, this.#countAt(this.#time.nowNs))
    })
  }

  /**
   * States another bound, from an update of the page now.
   *
   * @param maxErrorNs - nanoseconds, 0 to 2^63 - 1
   */
  widen(maxErrorNs: bigint): void {
    const errorNs = argument.int63(maxErrorNs, 'maxErrorNs')
    if (errorNs === undefined) throw invalidArgument('maxErrorNs is missing', 'or call loseBound()')
    this.#change((state) => {
      state.maxErrorNs = errorNs
    })
  }

  /** States no bound from now on. `widen` and `synchronize` give it back. */
  loseBound(): void {
    this.#change((state) => {
      state.maxErrorNs = undefined
    })
  }

  /**
   * Makes the clock right: no error, synchronized, with a bound, updated all the time, without a failure. Its
   * drift stays.
   *
   * @param maxErrorNs - the bound in nanoseconds; default the first one
   */
  synchronize(maxErrorNs?: bigint): void {
    const errorNs = argument.int63(maxErrorNs, 'maxErrorNs') ?? this.#initialErrorNs
    this.#change((state) => {
      this.#setError(state, 0n)
      state.maxErrorNs = errorNs
      state.status = 'synchronized'
      state.staleSinceNs = undefined
      state.failure = undefined
    })
  }

  /**
   * Disrupts the counter: tokens from before are refused, and the bound is lost until `synchronize` or `widen`,
   * as on a machine whose clock has yet to be measured again.
   */
  disrupt(): void {
    this.#change(disrupted)
  }

  /**
   * Migrates the machine: a disruption, after which the counter is another host's.
   *
   * @param errorNs - the clock's error afterwards, in nanoseconds, signed; default as before
   */
  migrate(errorNs?: bigint): void {
    const error = errorNs === undefined ? this.errorNs : argument.int64(errorNs, 'errorNs')
    this.#change((state) => {
      disrupted(state)
      state.counterAheadNs += COUNTER_JUMP
      this.#setError(state, error)
    })
  }

  /**
   * Saves the machine and resumes it twice: as this clock and as the returned one. Both see the same new
   * generation and a disruption, and share the true time.
   */
  clone(): SimulatedClock {
    const twin = new SimulatedClock({ time: this.#time })
    const state = { ...this.#state }
    this.#restore()
    twin.#adopt(this.#policy, state)
    twin.#restore()
    return twin
  }

  /** Stops the updates of the page: from now on its age grows, and its bound by `maxDriftPpm`. */
  goStale(): void {
    const nowNs = this.#time.nowNs
    // No update, so no event: watchers hear of nothing.
    this.#state.staleSinceNs ??= nowNs
    this.#wake()
  }

  /**
   * Makes the calls that return time fail until `recover`. With `ERR_VMCLOCK_TIMEOUT` and
   * `ERR_VMCLOCK_BAD_VERSION` no call can read the page, and watchers emit `error`.
   *
   * @param code - the code of the errors
   */
  fail(code: VmClockErrorCode): void {
    if (typeof code !== 'string' || !code.startsWith('ERR_VMCLOCK_')) {
      throw invalidArgument('code must be a code of VmClockError, such as ERR_VMCLOCK_TIMEOUT')
    }
    this.#state.failure = code
    if (UNREADABLE.has(code)) {
      const { message, remedy } = failureOf(code)
      this.#watched.fail({ failed: true, code, message, ...(remedy !== undefined && { remedy }) })
    }
    this.#wake()
  }

  /** Ends what `fail` began. */
  recover(): void {
    this.#state.failure = undefined
    this.#wake()
  }

  /**
   * Sets the state of the page's clock. Only `synchronized` and `free-running` give time.
   *
   * @param status - the state
   */
  setStatus(
    status: 'unknown' | 'initializing' | 'synchronized' | 'free-running' | 'unreliable',
  ): void {
    const checked = argument.choice(status, 'status', STATUSES)
    if (checked === undefined) throw invalidArgument(`status must be ${STATUSES.join(' or ')}`)
    this.#change((state) => {
      state.status = checked
    })
  }

  /**
   * Announces a disruption, or withdraws the announcement.
   *
   * @param maintenance - what is announced
   */
  setMaintenance(maintenance: Maintenance): void {
    const checked = argument.choice(maintenance, 'maintenance', MAINTENANCE)
    if (checked === undefined) throw invalidArgument(`maintenance must be none, soon or imminent`)
    this.#change((state) => {
      state.maintenance = checked
    })
  }

  // The model.

  #errorAt(trueNs: bigint): bigint {
    const { errorNs, errorSinceNs, driftPpb } = this.#state
    return errorNs + floorDivide((trueNs - errorSinceNs) * driftPpb, PPB)
  }

  #countAt(trueNs: bigint): bigint {
    return trueNs + this.#state.shiftNs + this.#errorAt(trueNs)
  }

  #counterAt(trueNs: bigint): bigint {
    return BigInt.asUintN(64, trueNs + this.#state.counterAheadNs)
  }

  #trueAt(counter: bigint): bigint {
    const nowNs = this.#time.nowNs
    return nowNs + BigInt.asIntN(64, counter - this.#counterAt(nowNs))
  }

  /** Returns how old the page's last update is at a true time. */
  #ageAt(trueNs: bigint): bigint {
    return trueNs - (this.#state.staleSinceNs ?? this.#time.nowNs)
  }

  #boundAt(trueNs: bigint): bigint | undefined {
    const { maxErrorNs, maxDriftPpb } = this.#state
    const ageNs = this.#ageAt(trueNs)
    if (maxErrorNs === undefined || ageNs > VOID_AFTER_NS) return undefined
    const distanceNs = ageNs < 0n ? -ageNs : ageNs
    return least(maxErrorNs + (distanceNs * maxDriftPpb + PPB - 1n) / PPB, LAST_NS)
  }

  #taiShiftNs(): bigint {
    if (this.timescale !== 'tai') return 0n
    const { taiMinusUtcSec } = this.#state
    if (taiMinusUtcSec === undefined) throw failureOf('ERR_VMCLOCK_NO_TAI_OFFSET')
    return BigInt(taiMinusUtcSec) * NS_PER_SEC
  }

  #label(countNs: bigint): bigint {
    return this.timescale === 'utc'
      ? utcAt(this.#state.leap, countNs)
      : countNs + this.#taiShiftNs()
  }

  #interval(countNs: bigint, boundNs: bigint): readonly [bigint, bigint] {
    if (this.timescale === 'utc') return utcInterval(this.#state.leap, countNs, boundNs)
    const label = this.#label(countNs)
    return [label - boundNs, label + boundNs]
  }

  #slotsAt(trueNs: bigint): BigInt64Array {
    this.#checkUsable(trueNs)
    const { leap, taiMinusUtcSec, vmGeneration, status, disruptionMarker } = this.#state
    const countNs = this.#countAt(trueNs)
    const epochNs = this.#label(countNs)
    if (epochNs < FIRST_NS || epochNs > LAST_NS) throw failureOf('ERR_VMCLOCK_OUT_OF_RANGE')
    const slots = new BigInt64Array(READING_SLOT_COUNT).fill(-1n)
    let known = 0n
    slots[READING_SLOTS.EPOCH_NS] = epochNs
    const boundNs = this.#boundAt(trueNs)
    let maxErrorNs: bigint | undefined
    if (boundNs !== undefined) {
      known |= READING_KNOWN.BOUND
      const [earliestNs, latestNs] = this.#interval(countNs, boundNs)
      // Near a leap second one side is longer than the bound.
      maxErrorNs = least(most(epochNs - earliestNs, latestNs - epochNs), LAST_NS)
      slots[READING_SLOTS.MAX_ERROR_NS] = maxErrorNs
      slots[READING_SLOTS.EARLIEST_NS] = earliestNs < FIRST_NS ? FIRST_NS : earliestNs
      slots[READING_SLOTS.LATEST_NS] = least(latestNs, LAST_NS)
    }
    const { errorLimitNs } = this.#policy
    if (errorLimitNs !== undefined && (maxErrorNs === undefined || maxErrorNs > errorLimitNs)) {
      throw failureOf('ERR_VMCLOCK_TOO_UNCERTAIN')
    }
    slots[READING_SLOTS.COUNTER] = this.#counterAt(trueNs)
    slots[READING_SLOTS.DISRUPTION_MARKER] = disruptionMarker
    if (vmGeneration !== undefined) {
      known |= READING_KNOWN.VM_GENERATION
      slots[READING_SLOTS.VM_GENERATION] = vmGeneration
    }
    slots[READING_SLOTS.STATUS] = status === 'synchronized' ? 2n : 3n
    slots[READING_SLOTS.LEAP_SECOND] = isLeapSecond(leap, countNs) ? 1n : 0n
    if (taiMinusUtcSec !== undefined) {
      known |= READING_KNOWN.TAI_MINUS_UTC
      const change = leap !== undefined && hasJumped(leap, countNs) ? leapSign(leap) : 0
      slots[READING_SLOTS.TAI_MINUS_UTC_SEC] = BigInt(taiMinusUtcSec + change)
    }
    slots[READING_SLOTS.REFERENCE_NS] = epochNs - this.#ageAt(trueNs)
    slots[READING_SLOTS.KNOWN] = known
    return slots
  }

  #figures(): Watched {
    const { disruptionMarker, vmGeneration, maintenance, status, leap } = this.#state
    return {
      disruptionMarker,
      ...(vmGeneration !== undefined && { vmGeneration }),
      maintenance,
      clockStatus: status,
      leapIndicator: leapIndicator(leap, this.#countAt(this.#time.nowNs)),
    }
  }

  /** Returns a delay by this clock as one of true time, rounded up. */
  #trueDelay(delayNs: bigint): bigint {
    const rate = PPB + this.#state.driftPpb
    return (delayNs * PPB + rate - 1n) / rate
  }

  #setError(state: State, errorNs: bigint): void {
    state.errorNs = errorNs
    state.errorSinceNs = this.#time.nowNs
  }

  /** Changes the page's state by one update, which makes a stale page young again unless it keeps its age. */
  #change(make: (state: State) => void, age?: 'keeps age'): void {
    make(this.#state)
    const isStale = this.#state.staleSinceNs !== undefined
    if (isStale && age === undefined) this.#state.staleSinceNs = this.#time.nowNs
    this.#watched.update(this.#figures())
    this.#wake()
  }

  #restore(): void {
    this.#change((state) => {
      disrupted(state)
      if (state.vmGeneration !== undefined) state.vmGeneration += 1n
    })
  }

  #adopt(policy: Policy, state: State): void {
    Object.assign(this.#policy, policy)
    this.#state = state
  }

  #wake(): void {
    for (const wake of [...this.#wakers]) wake()
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError('clock')
  }

  #checkReadable(): void {
    this.#checkOpen()
    const { failure } = this.#state
    if (failure !== undefined && UNREADABLE.has(failure)) throw failureOf(failure)
  }

  #checkUsable(trueNs: bigint): void {
    this.#checkOpen()
    const { failure, status } = this.#state
    if (failure !== undefined) throw failureOf(failure)
    const isUsable = status === 'synchronized' || status === 'free-running'
    if (!isUsable || (this.#policy.requireSynchronized && status !== 'synchronized')) {
      throw failureOf('ERR_VMCLOCK_UNSYNCHRONIZED')
    }
    const { maxAgeNs } = this.#policy
    if (maxAgeNs !== undefined && this.#ageAt(trueNs) > maxAgeNs) {
      throw failureOf('ERR_VMCLOCK_STALE')
    }
  }

  #checkUtc(call: string): void {
    this.#checkOpen()
    if (this.timescale === 'utc') return
    throw new VmClockError(
      'ERR_VMCLOCK_TIMESCALE',
      `${call} needs a timescale that follows UTC, and this clock's is ${this.timescale}`,
      { remedy: 'make the clock with timescale utc, or use nowNs() or read()' },
    )
  }

  #requireContinuous(token: ContinuityToken): void {
    if (this.isContinuous(token)) return
    throw failureOf('ERR_VMCLOCK_DISRUPTED')
  }
}

makeDisposable(SimulatedClock)

// Lets waits on such a clock end by simulated time. They look again after each change, too. Not in the class's
// body: a declaration file cannot name a method by another entry point's symbol.
Object.defineProperty(SimulatedClock.prototype, CLOCK_TIMER, {
  value: function timer(
    this: SimulatedClock,
    ...[delayNs, callback]: Parameters<ClockWithTimer[typeof CLOCK_TIMER]>
  ): () => void {
    return startTimer(this, delayNs, callback)
  },
})

function disrupted(state: State): void {
  state.disruptionMarker += 1n
  state.maxErrorNs = undefined
}

/** Makes the error with which a simulated clock fails. */
function failureOf(code: VmClockErrorCode): VmClockError {
  return new VmClockError(code, `the simulated clock fails with ${code}`, {
    remedy: 'a real clock with this code says here what to do',
  })
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

function ppb(ppm: unknown, name: string, least: number): bigint {
  return BigInt(Math.round((argument.number(ppm, name, least, MOST_PPM) ?? 0) * PPB_PER_PPM))
}

/** Divides, rounded towards minus infinity. */
function floorDivide(dividend: bigint, divisor: bigint): bigint {
  const quotient = dividend / divisor
  return dividend % divisor < 0n ? quotient - 1n : quotient
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}

function most(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
