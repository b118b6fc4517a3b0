/** `vmclock status`: the fields of a page and their meaning. */

import { VmClock } from '../clock'
import { VmClockError } from '../errors'
import { native } from '../native'
import { cloneProtection, clonesAreNoticed, publisherState } from '../provenance'
import type { Reading } from '../reading'
import type { Snapshot } from '../snapshot'
import type { TimeSource } from '../time-source'
import { type Bound, boundOf } from './bound'
import { json } from './escape'
import { distance, frequency, timestamp } from './figures'
import { errorJson, line, table } from './output'
import { openClock, type PageOptions } from './page-options'
import { guardRows, pageName, publisherRows, sourceRows } from './source'

/** Options of `vmclock status`. */
export interface StatusOptions extends PageOptions {
  readonly json?: boolean
}

/** A reading of the page on this machine with its bound in words, or why there is none. */
type Attempt =
  | { readonly reading: Reading; readonly bound: Bound }
  | { readonly refusal: VmClockError }

/** Prints the fields of a page and their meaning. */
export function status(path: string | undefined, options: StatusOptions): void {
  const pages = path === undefined ? VmClock.list() : undefined
  const clock = openClock(path, { ...options, timescale: 'page' })
  try {
    const snapshot = clock.snapshot()
    const attempt = read(clock)
    const { timeSource } = clock
    if (options.json) {
      line(
        json({
          pages,
          path: clock.path,
          hasTime: clock.hasTime,
          ...('reading' in attempt
            ? { reading: attempt.reading.toJSON() }
            : { noTime: errorJson(attempt.refusal) }),
          timeSource,
          clonesAreNoticed: clonesAreNoticed(timeSource, snapshot),
          cloneProtection: cloneProtection(timeSource, native().cloneFacts()),
          publisher: publisherState(timeSource, snapshot),
          page: snapshot,
        }),
      )
      return
    }
    line(table([...rows(timeSource, snapshot, attempt), ...otherPages(clock.path, pages)]))
  } finally {
    clock.close()
  }
}

function read(clock: VmClock): Attempt {
  try {
    const reading = clock.read()
    return { reading, bound: boundOf(reading, clock) }
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
    return { refusal: error }
  }
}

type Row = readonly [label: string, value: string]

function rows(source: TimeSource, snapshot: Snapshot, attempt: Attempt): Row[] {
  const { raw, disruptionMarker, vmGeneration, notificationPresent } = snapshot
  return [
    ['page', pageName(source)],
    ...sourceRows(source),
    ...publisherRows(source, snapshot),
    ['layout', `version ${raw.version}, ${raw.size} bytes, sequence number ${raw.seqCount}`],
    ...('refusal' in attempt
      ? refusalRows(snapshot, attempt.refusal)
      : readingRows(snapshot, attempt.reading, attempt.bound)),
    ['disruption', `marker ${disruptionMarker}`],
    ['generation', vmGeneration === undefined ? 'none' : String(vmGeneration)],
    ...guardRows(source, snapshot),
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

function readingRows(snapshot: Snapshot, reading: Reading, bound: Bound): Row[] {
  const { taiMinusUtcSec, leapIndicator, smearingHint, timeType } = snapshot
  return [
    ['time', timestamp(reading.epochNs, reading.timescale, reading.leapSecond)],
    ['bound', bound.text],
    ...(bound.remedy === undefined ? [] : [['remedy', bound.remedy] satisfies Row]),
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

function clockMeaning({ status, maxErrorNs }: Reading): string {
  if (status === 'free-running') return 'free-running: nothing corrects it at present'
  return maxErrorNs === undefined
    ? 'synchronized, but nobody here can say how far it is off'
    : 'synchronized: the time is correct within its bound'
}

function counter({ counterKind, raw }: Snapshot): string {
  const { counterPeriodFracSec: period, counterPeriodShift: shift } = raw
  const rate =
    period === undefined || period === 0n || shift === undefined || counterKind === 'none'
      ? ''
      : `, ${frequency(2 ** (64 + shift) / Number(period))}`
  return `${counterKind}${rate}`
}

function referenceAge({ ageNs }: Snapshot): string {
  return ageNs === undefined ? 'unknown' : `${distance(ageNs)} ago`
}

function maintenance({ disruptionSoon, disruptionImminent }: Snapshot): string {
  if (disruptionImminent) return 'imminent: a disruption is announced within about an hour'
  return disruptionSoon ? 'soon: a disruption is announced within about a day' : 'none announced'
}

function otherPages(path: string | undefined, pages: readonly string[] | undefined): Row[] {
  const others = pages?.filter((page) => page !== path) ?? []
  return others.length === 0 ? [] : [['other pages', others.join(', ')]]
}
