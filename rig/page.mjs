// Computes the fields of a page that gives the guest the true time: the host's system clock as a function of
// the guest's counter.
//
// The guest sends its counter when the host asks, and the host reads its clock before and after. The two
// readings are a bracket around the counter. The narrowest bracket is the reference of the page, and half its
// width is the bound that the page states.

import { randomBytes } from 'node:crypto'

const NS_PER_S = 1_000_000_000n
const MOST = 1n << 64n

// TAI - UTC since 2017.
const TAI_MINUS_UTC_S = 37n

// The rate's maximum error. The rate is measured over the seconds of a boot, against a system clock that a
// daemon may adjust.
const RATE_ERROR_PPM = 100n

// More than the rounding of the host's two clock readings.
const ROUNDING_NS = 1_000n

/** The page's flags, by their names in the header. */
export const FLAGS = {
  TAI_OFFSET_VALID: 0x1n,
  PERIOD_MAXERROR_VALID: 0x10n,
  TIME_MAXERROR_VALID: 0x40n,
  VM_GEN_COUNTER_PRESENT: 0x100n,
  NOTIFICATION_PRESENT: 0x200n,
}

/** Returns the host's CLOCK_REALTIME in nanoseconds, with a precision of a microsecond. */
export function hostNowNs() {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6))
}

/**
 * Calls `ask` `questions` times, each in a bracket of two readings of the host's clock. Returns the answer in
 * the narrowest bracket, with the bracket's middle and width.
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

/** Returns the fields of a page in TAI, from a pair of `pairWithHost` and a rate of `ticks` in `ns`. */
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

/** The fields of a page without time, besides its marker and generation. */
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

/** Returns random values for all fields but the magic, the size and the version. */
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

// Returns one tick in units of 2^-(64 + shift) s, with the largest shift for which it fits in 64 bits.
function periodOf(ticks, ns) {
  const periodAt = (shift) => (ns << BigInt(64 + shift)) / (ticks * NS_PER_S)
  let shift = 0
  while (periodAt(shift + 1) < MOST) shift += 1
  return { period: periodAt(shift), shift }
}
