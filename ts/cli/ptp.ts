/** `vmclock ptp`: one of the kernel's PTP clocks, against the system's and against its page. */

import { existsSync } from 'node:fs'
import { VmClock } from '../clock'
import { VmClockError } from '../errors'
import {
  type CrossTimestamp,
  type PtpCapabilities,
  PtpClock,
  type PtpSample,
  type SampledClock,
} from '../ptp'
import { json } from './escape'
import { distance, timestamp } from './figures'
import { line, table } from './output'

/** What `vmclock ptp` was told. */
export interface PtpOptions {
  readonly json?: boolean
  readonly samples: number
  readonly clock: SampledClock
}

/** What a call gave, or the refusal, which is told like any other answer. */
type Answer<Given> = { readonly given: Given } | { readonly refusal: VmClockError }

/** Which timescale the clock tells, by which page. */
interface Comparison {
  readonly page: string
  readonly told: 'tai' | 'utc' | undefined
}

const DEFAULT_NAME = 'vmclock0'

/** Asks a clock all there is to ask and prints it. */
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
          ...('given' in comparison
            ? { timescale: comparison.given.told, page: comparison.given.page }
            : { noTimescale: shown(comparison.refusal) }),
          capabilities,
          ...('given' in cross
            ? { crossTimestamp: cross.given }
            : { noCrossTimestamp: shown(cross.refusal) }),
          sampledClock: options.clock,
          ...('given' in samples
            ? { samples: samples.given }
            : { noSamples: shown(samples.refusal) }),
        }),
      )
      return
    }
    line(
      table([
        ['clock', clock.name === undefined ? clock.path : `${clock.path}, ${clock.name}`],
        ['time', time(nowNs, comparison)],
        ['timescale', timescale(comparison)],
        ['can', abilities(capabilities)],
        ['all at once', crossTimestamp(cross)],
        ...sampleRows(samples, options.clock),
      ]),
    )
  } finally {
    clock.close()
  }
}

// As a shell tells a command's path from its name.
function openClock(nameOrPath: string): PtpClock {
  return nameOrPath.includes('/') ? PtpClock.open(nameOrPath) : PtpClock.find(nameOrPath)
}

// By the page that the clock is made of, if it is made of one, else by this machine's own.
function compare(clock: PtpClock): Comparison {
  const own = `/dev/${clock.name}`
  const page = VmClock.open(
    /^vmclock\d+$/.test(clock.name ?? '') && existsSync(own) ? own : undefined,
  )
  try {
    return { page: page.path, told: clock.timescale(page) }
  } finally {
    page.close()
  }
}

function answer<Given>(ask: () => Given): Answer<Given> {
  try {
    return { given: ask() }
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
    return { refusal: error }
  }
}

function shown({ code, message }: VmClockError): { code: string; message: string } {
  return { code, message }
}

function refused({ code, message }: VmClockError): string {
  return `none: ${message} (${code})`
}

function time(nowNs: bigint, comparison: Answer<Comparison>): string {
  const told = 'given' in comparison ? comparison.given.told : undefined
  return told === undefined ? `${nowNs} ns since its epoch` : timestamp(nowNs, told)
}

function timescale(comparison: Answer<Comparison>): string {
  if ('refusal' in comparison) {
    const { code, message } = comparison.refusal
    return `not known without a page that has time: ${message} (${code})`
  }
  const { told, page } = comparison.given
  return told === undefined
    ? `neither TAI nor UTC, as far as ${page} can tell`
    : `${told.toUpperCase()}, by ${page}`
}

function abilities(capabilities: PtpCapabilities): string {
  const { maxAdjustmentPpb, crossTimestamping, phaseAdjustment, pulsePerSecond } = capabilities
  const counted = (count: number, what: string): string[] => (count > 0 ? [`${count} ${what}`] : [])
  return [
    crossTimestamping ? 'cross timestamps' : 'no cross timestamps',
    maxAdjustmentPpb > 0 ? `rate adjustable by ${maxAdjustmentPpb} ppb` : 'rate not adjustable',
    ...(phaseAdjustment ? ['phase adjustable'] : []),
    ...(pulsePerSecond ? ['a pulse per second'] : []),
    ...counted(capabilities.alarms, 'alarms'),
    ...counted(capabilities.externalTimestamps, 'external timestamps'),
    ...counted(capabilities.periodicOutputs, 'periodic outputs'),
    ...counted(capabilities.pins, 'pins'),
  ].join(', ')
}

function crossTimestamp(cross: Answer<CrossTimestamp>): string {
  if ('refusal' in cross) return refused(cross.refusal)
  const { deviceNs, realtimeNs, monotonicRawNs } = cross.given
  return `clock ${deviceNs}, realtime ${realtimeNs}, monotonic-raw ${monotonicRawNs} ns; realtime - clock ${distance(realtimeNs - deviceNs)}`
}

function sampleRows(
  samples: Answer<PtpSample[]>,
  clock: SampledClock,
): Array<[label: string, value: string]> {
  if ('refusal' in samples) return [['samples', refused(samples.refusal)]]
  return samples.given.map(({ deviceNs, offsetNs, maxErrorNs }, index) => [
    index === 0 ? 'samples' : '',
    `clock ${deviceNs} ns; ${clock} - clock ${offsetNs} ns ± ${distance(maxErrorNs)}`,
  ])
}
