// Computes the linear function from counter to time that a page defines, in exact integers, and a function
// that continues it.

const MOST = 1n << 64n

/** Returns the fields that define the function, from a page's fields. */
export function lineOf(fields) {
  const { counterValue, counterPeriodFracSec, counterPeriodShift, timeSec, timeFracSec } = fields
  return { counterValue, counterPeriodFracSec, counterPeriodShift, timeSec, timeFracSec }
}

/**
 * Returns a function with another period that continues `line`, so that no reader sees time step back. The
 * update happens at some counter from `least` to `most`. Every time that `line` gives up to `most` is at
 * most the time that the new function gives for a later counter. Its reference is the counter
 * `counterValue`, which is at most `least`. Time may step forward, by the difference that the two functions
 * gain from `least` to `most`.
 */
export function continued(line, period, { least, most }, counterValue) {
  const shift = BigInt(line.counterPeriodShift)
  // In units of 2^-(64 + shift) s, which need no rounding.
  const at = (counter) =>
    (((line.timeSec << 64n) + line.timeFracSec) << shift) +
    (counter - line.counterValue) * line.counterPeriodFracSec
  const faster = at(least)
  const slower = at(most) - (most - least) * period
  const there = faster > slower ? faster : slower
  const reference = there - (least - counterValue) * period
  // One unit for the rounding here, and one for the rounding of readers on either function.
  const time = (reference >> shift) + 2n
  return {
    counterValue,
    counterPeriodFracSec: period,
    counterPeriodShift: line.counterPeriodShift,
    timeSec: time / MOST,
    timeFracSec: time % MOST,
  }
}

/** Returns `period` changed at random by up to `mostPpm`, within the 64 bits of its field. */
export function wandering(period, mostPpm) {
  const ppb = Math.round((Math.random() * 2 - 1) * mostPpm * 1000)
  const moved = (period * (1_000_000_000n + BigInt(ppb))) / 1_000_000_000n
  return moved < MOST ? moved : MOST - 1n
}
