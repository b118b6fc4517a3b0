/** Takes the time, its bound and the machine's identity from one reading of a clock, without a `bigint`. */

import type { Clock } from '../../clock-interface'
import type { ContinuityToken } from '../../continuity'
import { VmClockError } from '../../errors'
import { READING_KNOWN, READING_SLOT_COUNT, READING_SLOTS } from '../../reading'
import { diag } from './api'

/** A machine and its clock between two disruptions. Two stamps of one object are of the same machine. */
export interface Machine {
  /** `disruption_marker`, unsigned 64-bit. */
  readonly disruptionMarker: bigint
  /** `vm_generation_counter`, unsigned 64-bit; undefined if the page has none. */
  readonly vmGeneration: bigint | undefined
}

const NS_PER_SEC = 1_000_000_000
const MS_PER_SEC = 1000
const NS_PER_MS = 1_000_000

// A 64-bit figure is two words, and which one is the lower depends on the processor.
const LOW = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 0 : 1
const HIGH = 1 - LOW

const word = (slot: number, half: number): number => 2 * slot + half
const EPOCH_LOW = word(READING_SLOTS.EPOCH_NS, LOW)
const EPOCH_HIGH = word(READING_SLOTS.EPOCH_NS, HIGH)
const BOUND_LOW = word(READING_SLOTS.MAX_ERROR_NS, LOW)
const BOUND_HIGH = word(READING_SLOTS.MAX_ERROR_NS, HIGH)
const MARKER_LOW = word(READING_SLOTS.DISRUPTION_MARKER, LOW)
const MARKER_HIGH = word(READING_SLOTS.DISRUPTION_MARKER, HIGH)
const GENERATION_LOW = word(READING_SLOTS.VM_GENERATION, LOW)
const GENERATION_HIGH = word(READING_SLOTS.VM_GENERATION, HIGH)
const KNOWN_LOW = word(READING_SLOTS.KNOWN, LOW)
const KNOWN_BOUND = Number(READING_KNOWN.BOUND)
const KNOWN_GENERATION = Number(READING_KNOWN.VM_GENERATION)

// 2^32 ns and 2^48 ns as seconds and nanoseconds. Every product below is less than 2^53.
const SEC_PER_2_32 = 4
const NS_PER_2_32 = 294_967_296
const SEC_PER_2_48 = 281_474
const NS_PER_2_48 = 976_710_656

/** Takes stamps of one clock. Each stamp replaces the one before. */
export class Stamper {
  /** The stamp's time: whole seconds since 1970-01-01 UTC. */
  seconds = 0
  /** The stamp's time: the nanoseconds after `seconds`, 0 to 999,999,999. */
  nanoseconds = 0
  /** The machine of the last stamp; undefined if nobody can know it. */
  machine: Machine | undefined
  readonly #clock: Clock
  readonly #slots = new BigInt64Array(READING_SLOT_COUNT)
  readonly #words = new Int32Array(this.#slots.buffer)
  #markerLow = 0
  #markerHigh = 0
  #generationLow = 0
  #generationHigh = 0
  #hasGeneration = 0
  #hasTold = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Takes a stamp. Returns false if the clock gives no time; then only `machine` is new. */
  take(): boolean {
    const words = this.#words
    try {
      this.#clock.readInto(this.#slots)
    } catch (error) {
      this.#failed(error)
      return false
    }
    const low = (words[EPOCH_LOW] as number) >>> 0
    const high = words[EPOCH_HIGH] as number
    const upper = high >> 16
    const middle = high & 0xffff
    const rest = upper * NS_PER_2_48 + middle * NS_PER_2_32 + low
    const restSeconds = Math.floor(rest / NS_PER_SEC)
    this.seconds = upper * SEC_PER_2_48 + middle * SEC_PER_2_32 + restSeconds
    this.nanoseconds = rest - restSeconds * NS_PER_SEC
    if (
      words[MARKER_LOW] !== this.#markerLow ||
      words[MARKER_HIGH] !== this.#markerHigh ||
      words[GENERATION_LOW] !== this.#generationLow ||
      words[GENERATION_HIGH] !== this.#generationHigh ||
      ((words[KNOWN_LOW] as number) & KNOWN_GENERATION) !== this.#hasGeneration ||
      this.machine === undefined
    ) {
      this.#isOn(this.#machineInSlots())
    }
    return true
  }

  /**
   * The bound of the last stamp in nanoseconds. Undefined if the clock states none, or one of 2^53 ns or more, which no
   * double holds exactly.
   */
  get maxErrorNs(): number | undefined {
    const words = this.#words
    if (((words[KNOWN_LOW] as number) & KNOWN_BOUND) === 0) return undefined
    const ns =
      ((words[BOUND_HIGH] as number) >>> 0) * 2 ** 32 + ((words[BOUND_LOW] as number) >>> 0)
    return ns <= Number.MAX_SAFE_INTEGER ? ns : undefined
  }

  /** Replaces the stamp's time by that of `Date`, for a span that has to end without a time of the clock. */
  takeSystemTime(): void {
    const ms = Date.now()
    this.seconds = Math.floor(ms / MS_PER_SEC)
    this.nanoseconds = Math.floor((ms - this.seconds * MS_PER_SEC) * NS_PER_MS)
  }

  // The machine is asked for by itself, because a page without time says that too.
  #failed(error: unknown): void {
    this.#tell(error)
    let token: ContinuityToken
    try {
      token = this.#clock.continuityToken()
    } catch {
      this.machine = undefined
      return
    }
    const { machine } = this
    if (
      machine === undefined ||
      token.disruptionMarker !== machine.disruptionMarker ||
      token.vmGeneration !== machine.vmGeneration
    ) {
      this.#isOn(token)
    }
  }

  #isOn({ disruptionMarker, vmGeneration }: Machine): void {
    const pair = BigUint64Array.of(disruptionMarker, vmGeneration ?? 2n ** 64n - 1n)
    const words = new Int32Array(pair.buffer)
    this.#markerLow = words[LOW] as number
    this.#markerHigh = words[HIGH] as number
    this.#generationLow = words[2 + LOW] as number
    this.#generationHigh = words[2 + HIGH] as number
    this.#hasGeneration = vmGeneration === undefined ? 0 : KNOWN_GENERATION
    this.machine = { disruptionMarker, vmGeneration }
  }

  #machineInSlots(): Machine {
    const slots = this.#slots
    const known = slots[READING_SLOTS.KNOWN] as bigint
    const unsigned = (slot: number): bigint => BigInt.asUintN(64, slots[slot] as bigint)
    return {
      disruptionMarker: unsigned(READING_SLOTS.DISRUPTION_MARKER),
      vmGeneration:
        (known & READING_KNOWN.VM_GENERATION) === 0n
          ? undefined
          : unsigned(READING_SLOTS.VM_GENERATION),
    }
  }

  #tell(error: unknown): void {
    if (this.#hasTold) return
    this.#hasTold = true
    diag.warn(`vmclock gives spans no time: ${textOf(error)}. They get the time of the SDK`)
  }
}

/** Returns an error's message and remedy. */
export function textOf(error: unknown): string {
  if (!VmClockError.isVmClockError(error)) return String(error)
  const { message, remedy } = error
  return remedy === undefined ? message : `${message}; ${remedy}`
}
