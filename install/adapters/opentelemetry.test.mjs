// The adapter for OpenTelemetry with the SDK that VMCLOCK_OTEL names. Simulated clocks give the
// times, so that each is known to the nanosecond.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, test } from 'node:test'
import { startReceiver } from './receiver.mjs'
import sdk from './sdk.cjs'

const {
  exporterClass,
  newProcessor,
  newProvider: providerWith,
  newResource,
  Provider,
  tracing,
} = sdk
const { context, DiagLogLevel, diag, propagation, ROOT_CONTEXT, SpanStatusCode, trace } = sdk.api
const { registerVmClock, vmclockMetrics, vmclockResourceAttributes, vmclockTracerProvider } =
  sdk.vmclock
const { SimulatedClock, VmClockPage } = sdk.testing
const { READING_KNOWN, READING_SLOTS } = sdk.main
const service = join(import.meta.dirname, 'http-service.cjs')

// Not a whole microsecond, so that a time that is cut off shows.
const START_NS = 1_800_000_000_123_456_789n
const SEC = 1_000_000_000n

let told
beforeEach(() => {
  told = []
  const tell = (level) => (message) => told.push(`${level}: ${message}`)
  const logger = { error: tell('error'), warn: tell('warn'), info() {}, debug() {}, verbose() {} }
  diag.setLogger(logger, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true })
})
const setGlobalTracerProvider = trace.setGlobalTracerProvider
afterEach(() => {
  trace.setGlobalTracerProvider = setGlobalTracerProvider
  trace.disable()
  context.disable()
  propagation.disable()
  diag.disable()
})

function newClock(options = {}) {
  return new SimulatedClock({ startNs: START_NS, maxErrorNs: 2_000n, ...options })
}

/** A provider of the SDK, and the spans that ended. */
function newProvider(options = {}) {
  const exporter = new tracing.InMemorySpanExporter()
  const provider = providerWith(newProcessor('Simple', exporter), options)
  return { provider, spans: () => exporter.getFinishedSpans() }
}

/** A tracer by the clock, and the spans that ended. */
function newTracer(clock, { bound, ...options } = {}) {
  const { provider, spans } = newProvider(options)
  const wrapped = vmclockTracerProvider(provider, { clock, bound })
  return { tracer: wrapped.getTracer('test'), spans }
}

function ns([seconds, nanoseconds]) {
  return BigInt(seconds) * SEC + BigInt(nanoseconds)
}

function timesOf({ startTime, endTime }) {
  return [ns(startTime), ns(endTime)]
}

for (const format of ['http', 'proto']) {
  test(`spans are exported with the times of the clock, to the nanosecond, by OTLP ${format}`, async (t) => {
    const receiver = await startReceiver(t)
    const Exporter = exporterClass(format)
    const clock = newClock()
    const resource = newResource(vmclockResourceAttributes(clock))
    const processor = newProcessor('Batch', new Exporter({ url: receiver.url }))
    const provider = vmclockTracerProvider(providerWith(processor, { resource }), { clock })
    const parent = provider.getTracer('test').startSpan('parent')
    clock.advance(1n)
    const child = provider
      .getTracer('test')
      .startSpan('child', { attributes: { a: 1 } }, trace.setSpan(ROOT_CONTEXT, parent))
    clock.advance(5n * SEC + 10n)
    child.addEvent('half', { b: 2 })
    clock.advance(1n)
    child.end()
    clock.advance(1n)
    parent.end()
    await provider.forceFlush()
    const [first, second] = receiver.spans
    assert.deepEqual(
      [first.name, first.startNs, first.endNs],
      ['child', START_NS + 1n, START_NS + 5n * SEC + 12n],
    )
    assert.deepEqual(first.attributes, { a: 1 })
    assert.deepEqual(first.events, [
      { name: 'half', ns: START_NS + 5n * SEC + 11n, attributes: { b: 2 } },
    ])
    assert.equal(first.parentSpanId, second.spanId)
    assert.deepEqual(
      [second.name, second.startNs, second.endNs],
      ['parent', START_NS, START_NS + 5n * SEC + 13n],
    )
    assert.equal(receiver.resources[0]['vmclock.source.kind'], 'simulated')
    assert.equal(receiver.resources[0]['vmclock.guard'], 'device')
    await provider.shutdown()
  })
}

