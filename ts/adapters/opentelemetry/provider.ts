/** Wraps tracer providers, so that their spans get the times of a clock. */

import type { Context, Span, SpanOptions, Tracer, TracerProvider } from '@opentelemetry/api'
import * as argument from '../../arguments'
import type { VmClock } from '../../clock'
import type { Clock } from '../../clock-interface'
import { invalidArgument } from '../../errors'
import { utcClock } from '../adapter'
import { context, diag, trace } from './api'
import { type HrTime, SpanState } from './span'
import { Stamper } from './stamper'

/** Options of {@link vmclockTracerProvider} and {@link registerVmClock}. */
export interface VmClockTracingOptions {
  // It names `VmClock`, or the bundler of declarations would move shared types to a file of their own.
  /** The clock of the times. Its timescale must follow UTC. You close it after the last span. */
  readonly clock: Clock | VmClock
  /**
   * Write the bounds of start and end to each span that got them from the clock, as the attributes
   * `vmclock.start.max_error_ns` and `vmclock.end.max_error_ns`. An unknown bound is left out. Default false.
   */
  readonly bound?: boolean | undefined
}

/** The options as they apply. */
interface CheckedOptions {
  readonly clock: Clock
  readonly bound: boolean
}

type ActiveSpanArguments<Result> = readonly [
  ...([] | [options: SpanOptions] | [options: SpanOptions, parent: Context]),
  callback: (span: Span) => Result,
]

function tracingOptions(value: unknown): CheckedOptions {
  const given = argument.record(value, 'options', ['clock', 'bound'])
  const bound = argument.flag(given['bound'], 'options.bound') ?? false
  return { clock: utcClock(given['clock'], 'options.clock'), bound }
}

// The first clock of a provider is the one of its spans.
const wrapped: WeakSet<object> = new WeakSet()

/** Makes tracers whose spans get the times of one clock. */
class Stamping {
  readonly #stamper: Stamper
  readonly #withBound: boolean
  // An SDK returns one tracer for equal names, and so does this.
  readonly #tracers: WeakMap<Tracer, Tracer> = new WeakMap()

  constructor({ clock, bound }: CheckedOptions) {
    this.#stamper = new Stamper(clock)
    this.#withBound = bound
  }

  /** Returns the provider with another `getTracer`. All else is the provider's own. */
  provider<Provider extends TracerProvider>(provider: Provider): Provider {
    if (wrapped.has(provider)) return provider
    const getTracer: TracerProvider['getTracer'] = (name, version, options) =>
      this.#tracer(provider.getTracer(name, version, options))
    // The target is an object that inherits from the provider: a proxy could not replace what a frozen one has.
    const wrapper = new Proxy(Object.create(provider) as Provider, {
      get(_target, key) {
        if (key === 'getTracer') return getTracer
        const value: unknown = Reflect.get(provider, key, provider)
        // `register` makes its receiver the global provider. Other methods may use private fields of theirs.
        return typeof value === 'function' && key !== 'register' ? value.bind(provider) : value
      },
      set: (_target, key, value) => Reflect.set(provider, key, value),
    })
    wrapped.add(wrapper)
    return wrapper
  }

  #tracer(tracer: Tracer): Tracer {
    const known = this.#tracers.get(tracer)
    if (known !== undefined) return known
    const startSpan = (
      name: string,
      options?: SpanOptions,
      parent: Context = context.active(),
    ): Span => {
      const isGiven = (options?.startTime ?? undefined) !== undefined
      const parentSpan = options?.root === true ? undefined : trace.getSpan(parent)
      const state = new SpanState(this.#stamper, this.#withBound, parentSpan, isGiven)
      const { startTime } = state
      const span = tracer.startSpan(
        name,
        startTime === undefined ? options : startingAt(startTime, options),
        parent,
      )
      state.attachTo(span)
      return span
    }
    // As the API defines it: one to three arguments come before the callback.
    const startActiveSpan = <Result>(
      name: string,
      ...args: ActiveSpanArguments<Result>
    ): Result | undefined => {
      const callback = args.at(-1)
      if (typeof callback !== 'function') return undefined
      const [options, parent] = args.slice(0, -1) as [SpanOptions?, Context?]
      const parentContext = parent ?? context.active()
      const span = startSpan(name, options, parentContext)
      return context.with(trace.setSpan(parentContext, span), callback, undefined, span)
    }
    // It inherits what the SDK's tracer has besides.
    const stamping: Tracer = Object.create(tracer, {
      startSpan: { value: startSpan, configurable: true, writable: true },
      startActiveSpan: { value: startActiveSpan, configurable: true, writable: true },
    })
    this.#tracers.set(tracer, stamping)
    return stamping
  }
}

