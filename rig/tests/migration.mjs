// A migration is one disruption: the token from before is refused, and one event says so.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { withGuest } from '../guest.mjs'
import { inShell } from '../in-guest.mjs'
import { FLAGS } from '../page.mjs'

const MIGRATIONS = { short: 2, long: 20 }

// The default of `watch`: QEMU's own device does not notify.
const INTERVAL_MS = 100

export const ownGuests = {
  async 'a migrated guest sees exactly one disruption, each time'(prepared, { isShort }) {
    const { machine } = prepared
    const migrations = isShort ? MIGRATIONS.short : MIGRATIONS.long
    // QEMU's own device notices a migration by itself. Where there is none, the host writes what the
    // hypervisor would have written, before the guest goes on.
    const isOwn = machine.ownVmclock !== undefined
    const devices = isOwn ? [machine.ownVmclock] : []
    await withGuest(prepared, { devices }, async (guest) => {
      // As most hypervisors' pages are. A page with time has to be given a new one after a migration.
      guest.tellNoTime()
      guest.page.write({ flags: FLAGS.VM_GEN_COUNTER_PRESENT | FLAGS.NOTIFICATION_PRESENT })
      if (isOwn) await assertBound(guest)
      const witness = await guest.talk('witness.mjs', [isOwn ? 'own' : 'rigs', `${INTERVAL_MS}`])
      const delaysMs = []
      for (let count = 1; count <= migrations; count++) {
        const before = JSON.parse(await witness.ask('renew'))
        assert.equal(before.isContinuous, true)
        const marker = BigInt(before.token.disruptionMarker)
        const resumedAtMs = await guest.migrate(() => {
          if (!isOwn) guest.page.write({ disruptionMarker: marker + 1n })
        })
        if (!isOwn) await guest.interrupt()
        const { seqCount, ...event } = JSON.parse(await witness.next())
        delaysMs.push(performance.now() - resumedAtMs)
        assert.deepEqual(event, {
          type: 'disruption',
          previous: `${marker}`,
          current: `${marker + 1n}`,
          updates: 1,
          isContinuous: false,
        })
        // A second event would be said before this answer, or before that to a later one.
        const after = JSON.parse(await witness.ask('report'))
        assert.deepEqual([after.token, after.isContinuous], [before.token, false])
      }
      await setTimeout(3 * INTERVAL_MS)
      await witness.ask('report')
      await witness.end()
      console.log(`    told ${summaryOf(delaysMs)} after the guest went on`)
    })
  },
}

// The kernel's driver has taken QEMU's own device, besides the rig's.
async function assertBound(guest) {
  const paths = await inShell(guest, 'cat /sys/bus/platform/drivers/vmclock/*/firmware_node/path')
  assert.deepEqual(paths.sort(), ['\\_SB_.RVCK', '\\_SB_.VCLK'])
}

function summaryOf(delaysMs) {
  const sorted = delaysMs.map(Math.round).sort((one, other) => one - other)
  const median = sorted[Math.floor(sorted.length / 2)]
  return `${sorted[0]} to ${sorted.at(-1)} ms (median ${median}, ${sorted.length} times)`
}