test('events and exceptions get the time of the clock, or that of the caller', () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock)
  const span = tracer.startSpan('work')
  clock.advance(1n)
  assert.equal(span.addEvent('bare'), span)
  clock.advance(1n)
  span.addEvent('with attributes', { a: 1 })
  span.addEvent('timed', [1, 2])
  span.addEvent('timed with attributes', { a: 1 }, [3, 4])
  clock.advance(1n)
  span.recordException(new TypeError('no'))
  span.recordException(new TypeError('no'), [5, 6])
  span.end()
  const { events } = spans()[0]
  assert.deepEqual(
    events.map(({ name, time }) => [name, ns(time)]),
    [
      ['bare', START_NS + 1n],
      ['with attributes', START_NS + 2n],
      ['timed', SEC + 2n],
      ['timed with attributes', 3n * SEC + 4n],
      ['exception', START_NS + 3n],
      ['exception', 5n * SEC + 6n],
    ],
  )
  assert.deepEqual(events[1].attributes, { a: 1 })
  assert.deepEqual(events[3].attributes, { a: 1 })
})

test('an exception gets the time of the clock, by a recordException that calls no addEvent too', () => {
  const clock = newClock()
  const { provider } = newProvider()
  const recorded = []
  const recordException = ({ message }, time) => recorded.push([message, time])
  const startSpan = (...args) =>
    Object.assign(provider.getTracer('test').startSpan(...args), { recordException })
  const other = { getTracer: () => ({ startSpan }) }
  const span = vmclockTracerProvider(other, { clock }).getTracer('test').startSpan('work')
  clock.advance(3n)
  span.recordException(new TypeError('by the clock'))
  span.recordException(new TypeError('by the caller'), [5, 6])
  assert.deepEqual(recorded, [
    ['by the clock', [1_800_000_000, 123_456_792]],
    ['by the caller', [5, 6]],
  ])
})

test('a span whose caller gives the start gets no time of the clock', () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock, { bound: true })
  const before = BigInt(Date.now()) * 1_000_000n
  const span = tracer.startSpan('work', { startTime: new Date() })
  span.addEvent('now')
  span.end()
  const [{ startTime, endTime, events, attributes }] = spans()
  for (const time of [startTime, endTime, events[0].time]) {
    assert.ok(ns(time) >= before && ns(time) < START_NS)
  }
  assert.deepEqual(attributes, {})
})

test("the caller's end is the end, and undefined times count as not given", () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock)
  const options = Object.freeze({ startTime: undefined, attributes: { a: 1 } })
  tracer.startSpan('work', options).end(new Date(1_900_000_000_000))
  assert.deepEqual(timesOf(spans()[0]), [START_NS, 1_900_000_000_000_000_000n])
  tracer.startSpan('work').end(undefined)
  assert.deepEqual(timesOf(spans()[1]), [START_NS, START_NS])
})

test('no time within a trace steps back, and the next trace has the time of the clock', () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock, { bound: true })
  const parent = tracer.startSpan('parent')
  clock.step(-400n)
  const child = tracer.startSpan('child', {}, trace.setSpan(ROOT_CONTEXT, parent))
  child.addEvent('held')
  clock.advance(100n)
  child.end()
  const other = tracer.startSpan('other', { root: true }, trace.setSpan(ROOT_CONTEXT, parent))
  clock.advance(400n)
  other.end()
  parent.end()
  const [childSpan, otherSpan, parentSpan] = spans()
  assert.deepEqual(timesOf(childSpan), [START_NS, START_NS])
  assert.equal(ns(childSpan.events[0].time), START_NS)
  assert.deepEqual(timesOf(otherSpan), [START_NS - 300n, START_NS + 100n])
  assert.deepEqual(timesOf(parentSpan), [START_NS, START_NS + 100n])
  // A time that was held is off by that much more.
  assert.equal(childSpan.attributes['vmclock.start.max_error_ns'], 2_400)
  assert.equal(childSpan.attributes['vmclock.end.max_error_ns'], 2_300)
  assert.equal(otherSpan.attributes['vmclock.start.max_error_ns'], 2_000)
})

