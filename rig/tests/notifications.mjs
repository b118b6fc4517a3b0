// Tests the driver's notifications: an interrupt from the host ends the watcher's wait, and nothing runs
// between two interrupts. Also tests a device that does not notify.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { bindAgain, inShell, program } from '../in-guest.mjs'
import { FLAGS } from '../page.mjs'

// An interval so long that the timer reports nothing during a test.
const AN_HOUR_MS = '3600000'
const DEFAULT_MS = '100'

const REST_MS = 3000
const BACKSTOP_MS = 10_000
const CHANGES = { short: 20, long: 500 }

export const inGuest = {
  async 'an idle watcher uses no CPU time'(guest, { isShort }) {
    const rested = await restOf(guest, AN_HOUR_MS, REST_MS)
    assert.deepEqual([rested.waits, rested.ticks], [0, 0])
    if (isShort) return
    // By default it checks the page once in ten seconds, notified or not.
    const byDefault = await restOf(guest, DEFAULT_MS, 3 * BACKSTOP_MS)
    assert.ok(byDefault.waits <= byDefault.ms / BACKSTOP_MS + 1)
  },

  async 'only an interrupt ends the wait of a watcher'(guest, { isShort }) {
    const watcher = await guest.talk('watcher.mjs', ['rigs', AN_HOUR_MS])
    const delaysMs = []
    for (let change = 0; change < (isShort ? CHANGES.short : CHANGES.long); change++) {
      const marker = nextMarker()
      const before = await figures(watcher)
      guest.page.write({ disruptionMarker: marker })
      // The answer is the next line, so there was no event.
      assert.equal((await figures(watcher)).waits, before.waits)
      const startMs = performance.now()
      await guest.interrupt()
      await expectDisruption(watcher, marker)
      delaysMs.push(performance.now() - startMs)
    }
    await watcher.end()
    delaysMs.sort((one, other) => one - other)
    const [least, median, most] = [0, delaysMs.length >> 1, -1].map((at) =>
      delaysMs.at(at).toFixed(1),
    )
    console.log(
      `    reported ${least} to ${most} ms after it (median ${median}, ${delaysMs.length} times)`,
    )
  },

  async 'an interrupt without a change causes no event, and the next change causes one'(guest) {
    const watcher = await guest.talk('watcher.mjs', ['rigs', AN_HOUR_MS])
    await guest.interrupt()
    await figures(watcher)
    const marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await guest.interrupt()
    await expectDisruption(watcher, marker)
    await watcher.end()
  },

  async 'an endless update is one error, retried slowly, and the next change is reported'(guest) {
    const watcher = await guest.talk('watcher.mjs', ['rigs', AN_HOUR_MS])
    guest.page.begin()
    await guest.interrupt()
    assert.deepEqual(JSON.parse(await watcher.next()), {
      type: 'error',
      code: 'ERR_VMCLOCK_TIMEOUT',
    })
    const retrying = await observed(watcher, REST_MS)
    // It retries at the default interval, and not at the interval of an hour. It never sleeps less.
    assert.ok(retrying.waits <= retrying.ms / DEFAULT_MS + 1)
    guest.page.end()
    const marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await expectDisruption(watcher, marker)
    await watcher.end()

    // The watcher's own read of the device meets this error if an update starts at that time.
    guest.page.begin()
    const read = 'dd if=/dev/vmclock0 of=/dev/null bs=16 count=1'
    await inShell(guest, `${read} 2>&1 | grep -i "timed out"`)
    guest.page.end()
  },

  async 'losing the notification flag is reported at once, then the timer polls'(guest) {
    const { flags } = guest.timeFields
    const withoutFlag = flags & ~FLAGS.NOTIFICATION_PRESENT
    let watcher = await guest.talk('watcher.mjs', ['rigs', AN_HOUR_MS])
    let marker = nextMarker()
    guest.page.write({ flags: withoutFlag, disruptionMarker: marker })
    await guest.interrupt()
    await expectDisruption(watcher, marker)
    await watcher.end()

    watcher = await guest.talk('watcher.mjs', ['rigs', DEFAULT_MS])
    marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await expectDisruption(watcher, marker)
    // With the flag again: the driver was bound with the flag, so it handles interrupts.
    guest.page.write({ flags })
    marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await guest.interrupt()
    await expectDisruption(watcher, marker)
    await watcher.end()
  },

  async 'a driver bound without the flag handles no interrupt; the timer sees the change'(guest) {
    const { flags } = guest.timeFields
    guest.page.write({ flags: flags & ~FLAGS.NOTIFICATION_PRESENT })
    await bindAgain(guest)
    const watcher = await guest.talk('watcher.mjs', ['rigs', DEFAULT_MS])
    guest.page.write({ flags })
    let marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await expectDisruption(watcher, marker)
    await watcher.end()

    const unnotified = await guest.talk('watcher.mjs', ['rigs', AN_HOUR_MS])
    const before = await figures(unnotified)
    marker = nextMarker()
    guest.page.write({ disruptionMarker: marker })
    await guest.interrupt()
    assert.equal((await figures(unnotified)).waits, before.waits)
    await unnotified.end()
    await bindAgain(guest)
  },

  async 'a watcher continues after the driver is unbound'(guest) {
    const { flags } = guest.timeFields
    guest.page.write({ flags: flags & ~FLAGS.NOTIFICATION_PRESENT })
    const shown = await program(guest, 'unbinding.mjs', [], (text) => {
      if (text === 'gone\n') guest.page.write({ disruptionMarker: nextMarker() })
    })
    assert.deepEqual(shown, ['gone', 'disruption'])
    guest.page.write({ flags })
    await bindAgain(guest)
  },

  async 'the driver cannot be unloaded while a clock is open'(guest) {
    const { loadDriver } = guest.machine
    if (loadDriver === undefined) return 'this machine’s kernel has the driver built in'
    await program(guest, 'unloading.mjs', [])
    await inShell(guest, loadDriver)
  },
}

// The tests share a guest, so each uses a new marker.
let lastMarker = 1000n
function nextMarker() {
  lastMarker += 1n
  return lastMarker
}

async function expectDisruption(watcher, marker) {
  const { type, current } = JSON.parse(await watcher.next())
  assert.deepEqual([type, current], ['disruption', `${marker}`])
}

async function figures(watcher) {
  return JSON.parse(await watcher.ask('report')).thread
}

// Returns the activity of a new watcher while nothing happens.
async function restOf(guest, intervalMs, restMs) {
  const watcher = await guest.talk('watcher.mjs', ['rigs', intervalMs])
  const rested = await observed(watcher, restMs)
  await watcher.end()
  return rested
}

// Returns the wake-ups and CPU time of the watcher's thread in about `forMs`, by the guest's clock.
async function observed(watcher, forMs) {
  const before = await figures(watcher)
  await setTimeout(forMs)
  const after = await figures(watcher)
  const waits = after.waits - before.waits
  const ticks = after.ticks - before.ticks
  const ms = Math.round(after.atMs - before.atMs)
  console.log(`    ${waits} wake-ups and ${ticks} ticks of CPU time in ${ms} ms`)
  return { waits, ticks, ms }
}
