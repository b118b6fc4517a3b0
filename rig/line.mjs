// The straight line from counter to time that a page draws, in exact integers, and another that goes on
// from it.

const MOST = 1n << 64n

/** The fields of a page's line, from the page's fields or from a line. */
export function lineOf(fields) {
  const { counterValue, counterPeriodFracSec, counterPeriodShift, timeSec, timeFracSec } = fields
  return { counterValue, counterPeriodFracSec, counterPeriodShift, timeSec, timeFracSec }
}

/**
 * A line with another period that goes on where `line` is left, so that nobody sees time step back: no
 * counter up to `most` was read by `line` to a time that a later counter does not reach by the new one.
 * Its reference is the counter `counterValue`, which is `least` or anything before. Time may step ahead,
 * by as much as the two lines draw apart from `least` to `most`.
 */
export function continued(line, period, { least, most }, counterValue) {
  const shift = BigInt(line.counterPeriodShift)
  // In units of 2^-(64 + shift) s, in which nothing is cut off.
  const at = (counter) =>
    (((line.timeSec << 64n) + line.timeFracSec) << shift) +
    (counter - line.counterValue) * line.counterPeriodFracSec
  const faster = at(least)
  const slower = at(most) - (most - least) * period
  const there = faster > slower ? faster : slower
  const reference = there - (least - counterValue) * period
  // One for what is cut off here, and one for what readers cut off on either line.
  const time = (reference >> shift) + 2n
  return {
    counterValue,
    counterPeriodFracSec: period,
    counterPeriodShift: line.counterPeriodShift,
    timeSec: time / MOST,
    timeFracSec: time % MOST,
  }
}

/** `period`, more or less by up to so many millionths of it at random, and within its field's 64 bits. */
export function wandering(period, mostPpm) {
  const ppb = Math.round((Math.random() * 2 - 1) * mostPpm * 1000)
  const moved = (period * (1_000_000_000n + BigInt(ppb))) / 1_000_000_000n
  return moved < MOST ? moved : MOST - 1n
}