test('exactly the spans that a migration crossed are marked', () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock)
  tracer.startSpan('before').end()
  const root = tracer.startSpan('root')
  const inRoot = trace.setSpan(ROOT_CONTEXT, root)
  tracer.startSpan('child before', {}, inRoot).end()
  const crossed = tracer.startSpan('crossed', {}, inRoot)
  const timed = tracer.startSpan('timed', { startTime: new Date() })
  clock.migrate()
  clock.synchronize()
  clock.advance(7n)
  tracer.startSpan('child after', {}, inRoot).end()
  crossed.end()
  timed.end()
  root.end(new Date(1_900_000_000_000))
  tracer.startSpan('after').end()
  const marked = spans().filter(({ attributes }) => attributes['vmclock.disrupted'])
  assert.deepEqual(
    marked.map(({ name }) => name),
    ['crossed', 'timed', 'root'],
  )
  for (const span of marked) {
    assert.deepEqual(span.attributes, { 'vmclock.disrupted': true })
    const [event, ...others] = span.events
    assert.deepEqual(others, [])
    assert.equal(event.name, 'vmclock.disruption')
    assert.deepEqual(event.attributes, {
      'vmclock.disruption_marker.before': '1',
      'vmclock.disruption_marker.after': '2',
      'vmclock.generation.before': '1',
      'vmclock.generation.after': '1',
    })
  }
  assert.equal(ns(marked[0].events[0].time), START_NS + 7n)
  const unmarked = spans().filter((span) => !marked.includes(span))
  assert.deepEqual(
    unmarked.flatMap(({ events, attributes }) => [...events, ...Object.keys(attributes)]),
    [],
  )
})

test('a restore marks the spans that it crossed as restored, and each crossing is an event', () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock)
  const span = tracer.startSpan('twice')
  clock.clone()
  span.addEvent('between')
  clock.migrate()
  span.end()
  const [{ attributes, events }] = spans()
  assert.deepEqual(attributes, { 'vmclock.disrupted': true, 'vmclock.restored': true })
  assert.deepEqual(
    events.map(({ name }) => name),
    ['vmclock.disruption', 'between', 'vmclock.disruption'],
  )
  assert.equal(events[0].attributes['vmclock.generation.after'], '2')
})

test('the bound is written on demand, and an unknown one is left out', () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock, { bound: true })
  const span = tracer.startSpan('work')
  clock.widen(3_000n)
  span.end()
  clock.loseBound()
  tracer.startSpan('unknown').end()
  clock.widen(2n ** 53n)
  tracer.startSpan('greater than a double holds').end()
  const without = newTracer(newClock())
  without.tracer.startSpan('not wanted').end()
  assert.deepEqual(
    [...spans(), ...without.spans()].map(({ attributes }) => attributes),
    [{ 'vmclock.start.max_error_ns': 2_000, 'vmclock.end.max_error_ns': 3_000 }, {}, {}, {}],
  )
})

test('while the clock gives no time, spans have that of the SDK, and diag says so once', () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock, { bound: true })
  clock.fail('ERR_VMCLOCK_UNSYNCHRONIZED')
  const before = BigInt(Date.now()) * 1_000_000n
  for (const name of ['one', 'other']) {
    const span = tracer.startSpan(name)
    span.addEvent('now')
    span.end()
  }
  for (const span of spans()) {
    const [startNs, endNs] = timesOf(span)
    assert.ok(startNs >= before && startNs < START_NS && endNs >= startNs)
    assert.deepEqual(span.attributes, {})
  }
  assert.equal(told.length, 1)
  assert.match(told[0], /^warn: vmclock gives spans no time: /)
  clock.recover()
  tracer.startSpan('again').end()
  assert.deepEqual(timesOf(spans()[2]), [START_NS, START_NS])
})

test('a span that loses the clock ends by the system, not before its start, and says so', () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock, { bound: true })
  const span = tracer.startSpan('work')
  clock.migrate()
  clock.fail('ERR_VMCLOCK_UNSYNCHRONIZED')
  span.end()
  const [{ attributes, events }] = spans()
  assert.deepEqual(timesOf(spans()[0]), [START_NS, START_NS])
  assert.deepEqual(attributes, {
    'vmclock.start.max_error_ns': 2_000,
    'vmclock.system_time': true,
    'vmclock.disrupted': true,
  })
  assert.equal(events.length, 1)
  // A clock that is behind the system's.
  const early = new SimulatedClock({ startNs: 1_000_000_000n })
  const other = newTracer(early)
  const late = other.tracer.startSpan('work')
  early.close()
  const beforeNs = BigInt(Date.now()) * 1_000_000n
  late.end()
  assert.ok(timesOf(other.spans()[0])[1] >= beforeNs)
})

