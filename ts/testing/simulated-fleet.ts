/** Many simulated clocks around one true time, whose bounds are true. */

import * as argument from '../arguments'
import { refuseDetached } from '../detached'
import { invalidArgument } from '../errors'
import { SimulatedClock } from './simulated-clock'
import { SimulatedTime } from './simulated-time'

const MOST_CLOCKS = 100_000
const DEFAULT_MOST_ERROR_NS = 5_000_000n
const DEFAULT_MOST_DRIFT_PPM = 50
const PPB_PER_PPM = 1000

/** Options of {@link SimulatedFleet}. */
export interface SimulatedFleetOptions {
  /** The number of clocks, 1 to 100,000. */
  readonly clocks: number
  /** Decides everything random: equal seeds give equal fleets. A whole number, 0 to 2^32 - 1. */
  readonly seed: number
  /** The largest bound right after a synchronization, in nanoseconds, at least 1; default 5 ms. */
  readonly mostErrorNs?: bigint | undefined
  /** The largest drift in parts per million, 0 to 1000; the bounds grow by as much. Default 50. */
  readonly mostDriftPpm?: number | undefined
  /** The true time that all clocks share; default: a new one. */
  readonly time?: SimulatedTime | undefined
}

const OPTIONS = [
  'clocks',
  'seed',
  'mostErrorNs',
  'mostDriftPpm',
  'time',
] as const satisfies ReadonlyArray<keyof SimulatedFleetOptions>

/**
 * Simulated clocks of many machines around one true time. Each has a random error, a random drift and a random
 * bound, and every bound is true.
 *
 * With it a program's ordering logic can be tested by properties: no decision may contradict the true order
 * (`fleet.time.nowNs`), for any seed. To see the test fail, make one bound false with `clock.skew()`.
 *
 * @example
 * ```ts
 * import { compareIntervals } from 'vmclock/ordering'
 * import { SimulatedFleet } from 'vmclock/testing'
 *
 * const fleet = new SimulatedFleet({ clocks: 3, seed: 1 })
 * const first = fleet.pick().read()
 * fleet.advance(1_000n)
 * const second = fleet.pick().read()
 * if (compareIntervals(first, second) === 'after') throw new Error('a bound is false')
 * ```
 */
export class SimulatedFleet {
  readonly #clocks: readonly SimulatedClock[]
  readonly #time: SimulatedTime
  readonly #mostErrorNs: bigint
  readonly #mostDriftPpb: number
  #randomState: number

  /**
   * @param options - how many clocks, the seed, and the largest error and drift
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  constructor(options: SimulatedFleetOptions) {
    const given = argument.record(options, 'options', OPTIONS)
    const count = argument.integer(given['clocks'], 'options.clocks', 1, MOST_CLOCKS)
    const seed = argument.integer(given['seed'], 'options.seed', 0, 2 ** 32 - 1)
    if (count === undefined || seed === undefined) {
      throw invalidArgument('options need clocks and seed', 'pass { clocks: 5, seed: 1 }')
    }
    const mostErrorNs =
      argument.int63(given['mostErrorNs'], 'options.mostErrorNs') ?? DEFAULT_MOST_ERROR_NS
    if (mostErrorNs === 0n) throw invalidArgument('options.mostErrorNs must be at least 1n')
    const mostDriftPpm =
      argument.number(given['mostDriftPpm'], 'options.mostDriftPpm', 0, 1000) ??
      DEFAULT_MOST_DRIFT_PPM
    const { time } = given
    if (time !== undefined && !(time instanceof SimulatedTime)) {
      throw invalidArgument('options.time must be a SimulatedTime', 'pass new SimulatedTime()')
    }
    this.#randomState = seed
    this.#mostErrorNs = mostErrorNs
    this.#mostDriftPpb = Math.floor(mostDriftPpm * PPB_PER_PPM)
    this.#time = time ?? new SimulatedTime()
    this.#clocks = Object.freeze(
      Array.from({ length: count }, () => {
        const clock = new SimulatedClock({ time: this.#time, maxDriftPpm: mostDriftPpm })
        this.#synchronize(clock)
        return clock
      }),
    )
  }

  /** The clocks, in a fixed order. */
  get clocks(): readonly SimulatedClock[] {
    return this.#clocks
  }

  /** The true time that all of them share. */
  get time(): SimulatedTime {
    return this.#time
  }

  /**
   * Lets true time pass. Errors and bounds grow, and the bounds stay true.
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

  /** Gives every clock a new random error, drift and bound, as a time daemon's update does. */
  synchronize(): void {
    for (const clock of this.#clocks) this.#synchronize(clock)
  }

  /** Returns a random clock. */
  pick(): SimulatedClock {
    return this.#clocks[Math.floor(this.random() * this.#clocks.length)] as SimulatedClock
  }

  /** Returns the next number of the seed's sequence, at least 0 and less than 1. */
  random(): number {
    // Mulberry32: every seed has a period of 2^32, which is enough to vary tests, and for nothing else.
    this.#randomState = (this.#randomState + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#randomState ^ (this.#randomState >>> 15), 1 | this.#randomState)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** Returns a whole number from `least` to `most`, both included. */
  #between(least: bigint, most: bigint): bigint {
    const span = most - least + 1n
    const bits = BigInt(Math.floor(this.random() * 2 ** 32)) * 2n ** 32n
    return least + (((bits + BigInt(Math.floor(this.random() * 2 ** 32))) * span) >> 64n)
  }

  /**
   * Makes a clock's error random within its bound. The page then goes without updates, so error and bound
   * grow: the error by its drift, and the bound by the largest drift, which is no less.
   */
  #synchronize(clock: SimulatedClock): void {
    const boundNs = this.#between(1n, this.#mostErrorNs)
    clock.synchronize(boundNs)
    clock.skew(this.#between(-boundNs, boundNs))
    const most = BigInt(this.#mostDriftPpb)
    clock.drift(Number(this.#between(-most, most)) / PPB_PER_PPM)
    clock.goStale()
  }
}

refuseDetached(SimulatedFleet)
