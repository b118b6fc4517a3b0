/** The figures of a simulated machine: what its page says at a true time. */

import { VmClockError, type VmClockErrorCode } from '../errors'
import type { Maintenance } from '../publisher'
import { READING_KNOWN, READING_SLOT_COUNT, READING_SLOTS } from '../reading'
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
import type { SimulatedTime } from './simulated-time'
import type { Watched } from './simulated-watch'

/** Nanoseconds in a second. */
export const NS_PER_SEC: bigint = 1_000_000_000n
/** Nanoseconds in a millisecond. */
export const NS_PER_MS: bigint = 1_000_000n
/** The bound of a clock whose options state none. */
export const DEFAULT_ERROR_NS: bigint = 1_000_000n
/** The counter at the start. */
export const FIRST_COUNTER: bigint = 2n ** 40n
/** A migration takes the machine to a host with another counter. */
const COUNTER_JUMP = 2n ** 41n
const PPB = 1_000_000_000n
const LAST_NS = 2n ** 63n - 1n
const FIRST_NS = -(2n ** 63n)
/** Beyond this age nobody watches over the page's time any more. */
const VOID_AFTER_NS = 1000n * NS_PER_SEC

/** The states of a page's clock. */
export const STATUSES = [
  'unknown',
  'initializing',
  'synchronized',
  'free-running',
  'unreliable',
] as const

// With these no call can read the page at all.
const UNREADABLE: ReadonlySet<VmClockErrorCode> = new Set([
  'ERR_VMCLOCK_TIMEOUT',
  'ERR_VMCLOCK_BAD_VERSION',
])

/** How the clock was opened; it never changes. */
export interface Policy {
  readonly timescale: 'utc' | 'tai' | 'monotonic'
  readonly requireSynchronized: boolean
  readonly nonDecreasing: boolean
  readonly errorLimitNs: bigint | undefined
  readonly maxAgeNs: bigint | undefined
  /** The age beyond which watchers call the page stale. */
  readonly staleAfterNs: bigint
  /** The bound of a synchronization that states none. */
  readonly firstErrorNs: bigint
}

/** Everything that a clone of the machine takes along. Times are those of `SimulatedTime`. */
export interface State {
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
  /** The last time that was returned, if the clock never steps back. */
  lastNs: bigint | undefined
}

/** A machine's state, and the figures that follow from it. Only `state` changes. */
export class SimulatedModel {
  readonly time: SimulatedTime
  readonly policy: Policy
  readonly state: State

  constructor(time: SimulatedTime, policy: Policy, state: State) {
    this.time = time
    this.policy = policy
    this.state = state
  }

  /** The true time now in the clock's timescale. */
  get trueNs(): bigint {
    return this.#label(this.time.nowNs + this.state.shiftNs)
  }

  /** The clock's time minus the true time now. */
  get errorNs(): bigint {
    return this.#errorAt(this.time.nowNs)
  }

  /** The bound now. */
  get boundNs(): bigint | undefined {
    return this.#boundAt(this.time.nowNs)
  }

  /** The counter now. */
  get counter(): bigint {
    return this.#counterAt(this.time.nowNs)
  }

  /** The age for which watchers call the page stale; undefined if they do not. */
  get staleAgeNs(): bigint | undefined {
    if (this.state.failure === 'ERR_VMCLOCK_NO_TIME') return undefined
    const ageNs = this.#ageAt(this.time.nowNs)
    return ageNs > this.policy.staleAfterNs ? ageNs : undefined
  }

  /** The true time until watchers call the page stale; undefined if they do already, or if it is updated. */
  get staleWithinNs(): bigint | undefined {
    const { staleSinceNs, failure } = this.state
    if (staleSinceNs === undefined || failure === 'ERR_VMCLOCK_NO_TIME') return undefined
    const withinNs = staleSinceNs + this.policy.staleAfterNs + 1n - this.time.nowNs
    return withinNs > 0n ? withinNs : undefined
  }

