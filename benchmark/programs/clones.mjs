// Measures draws without and with the protection of clones, and what a restore costs.
//
//   clones.mjs PAGE ROUNDS
//
// The protection cannot be taken off. So an unprotected process takes its rounds in turn with the protected one, on the
// same CPU: the draws of a pair are made within some milliseconds.

import { fork } from 'node:child_process'
import crypto from 'node:crypto'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { freeze, report, vmclock } from './page.mjs'
import { merged, prepare } from './rounds.mjs'

const UNPROTECTED = 'unprotected'
const draws = {
  'randomBytes(16)': 'crypto.randomBytes(16)',
  'randomUUID()': 'crypto.randomUUID()',
  'getRandomValues of 16': 'crypto.webcrypto.getRandomValues(array)',
}
const scope = { crypto, array: new Uint8Array(16) }

const [page, rounds] = process.argv.slice(2)
if (page === UNPROTECTED) {
  const round = prepare(draws, scope)
  process.on('message', () => process.send(round()))
  process.send('ready')
} else {
  freeze(page)
  report(await compared(Number(rounds)))
}

async function compared(rounds) {
  const other = fork(import.meta.filename, [UNPROTECTED])
  await once(other, 'message')
  const round = prepare(...protectedCases())
  const found = []
  for (let taken = 0; taken < rounds; taken++) {
    other.send('round')
    const [without] = await once(other, 'message')
    found.push({ ...without, ...round() })
  }
  other.disconnect()
  return merged(found)
}

function protectedCases() {
  const clones = createRequire(import.meta.url)('../../dist/clones.cjs')
  clones.protectRandomness({ path: page })
  const clock = vmclock.VmClock.open(page)
  const protectedDraws = Object.fromEntries(
    Object.entries(draws).map(([name, call]) => [`protected ${name}`, call]),
  )
  const cases = {
    ...protectedDraws,
    perMachine: 'value()',
    isContinuous: 'clock.isContinuous(token)',
    restore: { call: 'restored()', most: 1 },
  }
  const more = {
    clock,
    token: clock.continuityToken(),
    value: clones.perMachine(() => 1),
    restored() {
      clones.notifyRestored()
      return crypto.randomFillSync(scope.array)
    },
  }
  return [cases, { ...scope, ...more }]
}
