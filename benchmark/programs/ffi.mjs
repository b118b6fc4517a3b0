// Measures the calls of a clock by the runtime's FFI, beside those by Node-API and the built-ins. Finds no figure where
// the runtime has no FFI.
//
// Each order is a process of its own, because V8 compiles a call differently after it has seen two kinds of it.
//
//   ffi.mjs PAGE ROUNDS ordered|unordered

import { publish, report, vmclock } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds, order] = process.argv.slice(2)

const calls = {
  nowNs: 'nowNs()',
  nowMs: 'nowMs()',
  nowHrTime: 'nowHrTime(pair)',
  readInto: 'readInto(slots)',
  read: 'read()',
  counter: 'counter()',
  isContinuous: 'isContinuous(token)',
}
const cases = {
  ...Object.fromEntries(
    Object.entries(calls).flatMap(([name, call]) => [
      [`${order} ${name} by FFI`, `ffi.${call}`],
      [`${order} ${name} by Node-API`, `nodeApi.${call}`],
    ]),
  ),
  [`hrtime.bigint beside ${order}`]: 'process.hrtime.bigint()',
  [`Date.now beside ${order}`]: 'Date.now()',
  [`performance.now beside ${order}`]: 'performance.now()',
}

const publisher = publish(page)
const open = (way) => vmclock.VmClock.open(page, { calls: way, ordered: order === 'ordered' })
report(measured())
publisher.close()

function measured() {
  let ffi
  try {
    ffi = open('ffi')
  } catch (error) {
    if (error.code === 'ERR_VMCLOCK_UNSUPPORTED') return {}
    throw error
  }
  const scope = {
    ffi,
    nodeApi: open('node-api'),
    token: ffi.continuityToken(),
    pair: [0, 0],
    slots: new BigInt64Array(vmclock.READING_SLOT_COUNT),
  }
  return measure(cases, scope, Number(rounds))
}
