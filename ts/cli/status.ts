/** `vmclock status`: the page, decoded, with what it means. */

import { VmClock, type VmClockOptions } from '../clock'
import { VmClockError } from '../errors'
import type { Reading, Timescale } from '../reading'
import type { Snapshot } from '../snapshot'
import { json } from './escape'
import { distance, frequency, timestamp } from './figures'
import { bound } from './now'
import { line, table } from './output'

/** What `vmclock status` was told. */
export interface StatusOptions {
  readonly json?: boolean
  readonly abi: 'uapi' | 'rfc-v4'
}

/** What a page has to offer this machine now: a stamp, or the reason for none. */
type Offer = { readonly reading: Reading } | { readonly refusal: VmClockError }

/** Decodes a page and prints it. */
export function status(path: string | undefined, options: StatusOptions): void {
  const pages = path === undefined ? VmClock.list() : undefined
  const clock = VmClock.open(path, { abi: options.abi })
  try {
    const snapshot = clock.snapshot()
    const offer = offerOf(clock.path, snapshot, options)
    if (options.json) {
      line(
        json({
          ...(pages !== undefined && { pages }),
          path: clock.path,
          hasTime: clock.hasTime,
          ...('reading' in offer
            ? { reading: offer.reading.toJSON() }
            : { noTime: { code: offer.refusal.code, message: offer.refusal.message } }),
          page: snapshot,
        }),
      )
      return
    }
    line(table([...rows(clock.path, snapshot, offer), ...otherPages(clock.path, pages)]))
  } finally {
    clock.close()
  }
}

// In UTC where the page gives it, else in the page's own timescale.
function offerOf(path: string, snapshot: Snapshot, { abi }: StatusOptions): Offer {
  const own: Timescale | undefined =
    snapshot.timeType === 'tai' || snapshot.timeType === 'monotonic' ? snapshot.timeType : undefined
  const inUtc = tryRead(path, { abi })
  if ('reading' in inUtc || own === undefined) return inUtc
  const { code } = inUtc.refusal
  return code === 'ERR_VMCLOCK_TIMESCALE' || code === 'ERR_VMCLOCK_NO_TAI_OFFSET'
    ? tryRead(path, { abi, timescale: own })
    : inUtc
}

function tryRead(path: string, options: VmClockOptions): Offer {
  const clock = VmClock.open(path, options)
  try {
    return { reading: clock.read() }
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
    return { refusal: error }
  } finally {
    clock.close()
  }
}

function rows(path: string, snapshot: Snapshot, offer: Offer): Array<[string, string]> {
  const { raw } = snapshot
  return [
    ['page', path],
    ['layout', `version ${raw.version}, ${raw.size} bytes, sequence number ${raw.seqCount}`],
    ...timeRows(snapshot, offer),
    ['disruption', `marker ${snapshot.disruptionMarker}; it changes when the machine is migrated`],
    [
      'generation',
      snapshot.vmGeneration === undefined
        ? 'the page has none: a clone cannot be told from the original by it'
        : `${snapshot.vmGeneration}; it changes when the machine is restored or cloned`,
    ],
    ['maintenance', maintenance(snapshot)],
    [
      'notification',
      snapshot.notificationPresent
        ? 'the provider notifies of changes'
        : 'the provider sends none: changes are seen by looking',
    ],
  ]
}

function timeRows(snapshot: Snapshot, offer: Offer): Array<[string, string]> {
  if ('refusal' in offer) {
    return [
      ['time', `none for this machine now: ${offer.refusal.message}`],
      ['code', offer.refusal.code],
      ['counter', counter(snapshot)],
      ...(snapshot.clockStatus === undefined || snapshot.counterKind === 'none'
        ? []
        : [['clock', snapshot.clockStatus] satisfies [string, string]]),
    ]
  }
  const { reading } = offer
  const { taiMinusUtcSec, leapIndicator, smearingHint, timeType } = snapshot
  return [
    ['time', timestamp(reading.epochNs, reading.timescale, reading.leapSecond)],
    ['bound', bound(reading)],
    ['clock', clockMeaning(reading)],
    ['counter', counter(snapshot)],
    ['kept in', `${timeType}, reference ${distanceFromReference(snapshot, reading)}`],
    [
      'TAI - UTC',
      taiMinusUtcSec === undefined
        ? 'the page does not tell; of utc and tai only what it is kept in can be had'
        : `${taiMinusUtcSec} s`,
    ],
    [
      'leap second',
      `${leapIndicator ?? 'none'}; the provider recommends ${smearingHint ?? 'none'}`,
    ],
  ]
}

function clockMeaning(reading: Reading): string {
  return reading.status === 'synchronized'
    ? 'synchronized: the time is right within its bound'
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

function distanceFromReference({ raw, counter: count }: Snapshot, { timescale }: Reading): string {
  const { counterValue, counterPeriodFracSec: period, counterPeriodShift: shift } = raw
  if (counterValue === undefined || period === undefined || shift === undefined) return 'unknown'
  const ticks = BigInt.asIntN(64, count - counterValue)
  const ageNs = (ticks * period * 1_000_000_000n) >> BigInt(64 + shift)
  return `${distance(ageNs)} ago, read as ${timescale}`
}

function maintenance({ disruptionSoon, disruptionImminent }: Snapshot): string {
  if (disruptionImminent) return 'a disruption is announced within about an hour'
  return disruptionSoon ? 'a disruption is announced within about a day' : 'none announced'
}

function otherPages(path: string, pages: readonly string[] | undefined): Array<[string, string]> {
  const others = pages?.filter((page) => page !== path) ?? []
  return others.length === 0 ? [] : [['also here', others.join(', ')]]
}
