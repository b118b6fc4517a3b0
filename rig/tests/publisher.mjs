// The package's own publisher beside a device: it passes on what that tells, as soon as it is told itself.

import assert from 'node:assert/strict'
import { program } from '../in-guest.mjs'

// The longest that there is: what comes sooner was notified of.
const INTERVAL_MS = 1000

export const inGuest = {
  async 'a publisher passes on a disruption and a new generation of the device'(guest) {
    const asked = []
    const delaysMs = []
    let startMs
    await program(guest, 'own-publisher.mjs', [`${INTERVAL_MS}`], (text) => {
      const [event, marker, generation] = text.trim().split(' ')
      if (event === 'told') {
        delaysMs.push(performance.now() - startMs)
        return
      }
      asked.push(event)
      if (event === 'disruption') guest.page.write({ disruptionMarker: BigInt(marker) + 1n })
      else guest.page.write({ vmGenerationCounter: BigInt(generation) + 1n })
      startMs = performance.now()
      guest.interrupt()
    })
    assert.deepEqual(asked, [...Array(5).fill('disruption'), 'generation'])
    const shown = delaysMs.map((ms) => ms.toFixed(0)).join(', ')
    console.log(
      `    passed on ${shown} ms after the interrupt, at an interval of ${INTERVAL_MS} ms`,
    )
  },
}
