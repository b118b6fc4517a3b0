/**
 * Leap seconds of a simulated clock, by the rules of the core's `time/leap.rs`.
 *
 * A clock counts evenly: its *count* equals UTC before the leap second. `edge` is the first second of the month
 * after it. An inserted second repeats the last label of the month. A deleted one leaves that label out.
 */

import type { LeapIndicator } from '../snapshot'

const NS_PER_SEC = 1_000_000_000n
const NS_PER_MS = 1_000_000n

/** A leap second: inserted as 23:59:60, or deleted, so that 23:59:59 does not exist. */
export type LeapSecond = 'inserted' | 'deleted'

/** A leap second at the end of a month. */
export interface Leap {
  readonly kind: LeapSecond
  /** The count at which the next month would begin without it. */
  readonly edgeNs: bigint
}

/** Returns the leap second at the end of the month of this time in UTC. */
export function leapAfter(kind: LeapSecond, utcNs: bigint): Leap {
  const date = new Date(Number(utcNs / NS_PER_MS))
  const nextMonthMs = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1)
  return { kind, edgeNs: BigInt(nextMonthMs) * NS_PER_MS }
}

/** Returns the count at which the labels jump. */
function jumpNs({ kind, edgeNs }: Leap): bigint {
  return kind === 'inserted' ? edgeNs : edgeNs - NS_PER_SEC
}

/** Returns whether the leap second is over or has begun, so that TAI - UTC has changed. */
export function hasJumped(leap: Leap | undefined, countNs: bigint): boolean {
  return leap !== undefined && countNs >= jumpNs(leap)
}

/** Returns what TAI - UTC changes by, in seconds. */
export function leapSign({ kind }: Leap): 1 | -1 {
  return kind === 'inserted' ? 1 : -1
}

/** Returns UTC at a count. */
export function utcAt(leap: Leap | undefined, countNs: bigint): bigint {
  if (leap === undefined || !hasJumped(leap, countNs)) return countNs
  return countNs - BigInt(leapSign(leap)) * NS_PER_SEC
}

/** Returns the first count whose label is at least this. */
export function countAt(leap: Leap | undefined, utcNs: bigint): bigint {
  if (leap === undefined || utcNs < jumpNs(leap)) return utcNs
  const countNs = utcNs + BigInt(leapSign(leap)) * NS_PER_SEC
  const jump = jumpNs(leap)
  return countNs < jump ? jump : countNs
}

/** Returns whether a count is within an inserted second. */
export function isLeapSecond(leap: Leap | undefined, countNs: bigint): boolean {
  if (leap?.kind !== 'inserted') return false
  return countNs >= leap.edgeNs && countNs < leap.edgeNs + NS_PER_SEC
}

/** Returns the smallest interval of UTC that holds the labels of all counts within the error. */
export function utcInterval(
  leap: Leap | undefined,
  countNs: bigint,
  errorNs: bigint,
): readonly [earliestNs: bigint, latestNs: bigint] {
  const firstNs = countNs - errorNs
  const lastNs = countNs + errorNs
  let earliestNs = utcAt(leap, firstNs)
  let latestNs = utcAt(leap, lastNs)
  if (leap?.kind === 'inserted' && !hasJumped(leap, firstNs) && hasJumped(leap, lastNs)) {
    // UTC rises to the edge and falls back by a second there, so the labels around it occur as well.
    const edgeNs = jumpNs(leap)
    if (edgeNs - NS_PER_SEC < earliestNs) earliestNs = edgeNs - NS_PER_SEC
    if (edgeNs > latestNs) latestNs = edgeNs
  }
  return [earliestNs, latestNs]
}

/** Returns what a page says about the leap second at a count. */
export function leapIndicator(leap: Leap | undefined, countNs: bigint): LeapIndicator {
  if (leap === undefined) return 'none'
  const suffix = leap.kind === 'inserted' ? 'positive' : 'negative'
  if (isLeapSecond(leap, countNs)) return 'positive'
  return hasJumped(leap, countNs) ? `post-${suffix}` : `pre-${suffix}`
}
