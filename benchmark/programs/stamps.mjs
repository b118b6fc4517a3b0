// Measures the calls of the fast path, beside the built-ins, the npm clocks, and the cheapest calls into native
// code.
//
//   stamps.mjs PAGE ROUNDS CLOCKS [PEERS.node]
//
// The npm clocks are required from the file CLOCKS.

import { createRequire } from 'node:module'
import { publish, report, vmclock } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds, clocksFrom, peersFile] = process.argv.slice(2)
const COUNTERS = 10_000

const publisher = publish(page)
const clock = vmclock.VmClock.open(page)
const token = clock.continuityToken()
const npm = createRequire(clocksFrom)
const scope = {
  clock,
  token,
  microtime: npm('microtime'),
  nanotime: npm('nanotime'),
  nanoTime: npm('nano-time'),
  performanceNow: npm('performance-now'),
  slots: new BigInt64Array(vmclock.READING_SLOT_COUNT),
  pair: [0, 0],
  counters: new BigUint64Array(COUNTERS).map(() => clock.counter()),
  times: new BigInt64Array(COUNTERS),
  ...(peersFile && createRequire(import.meta.url)(peersFile)),
}
const cases = {
  nowNs: 'clock.nowNs()',
  'hrtime.bigint': 'process.hrtime.bigint()',
  nowMs: 'clock.nowMs()',
  nowHrTime: 'clock.nowHrTime(pair)',
  'Date.now': 'Date.now()',
  'performance.now': 'performance.now()',
  readInto: 'clock.readInto(slots)',
  read: 'clock.read()',
  counter: 'clock.counter()',
  isContinuous: 'clock.isContinuous(token)',
  microtime: 'microtime.now()',
  nanotime: { call: 'nanotime()', most: 1 },
  'nano-time': 'nanoTime()',
  'performance-now': 'performanceNow()',
  convertInto: { call: 'clock.convertInto(counters, times, token)', times: COUNTERS },
  ...(peersFile && {
    'C no-op': 'noop()',
    'C counter': 'counter()',
    'C multiply': { call: 'multiply(counters, times)', times: COUNTERS },
  }),
}
report(measure(cases, scope, Number(rounds)))
publisher.close()
