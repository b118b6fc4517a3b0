// The adapter for Effect with the version that VMCLOCK_EFFECT names. This file imports Effect as an ES module, and the
// adapter requires it: of version 3 these are two copies.

import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { after, test } from 'node:test'

const version = process.env.VMCLOCK_EFFECT
const START_NS = 1_800_000_000_123_999_999n

// The adapter requires `effect`, so a project has it by that name, whichever version it is.
const project = mkdtempSync(join(import.meta.dirname, 'node_modules/.effect-'))
after(() => rmSync(project, { recursive: true, force: true }))
const modules = join(project, 'node_modules')
cpSync(join(import.meta.dirname, 'node_modules/vmclock'), join(modules, 'vmclock'), {
  recursive: true,
})
symlinkSync(join(import.meta.dirname, 'node_modules', version), join(modules, 'effect'))
const require = createRequire(join(project, 'tests.cjs'))
const { vmclockLayer } = require('vmclock/effect')
const { SimulatedClock } = require('vmclock/testing')
const { Clock, Effect, Exit, Fiber } = await import(version)

function run(program, clock) {
  return Effect.runPromise(Effect.provide(program, vmclockLayer(clock)))
}

test('currentTimeMillis and currentTimeNanos are those of the clock', async () => {
  const clock = new SimulatedClock({ startNs: START_NS })
  const both = Effect.all([Clock.currentTimeMillis, Clock.currentTimeNanos])
  assert.deepEqual(await run(both, clock), [1_800_000_000_123, START_NS])
  clock.advance(1n)
  assert.deepEqual(await run(both, clock), [1_800_000_000_124, START_NS + 1n])
  // Outside of the layer nothing changed.
  assert.ok((await Effect.runPromise(Clock.currentTimeMillis)) < 1_800_000_000_000)
})

test('the unsafe calls give the same times', async () => {
  const clock = new SimulatedClock({ startNs: START_NS })
  const times = Clock.clockWith((service) =>
    Effect.sync(() =>
      version === 'effect-3'
        ? [service.unsafeCurrentTimeMillis(), service.unsafeCurrentTimeNanos()]
        : [service.currentTimeMillisUnsafe(), service.currentTimeNanosUnsafe()],
    ),
  )
  assert.deepEqual(await run(times, clock), [1_800_000_000_123, START_NS])
})

test('sleep is that of the default clock, and ends while the clock stands still', async () => {
  const clock = new SimulatedClock({ startNs: START_NS })
  const before = performance.now()
  const program = Effect.andThen(Effect.sleep('5 millis'), Clock.currentTimeNanos)
  assert.equal(await run(program, clock), START_NS)
  assert.ok(performance.now() - before >= 4)
})

test('a fiber that sleeps can be interrupted', async () => {
  const clock = new SimulatedClock()
  const program = Effect.gen(function* () {
    const start = Effect.fork ?? Effect.forkChild
    const fiber = yield* start(Effect.sleep('1 hour'))
    return yield* Fiber.interrupt(fiber)
  })
  await run(program, clock)
})

test('a span of Effect starts and ends by the clock', async () => {
  const clock = new SimulatedClock({ startNs: START_NS })
  const program = Effect.withSpan(
    Effect.tap(Effect.currentSpan, () => Effect.sync(() => clock.advance(7n))),
    'work',
  )
  const { status } = await run(program, clock)
  assert.equal(status.startTime, START_NS)
  assert.equal(status.endTime, START_NS + 7n)
})

if (version === 'effect-4') {
  test('monotonicTimeNanos is that of the default clock', async () => {
    const clock = new SimulatedClock({ startNs: START_NS })
    const before = process.hrtime.bigint()
    const ns = await run(Clock.monotonicTimeNanos, clock)
    assert.ok(ns >= before && ns <= process.hrtime.bigint())
  })
}

test('a clock without time ends the fiber with its error', async () => {
  const clock = new SimulatedClock()
  clock.fail('ERR_VMCLOCK_UNSYNCHRONIZED')
  for (const call of [Clock.currentTimeMillis, Clock.currentTimeNanos]) {
    const exit = await Effect.runPromiseExit(Effect.provide(call, vmclockLayer(clock)))
    assert.ok(Exit.isFailure(exit))
    assert.match(JSON.stringify(exit), /ERR_VMCLOCK_UNSYNCHRONIZED/)
  }
})

test('what is no clock of UTC is refused', () => {
  assert.throws(() => vmclockLayer({}), { code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
  const tai = new SimulatedClock({ timescale: 'tai' })
  assert.throws(() => vmclockLayer(tai), { code: 'ERR_VMCLOCK_TIMESCALE' })
})
