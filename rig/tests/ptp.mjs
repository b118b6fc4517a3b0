// The kernel's PTP clock of the page: it and this package tell the same time, and every call of
// `PtpClock` does, or refuses, what it promises.

import { randomInt } from 'node:crypto'
import { program } from '../in-guest.mjs'
import { continued, lineOf, wandering } from '../line.mjs'
import { counterBounds, withUpdates } from '../updates.mjs'

// How many readings of ours are compared with the kernel's, over how many pages at least.
const READINGS = 10_000
const UPDATES = 200

export const inGuest = {
  async 'every reading lies between two of the kernel’s, over pages that never step back'(guest) {
    const told = guest.timeFields
    const where = await counterBounds(guest)
    let line = lineOf(told)
    const next = () => {
      // About the true period, so that time does not run away.
      line = continued(line, wandering(told.counterPeriodFracSec, 20), where())
      return line
    }
    await agreement(guest, 'steadily', next)
  },

  async 'over pages that step and stand half written as well, where the page stood still'(guest) {
    const told = guest.timeFields
    const where = await counterBounds(guest)
    await agreement(guest, 'anyhow', () => anyTime(told, where()))
  },

  async 'cross timestamps lie on the line of systemOffset(), within both bounds'(guest) {
    const told = guest.timeFields
    guest.page.write({ timeMaxerrorNanosec: 0n, counterPeriodMaxerrorRateFracSec: 0n })
    const shown = await program(guest, 'ptp-offsets.mjs', ['1000'])
    guest.page.write(told)
    console.log(`    ${shown}`)
  },
}

async function agreement(guest, mode, fields) {
  const told = guest.timeFields
  const { result, updates } = await withUpdates(guest.page, fields, () =>
    program(guest, 'ptp-agreement.mjs', [mode, `${READINGS}`, `${UPDATES}`], undefined, 150_000),
  ).finally(() => guest.page.write(told))
  const seen = JSON.parse(result.at(-1))
  console.log(
    `    ${seen.readings} readings of ${seen.looks} compared over ${seen.updates} pages of ${updates}, ${seen.exact} of them to the nanosecond`,
  )
}

// Any time and any period, from a reference that the counter has passed. Of every other the period is so
// small that the time stands still while it is read three times.
function anyTime(told, { least }) {
  const behind = BigInt(randomInt(2 ** 47))
  const divisor = BigInt(randomInt(2) === 0 ? randomInt(1, 8) : randomInt(2 ** 24, 2 ** 32))
  return {
    stayMs: randomInt(50) === 0 ? randomInt(5, 50) : 0,
    timeType: randomInt(2),
    taiOffsetSec: -randomInt(10, 256),
    counterValue: BigInt.asUintN(64, least - behind),
    counterPeriodFracSec: told.counterPeriodFracSec / divisor,
    timeSec: told.timeSec + BigInt(randomInt(-(2 ** 30), 2 ** 30)),
    timeFracSec: (BigInt(randomInt(2 ** 32)) << 32n) + BigInt(randomInt(2 ** 32)),
  }
}
