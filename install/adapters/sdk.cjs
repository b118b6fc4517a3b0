// The SDK of OpenTelemetry that VMCLOCK_OTEL names: `otel-1`, `otel-2` or `otel-3`. It is installed in the current
// directory, with the API and a copy of vmclock.

const { createRequire } = require('node:module')
const { join } = require('node:path')

const name = process.env.VMCLOCK_OTEL
const own = createRequire(join(process.cwd(), 'tests.cjs'))
const api = own('@opentelemetry/api')
const tracing = name === 'otel-3' ? own('otel-3-sdk-trace') : own(`${name}-sdk-trace-node`)

/** The third SDK has no provider for Node that registers itself. */
function providerClass() {
  if (name !== 'otel-3') return tracing.NodeTracerProvider
  const { AsyncLocalStorageContextManager } = own('otel-3-context-async-hooks')
  const { W3CTraceContextPropagator } = own('otel-3-core')
  return class extends tracing.TracerProvider {
    register() {
      api.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
      api.propagation.setGlobalPropagator(new W3CTraceContextPropagator())
      api.trace.setGlobalTracerProvider(this)
    }
  }
}

const Provider = providerClass()

/** Makes a tracer provider with one span processor. */
function newProvider(processor, options = {}) {
  if (name !== 'otel-1') return new Provider({ spanProcessors: [processor], ...options })
  const provider = new Provider(options)
  provider.addSpanProcessor(processor)
  return provider
}

/** Makes the SDK's span processor of this kind, `Batch` or `Simple`. */
function newProcessor(kind, exporter) {
  const Processor = tracing[`${kind}SpanProcessor`]
  return new Processor(name === 'otel-3' ? { exporter } : exporter)
}

/** Makes a resource of these attributes. */
function newResource(attributes) {
  const { Resource, resourceFromAttributes } = own(`${name}-resources`)
  return resourceFromAttributes?.(attributes) ?? new Resource(attributes)
}

/** Returns an exporter's class, for `http` (JSON) or `proto`. */
function exporterClass(format) {
  return own(`${name}-exporter-trace-otlp-${format}`).OTLPTraceExporter
}

module.exports = {
  ...{ api, exporterClass, newProcessor, newProvider, newResource, Provider, tracing },
  metrics: own(`${name}-sdk-metrics`),
  main: own('vmclock'),
  vmclock: own('vmclock/opentelemetry'),
  testing: own('vmclock/testing'),
  instrumentations: () => ({
    ...own(`${name}-instrumentation`),
    ...own(`${name}-instrumentation-http`),
  }),
}
