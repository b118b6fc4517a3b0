/** A clock whose calls go through the runtime's FFI, and through Node-API where the fast path has no result. */

import * as argument from './arguments'
import type { Clock } from './clock-interface'
import type { ContinuityToken } from './continuity'
import { detached } from './detached'
import type { VmClockError } from './errors'
import type { FfiCalls } from './ffi'
import { givePair, type HrTime } from './hr-time'
import type { HotCalls } from './native'
import { READING_SLOT_COUNT, type Reading } from './reading'
import { copyFigures, DOUBLE, SLOT } from './slots'

/** A class of clocks that only its own module can make. */
export type ClockClass = new (key: symbol) => Clock

/** The private parts of `VmClock` that the subclass uses. */
export interface Inside {
  /** Returns the clock that is being made. */
  opening(): { readonly hot: HotCalls; readonly ordered: boolean }
  /** Makes a reading of the figures in the slots. */
  readingOf(clock: Clock): Reading
  /** Writes a token's figures to the argument slots, unless they are there. */
  takeToken(clock: Clock, token: ContinuityToken): void
  /** Makes the call by Node-API, with the token in the slots. */
  isContinuous(clock: Clock): boolean
}

/**
 * Makes the subclass of `VmClock`. Its methods are those of `VmClock` with another way into the native part.
 *
 * V8 calls an FFI function directly only where a call site knows a single one. So a method has a call site for each
 * order, instead of one that calls the function in a field.
 */
export function makeFfiClock(VmClock: ClockClass, calls: FfiCalls, inside: Inside): ClockClass {
  const { opening, readingOf, takeToken, isContinuous } = inside
  const { now_ns, now_ms, now_hr_time, read, counter, is_continuous } = calls
  const { unordered_now_ns, unordered_now_ms, unordered_now_hr_time } = calls
  const { unordered_read, unordered_counter } = calls

  class FfiClock extends VmClock {
    // As in `VmClock`: each field gets its value where it is declared, and the arrays must not leave this object.
    readonly #name: number = opening().hot.name
    readonly #slots: BigInt64Array = opening().hot.slots
    readonly #doubles: Float64Array = opening().hot.doubles
    readonly #ordered: boolean = opening().ordered

    override nowNs(): bigint {
      if (this === undefined) throw detached('nowNs')
      const name = this.#name
      const slots = this.#slots
      const answer = this.#ordered ? now_ns(name) : unordered_now_ns(name)
      return answer >= 0 ? (slots[SLOT.EpochNs] as bigint) : super.nowNs()
    }

    override nowMs(): number {
      if (this === undefined) throw detached('nowMs')
      const name = this.#name
      const ms = this.#ordered ? now_ms(name) : unordered_now_ms(name)
      // With the plus V8 keeps the result as a double. Otherwise it would allocate an object for each result, which
      // takes a sixth of the call.
      return ms >= 0 ? ms : +super.nowMs()
    }

    override nowHrTime(out?: HrTime): HrTime {
      if (this === undefined) throw detached('nowHrTime')
      const name = this.#name
      const doubles = this.#doubles
      const answer = this.#ordered ? now_hr_time(name) : unordered_now_hr_time(name)
      if (!(answer >= 0)) return super.nowHrTime(out)
      const seconds = doubles[DOUBLE.HrSeconds] as number
      return givePair(seconds, doubles[DOUBLE.HrNanoseconds] as number, out)
    }

    override read(): Reading {
      if (this === undefined) throw detached('read')
      const name = this.#name
      const answer = this.#ordered ? read(name) : unordered_read(name)
      return answer >= 0 ? readingOf(this) : super.read()
    }

    override tryRead(): Reading | VmClockError {
      if (this === undefined) throw detached('tryRead')
      const name = this.#name
      const answer = this.#ordered ? read(name) : unordered_read(name)
      return answer >= 0 ? readingOf(this) : super.tryRead()
    }

    override readInto(slots: BigInt64Array, at = 0): void {
      if (this === undefined) throw detached('readInto')
      argument.room(slots, at, READING_SLOT_COUNT)
      const name = this.#name
      const figures = this.#slots
      const answer = this.#ordered ? read(name) : unordered_read(name)
      if (answer >= 0) copyFigures(figures, slots, at)
      else super.readInto(slots, at)
    }

    override counter(): bigint {
      if (this === undefined) throw detached('counter')
      const name = this.#name
      const slots = this.#slots
      const answer = this.#ordered ? counter(name) : unordered_counter(name)
      if (!(answer >= 0)) return super.counter()
      return BigInt.asUintN(64, slots[SLOT.Counter] as bigint)
    }

    override isContinuous(token: ContinuityToken): boolean {
      if (this === undefined) throw detached('isContinuous')
      takeToken(this, token)
      // Not by `super`, which would read a token anew that can change.
      return is_continuous(this.#name) >= 0 || isContinuous(this)
    }
  }
  // An inspected clock, and one asked for its constructor, shows what it is for its users.
  Object.defineProperty(FfiClock.prototype, 'constructor', { value: VmClock })
  return FfiClock
}
