/**
 * A clock over `Date` and `performance`, for systems that this package does not support.
 *
 * It makes a program run on a developer's machine. It states no bound, and every token stays valid.
 */

import * as argument from './arguments'
import type { Clock } from './clock-interface'
import { type ContinuityToken, continuityToken, issueToken } from './continuity'
import { refuseDetached } from './detached'
import { makeDisposable } from './disposable'
import { closedError, VmClockError } from './errors'
import { givePair, type HrTime, hrTimeOf } from './hr-time'
import { type Instant, instantMaker } from './instant'
import type { NativeClock } from './native'
import { READING_SLOT_COUNT, READING_SLOTS, Reading } from './reading'
import type { TimeSource } from './time-source'
import { type VmClockWatcher, type VmClockWatchOptions, watch } from './watcher'

/** The options of `VmClock.open` that apply to a clock without a page. */
export interface SystemClockOptions {
  readonly timescale: string
  readonly requireSynchronized: boolean
  readonly nonDecreasing: boolean
}

const NS_PER_MS = 1_000_000
const FREE_RUNNING = 3n
const TOKEN: ContinuityToken = issueToken(0n, undefined)
const SOURCE: TimeSource = Object.freeze({
  kind: 'system-clock',
  path: undefined,
  from: 'unknown',
  guard: Object.freeze({ state: 'none', path: undefined, reason: undefined, remedy: undefined }),
  generation: undefined,
  assumed: Object.freeze([]),
  sinceMs: undefined,
})
// What `watch` needs of a native clock. Nothing ever happens to this one.
const UNEVENTFUL = { watch: () => ({ close: () => {} }) } as unknown as NativeClock

/** A clock over `Date` and `performance`. It ignores the page that the caller named. */
export class SystemClock implements Clock {
  readonly #requireSynchronized: boolean
  readonly #nonDecreasing: boolean
  // A time of `Date` and the reading of `performance` that belongs to it. Their sum has a fraction of a
  // millisecond, which `Date` lacks.
  #dateMs = 0
  #elapsedMs = 0
  #lastNs: bigint = -(2n ** 63n)
  #closed = false

  declare readonly [Symbol.dispose]: () => void

  constructor({ timescale, requireSynchronized, nonDecreasing }: SystemClockOptions) {
    if (timescale !== 'utc' && timescale !== 'page') {
      throw new VmClockError(
        'ERR_VMCLOCK_TIMESCALE',
        `the system clock of ${process.platform} gives UTC, and not ${timescale}`,
        { remedy: "leave timescale out, or use 'page'" },
      )
    }
    this.#requireSynchronized = requireSynchronized
    this.#nonDecreasing = nonDecreasing
  }

  get path(): undefined {
    return undefined
  }

  get timescale(): 'utc' {
    return 'utc'
  }

  get ordered(): true {
    return true
  }

  get timeSource(): TimeSource {
    return SOURCE
  }

  get closed(): boolean {
    return this.#closed
  }

  get hasTime(): true {
    this.#checkOpen()
    return true
  }

  get isUsable(): boolean {
    return this.#refusal() === undefined
  }

