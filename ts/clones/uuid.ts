/** Ids in the order of their making, which no clone makes too. */

import crypto from 'node:crypto'
import * as argument from '../arguments'
import { invalidArgument } from '../errors'
import { look } from './restores'

/** Options of {@link uuidV7Source}. */
export interface UuidV7Options {
  /**
   * Returns the time in milliseconds since 1970, for example `() => clock.nowMs()`. Default: `Date.now`. Its
   * whole part is used.
   */
  readonly nowMs?: (() => number) | undefined
}

const OPTIONS = ['nowMs'] as const satisfies ReadonlyArray<keyof UuidV7Options>

// The widths of RFC 9562, section 5.7: 48 bits of time, and 12 and 62 random bits.
const TIME_BITS = 48n
const RANDOM_BITS = 74n
const LOW_BITS = 62n
const MOST_MS = 2 ** 48 - 1
const LOW_MASK = (1n << LOW_BITS) - 1n
const VERSION = 7n
const VARIANT = 2n

/**
 * Makes a source of UUIDs of version 7 (RFC 9562): 48 bits of milliseconds since 1970, and 74 random bits.
 *
 * Each id of a source is greater than the ones before. Within a millisecond, and while the clock is behind an
 * earlier id, the random bits grow by a random step of 1 to 2^32 (method 2 of section 6.2). After a restore or
 * clone of the machine the source draws all random bits anew, in a later millisecond than its last id. So clones
 * make different ids, and each goes on in order.
 *
 * The random bits come from `node:crypto`. Load `vmclock/clones/protect` before this: without it, clones draw the
 * same bits.
 *
 * @param options - see {@link UuidV7Options}
 * @returns a function that returns the next id, in lower case
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`. The returned function throws `ERR_VMCLOCK_INVALID_ARGUMENT`
 * for a time outside 0 to 2^48 - 1, and the errors of opening and reading the page.
 */
export function uuidV7Source(options: UuidV7Options = {}): () => string {
  const given = argument.record(options, 'options', OPTIONS)
  const nowMs = (given['nowMs'] ?? Date.now) as () => number
  argument.functionValue(nowMs, 'options.nowMs')
  let madeIn = 0
  let lastMs = -1
  let random = 0n
  const next = (): bigint => {
    const now = Math.floor(nowMs())
    if (!(now >= 0 && now <= MOST_MS)) {
      throw invalidArgument(`options.nowMs must return 0 to 2 ** 48 - 1, and it returned ${now}`)
    }
    const epoch = look()
    const isRestored = epoch !== madeIn
    if (isRestored || now > lastMs) {
      lastMs = Math.max(now, isRestored ? lastMs + 1 : 0)
      // The highest bit is left to the steps.
      random = randomBits(RANDOM_BITS - 1n)
      madeIn = epoch
    } else {
      const step = randomBits(32n) + 1n
      // Read after the draw, during which a listener of a restore may make an id.
      random += step
      // 2^41 ids in a millisecond would be needed.
      if (random >> RANDOM_BITS !== 0n) {
        lastMs += 1
        random = randomBits(RANDOM_BITS - 1n)
      }
    }
    return (
      (BigInt(lastMs) << (128n - TIME_BITS)) |
      (VERSION << 76n) |
      ((random >> LOW_BITS) << 64n) |
      (VARIANT << LOW_BITS) |
      (random & LOW_MASK)
    )
  }
  return () => {
    for (;;) {
      const id = next()
      // A listener of the look may make an id too.
      const idMadeIn = madeIn
      if (look() === idMadeIn) return formatted(id)
    }
  }
}

function randomBits(count: bigint): bigint {
  const bytes = crypto.randomBytes(16)
  return BigInt.asUintN(Number(count), bytes.readBigUInt64LE(0) | (bytes.readBigUInt64LE(8) << 64n))
}

function formatted(id: bigint): string {
  const digits = id.toString(16).padStart(32, '0')
  return [0, 8, 12, 16, 20]
    .map((start, index, starts) => digits.slice(start, starts[index + 1]))
    .join('-')
}
