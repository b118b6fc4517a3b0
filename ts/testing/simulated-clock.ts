/** A clock for tests, whose time, error and machine the test decides. */

import * as argument from '../arguments'
import type { VmClock } from '../clock'
import type { Clock } from '../clock-interface'
import { type ContinuityToken, continuityToken, issueToken } from '../continuity'
import { refuseDetached } from '../detached'
import { makeDisposable } from '../disposable'
import { closedError, invalidArgument, VmClockError, type VmClockErrorCode } from '../errors'
import { givePair, type HrTime, hrTimeOf } from '../hr-time'
import { type Instant, instantMaker } from '../instant'
import { CLOCK_TIMER, type ClockWithTimer } from '../ordering/index'
import type { Maintenance } from '../publisher'
import { READING_SLOT_COUNT, READING_SLOTS, Reading } from '../reading'
import type { TimeSource } from '../time-source'
import { type VmClockWatcher, type VmClockWatchOptions, watch } from '../watcher'
import type { LeapSecond } from './simulated-leap'
import {
  failureOf,
  floorDivide,
  NS_PER_MS,
  SimulatedModel,
  STATUSES,
  type State,
} from './simulated-model'
import { partsPerBillion, type SimulatedClockOptions, startOf } from './simulated-options'
import type { SimulatedTime } from './simulated-time'
import { WatchedFigures } from './simulated-watch'

const MAINTENANCE = ['none', 'soon', 'imminent'] as const satisfies readonly Maintenance[]

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
  generation: undefined,
  assumed: Object.freeze([]),
  sinceMs: undefined,
})
const SOURCE_WITH_GENERATION: TimeSource = Object.freeze({ ...SOURCE, generation: 'synchronous' })

