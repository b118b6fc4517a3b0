// Fields that all follow from one number, and the relation that only a whole reading satisfies.

const FLAGS =
  (1n << 0n) | // TAI_OFFSET_VALID
  (1n << 4n) | // PERIOD_MAXERROR_VALID
  (1n << 6n) | // TIME_MAXERROR_VALID
  (1n << 8n) // VM_GEN_COUNTER_PRESENT

const MASK = 0x5555_5555_5555_5555n

/** Returns the fields of page state `state`. The period is so short that no time ever passes. */
function fieldsOf(state) {
  const number = BigInt(state)
  return {
    counterId: process.arch === 'arm64' ? 0 : 1,
    clockStatus: 2 + (state & 1),
    flags: FLAGS,
    taiOffsetSec: -(10 + (state % 200)),
    disruptionMarker: number,
    vmGenerationCounter: number ^ MASK,
    counterPeriodShift: 127,
    counterPeriodFracSec: 1n,
    timeSec: 1_000_000n + number,
    // Half a nanosecond, which is clear of the border between two results: so the fast path has one.
    timeFracSec: 2n ** 33n,
    timeMaxerrorNanosec: number * 7n,
  }
}

/** Returns whether twelve figures belong to one state. */
function isWhole(slots) {
  const number = slots[6]
  return (
    slots[7] === (number ^ MASK) &&
    slots[0] === (1_000_000n + number) * 1_000_000_000n &&
    slots[1] === number * 7n + 1n &&
    slots[3] === slots[0] - slots[1] &&
    slots[4] === slots[0] + slots[1] &&
    slots[8] === 2n + (number & 1n) &&
    slots[10] === 10n + (number % 200n)
  )
}

module.exports = { fieldsOf, isWhole }
