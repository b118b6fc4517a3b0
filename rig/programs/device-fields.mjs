// Through the driver's mmap and through its read: at one sequence number every field is the same.
// The host rewrites all of the page all the while.

import assert from 'node:assert/strict'
import { closeSync, openSync, readSync } from 'node:fs'
import { VmClock } from 'vmclock'

const DEVICE = '/dev/vmclock0'
const MAGIC = 0x4b4c4356
const STRUCTURE_BYTES = 0x70
const MOST_MS = 40_000

const [fewestComparisons, fewestUpdates] = process.argv.slice(2).map(Number)

const device = openSync(DEVICE, 'r')
const clock = VmClock.open(DEVICE)
const bytes = Buffer.alloc(STRUCTURE_BYTES)
const updates = new Set()
let comparisons = 0
let looks = 0

const startMs = performance.now()
while (comparisons < fewestComparisons || updates.size < fewestUpdates) {
  assert.ok(performance.now() - startMs < MOST_MS, `${comparisons} comparisons, ${looks} looks`)
  const { raw } = clock.snapshot()
  assert.equal(readSync(device, bytes, 0, STRUCTURE_BYTES, 0), STRUCTURE_BYTES)
  looks += 1
  const read = fieldsOf(bytes)
  // An update in between: nothing can be said of this pair.
  if (read.seqCount !== raw.seqCount) continue
  assert.deepEqual({ ...raw, magic: MAGIC }, read)
  comparisons += 1
  updates.add(raw.seqCount)
}
clock.close()
closeSync(device)
console.log(`${comparisons} comparisons over ${updates.size} updates in ${looks} looks`)

// The offsets of vmclock-abi.h.
function fieldsOf(page) {
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
