// A page that tells the guest the truth: the host's system clock, laid on the guest's counter.
//
// The guest says its counter whenever the host asks, and the host's clock before and after each
// question is a bracket around that instant. The narrowest bracket is the reference, and half its
// width the error that the page states.

import { randomBytes } from 'node:crypto'

const NS_PER_S = 1_000_000_000n
const MOST = 1n << 64n

// TAI - UTC since 2017.
const TAI_MINUS_UTC_S = 37n

// What the rate may be off: it is measured over the seconds of a boot, and the system clock that it is
// held against is itself being steered.
const RATE_ERROR_PPM = 100n

// What a question's two looks at the clock are rounded by, with room to spare.
const ROUNDING_NS = 1_000n

/** The page's flags, by the header's names. */
export const FLAGS = {
  TAI_OFFSET_VALID: 0x1n,
  PERIOD_MAXERROR_VALID: 0x10n,
  TIME_MAXERROR_VALID: 0x40n,
  VM_GEN_COUNTER_PRESENT: 0x100n,
  NOTIFICATION_PRESENT: 0x200n,
}

/** The host's CLOCK_REALTIME in nanoseconds, good to a microsecond. */
export function hostNowNs() {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6))
}

/**
 * What the guest says against the host's clock: the answer in the narrowest of `questions` brackets
 * around `ask`, the bracket's middle and its width.
 */
export async function pairWithHost(ask, questions = 25) {
  let best
  for (let question = 0; question < questions; question++) {
    const beforeNs = hostNowNs()
    const answer = await ask()
    const afterNs = hostNowNs()
    if (best === undefined || afterNs - beforeNs < best.widthNs) {
      best = { answer, epochNs: (beforeNs + afterNs) / 2n, widthNs: afterNs - beforeNs }
    }
  }
  return best
}

/** The fields of a page with time in TAI, from a counter's pair and a rate of `ticks` in `ns`. */
export function timeFields({ answer: counter, epochNs, widthNs }, { ticks, ns }) {
  const { period, shift } = periodOf(ticks, ns)
  const taiNs = epochNs + TAI_MINUS_UTC_S * NS_PER_S
  return {
    timeType: 1,
    clockStatus: 2,
    flags: Object.values(FLAGS).reduce((all, flag) => all | flag),
    taiOffsetSec: -Number(TAI_MINUS_UTC_S),
    leapIndicator: 0,
    counterPeriodShift: shift,
    counterValue: counter,
    counterPeriodFracSec: period,
    counterPeriodMaxerrorRateFracSec: (period * RATE_ERROR_PPM) / 1_000_000n,
    timeSec: taiNs / NS_PER_S,
    timeFracSec: ((taiNs % NS_PER_S) << 64n) / NS_PER_S,
    timeMaxerrorNanosec: widthNs / 2n + ROUNDING_NS,
  }
}

/** The fields that a page without time has besides marker and generation. */
export const noTimeFields = {
  counterId: 0xff,
  timeType: 0,
  flags: 0n,
  clockStatus: 0,
  leapSecondSmearingHint: 0,
  taiOffsetSec: 0,
  leapIndicator: 0,
  counterPeriodShift: 0,
  counterValue: 0n,
  counterPeriodFracSec: 0n,
  counterPeriodEsterrorRateFracSec: 0n,
  counterPeriodMaxerrorRateFracSec: 0n,
  timeSec: 0n,
  timeFracSec: 0n,
  timeEsterrorNanosec: 0n,
  timeMaxerrorNanosec: 0n,
}

/** Every field of a page at random, but those that say that it is one. */
export function anyFields() {
  const random = randomBytes(96)
  const uint64 = (index) => random.readBigUInt64LE(8 * index)
  return {
    counterId: random[88],
    timeType: random[89],
    disruptionMarker: uint64(0),
    flags: uint64(1),
    clockStatus: random[90],
    leapSecondSmearingHint: random[91],
    taiOffsetSec: random.readInt16LE(92),
    leapIndicator: random[94],
    counterPeriodShift: random[95] & 0x7f,
    counterValue: uint64(2),
    counterPeriodFracSec: uint64(3),
    counterPeriodEsterrorRateFracSec: uint64(4),
    counterPeriodMaxerrorRateFracSec: uint64(5),
    timeSec: uint64(6),
    timeFracSec: uint64(7),
    timeEsterrorNanosec: uint64(8),
    timeMaxerrorNanosec: uint64(9),
    vmGenerationCounter: uint64(10),
  }
}

// One tick in units of 2^-(64 + shift) s, with the greatest shift that leaves it in 64 bits.
function periodOf(ticks, ns) {
  const periodAt = (shift) => (ns << BigInt(64 + shift)) / (ticks * NS_PER_S)
  let shift = 0
  while (periodAt(shift + 1) < MOST) shift += 1
  return { period: periodAt(shift), shift }
}
