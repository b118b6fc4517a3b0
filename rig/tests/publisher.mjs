// Tests the publisher in a guest with a device: it passes each disruption on when the device notifies.

import assert from 'node:assert/strict'
import { program } from '../in-guest.mjs'

// The longest interval. An event that comes sooner came from a notification.
const INTERVAL_MS = 1000

export const inGuest = {
  async 'a publisher passes on disruptions and new generations of the device'(guest) {
    const asked = []
    const delaysMs = []
    let startMs
    let interrupts = Promise.resolve()
    await program(guest, 'own-publisher.mjs', [`${INTERVAL_MS}`], (text) => {
      const [event, marker, generation] = text.trim().split(' ')
      if (event === 'forwarded') {
        delaysMs.push(performance.now() - startMs)
        return
      }
      asked.push(event)
      if (event === 'disruption') guest.page.write({ disruptionMarker: BigInt(marker) + 1n })
      else guest.page.write({ vmGenerationCounter: BigInt(generation) + 1n })
      startMs = performance.now()
      interrupts = interrupts.then(() => guest.interrupt())
    })
    await interrupts
    assert.deepEqual(asked, [...Array(5).fill('disruption'), 'generation'])
    const shown = delaysMs.map((ms) => ms.toFixed(0)).join(', ')
    console.log(
      `    passed on ${shown} ms after the interrupt, at an interval of ${INTERVAL_MS} ms`,
    )
  },
}
