// Measures draws without and with the protection of clones, and what a restore costs.
//
//   clones.mjs PAGE ROUNDS
//
// One process draws both ways in turn, so that a disturbance affects both. A call of the package takes the hook off
// OpenSSL before the draws of an unprotected process, which are Node's own functions, and another puts it on again.
//
// A value is garbage at once, and both ways make the same amount of it. A collection takes as long as a thousand
// draws, and would count for one way or the other. So garbage is collected before each round of draws, whose own
// garbage fits into the young generation. UUIDs are drawn 128 at a time, so each round has the same number of draws.

import crypto from 'node:crypto'
import { createRequire } from 'node:module'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { freeze, report, vmclock } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds] = process.argv.slice(2)
freeze(page)
const require = createRequire(import.meta.url)
const clones = require('../../dist/clones.cjs')
const { native } = require('../../dist/shared.cjs')
const { protectOpenSsl, unprotectOpenSsl } = native()

const array = new Uint8Array(16)
// Node's own functions, taken before they are wrapped.
const own = { randomBytes: crypto.randomBytes, randomUUID: crypto.randomUUID }
const ownRandomValues = crypto.webcrypto.getRandomValues
const web = { own: (values) => Reflect.apply(ownRandomValues, crypto.webcrypto, [values]) }
clones.protectRandomness({ path: page })
const guarded = { randomBytes: crypto.randomBytes, randomUUID: crypto.randomUUID }
const guardedRandomValues = crypto.webcrypto.getRandomValues
web.guarded = (values) => Reflect.apply(guardedRandomValues, crypto.webcrypto, [values])

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

const protect = () => protectOpenSsl(true)
const unguarding = () => {
  unprotectOpenSsl()
  collectGarbage({ type: 'minor' })
}
const guarding = () => {
  protect()
  collectGarbage({ type: 'minor' })
}
// Whole fillings of the UUIDs' pool, and half a megabyte of garbage.
const round = { atOnce: 128, most: 8 }
const clock = vmclock.VmClock.open(page)
const cases = {
  'randomBytes(16)': { call: 'own.randomBytes(16)', ...round, before: unguarding },
  'randomUUID()': { call: 'own.randomUUID()', ...round, before: unguarding },
  'getRandomValues of 16': { call: 'web.own(array)', ...round, before: unguarding },
  'protected randomBytes(16)': { call: 'guarded.randomBytes(16)', ...round, before: guarding },
  'protected randomUUID()': { call: 'guarded.randomUUID()', ...round, before: guarding },
  'protected getRandomValues of 16': { call: 'web.guarded(array)', ...round, before: guarding },
  perMachine: 'value()',
  isContinuous: 'clock.isContinuous(token)',
}
const scope = {
  own,
  guarded,
  web,
  array,
  clock,
  token: clock.continuityToken(),
  value: clones.perMachine(() => 1),
  restored() {
    clones.notifyRestored()
    return crypto.randomFillSync(array)
  },
}
const draws = measure(cases, scope, Number(rounds))
// Last, because the first draw after a restore empties what Node has cached.
const restores = measure(
  { restore: { call: 'restored()', most: 1, before: protect } },
  scope,
  Number(rounds),
)
report({ ...draws, ...restores })
