// Measures draws without and with the protection of clones, and what a restore costs.
//
//   clones.mjs PAGE ROUNDS
//
// The protection cannot be taken off, so the draws without it come first.

import crypto from 'node:crypto'
import { createRequire } from 'node:module'
import { freeze, report, vmclock } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds] = process.argv.slice(2)
const clones = createRequire(import.meta.url)('../../dist/clones.cjs')

freeze(page)
const draws = {
  'randomBytes(16)': 'crypto.randomBytes(16)',
  'randomUUID()': 'crypto.randomUUID()',
  'getRandomValues of 16': 'crypto.webcrypto.getRandomValues(array)',
}
const scope = { crypto, array: new Uint8Array(16) }
const without = measure(draws, scope, Number(rounds))

clones.protectRandomness({ path: page })
const clock = vmclock.VmClock.open(page)
const more = {
  clones,
  clock,
  token: clock.continuityToken(),
  value: clones.perMachine(() => 1),
  restored() {
    clones.notifyRestored()
    return crypto.randomFillSync(scope.array)
  },
}
const protectedDraws = Object.fromEntries(
  Object.entries(draws).map(([name, call]) => [`protected ${name}`, call]),
)
const found = measure(
  {
    ...protectedDraws,
    perMachine: 'value()',
    isContinuous: 'clock.isContinuous(token)',
    restore: { call: 'restored()', most: 1 },
  },
  { ...scope, ...more },
  Number(rounds),
)
report({ ...without, ...found })