test('a page that cannot be read marks no span, and hides no later crossing', () => {
  const clock = newClock()
  const { tracer, spans } = newTracer(clock)
  const span = tracer.startSpan('work')
  const crossed = tracer.startSpan('crossed')
  clock.fail('ERR_VMCLOCK_TIMEOUT')
  const unreadable = tracer.startSpan('unreadable')
  span.end()
  crossed.addEvent('meanwhile')
  clock.recover()
  clock.migrate()
  unreadable.end()
  crossed.end()
  const marked = spans().filter(({ attributes }) => attributes['vmclock.disrupted'])
  assert.deepEqual(
    marked.map(({ name }) => name),
    ['crossed'],
  )
})

test('a page that ends to give a generation marks no span', () => {
  const clock = newClock()
  let hidesGeneration = false
  const partial = {
    timescale: 'utc',
    readInto(slots, at = 0) {
      clock.readInto(slots, at)
      if (!hidesGeneration) return
      slots[at + READING_SLOTS.KNOWN] &= ~READING_KNOWN.VM_GENERATION
      slots[at + READING_SLOTS.VM_GENERATION] = -1n
    },
  }
  const { tracer, spans } = newTracer(partial)
  const span = tracer.startSpan('work')
  hidesGeneration = true
  span.end()
  assert.deepEqual(spans()[0].attributes, {})
  assert.deepEqual(spans()[0].events, [])
})

test('a time of the system is no time of the trace', () => {
  const clock = new SimulatedClock({ startNs: SEC })
  const { tracer, spans } = newTracer(clock)
  const span = tracer.startSpan('work')
  clock.fail('ERR_VMCLOCK_UNSYNCHRONIZED')
  span.addEvent('by Date')
  clock.recover()
  clock.advance(5n)
  span.end()
  assert.deepEqual(timesOf(spans()[0]), [SEC, SEC + 5n])
  assert.equal(spans()[0].attributes['vmclock.system_time'], true)
})

test('a frozen provider is wrapped too', () => {
  const { provider, spans } = newProvider()
  const frozen = Object.freeze({ getTracer: (...args) => provider.getTracer(...args) })
  vmclockTracerProvider(frozen, { clock: newClock() }).getTracer('test').startSpan('work').end()
  assert.deepEqual(timesOf(spans()[0]), [START_NS, START_NS])
})

test('spans that are not sampled, and spans that ended, are left alone', () => {
  const clock = newClock()
  const { tracer } = newTracer(clock, { sampler: new tracing.AlwaysOffSampler() })
  const span = tracer.startSpan('work')
  assert.equal(span.isRecording(), false)
  assert.equal(Object.hasOwn(span, 'end'), false)
  span.end()
  const recorded = newTracer(clock)
  const ended = recorded.tracer.startSpan('work')
  ended.end()
  clock.migrate()
  ended.addEvent('late')
  ended.end()
  assert.equal(recorded.spans().length, 1)
  assert.deepEqual(recorded.spans()[0].events, [])
})

test('startActiveSpan makes the span active, and returns what its callback returns', async () => {
  const clock = newClock()
  const { provider, spans } = newProvider()
  const wrapped = vmclockTracerProvider(provider, { clock })
  wrapped.register()
  const tracer = wrapped.getTracer('test')
  const result = tracer.startActiveSpan('outer', (outer) => {
    assert.equal(trace.getActiveSpan(), outer)
    clock.advance(1n)
    tracer.startActiveSpan('inner', { attributes: { a: 1 } }, (inner) => inner.end())
    tracer.startActiveSpan('other root', {}, ROOT_CONTEXT, (span) => span.end())
    outer.setStatus({ code: SpanStatusCode.OK })
    outer.end()
    return 42
  })
  assert.equal(result, 42)
  const [inner, otherRoot, outer] = spans()
  assert.equal(inner.spanContext().traceId, outer.spanContext().traceId)
  assert.notEqual(otherRoot.spanContext().traceId, outer.spanContext().traceId)
  assert.deepEqual(timesOf(inner), [START_NS + 1n, START_NS + 1n])
  assert.deepEqual(timesOf(outer), [START_NS, START_NS + 1n])
  await wrapped.shutdown()
})

