/** UUIDs of version 4 from random bytes that were drawn ahead. After a restore none comes from earlier bytes. */

import { isUnchangedAfter, lastEpoch, lookOrUnknown, UNKNOWN } from './restores'

const UUID_BYTES = 16
const UUID_LENGTH = 36
/** As many as Node draws ahead. */
const UUIDS = 128
/** The epoch of a pool that is not known to be filled after the last restore. No epoch equals it. */
const NEVER = -1

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/**
 * Returns a source of UUIDs like `crypto.randomUUID()` without options. It costs the same, because its look needs
 * no call: a wrapper of Node's function costs 5 to 20 % more.
 *
 * @param fill - fills the array with random bytes, which are of after the last look. `filledIn` is the epoch of the
 * bytes before them if that is the epoch of the last look, and else no epoch. It throws if it cannot do so.
 */
export function uuidPool(fill: (bytes: Uint8Array, filledIn: number) => void): () => string {
  const bytes = new Uint8Array(UUIDS * UUID_BYTES)
  let next = bytes.length
  let filledIn = NEVER
  return () => {
    for (;;) {
      if (next === bytes.length || filledIn !== lastEpoch()) {
        const now = lookOrUnknown()
        next = bytes.length
        fill(bytes, filledIn === now ? filledIn : NEVER)
        // Without a known epoch the pool is filled for one call.
        filledIn = now === UNKNOWN ? NEVER : now
        next = 0
      }
      // A listener of the look below may draw too, and fill the pool.
      const drawnIn = filledIn
      const at = next
      next += UUID_BYTES
      const uuid =
        byte(at) +
        byte(at + 1) +
        byte(at + 2) +
        byte(at + 3) +
        '-' +
        byte(at + 4) +
        byte(at + 5) +
        '-' +
        HEX[((bytes[at + 6] as number) & 0x0f) | 0x40] +
        byte(at + 7) +
        '-' +
        HEX[((bytes[at + 8] as number) & 0x3f) | 0x80] +
        byte(at + 9) +
        '-' +
        byte(at + 10) +
        byte(at + 11) +
        byte(at + 12) +
        byte(at + 13) +
        byte(at + 14) +
        byte(at + 15)
      if (isUnchangedAfter(uuid.length - UUID_LENGTH) || drawnIn === NEVER) return uuid
      if (lookOrUnknown() === drawnIn) return uuid
      filledIn = NEVER
    }
  }

  function byte(at: number): string {
    return HEX[bytes[at] as number] as string
  }
}