  nowNs(): bigint {
    const refusal = this.#refusal()
    if (refusal !== undefined) throw refusal
    // A program's fake timers may give a fraction.
    const dateMs = Math.floor(Date.now())
    const elapsedMs = performance.now()
    const sinceMs = elapsedMs - this.#elapsedMs
    // `Date` decides the millisecond, because `performance` does not follow when the clock is set.
    const fractionMs = this.#dateMs + sinceMs - dateMs
    const isWithin = fractionMs >= 0 && fractionMs < 1
    if (!isWithin) {
      this.#dateMs = dateMs
      this.#elapsedMs = elapsedMs
    }
    const fractionNs = isWithin ? Math.floor(fractionMs * NS_PER_MS) : 0
    const ns = BigInt(dateMs) * BigInt(NS_PER_MS) + BigInt(fractionNs)
    if (this.#nonDecreasing && ns < this.#lastNs) return this.#lastNs
    this.#lastNs = ns
    return ns
  }

  nowMs(): number {
    return Number(this.nowNs()) / NS_PER_MS
  }

  nowHrTime(out?: HrTime): HrTime {
    return givePair(...hrTimeOf(this.nowNs()), out)
  }

  nowDate(): Date {
    return new Date(Math.floor(this.nowMs()))
  }

  nowInstant(): Instant {
    this.#checkOpen()
    const instant = instantMaker()
    return instant(this.nowNs())
  }

  read(): Reading {
    return this.#readingOf(this.nowNs(), process.hrtime.bigint())
  }

  tryRead(): Reading | VmClockError {
    return this.#refusal() ?? this.read()
  }

  readInto(slots: BigInt64Array, at = 0): void {
    argument.room(slots, at, READING_SLOT_COUNT)
    slots.set(figuresOf(this.nowNs(), process.hrtime.bigint()), at)
  }

  counter(): bigint {
    this.#checkOpen()
    return process.hrtime.bigint()
  }

  convert(counter: bigint, token: ContinuityToken): Reading {
    const ticks = argument.uint64(counter, 'counter')
    this.#checkToken(token)
    return this.#readingOf(this.#at(ticks), ticks)
  }

  convertInto(counters: BigUint64Array, out: BigInt64Array, token: ContinuityToken): void {
    const { disruptionMarker, vmGeneration } = continuityToken(token)
    argument.conversion(counters, out)
    this.#checkToken({ disruptionMarker, vmGeneration })
    const aheadNs = this.nowNs() - process.hrtime.bigint()
    const times = Array.from(counters, (counter) => inRange(counter + aheadNs))
    out.set(times)
  }

  continuityToken(): ContinuityToken {
    this.#checkOpen()
    return TOKEN
  }

  isContinuous(token: ContinuityToken): boolean {
    this.#checkOpen()
    return isOwn(continuityToken(token))
  }

  watch(options?: VmClockWatchOptions): VmClockWatcher {
    this.#checkOpen()
    return watch(UNEVENTFUL, undefined, options)
  }

  close(): void {
    this.#closed = true
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError('clock')
  }

  /** Returns why a call for the time would fail now. */
  #refusal(): VmClockError | undefined {
    if (this.#closed) return closedError('clock')
    if (!this.#requireSynchronized) return undefined
    return new VmClockError(
      'ERR_VMCLOCK_UNSYNCHRONIZED',
      `this package cannot know whether the system clock of ${process.platform} is synchronized`,
      { remedy: 'open the clock without requireSynchronized' },
    )
  }

  #checkToken(token: ContinuityToken): void {
    if (this.isContinuous(token)) return
    throw new VmClockError(
      'ERR_VMCLOCK_DISRUPTED',
      'the token is of another clock, so the counter may be of another machine',
      { remedy: 'take the token from this clock' },
    )
  }

  #at(counter: bigint): bigint {
    return inRange(this.nowNs() + (counter - process.hrtime.bigint()))
  }

  #readingOf(epochNs: bigint, counter: bigint): Reading {
    return new Reading(figuresOf(epochNs, counter), 'utc')
  }
}

makeDisposable(SystemClock)
refuseDetached(SystemClock)

function isOwn({ disruptionMarker, vmGeneration }: ContinuityToken): boolean {
  return disruptionMarker === TOKEN.disruptionMarker && vmGeneration === undefined
}

function inRange(ns: bigint): bigint {
  if (ns === BigInt.asIntN(64, ns)) return ns
  throw new VmClockError('ERR_VMCLOCK_OUT_OF_RANGE', 'the time is outside the years 1677 to 2262', {
    remedy: 'pass a counter that this clock returned',
  })
}

function figuresOf(epochNs: bigint, counter: bigint): BigInt64Array {
  // -1n is an unknown figure.
  const slots = new BigInt64Array(READING_SLOT_COUNT).fill(-1n)
  slots[READING_SLOTS.EPOCH_NS] = epochNs
  slots[READING_SLOTS.REFERENCE_NS] = epochNs
  slots[READING_SLOTS.COUNTER] = counter
  slots[READING_SLOTS.DISRUPTION_MARKER] = TOKEN.disruptionMarker
  slots[READING_SLOTS.STATUS] = FREE_RUNNING
  slots[READING_SLOTS.LEAP_SECOND] = 0n
  slots[READING_SLOTS.KNOWN] = 0n
  return slots
}
