/** `vmclock ptp`: a PTP clock of the kernel, compared with the system clock and with a page. */

import { existsSync } from 'node:fs'
import { VmClock } from '../clock'
import { VmClockError } from '../errors'
import {
  type CrossTimestamp,
  type PtpAttributes,
  type PtpCapabilities,
  PtpClock,
  type PtpSample,
  type SampledClock,
} from '../ptp'
import { json } from './escape'
import { distance, timestamp } from './figures'
import { errorJson, errorText, line, table } from './output'
import { pageName } from './source'

/** Options of `vmclock ptp`. */
export interface PtpOptions {
  readonly json?: boolean
  readonly samples: number
  readonly clock: SampledClock
}

/** The result of a call, or its refusal, which is part of the output. */
type Answer<Result> = { readonly result: Result } | { readonly refusal: VmClockError }

/** The clock's timescale, and the page that it was compared with. */
interface Comparison {
  readonly page: string
  readonly timescale: 'tai' | 'utc' | undefined
}

const DEFAULT_NAME = 'vmclock0'

/** Prints everything that a PTP clock provides. */
export function ptp(nameOrPath: string | undefined, options: PtpOptions): void {
  const clock = openClock(nameOrPath ?? DEFAULT_NAME)
  try {
    const capabilities = clock.capabilities()
    const comparison = answer(() => compare(clock))
    const nowNs = clock.nowNs()
    const cross = answer(() => clock.crossTimestamp())
    const samples = answer(() => clock.samples(options.samples, options.clock))
    if (options.json) {
      line(
        json({
          path: clock.path,
          name: clock.name,
          nowNs,
          ...('result' in comparison
            ? comparison.result
            : { noTimescale: errorJson(comparison.refusal) }),
          capabilities,
          ...('result' in cross
            ? { crossTimestamp: cross.result }
            : { noCrossTimestamp: errorJson(cross.refusal) }),
          sampledClock: options.clock,
          ...('result' in samples
            ? { samples: samples.result }
            : { noSamples: errorJson(samples.refusal) }),
        }),
      )
      return
    }
    line(
      table([
        ['clock', clock.name === undefined ? clock.path : `${clock.path}, ${clock.name}`],
        ['time', time(nowNs, comparison)],
        ['timescale', timescale(comparison)],
        ['capabilities', abilities(capabilities)],
        ['cross timestamp', crossTimestamp(cross)],
        ...sampleRows(samples, options.clock),
      ]),
    )
  } finally {
    clock.close()
  }
}

// A text with a slash is a path, as in a shell.
function openClock(nameOrPath: string): PtpClock {
  return nameOrPath.includes('/') ? PtpClock.open(nameOrPath) : PtpClock.find(nameOrPath)
}

// Compares with the page of the same device, else with this machine's default page.
function compare(clock: PtpClock): Comparison {
  const own = `/dev/${clock.name}`
  const page = VmClock.open(
    /^vmclock\d+$/.test(clock.name ?? '') && existsSync(own) ? own : undefined,
    { calls: 'node-api' },
  )
  try {
    return { page: pageName(page.timeSource), timescale: clock.timescale(page) }
  } finally {
    page.close()
  }
}

function answer<Result>(call: () => Result): Answer<Result> {
  try {
    return { result: call() }
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
    return { refusal: error }
  }
}

function refused(error: VmClockError): string {
  return `none: ${errorText(error)} (${error.code})`
}

function time(nowNs: bigint, comparison: Answer<Comparison>): string {
  const scale = 'result' in comparison ? comparison.result.timescale : undefined
  return scale === undefined ? `${nowNs} ns since its epoch` : timestamp(nowNs, scale)
}

function timescale(comparison: Answer<Comparison>): string {
  if ('refusal' in comparison) {
    const { refusal } = comparison
    return `unknown without a page that has time: ${errorText(refusal)} (${refusal.code})`
  }
  const { timescale: scale, page } = comparison.result
  return scale === undefined
    ? `neither TAI nor UTC, compared with ${page}`
    : `${scale.toUpperCase()}, compared with ${page}`
}

function abilities(capabilities: PtpCapabilities): string {
  const { maxAdjustmentPpb, crossTimestamping, phaseAdjustment, pulsePerSecond } = capabilities
  const counted = (count: number, what: string): string[] => (count > 0 ? [`${count} ${what}`] : [])
  return [
    crossTimestamping ? 'cross timestamps' : 'no cross timestamps',
    maxAdjustmentPpb > 0 ? `rate adjustable by ${maxAdjustmentPpb} ppb` : 'rate not adjustable',
    ...(phaseAdjustment ? ['phase adjustable'] : []),
    ...(capabilities.extendedAttributes || capabilities.preciseAttributes ? ['attributes'] : []),
    ...(pulsePerSecond ? ['pulse per second'] : []),
    ...counted(capabilities.alarms, 'alarms'),
    ...counted(capabilities.externalTimestamps, 'external timestamps'),
    ...counted(capabilities.periodicOutputs, 'periodic outputs'),
    ...counted(capabilities.pins, 'pins'),
  ].join(', ')
}

function crossTimestamp(cross: Answer<CrossTimestamp>): string {
  if ('refusal' in cross) return refused(cross.refusal)
  const { deviceNs, realtimeNs, monotonicRawNs, attributes } = cross.result
  return `clock ${deviceNs}, realtime ${realtimeNs}, monotonic-raw ${monotonicRawNs} ns; realtime - clock ${distance(realtimeNs - deviceNs)}${quality(attributes)}`
}

function sampleRows(
  samples: Answer<PtpSample[]>,
  clock: SampledClock,
): Array<[label: string, value: string]> {
  if ('refusal' in samples) return [['samples', refused(samples.refusal)]]
  return samples.result.map(({ deviceNs, offsetNs, maxErrorNs, attributes }, index) => [
    index === 0 ? 'samples' : '',
    `clock ${deviceNs} ns; ${clock} - clock ${offsetNs} ns ± ${distance(maxErrorNs)}${quality(attributes)}`,
  ])
}

/** Returns what the driver states about the quality of the clock's time, to append to its figures. */
export function quality(attributes: PtpAttributes | undefined): string {
  if (attributes === undefined) return ''
  const { errorBoundNs, timescale, status } = attributes
  return [
    errorBoundNs === undefined ? '; error bound unknown' : `; clock ± ${distance(errorBoundNs)}`,
    ...(timescale === undefined ? [] : [`in ${timescale}`]),
    ...(status === undefined ? [] : [status]),
  ].join(', ')
}
