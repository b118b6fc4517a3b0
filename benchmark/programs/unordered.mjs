// Measures the calls of a clock that reads its counter without a fence, beside the built-ins and a C call that does
// nothing but that read.
//
// It is a process of its own, because V8 compiles a call differently after it has seen two kinds of it.
//
//   unordered.mjs PAGE ROUNDS [PEERS.node]

import { createRequire } from 'node:module'
import { publish, report, vmclock } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds, peersFile] = process.argv.slice(2)

const publisher = publish(page)
const scope = {
  clock: vmclock.VmClock.open(page, { ordered: false }),
  pair: [0, 0],
  slots: new BigInt64Array(vmclock.READING_SLOT_COUNT),
  ...(peersFile && createRequire(import.meta.url)(peersFile)),
}
const cases = {
  'unordered nowNs': 'clock.nowNs()',
  'hrtime.bigint beside unordered': 'process.hrtime.bigint()',
  'unordered nowMs': 'clock.nowMs()',
  'Date.now beside unordered': 'Date.now()',
  'unordered nowHrTime': 'clock.nowHrTime(pair)',
  'unordered readInto': 'clock.readInto(slots)',
  'unordered read': 'clock.read()',
  'unordered counter': 'clock.counter()',
  ...(peersFile && { 'C unordered counter': 'unorderedCounter()' }),
}
report(measure(cases, scope, Number(rounds)))
publisher.close()
