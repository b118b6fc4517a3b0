// The driver's own notification: an interrupt that the host raises ends the watcher's wait, and
// between two of them nothing runs. And what the driver does where it does not notify.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { bindAgain, inShell, program } from '../in-guest.mjs'
import { FLAGS } from '../page.mjs'

// So long that whatever is told before is not told by the timer.
const AN_HOUR_MS = '3600000'
const DEFAULT_MS = '100'

const REST_MS = 3000
const BACKSTOP_MS = 10_000
const CHANGES = { short: 20, long: 500 }

export const inGuest = {
  async 'a watcher at rest does not run at all'(guest, { isShort }) {
    const rested = await restOf(guest, AN_HOUR_MS, REST_MS)
    assert.deepEqual([rested.waits, rested.ticks], [0, 0])
    if (isShort) return
    // By default it looks once in ten seconds, announced or not.
    const byDefault = await restOf(guest, DEFAULT_MS, 3 * BACKSTOP_MS)
    assert.ok(byDefault.waits <= byDefault.ms / BACKSTOP_MS + 1)
  },

  async 'the interrupt alone ends its wait'(guest, { isShort }) {
    const witness = await guest.talk('witness.mjs', ['rigs', AN_HOUR_MS])
    const delaysMs = []
    for (let change = 0; change < (isShort ? CHANGES.short : CHANGES.long); change++) {
      const marker = nextMarker()
      const before = await figures(witness)
      guest.page.write({ disruptionMarker: marker })
      // The answer is the next line: nothing was told.
      assert.equal((await figures(witness)).waits, before.waits)
      const startMs = performance.now()
      await guest.interrupt()
      await tellsDisruption(witness, marker)
      delaysMs.push(performance.now() - startMs)
    }
    await witness.end()
    delaysMs.sort((one, other) => one - other)
    const [least, median, most] = [0, delaysMs.length >> 1, -1].map((at) =>
      delaysMs.at(at).toFixed(1),
    )
    console.log(
      `    told ${least} to ${most} ms after it (median ${median}, ${delaysMs.length} times)`,
    )
  },

  async 'an interrupt without a change tells nothing, and the next change is told'(guest) {
    const witness = await guest.talk('witness.mjs', ['rigs', AN_HOUR_MS])
    await guest.interrupt()
    await figures(witness)
    const marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await guest.interrupt()
    await tellsDisruption(witness, marker)
    await witness.end()
  },

  async 'an update that does not end is one error without haste, and the change after it is told'(
    guest,
  ) {
    const witness = await guest.talk('witness.mjs', ['rigs', AN_HOUR_MS])
    guest.page.begin()
    await guest.interrupt()
    assert.deepEqual(JSON.parse(await witness.next()), {
      type: 'error',
      code: 'ERR_VMCLOCK_TIMEOUT',
    })
    const troubled = await observed(witness, REST_MS)
    // As often as by default, and not the hour that was asked for; a sleep is never cut short.
    assert.ok(troubled.waits <= troubled.ms / DEFAULT_MS + 1)
    guest.page.end()
    const marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await tellsDisruption(witness, marker)
    await witness.end()

    // What the watcher's own read of the device meets when an update is begun just then.
    guest.page.begin()
    const read = 'dd if=/dev/vmclock0 of=/dev/null bs=16 count=1'
    await inShell(guest, `${read} 2>&1 | grep -i "timed out"`)
    guest.page.end()
  },

  async 'a page that loses the flag tells of it at once, and is then looked at by the timer'(
    guest,
  ) {
    const { flags } = guest.timeFields
    const withoutFlag = flags & ~FLAGS.NOTIFICATION_PRESENT
    let witness = await guest.talk('witness.mjs', ['rigs', AN_HOUR_MS])
    let marker = nextMarker()
    guest.page.write({ flags: withoutFlag, disruptionMarker: marker })
    await guest.interrupt()
    await tellsDisruption(witness, marker)
    await witness.end()

    witness = await guest.talk('witness.mjs', ['rigs', DEFAULT_MS])
    marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await tellsDisruption(witness, marker)
    // And back: the driver was bound with it, so it listens.
    guest.page.write({ flags })
    marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await guest.interrupt()
    await tellsDisruption(witness, marker)
    await witness.end()
  },

  async 'a driver that was bound without the flag does not listen, and the timer does'(guest) {
    const { flags } = guest.timeFields
    guest.page.write({ flags: flags & ~FLAGS.NOTIFICATION_PRESENT })
    await bindAgain(guest)
    const watcher = await guest.talk('witness.mjs', ['rigs', DEFAULT_MS])
    guest.page.write({ flags })
    let marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await tellsDisruption(watcher, marker)
    await watcher.end()

    const deaf = await guest.talk('witness.mjs', ['rigs', AN_HOUR_MS])
    const before = await figures(deaf)
    marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await guest.interrupt()
    assert.equal((await figures(deaf)).waits, before.waits)
    await deaf.end()
    await bindAgain(guest)
  },

  async 'a page that is taken from its driver is watched on'(guest) {
    const { flags } = guest.timeFields
    guest.page.write({ flags: flags & ~FLAGS.NOTIFICATION_PRESENT })
    const shown = await program(guest, 'unbinding.mjs', [], (text) => {
      if (text === 'gone\n') guest.page.write({ disruptionMarker: nextMarker() })
    })
    assert.deepEqual(shown, ['gone', 'disruption'])
    guest.page.write({ flags })
    await bindAgain(guest)
  },

  async 'the driver cannot be unloaded under an open clock'(guest) {
    const { loadDriver } = guest.machine
    if (loadDriver === undefined) return 'this machine’s kernel has the driver built in'
    await program(guest, 'unloading.mjs', [])
    await inShell(guest, loadDriver)
  },
}

// The shared guest's marker goes on and on.
let lastMarker = 1000n
function nextMarker() {
  lastMarker += 1n
  return lastMarker
}

async function tellsDisruption(witness, marker) {
  const { type, current } = JSON.parse(await witness.next())
  assert.deepEqual([type, current], ['disruption', `${marker}`])
}

async function figures(witness) {
  return JSON.parse(await witness.ask('report')).thread
}

// What a new watcher does while nothing happens.
async function restOf(guest, intervalMs, restMs) {
  const witness = await guest.talk('witness.mjs', ['rigs', intervalMs])
  const rested = await observed(witness, restMs)
  await witness.end()
  return rested
}

// What the watcher's thread does in so much time, by the guest's own clock.
async function observed(witness, forMs) {
  const before = await figures(witness)
  await setTimeout(forMs)
  const after = await figures(witness)
  const waits = after.waits - before.waits
  const ticks = after.ticks - before.ticks
  const ms = Math.round(after.atMs - before.atMs)
  console.log(`    ${waits} wake-ups and ${ticks} ticks of CPU time in ${ms} ms`)
  return { waits, ticks, ms }
}
