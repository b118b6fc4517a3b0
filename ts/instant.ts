/** `Temporal.Instant`, on runtimes that have it. */

import { VmClockError } from './errors'

/** The used part of a `Temporal.Instant`, for compilers whose libraries do not declare it. */
export interface InstantLike {
  /** Nanoseconds since 1970-01-01 UTC. */
  readonly epochNanoseconds: bigint
  /** Milliseconds since 1970-01-01 UTC, floored. */
  readonly epochMilliseconds: number
  /** ISO 8601 with a `Z`. */
  toString(): string
}

/** `Temporal.Instant` if the compiler's libraries declare it, else {@link InstantLike}. */
export type Instant =
  typeof globalThis extends Record<'Temporal', Record<'Instant', infer Class>>
    ? Class extends Record<'prototype', infer Declared>
      ? Declared
      : InstantLike
    : InstantLike

interface TemporalLike {
  readonly Instant: { fromEpochNanoseconds(epochNanoseconds: bigint): Instant }
}

/** Returns a function that makes instants from nanoseconds; throws if the runtime has no Temporal. */
export function instantMaker(): (epochNs: bigint) => Instant {
  const { Temporal } = globalThis as { Temporal?: TemporalLike }
  if (Temporal === undefined) {
    throw new VmClockError('ERR_VMCLOCK_UNSUPPORTED', 'this runtime has no Temporal', {
      remedy: 'use nowDate() or nowNs(), or a runtime that has Temporal',
    })
  }
  return (epochNs) => Temporal.Instant.fromEpochNanoseconds(epochNs)
}
