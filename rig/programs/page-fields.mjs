// Parses the bytes that the driver's `read` returns, by the offsets of vmclock-abi.h.

export const STRUCTURE_BYTES = 0x70

/** Returns the fields of a page's bytes, by the names of `VmClock.snapshot().raw`, and its magic. */
export function fieldsOf(page) {
  return {
    magic: page.readUInt32LE(0x00),
    size: page.readUInt32LE(0x04),
    version: page.readUInt16LE(0x08),
    counterId: page.readUInt8(0x0a),
    timeType: page.readUInt8(0x0b),
    seqCount: page.readUInt32LE(0x0c),
    disruptionMarker: page.readBigUInt64LE(0x10),
    flags: page.readBigUInt64LE(0x18),
    clockStatus: page.readUInt8(0x22),
    leapSecondSmearingHint: page.readUInt8(0x23),
    taiOffsetSec: page.readInt16LE(0x24),
    leapIndicator: page.readUInt8(0x26),
    counterPeriodShift: page.readUInt8(0x27),
    counterValue: page.readBigUInt64LE(0x28),
    counterPeriodFracSec: page.readBigUInt64LE(0x30),
    counterPeriodEsterrorRateFracSec: page.readBigUInt64LE(0x38),
    counterPeriodMaxerrorRateFracSec: page.readBigUInt64LE(0x40),
    timeSec: page.readBigUInt64LE(0x48),
    timeFracSec: page.readBigUInt64LE(0x50),
    timeEsterrorNanosec: page.readBigUInt64LE(0x58),
    timeMaxerrorNanosec: page.readBigUInt64LE(0x60),
    vmGenerationCounter: page.readBigUInt64LE(0x68),
  }
}
