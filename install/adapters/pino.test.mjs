// The adapter for pino with the version that VMCLOCK_PINO names.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { vmclockTime } from 'vmclock/pino'
import { SimulatedClock } from 'vmclock/testing'

const pino = createRequire(import.meta.url)(process.env.VMCLOCK_PINO)
const START_NS = 1_767_225_600_123_456_789n

function newLogger(options) {
  const lines = []
  const logger = pino({ timestamp: vmclockTime(options) }, { write: (line) => lines.push(line) })
  return { logger, lines }
}

test('a line has the time of the clock, to the nanosecond, as ISO 8601', () => {
  const clock = new SimulatedClock({ startNs: START_NS })
  const { logger, lines } = newLogger({ clock })
  logger.info({ a: 1 }, 'hello')
  clock.advance(1n)
  logger.child({ b: 2 }).warn('again')
  const [first, second] = lines.map((line) => JSON.parse(line))
  assert.equal(first.time, '2026-01-01T00:00:00.123456789Z')
  assert.deepEqual([first.a, first.msg, first.timeMaxErrorNs], [1, 'hello', undefined])
  assert.equal(second.time, '2026-01-01T00:00:00.123456790Z')
})

test('a line has the time as an integer, with the bound on demand', () => {
  const clock = new SimulatedClock({ startNs: START_NS, maxErrorNs: 2_000n })
  const { logger, lines } = newLogger({ clock, format: 'epochNs', bound: true, key: '@time' })
  logger.info('hello')
  clock.loseBound()
  logger.info('no bound')
  assert.match(lines[0], /,"@time":1767225600123456789,"timeMaxErrorNs":2000,/)
  assert.match(lines[1], /,"@time":1767225600123456789,"pid"/)
  for (const line of lines) JSON.parse(line)
})

test('while the clock gives no time, a line has the time of the system, and says so', () => {
  const clock = new SimulatedClock({ startNs: START_NS })
  const { logger, lines } = newLogger({ clock, bound: true })
  const epoch = newLogger({ clock, format: 'epochNs' })
  clock.fail('ERR_VMCLOCK_UNSYNCHRONIZED')
  const beforeMs = Date.now()
  logger.info('hello')
  epoch.logger.info('hello')
  const afterMs = Date.now()
  const { time, timeSource, timeMaxErrorNs } = JSON.parse(lines[0])
  const epochMs = Number(/,"time":(\d+)000000,"timeSource":"system"/.exec(epoch.lines[0])[1])
  for (const ms of [Date.parse(time), epochMs]) assert.ok(ms >= beforeMs && ms <= afterMs)
  assert.deepEqual([timeSource, timeMaxErrorNs], ['system', undefined])
  clock.recover()
  logger.info('again')
  assert.equal(JSON.parse(lines[1]).timeSource, undefined)
})

test('a leap second is written as 23:59:60', () => {
  const clock = new SimulatedClock({ startNs: BigInt(Date.UTC(2026, 11, 31, 23, 59)) * 1_000_000n })
  clock.leapSecond('inserted')
  clock.advance(60_500_000_000n)
  const { logger, lines } = newLogger({ clock })
  logger.info('in it')
  assert.equal(JSON.parse(lines[0]).time, '2026-12-31T23:59:60.500000000Z')
})

test('options are checked, and a clock of TAI is refused', () => {
  const clock = new SimulatedClock()
  const INVALID = { name: 'VmClockError', code: 'ERR_VMCLOCK_INVALID_ARGUMENT' }
  assert.throws(() => vmclockTime(), INVALID)
  assert.throws(() => vmclockTime({ clock: {} }), INVALID)
  assert.throws(() => vmclockTime({ clock, format: 'ms' }), INVALID)
  assert.throws(() => vmclockTime({ clock, key: 1 }), INVALID)
  const tai = new SimulatedClock({ timescale: 'tai' })
  assert.throws(() => vmclockTime({ clock: tai }), { code: 'ERR_VMCLOCK_TIMESCALE' })
})
