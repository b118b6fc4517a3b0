/** The metrics of a clock: their names, types and descriptions, and their values now. */

import { type SystemOffset, VmClock } from '../clock'
import { isFailure, VmClockError } from '../errors'
import { type NativeDiscipline, native } from '../native'
import { publisherState } from '../provenance'
import type { Reading } from '../reading'
import type { Snapshot } from '../snapshot'
import type { TimeSource } from '../time-source'

/** The part of a clock that the metrics need. Every clock of this package has it. */
export type MeasuredClock = Pick<VmClock, 'tryRead' | 'continuityToken' | 'timeSource'>

/** The type of a metric: a value that goes up and down, or a count that only goes up. */
export type MetricType = 'gauge' | 'counter'

/** One value of a metric. */
export interface MetricSample {
  /** The labels; empty for most metrics. */
  readonly labels: Readonly<Record<string, string>>
  /** The value as Prometheus reads it: a decimal number without rounding, or `+Inf`. */
  readonly value: string
}

/** A metric with all its samples. It has none if the value is unknown now. */
export interface MetricFamily {
  /** The metric's name. */
  readonly name: string
  /** The metric's type. */
  readonly type: MetricType
  /** What the value means. */
  readonly help: string
  /** The values now. */
  readonly samples: readonly MetricSample[]
}

const METRICS = {
  vmclock_up: ['gauge', '1 if the page can be read, else 0.'],
  vmclock_has_time: ['gauge', '1 if the page gives time now, else 0.'],
  vmclock_has_bound: ['gauge', '1 if the time has an error bound now, else 0.'],
  vmclock_no_time_info: ['gauge', 'Why there is no time: the code of the error. The value is 1.'],
  vmclock_no_bound_info: ['gauge', 'Why the time has no bound: the reason. The value is 1.'],
  vmclock_bound_updates_left: [
    'gauge',
    'Updates of the time daemon that are missing until the time has a bound again.',
  ],
  vmclock_max_error_seconds: ['gauge', 'How far the time is from the truth at most.'],
  vmclock_est_error_seconds: ['gauge', "The provider's estimate of the time's error."],
  vmclock_age_seconds: ['gauge', 'Time since the last update of the page.'],
  vmclock_synchronized: [
    'gauge',
    "1 if the page's clock is synchronized, 0 if it is free-running.",
  ],
  vmclock_source_info: [
    'gauge',
    'What the clock reads, what calibrates it, and what notices a migration. The value is 1.',
  ],
  vmclock_publisher_alive: [
    'gauge',
    '1 if the publisher updates the page, 0 if it has ended or died.',
  ],
  vmclock_disruptions_total: [
    'counter',
    'Disruptions of the machine, such as live migrations. Several between two collections count once.',
  ],
  vmclock_generation_changes_total: [
    'counter',
    'Restores and clones of the machine. Several between two collections count once.',
  ],
  vmclock_disruption_soon: ['gauge', '1 if a disruption is announced within about a day, else 0.'],
  vmclock_disruption_imminent: [
    'gauge',
    '1 if a disruption is announced within about an hour, else 0.',
  ],
  vmclock_system_offset_seconds: ['gauge', 'How far the system clock is ahead of the page.'],
  vmclock_system_offset_max_error_seconds: [
    'gauge',
    'How far the offset of the system clock may be off, by the bound of the page.',
  ],
  vmclock_system_clock_synchronized: [
    'gauge',
    '1 if the kernel counts the system clock as synchronized, else 0.',
  ],
  vmclock_system_clock_max_error_seconds: [
    'gauge',
    'The maximum error of the system clock that the kernel has from its time daemon.',
  ],
} as const satisfies Readonly<Record<string, readonly [MetricType, string]>>

type MetricName = keyof typeof METRICS

/** Disruptions that were seen so far. */
export interface Counts {
  readonly disruptions: number
  readonly generations: number
}

/** The samples of the metrics that have one. */
type Samples = Partial<Record<MetricName, readonly MetricSample[]>>

/** Returns the metrics of a clock that can be read, and of one that cannot, by the error. */
export function familiesOf(seen: MeasuredClock | VmClockError, counts: Counts): MetricFamily[] {
  const samples: Samples = {
    ...(seen instanceof VmClockError ? unreadable(seen) : clockSamples(seen)),
    vmclock_disruptions_total: [number(counts.disruptions)],
    vmclock_generation_changes_total: [number(counts.generations)],
  }
  return Object.entries(METRICS).map(([key, [type, help]]) => {
    const name = key as MetricName
    return { name, type, help, samples: samples[name] ?? [] }
  })
}

function unreadable({ code }: VmClockError): Samples {
  return { vmclock_up: [flag(false)], ...withoutTime(code) }
}

function withoutTime(code: string): Samples {
  return {
    vmclock_has_time: [flag(false)],
    vmclock_has_bound: [flag(false)],
    vmclock_no_time_info: [info({ code })],
  }
}