  /** Returns by how much the true time has to advance to a time in the clock's timescale. */
  aheadNs(ns: bigint): bigint {
    const { leap, shiftNs } = this.state
    const countNs = this.policy.timescale === 'utc' ? countAt(leap, ns) : ns - this.#taiShiftNs()
    return countNs - shiftNs - this.time.nowNs
  }

  /** Returns a delay by this clock as one of true time, rounded up. */
  trueDelayNs(delayNs: bigint): bigint {
    const rate = PPB + this.state.driftPpb
    return (delayNs * PPB + rate - 1n) / rate
  }

  /** Sets the clock's error, from now on. */
  setError(errorNs: bigint): void {
    this.state.errorNs = errorNs
    this.state.errorSinceNs = this.time.nowNs
  }

  /** Sets the clock's drift, from now on. */
  setDrift(driftPpb: bigint): void {
    this.setError(this.errorNs)
    this.state.driftPpb = driftPpb
  }

  /** Disrupts the counter, which loses the bound. */
  disrupt(): void {
    this.state.disruptionMarker += 1n
    this.state.maxErrorNs = undefined
  }

  /** Moves the machine to a host with another counter. */
  migrate(errorNs: bigint): void {
    this.disrupt()
    this.state.counterAheadNs += COUNTER_JUMP
    this.setError(errorNs)
  }

  /** Restores the machine from a snapshot. */
  restore(): void {
    this.disrupt()
    if (this.state.vmGeneration !== undefined) this.state.vmGeneration += 1n
  }

  /** Announces a leap second at the end of the present month. */
  announceLeap(kind: LeapSecond): void {
    const { state } = this
    const nowNs = this.time.nowNs
    const { leap } = state
    if (leap !== undefined && hasJumped(leap, this.#countAt(nowNs))) {
      state.shiftNs -= BigInt(leapSign(leap)) * NS_PER_SEC
      if (state.taiMinusUtcSec !== undefined) state.taiMinusUtcSec += leapSign(leap)
    }
    state.leap = leapAfter(kind, this.#countAt(nowNs))
  }

  /** Returns the figures that watchers compare. */
  figures(): Watched {
    const { disruptionMarker, vmGeneration, maintenance, status, leap } = this.state
    return {
      disruptionMarker,
      ...(vmGeneration !== undefined && { vmGeneration }),
      maintenance,
      clockStatus: status,
      leapIndicator: leapIndicator(leap, this.#countAt(this.time.nowNs)),
    }
  }

  /** Returns whether no call can read the page. */
  get isUnreadable(): boolean {
    const { failure } = this.state
    return failure !== undefined && UNREADABLE.has(failure)
  }

  /**
   * Returns the figures of a reading now. A clock that never steps back repeats its last time instead of an
   * earlier one, with a bound that is wider by the difference.
   *
   * @throws VmClockError as `VmClock.read`
   */
  slots(): BigInt64Array {
    const slots = this.#slotsAt(this.time.nowNs)
    if (!this.policy.nonDecreasing) return slots
    const { lastNs } = this.state
    const epochNs = slots[READING_SLOTS.EPOCH_NS] as bigint
    if (lastNs === undefined || epochNs >= lastNs) {
      this.state.lastNs = epochNs
      return slots
    }
    slots[READING_SLOTS.EPOCH_NS] = lastNs
    if ((slots[READING_SLOTS.KNOWN] as bigint) & READING_KNOWN.BOUND) {
      const maxErrorNs = (slots[READING_SLOTS.MAX_ERROR_NS] as bigint) + lastNs - epochNs
      slots[READING_SLOTS.MAX_ERROR_NS] = least(maxErrorNs, LAST_NS)
      slots[READING_SLOTS.LATEST_NS] = most(slots[READING_SLOTS.LATEST_NS] as bigint, lastNs)
      this.#requireCertain(maxErrorNs)
    }
    return slots
  }

  /**
   * Returns the figures of a reading at a counter value.
   *
   * @throws VmClockError as `VmClock.convert`
   */
  slotsOf(counter: bigint): BigInt64Array {
    const nowNs = this.time.nowNs
    return this.#slotsAt(nowNs + BigInt.asIntN(64, counter - this.#counterAt(nowNs)))
  }

  #errorAt(trueNs: bigint): bigint {
    const { errorNs, errorSinceNs, driftPpb } = this.state
    return errorNs + floorDivide((trueNs - errorSinceNs) * driftPpb, PPB)
  }

  #countAt(trueNs: bigint): bigint {
    return trueNs + this.state.shiftNs + this.#errorAt(trueNs)
  }

  #counterAt(trueNs: bigint): bigint {
    return BigInt.asUintN(64, trueNs + this.state.counterAheadNs)
  }