test('the global provider stamps, for tracers from before its registration too', () => {
  const clock = newClock()
  const early = trace.getTracer('early')
  registerVmClock({ clock })
  early.startSpan('nobody records this').end()
  const { provider, spans } = newProvider()
  provider.register()
  early.startSpan('early').end()
  trace.getTracer('late').startSpan('late').end()
  assert.deepEqual(spans().map(timesOf), [
    [START_NS, START_NS],
    [START_NS, START_NS],
  ])
  assert.deepEqual(told, [])
})

test('a provider that is registered already stamps, and diag says which tracers do not', () => {
  const clock = newClock()
  const { provider, spans } = newProvider()
  provider.register()
  const used = trace.getTracer('used')
  const unused = trace.getTracer('unused')
  used.startSpan('before').end()
  registerVmClock({ clock })
  used.startSpan('used').end()
  trace.getTracer('new').startSpan('new').end()
  assert.match(told.join(), /vmclock stamps no span of a tracer that was used before/)
  const [, usedSpan, newSpan] = spans()
  assert.ok(ns(usedSpan.startTime) < START_NS)
  assert.deepEqual(timesOf(newSpan), [START_NS, START_NS])
  assert.ok(unused)
})

test('a wrapped provider registers itself, and the first clock of a provider is its own', () => {
  const { provider, spans } = newProvider()
  const wrapped = vmclockTracerProvider(provider, { clock: newClock() })
  assert.ok(wrapped instanceof Provider)
  registerVmClock({ clock: newClock({ startNs: START_NS + SEC }) })
  wrapped.register()
  trace.getTracer('test').startSpan('global').end()
  assert.deepEqual(spans().map(timesOf), [[START_NS, START_NS]])
  assert.equal(trace.getTracer('test'), trace.getTracer('test'))
})

test('arguments are checked, and a clock of TAI is refused', () => {
  const { provider } = newProvider()
  const refused = (run, code) => assert.throws(run, { name: 'VmClockError', code })
  const INVALID = 'ERR_VMCLOCK_INVALID_ARGUMENT'
  const clock = newClock()
  refused(() => vmclockTracerProvider(provider, { clock: {} }), INVALID)
  refused(() => vmclockTracerProvider(provider), INVALID)
  refused(() => vmclockTracerProvider(provider, { clock, bounds: true }), INVALID)
  refused(() => vmclockTracerProvider(undefined, { clock }), INVALID)
  refused(() => registerVmClock({ clock: undefined }), INVALID)
  refused(() => vmclockMetrics(undefined, clock), INVALID)
  const tai = newClock({ timescale: 'tai' })
  refused(() => vmclockTracerProvider(provider, { clock: tai }), 'ERR_VMCLOCK_TIMESCALE')
  refused(() => vmclockResourceAttributes(tai), 'ERR_VMCLOCK_TIMESCALE')
})

