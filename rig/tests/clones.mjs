// One saved state, resumed twice: both clones notice, each like the other; and a migration of the
// original is something else.

import assert from 'node:assert/strict'
import { withClone, withGuest } from '../guest.mjs'
import { trueReading } from '../in-guest.mjs'

// So long that it is the interrupt, and no timer, that ends the watcher's wait.
const AN_HOUR_MS = '3600000'

// VMCLOCK_STATUS_INITIALIZING: until it was given a new reference, the page's time is a guess.
const INITIALIZING = 1

export const ownGuests = {
  async 'a restored guest notices, a second clone of it reads the same, and a migration differs'(
    prepared,
  ) {
    await withGuest(prepared, {}, async (guest) => {
      const witness = await guest.talk('witness.mjs', ['rigs', AN_HOUR_MS])
      const original = JSON.parse(await witness.ask('report'))
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
          const told = [disruption, generation, status]
          tokens.push(await goOn(clone, clone.resumedAtMs, clone.goOnTalking(), told))
          await clone.tellTime()
          await trueReading(clone, 'uapi')
        })
      }
      // What the documentation of the token says: it is no identity.
      assert.deepEqual(tokens, [cloned, cloned])

      // The original, meanwhile, went on as if nothing had been.
      await guest.interrupt()
      const { token, isContinuous } = JSON.parse(await witness.ask('report'))
      assert.deepEqual([token, isContinuous], [original.token, true])
      const resumedAtMs = await guest.migrate(() => host(disrupted)(guest))
      const migrated = await goOn(guest, resumedAtMs, witness, [disruption, status])
      assert.deepEqual(migrated, disrupted)
    })
  },
}

// What a host writes before it lets a guest go on that is to read this token from now on.
function host({ disruptionMarker, vmGeneration }) {
  return ({ page }) =>
    page.write({
      disruptionMarker: BigInt(disruptionMarker),
      vmGenerationCounter: BigInt(vmGeneration),
      clockStatus: INITIALIZING,
    })
}

// The watcher that was waiting when the guest was saved tells this; gives the token of afterwards.
async function goOn(guest, resumedAtMs, witness, expected) {
  await guest.interrupt()
  for (const event of expected) {
    const { seqCount, ...told } = JSON.parse(await witness.next())
    assert.deepEqual(told, { ...event, updates: 1, isContinuous: false })
  }
  const delayMs = Math.round(performance.now() - resumedAtMs)
  console.log(`    told ${delayMs} ms after the guest went on`)
  const { token } = JSON.parse(await witness.ask('renew'))
  await witness.end()
  return token
}
