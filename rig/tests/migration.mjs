// A migration is exactly one disruption: one event, and the token from before is no longer continuous.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { withGuest } from '../guest.mjs'
import { inShell } from '../in-guest.mjs'
import { FLAGS } from '../page.mjs'

const MIGRATIONS = { short: 2, long: 20 }

// The default interval of `watch`, because QEMU's own device does not notify.
const INTERVAL_MS = 100

export const ownGuests = {
  async 'each migration is exactly one disruption'(prepared, { isShort }) {
    const { machine } = prepared
    const migrations = isShort ? MIGRATIONS.short : MIGRATIONS.long
    // QEMU's own device changes its marker at a migration. On a machine without it, the host changes the
    // marker before the guest continues.
    const isOwn = machine.ownVmclock !== undefined
    const devices = isOwn ? [machine.ownVmclock] : []
    await withGuest(prepared, { devices }, async (guest) => {
      // Like the pages of most hypervisors. A page with time would need a new reference after a migration.
      guest.removeTime()
      guest.page.write({ flags: FLAGS.VM_GEN_COUNTER_PRESENT | FLAGS.NOTIFICATION_PRESENT })
      if (isOwn) await assertBound(guest)
      const watcher = await guest.talk('watcher.mjs', [isOwn ? 'own' : 'rigs', `${INTERVAL_MS}`])
      const delaysMs = []
      for (let count = 1; count <= migrations; count++) {
        const before = JSON.parse(await watcher.ask('renew'))
        assert.equal(before.isContinuous, true)
        const marker = BigInt(before.token.disruptionMarker)
        const resumedAtMs = await guest.migrate(() => {
          if (!isOwn) guest.page.write({ disruptionMarker: marker + 1n })
        })
        if (!isOwn) await guest.interrupt()
        const { seqCount, ...event } = JSON.parse(await watcher.next())
        delaysMs.push(performance.now() - resumedAtMs)
        assert.deepEqual(event, {
          type: 'disruption',
          previous: `${marker}`,
          current: `${marker + 1n}`,
          updates: 1,
          isContinuous: false,
        })
        // A second event would come before this answer, or before a later one.
        const after = JSON.parse(await watcher.ask('report'))
        assert.deepEqual([after.token, after.isContinuous], [before.token, false])
      }
      await setTimeout(3 * INTERVAL_MS)
      await watcher.ask('report')
      await watcher.end()
      console.log(`    reported ${summaryOf(delaysMs)} after the guest continued`)
    })
  },
}

// Asserts that the kernel's driver is bound to QEMU's own device, and to the rig's.
async function assertBound(guest) {
  const paths = await inShell(guest, 'cat /sys/bus/platform/drivers/vmclock/*/firmware_node/path')
  assert.deepEqual(paths.sort(), ['\\_SB_.RVCK', '\\_SB_.VCLK'])
}

function summaryOf(delaysMs) {
  const sorted = delaysMs.map(Math.round).sort((one, other) => one - other)
  const median = sorted[Math.floor(sorted.length / 2)]
  return `${sorted[0]} to ${sorted.at(-1)} ms (median ${median}, ${sorted.length} times)`
}