function startingAt(startTime: HrTime, options: SpanOptions | undefined): SpanOptions {
  // V8 of Node 20 takes 2 µs to spread an object first.
  const complete = { startTime, ...options }
  // The caller's may be there, and undefined.
  complete.startTime = startTime
  return complete
}

/**
 * Returns a tracer provider whose spans get the times of a clock, to the nanosecond: start, end, events and recorded
 * exceptions, each where the caller gives no time. It is the given provider in all other respects.
 *
 * - A span whose caller gives the start gets no time of the clock.
 * - Within a trace no time is before an earlier one: in a span without a parent in this process, and all its
 *   descendants here. If the clock steps back, the trace repeats its last time.
 * - A span that a migration or a restore crosses gets the attribute `vmclock.disrupted`, and `vmclock.restored` if the
 *   generation changed. An event `vmclock.disruption` gives both figures before and after.
 * - If the clock gives no time, spans get that of the SDK, and `diag.warn` says why, once. A span that started by the
 *   clock then ends by `Date`, and has the attribute `vmclock.system_time`.
 *
 * @param provider - any tracer provider, such as `new NodeTracerProvider()`
 * @param options - the clock, and what to write
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_TIMESCALE`
 *
 * @example
 * ```ts
 * import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
 * import { VmClock } from 'vmclock'
 * import { vmclockTracerProvider } from 'vmclock/opentelemetry'
 *
 * const clock = VmClock.open()
 * const provider = vmclockTracerProvider(new NodeTracerProvider(), { clock })
 * provider.getTracer('example').startSpan('work').end()
 * ```
 */
export function vmclockTracerProvider<Provider extends TracerProvider>(
  provider: Provider,
  options: VmClockTracingOptions,
): Provider {
  if (!argument.holds(() => typeof provider?.getTracer === 'function')) {
    throw invalidArgument('provider must be a tracer provider', 'pass that of the SDK')
  }
  return new Stamping(tracingOptions(options)).provider(provider)
}

/** The global provider of the API. It hands each tracer the one of its delegate, when that is first used. */
interface ProxyProvider extends TracerProvider {
  getDelegate(): TracerProvider
  getDelegateTracer(name: string): Tracer | undefined
  setDelegate(delegate: TracerProvider): void
}

/**
 * Gives the spans of the global tracer provider the times of a clock, as {@link vmclockTracerProvider} does. It covers
 * the provider that is registered now, and those that are registered later.
 *
 * Call it before the SDK starts, or load `vmclock/opentelemetry/register` first. A tracer that made a span before this
 * call keeps the SDK's times: the API hands out its tracers once. `diag.warn` says so if a provider is registered
 * already. A provider keeps its first clock. Of several calls before a provider is registered the last one counts.
 *
 * @param options - the clock, and what to write
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_TIMESCALE`
 */
export function registerVmClock(options: VmClockTracingOptions): void {
  const stamping = new Stamping(tracingOptions(options))
  stampGlobal((provider) => stamping.provider(provider))
}

/** Wraps the global provider, and each that is registered later. */
function stampGlobal(wrap: (provider: TracerProvider) => TracerProvider): void {
  const global = trace.getTracerProvider() as Partial<ProxyProvider>
  const isProxy =
    typeof global.getDelegateTracer === 'function' && typeof global.setDelegate === 'function'
  if (!isProxy) {
    diag.warn('vmclock cannot stamp the spans of the global tracer provider: it is no proxy')
  } else if (global.getDelegateTracer?.('vmclock') !== undefined && global.getDelegate) {
    global.setDelegate?.(wrap(global.getDelegate()))
    diag.warn(
      'vmclock stamps no span of a tracer that was used before. Load vmclock/opentelemetry/register first, by --import',
    )
  }
  const register = trace.setGlobalTracerProvider
  trace.setGlobalTracerProvider = (provider) => register.call(trace, wrap(provider))
}
