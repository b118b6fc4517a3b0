/** Signed 64-bit figures as bytes that sort as the figures do. */

import { types } from 'node:util'
import { invalidArgument } from '../errors'

/**
 * Writes 8 bytes, big-endian, with the sign bit inverted.
 *
 * Inverting the sign bit adds 2^63. That maps the signed range onto 0 to 2^64 - 1 and keeps its order, and
 * unsigned big-endian bytes compare as their numbers do.
 */
export function putInt64(view: DataView, at: number, value: bigint): void {
  view.setBigUint64(at, value + 2n ** 63n)
}

/** Reads what {@link putInt64} wrote. */
export function int64At(view: DataView, at: number): bigint {
  return view.getBigUint64(at) - 2n ** 63n
}

/** Checks bytes and their count, and returns a view of them. */
export function viewOf(bytes: unknown, lengths: readonly number[]): DataView {
  if (!types.isUint8Array(bytes)) throw invalidArgument('bytes must be a Uint8Array or a Buffer')
  if (!lengths.includes(bytes.length)) {
    throw invalidArgument(
      `bytes must be ${lengths.join(' or ')} bytes long, and these are ${bytes.length}`,
    )
  }
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
