// Measures the cost of a conversion for several array sizes, beside a C loop over the same size.
//
//   convert.mjs PAGE ROUNDS [PEERS.node]

import { createRequire } from 'node:module'
import { freeze, report, vmclock } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds, peersFile] = process.argv.slice(2)
const SIZES = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]

freeze(page)
const clock = vmclock.VmClock.open(page)
const scope = {
  clock,
  token: clock.continuityToken(),
  ...(peersFile && createRequire(import.meta.url)(peersFile)),
}
const cases = {}
for (const size of SIZES) {
  scope[`counters${size}`] = new BigUint64Array(size).map(() => clock.counter())
  scope[`times${size}`] = new BigInt64Array(size)
  const arrays = `counters${size}, times${size}`
  cases[`convertInto of ${size}`] = { call: `clock.convertInto(${arrays}, token)`, times: size }
  if (peersFile) cases[`C multiply of ${size}`] = { call: `multiply(${arrays})`, times: size }
}
report(measure(cases, scope, Number(rounds)))
