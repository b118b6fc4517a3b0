/**
 * Gives programs of Effect the times of a clock, by Effect's own `Clock` service.
 *
 * It needs `effect`, version 3 or 4, an optional peer dependency. Without it loading throws `ERR_VMCLOCK_NO_PEER`.
 *
 * @module vmclock/effect
 */

import type { Effect, Layer } from 'effect'
import type { VmClock } from '../clock'
import type { Clock } from '../clock-interface'
import { peer, utcClock } from './adapter'

interface EffectClock {
  sleep(duration: unknown): unknown
}

/** The used part of both versions. */
interface Library {
  readonly Effect: { sync<Value>(evaluate: () => Value): Effect.Effect<Value> }
  readonly Clock: {
    /** Version 4: a reference, which has a default. */
    readonly Clock: { readonly defaultValue?: () => EffectClock }
    /** Version 3 makes the default by a call. */
    readonly make?: () => EffectClock
  }
  readonly Layer: {
    /** Version 3 only. */
    readonly setClock?: (clock: EffectClock) => Layer.Layer<never>
    succeed(key: unknown, service: EffectClock): Layer.Layer<never>
  }
}

const library: Library = peer('effect', () => require('effect'))

const MS_PER_SEC = 1000
const NS_PER_MS = 1_000_000

/**
 * Returns a layer that replaces Effect's `Clock`. `currentTimeMillis` and `currentTimeNanos`, and what builds on them,
 * give this clock's time: milliseconds floored, as `Date.now()`, and nanoseconds since 1970-01-01 UTC.
 *
 * `sleep` stays that of the default clock, and so does version 4's `monotonicTimeNanos`: they measure durations, which
 * no step of the time may change.
 *
 * The services of Effect have no error for a missing time. If the clock gives none, the fiber dies with the
 * `VmClockError`.
 *
 * @param clock - the clock; its timescale must follow UTC. You close it after the program
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_TIMESCALE`
 *
 * @example
 * ```ts
 * import { Clock, Effect } from 'effect'
 * import { VmClock } from 'vmclock'
 * import { vmclockLayer } from 'vmclock/effect'
 *
 * const program = Clock.currentTimeNanos
 * console.log(await Effect.runPromise(Effect.provide(program, vmclockLayer(VmClock.open()))))
 * ```
 */
// It names `VmClock`, or the bundler of declarations would move shared types to a file of their own.
export function vmclockLayer(clock: Clock | VmClock): Layer.Layer<never> {
  const service = serviceOf(utcClock(clock, 'clock'))
  const { setClock } = library.Layer
  return setClock === undefined
    ? library.Layer.succeed(library.Clock.Clock, service)
    : setClock(service)
}

function serviceOf(clock: Clock): EffectClock {
  const standard = standardClock()
  const seconds: [number, number] = [0, 0]
  const millis = (): number => {
    clock.nowHrTime(seconds)
    return seconds[0] * MS_PER_SEC + Math.floor(seconds[1] / NS_PER_MS)
  }
  const nanos = (): bigint => clock.nowNs()
  // It inherits all that is not about the time of day.
  return Object.assign(Object.create(standard) as EffectClock, {
    currentTimeMillis: library.Effect.sync(millis),
    currentTimeNanos: library.Effect.sync(nanos),
    // The names of version 3, and those of version 4.
    unsafeCurrentTimeMillis: millis,
    unsafeCurrentTimeNanos: nanos,
    currentTimeMillisUnsafe: millis,
    currentTimeNanosUnsafe: nanos,
  })
}

function standardClock(): EffectClock {
  const { make, Clock: key } = library.Clock
  const standard = make === undefined ? key.defaultValue?.() : make()
  if (standard === undefined) throw new TypeError('this version of effect has no default clock')
  return standard
}
