// Tests that a page is made from the PTP clock of a network card, with a bound that holds the clock's time, and that
// the bound returns after a migration without any time daemon.

import assert from 'node:assert/strict'
import { withCards } from '../cards.mjs'
import { inShell } from '../in-guest.mjs'

const READINGS = 10_000
const MIGRATIONS = 10
const PROGRAM_MS = 300_000

// The card's part of sysfs as EC2's driver has it, in the place of the real one.
const stage = (clock) =>
  [
    `mkdir -p /tmp/ptp/${clock}/device`,
    `cat /sys/class/ptp/${clock}/clock_name > /tmp/ptp/${clock}/clock_name`,
    `printf 'DRIVER=ena\\nPCI_SLOT_NAME=0000:00:05.0\\n' > /tmp/ptp/${clock}/device/uevent`,
    `echo 1 > /tmp/ptp/${clock}/device/phc_error_bound`,
    'mount -o bind /tmp/ptp /sys/class/ptp',
  ].join(' && ')

export const ownGuests = {
  async 'a card’s PTP clock gives a page with a true bound, and gives it back after a migration'(
    prepared,
  ) {
    return await withCards(prepared, async (guest) => {
      const names = await inShell(guest, 'grep -v vmclock /sys/class/ptp/*/clock_name')
      const [, clock] = /\/sys\/class\/ptp\/(ptp\d+)\/clock_name/.exec(names[0])
      await inShell(guest, stage(clock))
      // The page has no bound, so no reading takes its time from it.
      guest.page.write({ flags: 0n })
      const dialogue = await guest.talk('phc-source.mjs', [`/dev/${clock}`, `${READINGS}`], {
        timeoutMs: PROGRAM_MS,
      })
      const largestNs = await dialogue.ask('compare')
      const waits = []
      for (let at = 1; at <= MIGRATIONS; at += 1) {
        guest.page.write({ disruptionMarker: 1000n + BigInt(at) })
        const answer = await dialogue.ask('migrated')
        const [, ms] = /^(\d+) phc$/.exec(answer) ?? assert.fail(answer)
        waits.push(Number(ms))
      }
      await dialogue.end()
      console.log(
        `    ${READINGS} readings within a bound of at most ${largestNs} ns; a bound again ${Math.max(...waits)} ms at most after each of ${MIGRATIONS} migrations`,
      )
    })
  },
}
