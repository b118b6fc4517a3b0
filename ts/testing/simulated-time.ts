/** The true time of a simulation, which stands still until the test advances it. */

import * as argument from '../arguments'
import { refuseDetached } from '../detached'
import { invalidArgument } from '../errors'

/** 2026-01-01, the default start. */
const DEFAULT_START_NS = 1_767_225_600_000_000_000n
const NS_PER_MS = 1_000_000n
// A longer timer would end at once.
const LONGEST_TIMER_MS = 2n ** 31n - 1n
// Taken when the module loads, because a test may replace the global one.
const { setImmediate } = globalThis

/** Options of {@link SimulatedTime}. */
export interface SimulatedTimeOptions {
  /** The time at the start, in nanoseconds since 1970-01-01 UTC, signed 64-bit; default 2026-01-01. */
  readonly startNs?: bigint | undefined
  /**
   * Follow `Date.now()`: the time also passes as `Date` does, and waits use the global `setTimeout`. With
   * both replaced by the fake timers of a test framework, advancing those advances this time. Default: false.
   */
  readonly followsDate?: boolean | undefined
}

const OPTIONS = ['startNs', 'followsDate'] as const satisfies ReadonlyArray<
  keyof SimulatedTimeOptions
>

interface Alarm {
  readonly atNs: bigint
  readonly callback: () => void
}

/**
 * The true time that simulated clocks share. It runs evenly, also through leap seconds: it counts nanoseconds
 * since 1970-01-01 UTC as if no leap second followed the start.
 *
 * It needs no native part and works on every operating system.
 */
export class SimulatedTime {
  readonly #followsDate: boolean
  readonly #alarms: Set<Alarm> = new Set()
  #nowNs: bigint
  #dateMs: number

  /**
   * @param options - the start, and whether `Date` advances it
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  constructor(options?: SimulatedTimeOptions) {
    const given = argument.record(options, 'options', OPTIONS)
    const startNs = given['startNs']
    this.#nowNs =
      startNs === undefined ? DEFAULT_START_NS : argument.int64(startNs, 'options.startNs')
    this.#followsDate = argument.flag(given['followsDate'], 'options.followsDate') ?? false
    this.#dateMs = Math.floor(Date.now())
  }

  /** The true time now. */
  get nowNs(): bigint {
    if (this.#followsDate) {
      const dateMs = Math.floor(Date.now())
      // A date that was set back does not take the true time back.
      if (dateMs > this.#dateMs) this.#nowNs += BigInt(dateMs - this.#dateMs) * NS_PER_MS
      this.#dateMs = dateMs
    }
    return this.#nowNs
  }

  /**
   * Lets time pass. Waits that end meanwhile end in their order, each at its own time. Their promises' reactions
   * run only after this call; use {@link SimulatedTime.advanceAsync} if they start further waits.
   *
   * @param ns - nanoseconds, 0 to 2^63 - 1
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  advance(ns: bigint): void {
    const untilNs = this.#untilNs(ns)
    while (this.#fireNext(untilNs)) {}
    this.#goTo(untilNs)
  }

  /**
   * Lets time pass as {@link SimulatedTime.advance} does, and lets the event loop turn after each wait that
   * ends. So a program that waits again and again does so at the right times.
   *
   * @param ns - nanoseconds, 0 to 2^63 - 1
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  async advanceAsync(ns: bigint): Promise<void> {
    const untilNs = this.#untilNs(ns)
    await turn()
    while (this.#fireNext(untilNs)) await turn()
    this.#goTo(untilNs)
    await turn()
  }

  /**
   * Calls back once some time has passed. Returns the function that cancels it.
   *
   * @param delayNs - nanoseconds, 0 to 2^63 - 1
   * @param callback - is called once, from within `advance`
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  after(delayNs: bigint, callback: () => void): () => void {
    if (typeof callback !== 'function') throw invalidArgument('callback must be a function')
    const alarm: Alarm = { atNs: this.nowNs + duration(delayNs, 'delayNs'), callback }
    this.#alarms.add(alarm)
    const stop = this.#followsDate ? this.#startTimer(alarm) : undefined
    return () => {
      this.#alarms.delete(alarm)
      stop?.()
    }
  }

  /** Starts a timer of the test framework. It looks again if it ends early. */
  #startTimer(alarm: Alarm): () => void {
    let timer: ReturnType<typeof setTimeout> | undefined
    const start = (): void => {
      const delayNs = alarm.atNs - this.nowNs
      const delayMs = (delayNs + NS_PER_MS - 1n) / NS_PER_MS
      timer = globalThis.setTimeout(
        () => {
          if (!this.#alarms.has(alarm)) return
          if (this.nowNs < alarm.atNs) start()
          else this.#fire(alarm)
        },
        Number(delayMs > LONGEST_TIMER_MS ? LONGEST_TIMER_MS : delayMs),
      )
    }
    start()
    return () => globalThis.clearTimeout(timer)
  }

  #untilNs(ns: bigint): bigint {
    return this.nowNs + duration(ns, 'ns')
  }

  #goTo(ns: bigint): void {
    if (ns > this.#nowNs) this.#nowNs = ns
  }

  /** Fires the first alarm that is due at `untilNs`; returns false if there is none. */
  #fireNext(untilNs: bigint): boolean {
    let first: Alarm | undefined
    for (const alarm of this.#alarms) {
      if (alarm.atNs <= untilNs && (first === undefined || alarm.atNs < first.atNs)) first = alarm
    }
    if (first === undefined) return false
    this.#goTo(first.atNs)
    this.#fire(first)
    return true
  }

  #fire(alarm: Alarm): void {
    this.#alarms.delete(alarm)
    alarm.callback()
  }
}

refuseDetached(SimulatedTime)

/** Lets promises' reactions and other work of the event loop happen. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function duration(ns: unknown, name: string): bigint {
  const checked = argument.int63(ns, name)
  if (checked === undefined) throw invalidArgument(`${name} is missing`)
  return checked
}
