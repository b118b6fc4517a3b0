// Measures draws without and with the protection of clones, and what a restore costs.
//
//   clones.mjs PAGE ROUNDS
//
// One process draws both ways in turn, so that a disturbance affects both. A call of the package takes the hook off
// OpenSSL before the draws of an unprotected process, which are Node's own functions, and another puts it on again.

import crypto from 'node:crypto'
import { createRequire } from 'node:module'
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

const before = () => unprotectOpenSsl()
const protect = () => protectOpenSsl(true)
const clock = vmclock.VmClock.open(page)
const cases = {
  'randomBytes(16)': { call: 'own.randomBytes(16)', before },
  'randomUUID()': { call: 'own.randomUUID()', before },
  'getRandomValues of 16': { call: 'web.own(array)', before },
  'protected randomBytes(16)': { call: 'guarded.randomBytes(16)', before: protect },
  'protected randomUUID()': { call: 'guarded.randomUUID()', before: protect },
  'protected getRandomValues of 16': { call: 'web.guarded(array)', before: protect },
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
