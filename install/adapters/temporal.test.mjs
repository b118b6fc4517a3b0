// The recipe for Temporal of docs/logging.md, with a polyfill that installs no global.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Temporal } from 'temporal-polyfill'
import { SimulatedClock } from 'vmclock/testing'

const START_NS = 1_767_225_600_123_456_789n
const TEXT = '2026-01-01T00:00:00.123456789Z'
const native = globalThis.Temporal

test('a polyfill that is passed in takes the nanoseconds of the clock', () => {
  const clock = new SimulatedClock({ startNs: START_NS })
  const instant = Temporal.Instant.fromEpochNanoseconds(clock.nowNs())
  assert.equal(instant.epochNanoseconds, START_NS)
  assert.equal(String(instant), TEXT)
})

test('nowInstant is of the global Temporal, and refuses without one', (t) => {
  t.after(() => {
    globalThis.Temporal = native
  })
  const clock = new SimulatedClock({ startNs: START_NS })
  globalThis.Temporal = undefined
  assert.throws(() => clock.nowInstant(), {
    name: 'VmClockError',
    code: 'ERR_VMCLOCK_UNSUPPORTED',
  })
  globalThis.Temporal = Temporal
  const instant = clock.nowInstant()
  assert.ok(instant instanceof Temporal.Instant)
  assert.equal(String(instant), TEXT)
})
