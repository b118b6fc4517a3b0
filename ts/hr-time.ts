/** Times as pairs of seconds and nanoseconds, in the form of `process.hrtime()`. */

import { notPair } from './arguments'

const NS_PER_SEC = 1_000_000_000n

/**
 * A time as whole seconds and the nanoseconds after them, since the epoch of its timescale. Both are exact. The
 * seconds are rounded towards minus infinity, and the nanoseconds are 0 to 999,999,999: half a second before 1970
 * is `[-1, 500000000]`. The form is that of `process.hrtime()`, and of OpenTelemetry's `HrTime`.
 */
export type HrTime = [seconds: number, nanoseconds: number]

/** Splits a time in nanoseconds. */
export function hrTimeOf(epochNs: bigint): HrTime {
  const rest = epochNs % NS_PER_SEC
  const nanoseconds = rest < 0n ? rest + NS_PER_SEC : rest
  return [Number((epochNs - nanoseconds) / NS_PER_SEC), Number(nanoseconds)]
}

/** Writes a pair to `out`, or makes a new one if that is undefined. */
export function givePair(seconds: number, nanoseconds: number, out: HrTime | undefined): HrTime {
  if (out === undefined) return [seconds, nanoseconds]
  // `isArray` throws for a revoked proxy, and an assignment for a frozen array.
  try {
    if (Array.isArray(out)) {
      out[0] = seconds
      out[1] = nanoseconds
      return out
    }
  } catch {
    // The error below says it.
  }
  throw notPair(out, 'out')
}
