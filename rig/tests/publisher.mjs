// The package's own publisher beside a device: it passes on what that tells.

import assert from 'node:assert/strict'
import { program } from '../in-guest.mjs'

export const inGuest = {
  async 'a publisher passes on a disruption and a new generation of the device'(guest) {
    const asked = []
    await program(guest, 'own-publisher.mjs', ['1000'], (text) => {
      const [event, marker, generation] = text.trim().split(' ')
      asked.push(event)
      if (event === 'disruption') guest.page.write({ disruptionMarker: BigInt(marker) + 1n })
      else guest.page.write({ vmGenerationCounter: BigInt(generation) + 1n })
    })
    assert.deepEqual(asked, ['disruption', 'generation'])
  },
}