let startTimer: (clock: SimulatedClock, delayNs: bigint, callback: () => void) => () => void
// Makes the other machine of a clone.
let twinOf: (model: SimulatedModel) => SimulatedClock

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
  #model: SimulatedModel
  readonly #watched: WatchedFigures
  readonly #wakers: Set<() => void> = new Set()
  #stopAging: (() => void) | undefined
  #closed = false

  /** Closes the clock at the end of a `using` scope. */
  declare readonly [Symbol.dispose]: () => void

  static {
    startTimer = (clock, delayNs, callback) => clock.#startTimer(delayNs, callback)
    twinOf = ({ time, policy, state }) => {
      const twin = new this({ time })
      twin.#model = new SimulatedModel(time, policy, { ...state })
      return twin
    }
  }

  /**
   * @param options - the clock and its machine
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  constructor(options?: SimulatedClockOptions) {
    const { time, policy, state } = startOf(options)
    this.#model = new SimulatedModel(time, policy, state)
    this.#watched = new WatchedFigures(this.#model.figures(), () => this.#watchAge())
  }

  // What the code under test calls: as VmClock.

  /** Undefined: there is no page. */
  get path(): undefined {
    return undefined
  }

  /** The timescale of all times of this clock. */
  get timescale(): 'utc' | 'tai' | 'monotonic' {
    return this.#model.policy.timescale
  }

  /** True: a simulation runs in one order. */
  get ordered(): true {
    return true
  }

  /** Its kind is `simulated`. */
  get timeSource(): TimeSource {
    return this.#model.state.vmGeneration === undefined ? SOURCE : SOURCE_WITH_GENERATION
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed
  }

  /** False while the clock fails with `ERR_VMCLOCK_NO_TIME`. */
  get hasTime(): boolean {
    this.#checkReadable()
    return this.#model.state.failure !== 'ERR_VMCLOCK_NO_TIME'
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

  /** As `VmClock.nowHrTime`. */
  nowHrTime(out?: HrTime): HrTime {
    return givePair(...hrTimeOf(this.nowNs()), out)
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
    this.#checkOpen()
    return new Reading(this.#model.slots(), this.timescale)
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
    this.#checkOpen()
    slots.set(this.#model.slots(), at)
  }

  /** The simulated counter: 10^9 ticks a second of true time, unsigned 64-bit. */
  counter(): bigint {
    this.#checkOpen()
    return this.#model.counter
  }

  /** As `VmClock.convert`. */
  convert(counter: bigint, token: ContinuityToken): Reading {
    const ticks = argument.uint64(counter, 'counter')
    this.#requireContinuous(token)
    return new Reading(this.#model.slotsOf(ticks), this.timescale)
  }

  /** As `VmClock.convertInto`. */
  convertInto(counters: BigUint64Array, out: BigInt64Array, token: ContinuityToken): void {
    const checked = continuityToken(token)
    argument.conversion(counters, out)
    this.#requireContinuous(checked)
    const times = Array.from(
      counters,
      (counter) => this.#model.slotsOf(counter)[READING_SLOTS.EPOCH_NS] as bigint,
    )
    out.set(times)
  }

  /** As `VmClock.continuityToken`. */
  continuityToken(): ContinuityToken {
    this.#checkReadable()
    const { state } = this.#model
    return issueToken(state.disruptionMarker, state.vmGeneration)
  }

  /** As `VmClock.isContinuous`. */
  isContinuous(token: ContinuityToken): boolean {
    const { disruptionMarker, vmGeneration } = continuityToken(token)
    this.#checkReadable()
    const { state } = this.#model
    return disruptionMarker === state.disruptionMarker && vmGeneration === state.vmGeneration
  }

  /** As `VmClock.watch`. Events come as reactions of promises, after the call that made the change. */
  watch(options?: VmClockWatchOptions): VmClockWatcher {
    this.#checkReadable()
    return watch(this.#watched.asNative, undefined, options, () => this.#readingOrNone())
  }

  /** Closes the clock. Its time goes on, and clocks that share it stay open. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#wake()
  }

  #startTimer(delayNs: bigint, callback: () => void): () => void {
    const { time } = this.#model
    const cancel = time.after(this.#model.trueDelayNs(delayNs), () => wake())
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

  // The calls of the test.

  /** The true time, which other clocks may share. */
  get time(): SimulatedTime {
    return this.#model.time
  }

  /** The true time now in this clock's timescale, in nanoseconds. No program could know it. */
  get trueNs(): bigint {
    return this.#model.trueNs
  }

  /** The clock's time minus the true time, in nanoseconds. */
  get errorNs(): bigint {
    return this.#model.errorNs
  }

  /** True if the clock states no bound, or one that holds. */
  get isBoundTrue(): boolean {
    const { errorNs, boundNs } = this.#model
    return boundNs === undefined || (errorNs < 0n ? -errorNs : errorNs) <= boundNs
  }

  /**
   * Lets true time pass, for all clocks that share it. See {@link SimulatedTime.advance}.
   *
   * @param ns - nanoseconds, 0 to 2^63 - 1
   */
  advance(ns: bigint): void {
    this.time.advance(ns)
  }

  /**
   * Lets true time pass and the event loop turn. See {@link SimulatedTime.advanceAsync}.
   *
   * @param ns - nanoseconds, 0 to 2^63 - 1
   */
  advanceAsync(ns: bigint): Promise<void> {
    return this.time.advanceAsync(ns)
  }

  /**
   * Advances the true time to a time. The clock's error stays.
   *
   * @param ns - in this clock's timescale, not before `trueNs`
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  set(ns: bigint): void {
    const aheadNs = this.#model.aheadNs(argument.int64(ns, 'ns'))
    if (aheadNs < 0n) {
      throw invalidArgument(
        `true time cannot go back: it is ${-aheadNs} ns after the wanted time`,
        'set the clock first, or use step() to set the clock back',
      )
    }
    this.time.advance(aheadNs)
  }

  /**
   * Makes the clock wrong by a constant, and says nothing: a bound that is less than that becomes false.
   *
   * @param errorNs - the clock's time minus the true time, signed
   */
  skew(errorNs: bigint): void {
    const error = argument.int64(errorNs, 'errorNs')
    this.#change((model) => model.setError(error), 'keeps age')
  }

  /**
   * Steps the clock, as a time daemon does. The bound stays.
   *
   * @param ns - nanoseconds, signed: positive steps ahead
   */
  step(ns: bigint): void {
    const stepNs = argument.int64(ns, 'ns')
    this.#change((model) => model.setError(model.errorNs + stepNs))
  }

  /**
   * Makes the clock run faster than true time from now on.
   *
   * @param ppm - parts per million, ±10^5; negative is slower
   */
  drift(ppm: number): void {
    const driftPpb = partsPerBillion(ppm, 'ppm')
    this.#change((model) => model.setDrift(driftPpb), 'keeps age')
  }

  /**
   * Announces a leap second at the end of the present UTC month, and lets it happen then.
   *
   * @param kind - `inserted` (23:59:60) or `deleted`
   */
  leapSecond(kind: LeapSecond): void {
    const checked = argument.choice(kind, 'kind', ['inserted', 'deleted'] as const)
    if (checked === undefined) throw invalidArgument("kind must be 'inserted' or 'deleted'")
    this.#change((model) => model.announceLeap(checked))
  }

  /**
   * States another bound, from an update of the page now.
   *
   * @param maxErrorNs - nanoseconds, 0 to 2^63 - 1
   */
  widen(maxErrorNs: bigint): void {
    const errorNs = argument.int63(maxErrorNs, 'maxErrorNs')
    if (errorNs === undefined) throw invalidArgument('maxErrorNs is missing', 'or call loseBound()')
    this.#set({ maxErrorNs: errorNs })
  }

  /** States no bound from now on. `widen` and `synchronize` give it back. */
  loseBound(): void {
    this.#set({ maxErrorNs: undefined })
  }

  /**
   * Makes the clock right: no error, synchronized, with a bound, updated all the time, without a failure. Its
   * drift stays.
   *
   * @param maxErrorNs - the bound in nanoseconds; default the first one
   */
  synchronize(maxErrorNs?: bigint): void {
    const errorNs = argument.int63(maxErrorNs, 'maxErrorNs') ?? this.#model.policy.firstErrorNs
    this.#change((model) => {
      model.setError(0n)
      Object.assign(model.state, {
        maxErrorNs: errorNs,
        status: 'synchronized',
        staleSinceNs: undefined,
        failure: undefined,
      } satisfies Partial<State>)
    })
  }

  /**
   * Disrupts the counter. Tokens from before are refused, and the bound is lost until `synchronize` or `widen`:
   * a real machine's clock has to be measured again.
   */
  disrupt(): void {
    this.#change((model) => model.disrupt())
  }

  /**
   * Migrates the machine: a disruption, after which the counter is another host's.
   *
   * @param errorNs - the clock's error afterwards, in nanoseconds, signed; default as before
   */
  migrate(errorNs?: bigint): void {
    const error = errorNs === undefined ? this.errorNs : argument.int64(errorNs, 'errorNs')
    this.#change((model) => model.migrate(error))
  }

  /**
   * Saves the machine and resumes it twice: as this clock and as the returned one. Both see the same new
   * generation and a disruption, and share the true time.
   */
  clone(): SimulatedClock {
    const twin = twinOf(this.#model)
    for (const machine of [this, twin]) machine.#change((model) => model.restore())
    return twin
  }

  /** Stops the updates of the page: from now on its age grows, and its bound by `maxDriftPpm`. */
  goStale(): void {
    this.#model.state.staleSinceNs ??= this.time.nowNs
    this.#watchAge()
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
    this.#model.state.failure = code
    if (this.#model.isUnreadable) {
      const { message, remedy } = failureOf(code)
      this.#watched.fail({ failed: true, code, message, ...(remedy !== undefined && { remedy }) })
    }
    this.#watchAge()
    this.#wake()
  }

  /** Ends what `fail` began. */
  recover(): void {
    this.#model.state.failure = undefined
    this.#watchAge()
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
    this.#set({ status: checked })
  }

  /**
   * Announces a disruption, or withdraws the announcement.
   *
   * @param maintenance - what is announced
   */
  setMaintenance(maintenance: Maintenance): void {
    const checked = argument.choice(maintenance, 'maintenance', MAINTENANCE)
    if (checked === undefined) throw invalidArgument(`maintenance must be none, soon or imminent`)
    this.#set({ maintenance: checked })
  }

  // The parts of both kinds of calls.

  /** Changes the page by one update, which makes a stale page young again unless it keeps its age. */
  #change(make: (model: SimulatedModel) => void, age?: 'keeps age'): void {
    make(this.#model)
    const { state } = this.#model
    if (state.staleSinceNs !== undefined && age === undefined) {
      state.staleSinceNs = this.time.nowNs
    }
    this.#watched.update(this.#model.figures())
    this.#watchAge()
    this.#wake()
  }

  #set(changes: Partial<State>): void {
    this.#change(({ state }) => Object.assign(state, changes))
  }

  /** Tells the watchers whether the page is stale, now and when it becomes so. */
  #watchAge(): void {
    this.#stopAging?.()
    this.#stopAging = undefined
    if (!this.#watched.isWatched || this.#model.isUnreadable) return
    this.#watched.noteAge(this.#model.staleAgeNs)
    const { staleWithinNs } = this.#model
    if (staleWithinNs === undefined) return
    this.#stopAging = this.time.after(staleWithinNs, () => this.#watchAge())
  }

  #readingOrNone(): Reading | undefined {
    const reading = this.tryRead()
    return reading instanceof VmClockError ? undefined : reading
  }

  #wake(): void {
    for (const wake of [...this.#wakers]) wake()
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError('clock')
  }

  #checkReadable(): void {
    this.#checkOpen()
    const { failure } = this.#model.state
    if (failure !== undefined && this.#model.isUnreadable) throw failureOf(failure)
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
refuseDetached(SimulatedClock)

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
