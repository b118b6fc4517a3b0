/** Formats nanoseconds as ISO 8601, without a loss of digits. */

const NS_PER_SEC = 1_000_000_000n

/** Formats nanoseconds since 1970 without a designator of a timescale. Within an inserted leap second it is :60. */
export function isoText(epochNs: bigint, leapSecond = false): string {
  const quotient = epochNs / NS_PER_SEC
  const seconds = epochNs < quotient * NS_PER_SEC ? quotient - 1n : quotient
  const fraction = String(epochNs - seconds * NS_PER_SEC).padStart(9, '0')
  // Date covers every signed 64-bit number of nanoseconds.
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19)
  return `${leapSecond ? `${whole.slice(0, 17)}60` : whole}.${fraction}`
}