function clockSamples(clock: MeasuredClock): Samples {
  const reading = clock.tryRead()
  const { timeSource } = clock
  const snapshot = clock instanceof VmClock ? clock.snapshot() : undefined
  return {
    vmclock_up: [flag(true)],
    ...sourceSamples(timeSource),
    ...(snapshot === undefined ? {} : pageSamples(timeSource, snapshot)),
    ...(reading instanceof VmClockError
      ? withoutTime(reading.code)
      : readingSamples(reading, snapshot)),
    ...(clock instanceof VmClock ? systemSamples(clock) : {}),
  }
}

function sourceSamples({ kind, from, guard }: TimeSource): Samples {
  return { vmclock_source_info: [info({ kind, from, guard: guard.state })] }
}

function pageSamples(source: TimeSource, snapshot: Snapshot): Samples {
  const publisher = publisherState(source, snapshot)
  return {
    ...(snapshot.ageNs === undefined ? {} : { vmclock_age_seconds: [seconds(snapshot.ageNs)] }),
    ...(publisher === undefined ? {} : { vmclock_publisher_alive: [flag(publisher === 'alive')] }),
    vmclock_disruption_soon: [flag(snapshot.disruptionSoon)],
    vmclock_disruption_imminent: [flag(snapshot.disruptionImminent)],
  }
}

function readingSamples(reading: Reading, snapshot: Snapshot | undefined): Samples {
  const { maxErrorNs, estErrorNs, ageNs, status } = reading
  return {
    vmclock_has_time: [flag(true)],
    vmclock_has_bound: [flag(maxErrorNs !== undefined)],
    ...(maxErrorNs === undefined
      ? noBoundSamples(snapshot)
      : { vmclock_max_error_seconds: [bound(maxErrorNs)] }),
    ...(estErrorNs === undefined ? {} : { vmclock_est_error_seconds: [seconds(estErrorNs)] }),
    vmclock_age_seconds: [seconds(ageNs)],
    vmclock_synchronized: [flag(status === 'synchronized')],
  }
}

function noBoundSamples(snapshot: Snapshot | undefined): Samples {
  const { reason = 'unstated', updatesLeft } = snapshot?.boundUnavailable ?? {}
  return {
    // The number of a reason that this release does not know is no label: there may be many.
    vmclock_no_bound_info: [info({ reason: reason.replace(/ \(\d+\)$/, '') })],
    ...(updatesLeft === undefined ? {} : { vmclock_bound_updates_left: [number(updatesLeft)] }),
  }
}

function systemSamples(clock: VmClock): Samples {
  const offset = offsetOf(clock)
  const discipline = native().systemDiscipline()
  return {
    ...(offset === undefined ? {} : offsetSamples(offset)),
    ...(isFailure(discipline) ? {} : disciplineSamples(discipline)),
  }
}

function offsetOf(clock: VmClock): SystemOffset | undefined {
  try {
    return clock.systemOffset()
  } catch (error) {
    if (error instanceof VmClockError) return undefined
    throw error
  }
}

function offsetSamples({ offsetNs, maxErrorNs }: SystemOffset): Samples {
  return {
    vmclock_system_offset_seconds: [seconds(offsetNs)],
    ...(maxErrorNs === undefined
      ? {}
      : { vmclock_system_offset_max_error_seconds: [bound(maxErrorNs)] }),
  }
}

function disciplineSamples({ unsynchronized, maxErrorUs }: NativeDiscipline): Samples {
  // Daemons that report no error leave 0 there, which is no bound.
  const isStated = !unsynchronized && maxErrorUs > 0
  const stated = seconds(BigInt(maxErrorUs) * NS_PER_US)
  return {
    vmclock_system_clock_synchronized: [flag(!unsynchronized)],
    ...(isStated ? { vmclock_system_clock_max_error_seconds: [stated] } : {}),
  }
}

const NS_PER_US = 1000n
const NS_PER_SEC = 1_000_000_000n
const LARGEST_NS = 2n ** 63n - 1n

function flag(value: boolean): MetricSample {
  return number(value ? 1 : 0)
}

function number(value: number): MetricSample {
  return { labels: {}, value: String(value) }
}

function info(labels: Readonly<Record<string, string>>): MetricSample {
  return { labels, value: '1' }
}

/** Makes the sample of a bound. The greatest one stands for itself and all that are greater. */
function bound(ns: bigint): MetricSample {
  return ns === LARGEST_NS ? { labels: {}, value: '+Inf' } : seconds(ns)
}

/** Makes the sample of a duration, with all its nanoseconds. A division of doubles could round a bound down. */
function seconds(ns: bigint): MetricSample {
  const size = ns < 0n ? -ns : ns
  const fraction = String(size % NS_PER_SEC).padStart(9, '0')
  return { labels: {}, value: `${ns < 0n ? '-' : ''}${size / NS_PER_SEC}.${fraction}` }
}
