// A user's program with the adapters, beside the libraries that they adapt to. The tests type-check it and do not run it.

import { metrics, type Tracer, type TracerProvider, trace } from '@opentelemetry/api'
import { Effect, Clock as EffectClock, type Layer } from 'effect'
import { type Clock, VmClock } from 'vmclock'
import { vmclockLayer } from 'vmclock/effect'
import {
  registerVmClock,
  type VmClockMetrics,
  type VmClockTracingOptions,
  vmclockMetrics,
  vmclockResourceAttributes,
  vmclockTracerProvider,
} from 'vmclock/opentelemetry'
import { clock as registered } from 'vmclock/opentelemetry/register'
import { SimulatedClock } from 'vmclock/testing'

const clock: VmClock = VmClock.open()
const options: VmClockTracingOptions = { clock, bound: true }
registerVmClock(options)

// A wrapped provider keeps its own type.
class OwnProvider implements TracerProvider {
  readonly isOwn: boolean = true
  getTracer(name: string): Tracer {
    return trace.getTracer(name)
  }
}
const provider: OwnProvider = vmclockTracerProvider(new OwnProvider(), options)
export const isOwn: boolean = provider.isOwn
provider.getTracer('consumer').startSpan('work').end()

const observed: VmClockMetrics = vmclockMetrics(metrics.getMeter('vmclock'), clock)
observed.close()
export const kind: unknown = vmclockResourceAttributes(clock)['vmclock.source.kind']
export const global: Clock | undefined = registered

const layer: Layer.Layer<never> = vmclockLayer(new SimulatedClock())
export const ns: Promise<bigint> = Effect.runPromise(
  Effect.provide(EffectClock.currentTimeNanos, layer),
)

// @ts-expect-error a provider needs a clock
vmclockTracerProvider(new OwnProvider(), { bound: true })

// @ts-expect-error a number is no clock
vmclockLayer(1)