test('the metrics of a clock are those of its readings, and count what happened to it', async () => {
  const { InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } = sdk.metrics
  const exporter = new InMemoryMetricExporter(sdk.metrics.AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })
  const provider = new MeterProvider({ readers: [reader] })
  const collect = async () => {
    exporter.reset()
    await provider.forceFlush()
    const [{ scopeMetrics = [] } = {}] = exporter.getMetrics()
    return Object.fromEntries(
      scopeMetrics
        .flatMap((scope) => scope.metrics)
        .map(({ descriptor, dataPoints }) => [
          descriptor.name,
          dataPoints.map(({ value, attributes }) => [attributes['vmclock.status'], value]),
        ]),
    )
  }
  const clock = newClock({ maxErrorNs: 2_000_000n })
  const observed = vmclockMetrics(provider.getMeter('vmclock'), clock)
  const figures = await collect()
  const [[, seconds]] = figures['vmclock.max_error']
  assert.ok(seconds >= 0.002 && seconds < 0.002_000_000_000_1)
  assert.deepEqual(figures, {
    ...figures,
    'vmclock.age': [[undefined, 0]],
    'vmclock.status': [
      ['synchronized', 1],
      ['free-running', 0],
      ['unavailable', 0],
    ],
    'vmclock.disruptions': [[undefined, 0]],
    'vmclock.restores': [[undefined, 0]],
  })
  const watcher = clock.watch()
  for (const [event, change] of [
    ['disruption', () => clock.migrate()],
    ['generation', () => clock.clone()],
  ]) {
    const seen = once(watcher, event)
    change()
    await seen
  }
  watcher.close()
  clock.fail('ERR_VMCLOCK_UNSYNCHRONIZED')
  const after = await collect()
  assert.deepEqual(after['vmclock.max_error'], [[undefined, Number.NaN]])
  assert.deepEqual(after['vmclock.age'], [[undefined, Number.NaN]])
  assert.deepEqual(after['vmclock.status'][2], ['unavailable', 1])
  assert.deepEqual(after['vmclock.disruptions'], [[undefined, 2]])
  assert.deepEqual(after['vmclock.restores'], [[undefined, 1]])
  clock.recover()
  clock.loseBound()
  assert.deepEqual((await collect())['vmclock.max_error'], [[undefined, Number.NaN]])
  clock.widen(2n ** 63n - 1n)
  assert.deepEqual((await collect())['vmclock.max_error'], [[undefined, Infinity]])
  clock.loseBound()
  await collect()
  observed.close()
  observed.close()
  clock.synchronize()
  assert.deepEqual((await collect())['vmclock.max_error'], [[undefined, Number.NaN]])
  await provider.shutdown()
})

for (const how of ['import', 'require']) {
  test(`http instrumentation gets the times of the clock by --${how} of register`, async (t) => {
    const receiver = await startReceiver(t)
    const directory = mkdtempSync(join(tmpdir(), 'vmclock-adapters-'))
    t.after(() => rmSync(directory, { recursive: true, force: true }))
    // The page is in another century than the system's clock, so its times cannot be mistaken.
    const path = join(directory, 'page')
    const page = pageAt(path, 4_000_000_000n)
    t.after(() => page.close())
    const child = spawn(process.execPath, [`--${how}`, 'vmclock/opentelemetry/register', service], {
      env: { ...process.env, VMCLOCK_PATH: path, VMCLOCK_RECEIVER: receiver.url },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr)])
    assert.equal(complaints, '')
    const manual = JSON.parse(output)
    const names = receiver.spans.map(({ name }) => name).sort()
    assert.deepEqual(names, ['GET', 'GET', 'manual'])
    const byId = new Map(receiver.spans.map((span) => [span.spanId, span]))
    for (const span of receiver.spans) {
      assert.ok(span.startNs >= 4_000_000_000n * SEC, `${span.name} starts by the page`)
      assert.ok(span.endNs >= span.startNs, `${span.name} is not negative`)
      assert.equal(span.traceId, manual.traceId)
      const parent = byId.get(span.parentSpanId)
      if (parent !== undefined) assert.ok(span.startNs >= parent.startNs)
    }
    assert.ok(receiver.spans.some(({ startNs }) => startNs % 1_000n !== 0n))
  })
}

test('register without a clock warns, and the application starts', async () => {
  const child = spawn(
    process.execPath,
    ['--import', 'vmclock/opentelemetry/register', '--eval', 'console.log("started")'],
    {
      env: { ...process.env, VMCLOCK_PATH: '/nonexistent/page' },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr)])
  assert.equal(output, 'started\n')
  assert.match(complaints, /\[VMCLOCK_NO_SPAN_TIME\] VmClockWarning: vmclock gives spans no time/)
})

function pageAt(path, timeSec) {
  VmClockPage.create(path, {}).close()
  return VmClockPage.create(path, {
    counterId: process.arch === 'arm64' ? 0 : 1,
    clockStatus: 2,
    flags: 0x50n,
    counterValue: 0n,
    counterPeriodShift: 29,
    counterPeriodFracSec: 9903520314283042199n,
    timeSec,
    timeMaxerrorNanosec: 2_000_000n,
  })
}
