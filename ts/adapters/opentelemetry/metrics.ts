/** Reports a clock as metrics of OpenTelemetry. */

import type { BatchObservableResult, Meter, Observable } from '@opentelemetry/api'
import * as argument from '../../arguments'
import type { Clock } from '../../clock-interface'
import { invalidArgument, VmClockError } from '../../errors'
import { utcClock } from '../adapter'
import { diag } from './api'
import { textOf } from './stamper'

const NS_PER_SEC = 1e9
const MOST_NS = 2n ** 63n - 1n
const STATUSES = ['synchronized', 'free-running', 'unavailable'] as const

/** The metrics of a clock, until they are closed. */
export interface VmClockMetrics {
  /** Ends the observation. The clock stays open. Closing again does nothing. */
  close(): void
}

/**
 * Reports a clock by a meter, with a new reading at each collection.
 *
 * | metric | kind | value |
 * |---|---|---|
 * | `vmclock.max_error` | gauge, s | the bound; NaN while there is none |
 * | `vmclock.age` | gauge, s | the time since the page's last update; NaN while the clock gives no time |
 * | `vmclock.status` | gauge | 1 for the present `vmclock.status`, else 0: `synchronized`, `free-running`, `unavailable` |
 * | `vmclock.disruptions` | counter | disruptions since this call: migrations and restores |
 * | `vmclock.restores` | counter | changes of the generation since this call |
 *
 * @param meter - such as `metrics.getMeter('vmclock')`
 * @param clock - the clock
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_TIMESCALE`, and as `clock.watch()`
 */
export function vmclockMetrics(meter: Meter, clock: Clock): VmClockMetrics {
  if (!argument.holds(() => typeof meter?.addBatchObservableCallback === 'function')) {
    throw invalidArgument('meter must be a meter of OpenTelemetry', 'pass metrics.getMeter()')
  }
  utcClock(clock, 'clock')
  let disruptions = 0
  let restores = 0
  const watcher = clock.watch()
  watcher.on('disruption', () => {
    disruptions++
  })
  watcher.on('generation', () => {
    restores++
  })
  // Without a listener the error would end the program.
  watcher.on('error', (error) => diag.warn(`vmclock cannot watch the page: ${textOf(error)}`))

  const maxError = meter.createObservableGauge('vmclock.max_error', {
    description: 'How far the time may be off',
    unit: 's',
  })
  const age = meter.createObservableGauge('vmclock.age', {
    description: "Time since the page's last update",
    unit: 's',
  })
  const status = meter.createObservableGauge('vmclock.status', {
    description: "State of the page's clock: 1 for the present state",
  })
  const disruptionCount = meter.createObservableCounter('vmclock.disruptions', {
    description: 'Disruptions of the counter: migrations and restores',
  })
  const restoreCount = meter.createObservableCounter('vmclock.restores', {
    description: 'Restores from a snapshot, which every clone sees',
  })
  const observables: Observable[] = [maxError, age, status, disruptionCount, restoreCount]

  const observe = (result: BatchObservableResult): void => {
    const reading = clock.tryRead()
    const isReading = !VmClockError.isVmClockError(reading)
    // The SDK repeats the last figure of an instrument that observes none. NaN is unknown, and no claim.
    result.observe(maxError, isReading ? secondsUp(reading.maxErrorNs) : Number.NaN)
    result.observe(age, isReading ? Number(reading.ageNs) / NS_PER_SEC : Number.NaN)
    const present = isReading ? reading.status : 'unavailable'
    for (const each of STATUSES) {
      result.observe(status, each === present ? 1 : 0, { 'vmclock.status': each })
    }
    result.observe(disruptionCount, disruptions)
    result.observe(restoreCount, restores)
  }
  meter.addBatchObservableCallback(observe, observables)
  return {
    close() {
      watcher.close()
      meter.removeBatchObservableCallback(observe, observables)
    },
  }
}

/** Returns a bound in seconds, rounded up: a bound must not shrink. NaN if it is unknown. */
function secondsUp(ns: bigint | undefined): number {
  if (ns === undefined) return Number.NaN
  // The greatest figure stands for that or more.
  if (ns === MOST_NS) return Number.POSITIVE_INFINITY
  const seconds = Number(ns) / NS_PER_SEC
  // The two roundings are off by less than 2^-52 of the value.
  return seconds * (1 + 2 * Number.EPSILON)
}
