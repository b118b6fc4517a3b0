// Measures a span of OpenTelemetry's SDK, from its start to its end, with the SDK's times and with those of a clock. No
// processor takes the spans: its work would be the same in both.
//
//   spans.mjs PAGE ROUNDS

import { createRequire } from 'node:module'
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
import { freeze, report, vmclock } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds] = process.argv.slice(2)
freeze(page)
const { vmclockTracerProvider } = createRequire(import.meta.url)('../../dist/opentelemetry.cjs')

const clock = vmclock.VmClock.open(page)
const tracerOf = (provider) => provider.getTracer('benchmark')
const scope = {
  own: tracerOf(new NodeTracerProvider()),
  stamped: tracerOf(vmclockTracerProvider(new NodeTracerProvider(), { clock })),
  bounded: tracerOf(vmclockTracerProvider(new NodeTracerProvider(), { clock, bound: true })),
}
// A span takes microseconds, so a million calls would take seconds.
const spanBy = (tracer) => ({ call: `${tracer}.startSpan('work').end()`, most: 1, warm: 100_000 })
const cases = {
  span: spanBy('own'),
  'span by the clock': spanBy('stamped'),
  'span by the clock, with bounds': spanBy('bounded'),
}
report(measure(cases, scope, Number(rounds)))
clock.close()