  /** Returns how old the page's last update is at a true time. */
  #ageAt(trueNs: bigint): bigint {
    return trueNs - (this.state.staleSinceNs ?? this.time.nowNs)
  }

  #boundAt(trueNs: bigint): bigint | undefined {
    const { maxErrorNs, maxDriftPpb } = this.state
    const ageNs = this.#ageAt(trueNs)
    if (maxErrorNs === undefined || ageNs > VOID_AFTER_NS) return undefined
    const distanceNs = ageNs < 0n ? -ageNs : ageNs
    return least(maxErrorNs + (distanceNs * maxDriftPpb + PPB - 1n) / PPB, LAST_NS)
  }

  #taiShiftNs(): bigint {
    if (this.policy.timescale !== 'tai') return 0n
    const { taiMinusUtcSec } = this.state
    if (taiMinusUtcSec === undefined) throw failureOf('ERR_VMCLOCK_NO_TAI_OFFSET')
    return BigInt(taiMinusUtcSec) * NS_PER_SEC
  }

  #label(countNs: bigint): bigint {
    return this.policy.timescale === 'utc'
      ? utcAt(this.state.leap, countNs)
      : countNs + this.#taiShiftNs()
  }

  #interval(countNs: bigint, boundNs: bigint): readonly [bigint, bigint] {
    if (this.policy.timescale === 'utc') return utcInterval(this.state.leap, countNs, boundNs)
    const label = this.#label(countNs)
    return [label - boundNs, label + boundNs]
  }

  #slotsAt(trueNs: bigint): BigInt64Array {
    this.#checkUsable(trueNs)
    const { leap, taiMinusUtcSec, vmGeneration, status, disruptionMarker } = this.state
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
      slots[READING_SLOTS.EARLIEST_NS] = most(earliestNs, FIRST_NS)
      slots[READING_SLOTS.LATEST_NS] = least(latestNs, LAST_NS)
    }
    this.#requireCertain(maxErrorNs)
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

  #requireCertain(maxErrorNs: bigint | undefined): void {
    const { errorLimitNs } = this.policy
    if (errorLimitNs === undefined) return
    if (maxErrorNs === undefined || maxErrorNs > errorLimitNs) {
      throw failureOf('ERR_VMCLOCK_TOO_UNCERTAIN')
    }
  }

  #checkUsable(trueNs: bigint): void {
    const { failure, status } = this.state
    if (failure !== undefined) throw failureOf(failure)
    const isUsable = status === 'synchronized' || status === 'free-running'
    if (!isUsable || (this.policy.requireSynchronized && status !== 'synchronized')) {
      throw failureOf('ERR_VMCLOCK_UNSYNCHRONIZED')
    }
    const { maxAgeNs } = this.policy
    if (maxAgeNs !== undefined && this.#ageAt(trueNs) > maxAgeNs) {
      throw failureOf('ERR_VMCLOCK_STALE')
    }
  }
}

/** Makes the error with which a simulated clock fails. */
export function failureOf(code: VmClockErrorCode): VmClockError {
  return new VmClockError(code, `the simulated clock fails with ${code}`, {
    remedy: 'a real clock with this code says here what to do',
  })
}

/** Divides, rounded towards minus infinity. */
export function floorDivide(dividend: bigint, divisor: bigint): bigint {
  const quotient = dividend / divisor
  return dividend % divisor < 0n ? quotient - 1n : quotient
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}

function most(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
