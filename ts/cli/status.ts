/** `vmclock status`: the fields of a page and their meaning. */

import { VmClock } from '../clock'
import { VmClockError } from '../errors'
import type { Reading } from '../reading'
import type { Snapshot } from '../snapshot'
import { boundOf } from './bound'
import { json } from './escape'
import { distance, frequency, timestamp } from './figures'
import { errorJson, line, OWN_PAGE, table } from './output'

/** Options of `vmclock status`. */
export interface StatusOptions {
  readonly json?: boolean
  readonly abi: 'uapi' | 'rfc-v4'
  readonly assumedDrift?: number
}

/** A reading of the page on this machine with its bound in words, or why there is none. */
type Attempt =
  | { readonly reading: Reading; readonly bound: string }
  | { readonly refusal: VmClockError }

/** Prints the fields of a page and their meaning. */
export function status(path: string | undefined, options: StatusOptions): void {
  const pages = path === undefined ? VmClock.list() : undefined
  const { abi, assumedDrift } = options
  const clock = VmClock.open(path, { timescale: 'page', abi, assumedDriftPpm: assumedDrift })
  try {
    const snapshot = clock.snapshot()
    const attempt = read(clock)
    if (options.json) {
      line(
        json({
          pages,
          path: clock.path,
          hasTime: clock.hasTime,
          ...('reading' in attempt
            ? { reading: attempt.reading.toJSON() }
            : { noTime: errorJson(attempt.refusal) }),
          page: snapshot,
        }),
      )
      return
    }
    line(
      table([...rows(clock.path ?? OWN_PAGE, snapshot, attempt), ...otherPages(clock.path, pages)]),
    )
  } finally {
    clock.close()
  }
}

function read(clock: VmClock): Attempt {
  try {
    const reading = clock.read()
    return { reading, bound: boundOf(reading, clock).text }
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
    return { refusal: error }
  }
}

type Row = readonly [label: string, value: string]

function rows(path: string, snapshot: Snapshot, attempt: Attempt): Row[] {
  const { raw, disruptionMarker, vmGeneration, notificationPresent } = snapshot
  return [
    ['page', path],
    ['layout', `version ${raw.version}, ${raw.size} bytes, sequence number ${raw.seqCount}`],
    ...('refusal' in attempt
      ? refusalRows(snapshot, attempt.refusal)
      : readingRows(snapshot, attempt.reading, attempt.bound)),
    ['disruption', `marker ${disruptionMarker}; it changes when the machine is migrated`],
    [
      'generation',
      vmGeneration === undefined
        ? 'none: a clone cannot be distinguished from the original'
        : `${vmGeneration}; it changes when the machine is restored or cloned`,
    ],
    ['maintenance', maintenance(snapshot)],
    [
      'notification',
      notificationPresent
        ? 'the provider notifies of changes'
        : 'the provider does not notify of changes; readers poll',
    ],
  ]
}

function refusalRows(snapshot: Snapshot, refusal: VmClockError): Row[] {
  const { clockStatus, counterKind } = snapshot
  return [
    ['time', `none on this machine now: ${refusal.message}`],
    ...(refusal.remedy === undefined ? [] : [['remedy', refusal.remedy] satisfies Row]),
    ['code', refusal.code],
    ['counter', counter(snapshot)],
    ...(clockStatus === undefined || counterKind === 'none'
      ? []
      : [['clock', clockStatus] satisfies Row]),
  ]
}

function readingRows(snapshot: Snapshot, reading: Reading, bound: string): Row[] {
  const { taiMinusUtcSec, leapIndicator, smearingHint, timeType } = snapshot
  return [
    ['time', timestamp(reading.epochNs, reading.timescale, reading.leapSecond)],
    ['bound', bound],
    ['clock', clockMeaning(reading)],
    ['counter', counter(snapshot)],
    ['timescale', timeType],
    ['reference', referenceAge(snapshot)],
    [
      'TAI - UTC',
      taiMinusUtcSec === undefined
        ? 'not stated, so UTC and TAI cannot be converted into each other'
        : `${taiMinusUtcSec} s`,
    ],
    ['leap second', `${leapIndicator ?? 'none'}; recommended smearing: ${smearingHint ?? 'none'}`],
  ]
}

function clockMeaning(reading: Reading): string {
  return reading.status === 'synchronized'
    ? 'synchronized: the time is correct within its bound'
    : 'free-running: nothing corrects it at present'
}

function counter({ counterKind, raw }: Snapshot): string {
  const { counterPeriodFracSec: period, counterPeriodShift: shift } = raw
  const rate =
    period === undefined || period === 0n || shift === undefined || counterKind === 'none'
      ? ''
      : `, ${frequency(2 ** (64 + shift) / Number(period))}`
  return `${counterKind}${rate}`
}

function referenceAge({ raw, counter: count }: Snapshot): string {
  const { counterValue, counterPeriodFracSec: period, counterPeriodShift: shift } = raw
  if (counterValue === undefined || period === undefined || shift === undefined) return 'unknown'
  const ticks = BigInt.asIntN(64, count - counterValue)
  const ageNs = (ticks * period * 1_000_000_000n) >> BigInt(64 + shift)
  return `${distance(ageNs)} ago`
}

function maintenance({ disruptionSoon, disruptionImminent }: Snapshot): string {
  if (disruptionImminent) return 'imminent: a disruption is announced within about an hour'
  return disruptionSoon ? 'soon: a disruption is announced within about a day' : 'none announced'
}

function otherPages(path: string | undefined, pages: readonly string[] | undefined): Row[] {
  const others = pages?.filter((page) => page !== path) ?? []
  return others.length === 0 ? [] : [['other pages', others.join(', ')]]
}
