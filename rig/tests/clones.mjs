// Restores one snapshot twice. Both clones report a disruption and a new generation, with the same token. A
// migration of the original reports a disruption only.

import assert from 'node:assert/strict'
import { withClone, withGuest } from '../guest.mjs'
import { trueReading } from '../in-guest.mjs'

// An interval so long that only the interrupt can end the watcher's wait.
const AN_HOUR_MS = '3600000'

// VMCLOCK_STATUS_INITIALIZING: the page has no reference since the clone was restored.
const INITIALIZING = 1

export const ownGuests = {
  async 'two clones see the same disruption and generation, a migration a disruption'(prepared) {
    await withGuest(prepared, {}, async (guest) => {
      const watcher = await guest.talk('watcher.mjs', ['rigs', AN_HOUR_MS])
      const original = JSON.parse(await watcher.ask('report'))
      const snapshot = await guest.snapshot()

      const next = (token, name) => ({ ...token, [name]: `${BigInt(token[name]) + 1n}` })
      const disrupted = next(original.token, 'disruptionMarker')
      const cloned = next(disrupted, 'vmGeneration')
      const disruption = { type: 'disruption', previous: '1', current: '2' }
      const generation = { type: 'generation', previous: '1', current: '2' }
      const status = { type: 'status', previous: 'synchronized', current: 'initializing' }

      const tokens = []
      for (const _ of ['first', 'second']) {
        await withClone(snapshot, host(cloned), async (clone) => {
          const events = [disruption, generation, status]
          tokens.push(await eventsAndToken(clone, clone.resumedAtMs, clone.resumeTalk(), events))
          await clone.writeTime()
          await trueReading(clone, 'uapi')
        })
      }
      // The token is no identity: the documentation says so.
      assert.deepEqual(tokens, [cloned, cloned])

      // The original continued undisturbed.
      await guest.interrupt()
      const { token, isContinuous } = JSON.parse(await watcher.ask('report'))
      assert.deepEqual([token, isContinuous], [original.token, true])
      const resumedAtMs = await guest.migrate(() => host(disrupted)(guest))
      const migrated = await eventsAndToken(guest, resumedAtMs, watcher, [disruption, status])
      assert.deepEqual(migrated, disrupted)
    })
  },
}

// Returns a function that writes this token to a stopped guest's page, as a host does.
function host({ disruptionMarker, vmGeneration }) {
  return ({ page }) =>
    page.write({
      disruptionMarker: BigInt(disruptionMarker),
      vmGenerationCounter: BigInt(vmGeneration),
      clockStatus: INITIALIZING,
    })
}

// Expects these events from the watcher that was waiting when the guest was saved. Returns the new token.
async function eventsAndToken(guest, resumedAtMs, watcher, expected) {
  await guest.interrupt()
  for (const event of expected) {
    const { seqCount, ...seen } = JSON.parse(await watcher.next())
    assert.deepEqual(seen, { ...event, updates: 1, isContinuous: false })
  }
  const delayMs = Math.round(performance.now() - resumedAtMs)
  console.log(`    reported ${delayMs} ms after the guest continued`)
  const { token } = JSON.parse(await watcher.ask('renew'))
  await watcher.end()
  return token
}
