// What the hot calls cost, beside the built-ins and what a call into native code costs at least.
//
// stamps.mjs PAGE ROUNDS [PEERS.node]

import { createRequire } from 'node:module'
import { publish, report, vmclock } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds, peersFile] = process.argv.slice(2)
const COUNTERS = 10_000

const publisher = publish(page)
const clock = vmclock.VmClock.open(page)
const token = clock.continuity()
const scope = {
  clock,
  token,
  slots: new BigInt64Array(vmclock.SLOT_COUNT),
  counters: new BigUint64Array(COUNTERS).map(() => clock.counter()),
  times: new BigInt64Array(COUNTERS),
  ...(peersFile && createRequire(import.meta.url)(peersFile)),
}
const cases = {
  nowNs: 'clock.nowNs()',
  'hrtime.bigint': 'process.hrtime.bigint()',
  nowMs: 'clock.nowMs()',
  'Date.now': 'Date.now()',
  'performance.now': 'performance.now()',
  readInto: 'clock.readInto(slots)',
  read: 'clock.read()',
  counter: 'clock.counter()',
  isContinuous: 'clock.isContinuous(token)',
  convertInto: { call: 'clock.convertInto(counters, times, token)', times: COUNTERS },
  ...(peersFile && {
    'C no-op': 'noop()',
    'C counter': 'counter()',
    'C multiply': { call: 'multiply(counters, times)', times: COUNTERS },
  }),
}
report(measure(cases, scope, Number(rounds)))
publisher.close()
