// Tests that a page is made from the PTP clock of a network card, with a bound that holds the clock's time, and that
// the bound returns after a migration without any time daemon.

import assert from 'node:assert/strict'
import { withCards } from '../cards.mjs'
import {
  chronydDirectories,
  chronyWithoutNetwork,
  clockPrograms,
  startChronydOn,
} from '../chrony.mjs'
import { inShell } from '../in-guest.mjs'

const READINGS = 10_000
const MARKERS = 10
const MIGRATIONS = { short: 1, long: 10 }
const PROGRAM_MS = 1_800_000

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
    { isShort },
  ) {
    // The long form measures the peer too: chronyd alone, on the same card.
    const programs = isShort ? [] : chronyWithoutNetwork(await clockPrograms())
    const work = async (guest) => {
      const names = await inShell(guest, 'grep -v vmclock /sys/class/ptp/*/clock_name')
      const [, clock] = /\/sys\/class\/ptp\/(ptp\d+)\/clock_name/.exec(names[0])
      await inShell(guest, stage(clock))
      // The page has no bound, so no reading takes its time from it.
      guest.page.write({ flags: 0n })
      const dialogue = await guest.talk('phc-source.mjs', [`/dev/${clock}`, `${READINGS}`], {
        timeoutMs: PROGRAM_MS,
      })
      const largestNs = await dialogue.ask('compare')
      if (!isShort) {
        const source = `refclock PHC /dev/${clock} poll 0 dpoll -2`
        const start = startChronydOn(source, ['makestep 0.1 -1', 'cmdport 0'])
        assert.match(await dialogue.ask(`${chronydDirectories} && ${start}`), /^done/)
        assert.equal(await dialogue.ask('chrony'), 'bounded')
      }
      let marker = 1000n
      const waits = async (how, count) => {
        const all = []
        while (all.length < count) {
          assert.equal(await dialogue.ask('migrated'), 'waiting')
          marker += 1n
          await how(() => guest.page.write({ disruptionMarker: marker }))
          all.push(JSON.parse(await dialogue.next()))
        }
        return all
      }
      const marked = isShort ? await waits((change) => change(), MARKERS) : []
      const moved = await waits(
        (change) => guest.migrate(change),
        isShort ? MIGRATIONS.short : MIGRATIONS.long,
      )
      await dialogue.end()
      for (const { phc, chrony } of moved) {
        if (chrony !== undefined)
          assert.ok(phc < chrony, `from the card ${phc} ms, chrony ${chrony}`)
      }
      console.log(
        `    ${READINGS} readings within a bound of at most ${largestNs} ns; a bound again in ms, after each of ${marked.length} markers: ${JSON.stringify(marked)}; after each of ${moved.length} migrations: ${JSON.stringify(moved)}`,
      )
    }
    return await withCards(prepared, work, programs)
  },
}
