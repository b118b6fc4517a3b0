/**
 * Positions and bits in the memory that a clock shares with the native part.
 *
 * `crate/napi/src/hot/slots.rs` decides the numbers, and the build writes them to `native/index.d.ts`.
 * They are repeated here as constants, which V8 reads fastest and which exist without an addon. A
 * number that is missing, too many or another than the native part's does not compile.
 */

import type { Double, Known, Slot } from '../native/index'

/** Positions of the 64-bit integers. The first thirteen are those of `readInto`. */
export const SLOT: Numbers<typeof Slot> = {
  EpochNs: 0,
  MaxErrorNs: 1,
  EstErrorNs: 2,
  EarliestNs: 3,
  LatestNs: 4,
  Counter: 5,
  DisruptionMarker: 6,
  VmGeneration: 7,
  Status: 8,
  LeapSecond: 9,
  TaiMinusUtcSec: 10,
  ReferenceNs: 11,
  Known: 12,
  ArgumentCounter: 13,
  ArgumentDisruptionMarker: 14,
  ArgumentVmGeneration: 15,
  ArgumentHasVmGeneration: 16,
}

/** Bits of `SLOT.Known`. A figure whose bit is clear is -1n in its slot and means nothing. */
export const KNOWN: Bigints<typeof Known> = {
  Bound: 1n,
  EstError: 2n,
  VmGeneration: 4n,
  TaiMinusUtc: 8n,
}

/** Positions of the doubles. */
export const DOUBLE: Numbers<typeof Double> = {
  NowMs: 0,
  HrSeconds: 1,
  HrNanoseconds: 2,
  Filled: 3,
}

/** Copies the figures of a reading. Written out, because a loop takes as long as the timestamp. */
export function copyFigures(from: BigInt64Array, to: BigInt64Array, at: number): void {
  to[at] = from[0] as bigint
  to[at + 1] = from[1] as bigint
  to[at + 2] = from[2] as bigint
  to[at + 3] = from[3] as bigint
  to[at + 4] = from[4] as bigint
  to[at + 5] = from[5] as bigint
  to[at + 6] = from[6] as bigint
  to[at + 7] = from[7] as bigint
  to[at + 8] = from[8] as bigint
  to[at + 9] = from[9] as bigint
  to[at + 10] = from[10] as bigint
  to[at + 11] = from[11] as bigint
  to[at + 12] = from[12] as bigint
}

type Numbers<Enum> = { readonly [Name in keyof Enum]: Enum[Name] }

type Bigints<Enum> = {
  readonly [Name in keyof Enum]: Enum[Name] extends number ? BigintOf<Enum[Name]> : never
}

type BigintOf<Value extends number> = `${Value}` extends `${infer Same extends bigint}`
  ? Same
  : never
