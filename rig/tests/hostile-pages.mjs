// Compares the kernel's driver with this package on hostile pages. If both give a time, it is the same. Each
// difference must be a known one: see rig/programs/hostile-page.mjs.

import assert from 'node:assert/strict'
import { createHash, randomInt } from 'node:crypto'
import { counterBounds } from '../updates.mjs'

const PAGES = Number(process.env.VMCLOCK_HOSTILE_PAGES ?? 0)
const SHORT = 600
const LONG = 5000

// A page takes some milliseconds. This limit allows for a busy machine.
const MS_A_PAGE = 200

export const inGuest = {
  async 'kernel and package give the same time of hostile pages, or differ in a known way'(
    guest,
    { isShort },
  ) {
    const seed = Number(process.env.VMCLOCK_HOSTILE_SEED ?? randomInt(2 ** 31))
    const pages = PAGES || (isShort ? SHORT : LONG)
    const { timeFields } = guest
    const where = await counterBounds(guest)
    const counts = new Map()
    const name = 'hostile-page.mjs'
    const dialogue = await guest.talk(name, [`${guest.machine.counterId}`], {
      timeoutMs: 60_000 + pages * MS_A_PAGE,
    })
    try {
      for (let index = 0; index < pages; index++) {
        const random = randomness(seed, index)
        guest.page.write(
          index % 4 === 0 ? anyBytes(random, timeFields) : nearly(random, timeFields, where()),
        )
        const answer = await dialogue.ask()
        assert.ok(
          !answer.startsWith('unexplained'),
          `VMCLOCK_HOSTILE_SEED=${seed}, page ${index}: ${answer}`,
        )
        for (const word of answer.split(' ')) counts.set(word, (counts.get(word) ?? 0) + 1)
      }
    } finally {
      guest.page.write({ ...timeFields, version: 1 })
      await dialogue.end()
    }
    const shown = [...counts].sort(([one], [other]) => (one < other ? -1 : 1))
    console.log(
      `    seed ${seed}: ${pages} pages, ${shown.map(([word, n]) => `${n} ${word}`).join(', ')}`,
    )
    // A page that one of them refuses shows little.
    assert.ok(counts.get('equal') > pages / 3, 'too few pages gave a time in both')
  },
}

/** Returns random numbers that a seed repeats. */
function randomness(seed, index) {
  const bytes = createHash('shake256', { outputLength: 512 }).update(`${seed} ${index}`).digest()
  let at = 0
  const uint64 = () => {
    at += 8
    return bytes.readBigUInt64LE(at - 8)
  }
  const below = (most) => Number(uint64() % BigInt(most))
  return {
    uint64,
    below,
    bits: (most) => uint64() >> BigInt(64 - most),
    of: (list) => list[below(list.length)],
  }
}

/** Returns random fields, most often with this machine's counter. */
function anyBytes({ uint64, below, of }, truth) {
  return {
    counterId: of([truth.counterId, truth.counterId, truth.counterId, below(256)]),
    timeType: of([0, 1, 1, below(256)]),
    disruptionMarker: uint64(),
    flags: uint64(),
    clockStatus: of([2, 3, below(6), below(256)]),
    leapSecondSmearingHint: below(256),
    taiOffsetSec: of([-37, below(65536) - 32768]),
    leapIndicator: below(256),
    counterPeriodShift: below(256),
    counterValue: uint64(),
    counterPeriodFracSec: uint64(),
    counterPeriodEsterrorRateFracSec: uint64(),
    counterPeriodMaxerrorRateFracSec: uint64(),
    timeSec: uint64(),
    timeFracSec: uint64(),
    timeEsterrorNanosec: uint64(),
    timeMaxerrorNanosec: uint64(),
    vmGenerationCounter: uint64(),
  }
}

/** Returns the true fields with one to three changes to values at a limit or beyond. */
function nearly({ uint64, below, bits, of }, truth, { least, most }) {
  const shift = BigInt(truth.counterPeriodShift)
  const coarser = below(Number(shift) + 1)
  const changes = [
    () => ({ timeFracSec: uint64() }),
    () => ({ timeSec: of([0n, 1n, bits(33), bits(34), bits(63), uint64(), truth.timeSec]) }),
    () => ({ counterValue: BigInt.asUintN(64, least - bits(of([1, 20, 40, 47]))) }),
    // A reference after the counter, by less than a second or by more.
    () => ({ counterValue: BigInt.asUintN(64, most + bits(of([20, 28, 47, 63]))) }),
    () => ({ counterValue: uint64() }),
    () => ({
      counterPeriodShift: truth.counterPeriodShift - coarser,
      counterPeriodFracSec: truth.counterPeriodFracSec >> BigInt(coarser) || 1n,
    }),
    () => ({ counterPeriodFracSec: of([0n, 1n, truth.counterPeriodFracSec, uint64(), bits(40)]) }),
    () => ({ counterPeriodShift: of([0, 63, 64, 127, 128, 255, below(128)]) }),
    () => ({ clockStatus: below(6) }),
    () => ({ timeType: below(5) }),
    () => ({ timeType: 0, taiOffsetSec: of([-37, 37, 0, 9, -9, 10, 255, 256, -32768]) }),
    () => ({ taiOffsetSec: of([-37, 37, 0, 9, -10, -255, below(65536) - 32768]) }),
    () => ({ flags: uint64() }),
    () => ({ leapIndicator: below(8), leapSecondSmearingHint: below(4) }),
    () => ({ timeMaxerrorNanosec: uint64(), counterPeriodMaxerrorRateFracSec: uint64() }),
    () => ({ disruptionMarker: uint64(), vmGenerationCounter: uint64() }),
    () => ({ counterId: below(256) }),
    () => ({ version: of([0, 2, 65535]) }),
  ]
  const fields = { ...truth, version: 1 }
  for (let change = below(3); change >= 0; change--) Object.assign(fields, of(changes)())
  return fields
}
