// Makes spans by OpenTelemetry's SDK with the times of the device, one step for each line of the host's, and prints those
// that ended. It runs only as a bundle, which `rig/tests/spans.mjs` makes: a guest has no packages from npm.

import { ROOT_CONTEXT, trace } from '@opentelemetry/api'
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-node'
import { VmClock } from 'vmclock'
import { vmclockTracerProvider } from 'vmclock/opentelemetry'
import { answerEach } from './answering.mjs'

const clock = VmClock.open('/dev/vmclock0')
const exporter = new InMemorySpanExporter()
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
const tracer = vmclockTracerProvider(provider, { clock, bound: true }).getTracer('guest')
const open = new Map()

const steps = {
  counter: () => clock.counter(),

  /** Starts a span, in a parent if one is named. */
  start(name, parent) {
    const context =
      parent === undefined ? ROOT_CONTEXT : trace.setSpan(ROOT_CONTEXT, open.get(parent))
    open.set(name, tracer.startSpan(name, {}, context))
    return 'done'
  },

  event(name) {
    open.get(name).addEvent('work')
    return 'done'
  },

  end(name) {
    open.get(name).end()
    return 'done'
  },

  /** The spans that ended, in the order of their ends. */
  ended: () =>
    JSON.stringify(
      exporter.getFinishedSpans().map((span) => ({
        name: span.name,
        id: span.spanContext().spanId,
        parent: span.parentSpanContext?.spanId,
        startTime: span.startTime,
        endTime: span.endTime,
        attributes: span.attributes,
        events: span.events,
      })),
    ),
}

answerEach((line) => {
  const [step, ...names] = line.split(' ')
  return steps[step](...names)
})
clock.close()
