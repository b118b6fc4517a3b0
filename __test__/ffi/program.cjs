// Shows in any runtime with an FFI that clocks of both orders give the results and errors of Node-API, before and after
// the runtime has compiled the calls. `tools/ffi.mjs` starts it in Deno and Bun, with the path of a page to make.

const assert = require('node:assert/strict')
const { VmClock } = require('../../dist/index.cjs')
const { VmClockPage } = require('../../dist/testing.cjs')

const CALLS = 300_000
const path = process.argv[2]
const fields = {
  counterId: process.arch === 'arm64' ? 0 : 1,
  timeType: 0,
  clockStatus: 2,
  disruptionMarker: 0n,
  flags: 0x50n,
  // This time stands still, so every figure is known.
  counterPeriodShift: 127,
  counterPeriodFracSec: 1n,
  timeSec: 1_767_225_600n,
  timeFracSec: 2n ** 33n,
  timeMaxerrorNanosec: 1000n,
}
const page = VmClockPage.create(path, fields)
// Deno would take these for options of its own.
Object.assign(Object.prototype, { nonblocking: true, type: 'x' })
for (const ordered of [true, false]) {
  page.write(fields)
  const clock = VmClock.open(path, { calls: 'ffi', ordered })
  const byNodeApi = VmClock.open(path, { calls: 'node-api', ordered })
  assert.deepEqual([clock.calls, byNodeApi.calls], ['ffi', 'node-api'])
  const token = clock.continuityToken()
  const slots = new BigInt64Array(13)
  const expected = { ...byNodeApi.read(), counter: 0n }
  for (let call = 0; call < CALLS; call++) {
    assert.ok(clock.nowNs() === 1_767_225_600_000_000_000n && clock.nowMs() === 1_767_225_600_000)
    assert.ok(clock.isContinuous(token) && clock.counter() > 0n)
  }
  assert.deepEqual(clock.nowHrTime(), [1_767_225_600, 0])
  assert.deepEqual({ ...clock.read(), counter: 0n }, expected)
  clock.readInto(slots)
  assert.equal(slots[0], expected.epochNs)
  page.write({ ...fields, timeSec: 5n, disruptionMarker: 1n })
  assert.equal(clock.nowNs(), 5_000_000_000n)
  assert.equal(clock.isContinuous(token), false)
  page.write({ clockStatus: 1 })
  const fails = (call, code) => assert.throws(call, { name: 'VmClockError', code })
  for (const call of ['nowNs', 'nowMs', 'nowHrTime', 'read']) {
    fails(() => clock[call](), 'ERR_VMCLOCK_UNSYNCHRONIZED')
  }
  clock.close()
  byNodeApi.close()
  for (const call of ['nowNs', 'nowMs', 'nowHrTime', 'read', 'counter']) {
    fails(() => clock[call](), 'ERR_VMCLOCK_CLOSED')
  }
}
delete Object.prototype.nonblocking
delete Object.prototype.type
console.log(`${process.release?.name}: ${CALLS} calls of each kind by FFI`)
if (globalThis.Deno === undefined) page.close()
else {
  // A web worker, which is a main thread for Deno's `node:worker_threads`.
  const program = `import { createRequire } from 'node:module'
    const { VmClock } = createRequire(${JSON.stringify(__filename)})('../../dist/index.cjs')
    const clock = VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' })
    self.postMessage(clock.calls)
    clock.close()`
  const url = `data:text/javascript,${encodeURIComponent(program)}`
  const worker = new Worker(url, { type: 'module' })
  worker.onmessage = ({ data }) => {
    worker.terminate()
    page.close()
    assert.equal(data, 'node-api')
  }
}
