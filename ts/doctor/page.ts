/** Examines the page: access, validity, and time that is usable now. */

import { boundRemedy, boundUnavailableText } from '../bound-unavailable'
import { VmClockError } from '../errors'
import type { Reading } from '../reading'
import type { BoundUnavailable, Snapshot } from '../snapshot'
import type { TimeSource } from '../time-source'
import { containerRemedy } from './container'
import {
  type CheckDetails,
  type CheckName,
  type Finding,
  failed,
  ok,
  skipped,
  warning,
} from './diagnosis'
import { shown } from './files'
import type { DiagnosedClock, Scene } from './scene'

/** A page and the results of reading it. */
export interface ExaminedPage {
  /** The page's path; undefined for the page that this process keeps. */
  readonly path: string | undefined
  /** Where its time comes from; undefined if it cannot be opened. */
  readonly source?: TimeSource
  /** The open page; undefined if it cannot be opened. */
  readonly clock?: DiagnosedClock
  /** The fields of the page; undefined if it cannot be read. */
  readonly snapshot?: Snapshot
  /** True if the page has time; undefined if it cannot be read. */
  readonly hasTime?: boolean
  /** A timestamp; undefined if the page gives none. */
  readonly reading?: Reading
  /** The error that explains the first property that is undefined. */
  readonly refusal?: VmClockError
}

/** The findings of the checks in this file. */
export type PageFindings = Readonly<Record<Extract<CheckName, 'access' | 'page' | 'time'>, Finding>>

/** Returns the error if it is one of this package, and throws any other. */
export function refusalOf(error: unknown): VmClockError {
  if (VmClockError.isVmClockError(error)) return error
  throw error
}

/** Opens and reads the page. The caller closes the clock. */
export function examinePage(scene: Scene): ExaminedPage {
  const opened = open(scene)
  if ('refusal' in opened) return { path: scene.pagePath(), ...opened }
  const { clock } = opened
  const { path, timeSource: source } = clock
  try {
    const snapshot = clock.snapshot()
    const { hasTime } = clock
    return { path, source, clock, snapshot, hasTime, ...tryRead(clock) }
  } catch (error) {
    return { path, source, clock, refusal: refusalOf(error) }
  }
}

type Attempt = { readonly reading: Reading } | { readonly refusal: VmClockError }

function open(
  scene: Scene,
): { readonly clock: DiagnosedClock } | { readonly refusal: VmClockError } {
  try {
    return { clock: scene.open() }
  } catch (error) {
    return { refusal: refusalOf(error) }
  }
}

function tryRead(clock: DiagnosedClock): Attempt {
  try {
    return { reading: clock.read() }
  } catch (error) {
    return { refusal: refusalOf(error) }
  }
}

/**
 * Makes the findings. `obstacle` says which earlier check explains that there is no page. `toPass` is
 * the device to pass to the container that this process is in.
 */
export function checkPage(
  page: ExaminedPage,
  obstacle: string | undefined,
  toPass: string | undefined,
): PageFindings {
  const { path, clock, snapshot, refusal } = page
  if (clock === undefined && refusal !== undefined) {
    return unopened(path, refusal, obstacle, toPass)
  }
  const access =
    path === undefined
      ? ok('this process keeps a page itself, made from the system clock')
      : ok(`${shown(path)} may be read`, { path })
  if (snapshot === undefined) {
    const unread = skipped('the page cannot be read')
    return {
      access,
      page: refusal === undefined ? unread : failed(refusal, { path }),
      time: unread,
    }
  }
  return { access, page: checkFields(path, snapshot), time: checkTime(page) }
}

function unopened(
  path: string | undefined,
  refusal: VmClockError,
  obstacle: string | undefined,
  toPass: string | undefined,
): PageFindings {
  if (obstacle !== undefined) {
    const missing = skipped(`there is no page to open: see ${obstacle}`)
    return { access: missing, page: missing, time: missing }
  }
  const failure = failed(refusal, { path })
  const closed = skipped('the page cannot be opened')
  switch (refusal.code) {
    case 'ERR_VMCLOCK_ACCESS':
    case 'ERR_VMCLOCK_NOT_FOUND': {
      // Without the device in the container, its mode on the host does not help.
      const remedy = toPass === undefined ? failure.remedy : containerRemedy(toPass)
      return { access: { ...failure, remedy }, page: closed, time: closed }
    }
    case 'ERR_VMCLOCK_SYSTEM':
      return { access: failure, page: closed, time: closed }
    default:
      return {
        access: ok(`${shown(path ?? '')} may be read`, { path }),
        page: failure,
        time: skipped('there is no valid page that could have time'),
      }
  }
}

function checkFields(path: string | undefined, snapshot: Snapshot): Finding {
  const { raw, disruptionMarker, vmGeneration } = snapshot
  const generation =
    vmGeneration === undefined
      ? 'a disruption marker, but no generation'
      : 'a disruption marker and a generation'
  return ok(`a page of ${raw.size} bytes with ${generation}`, {
    path,
    sizeBytes: raw.size,
    seqCount: raw.seqCount,
    disruptionMarker: String(disruptionMarker),
    vmGeneration: vmGeneration === undefined ? undefined : String(vmGeneration),
    notificationPresent: snapshot.notificationPresent,
  })
}

function checkTime({ snapshot, hasTime, reading, refusal }: ExaminedPage): Finding {
  const details = {
    counterKind: snapshot?.counterKind,
    timeType: snapshot?.timeType,
    clockStatus: snapshot?.clockStatus,
  }
  if (!hasTime) {
    return warning(
      'the page has only the disruption marker: continuity and events work, time does not',
      'call VmClock.open() without a path, which takes a page with time or makes one; several processes share the page of `vmclock publish`. Most hypervisors provide no time',
      details,
    )
  }
  if (reading !== undefined) return checkReading(reading, snapshot, details)
  switch (refusal?.code) {
    case undefined:
    case 'ERR_VMCLOCK_WRONG_COUNTER':
      return skipped('the page has time, but for another kind of counter: see counter')
    case 'ERR_VMCLOCK_COUNTER_MISMATCH':
      return skipped("the page has time, but this machine's counter does not match it: see counter")
    default:
      return failed(refusal as VmClockError, details)
  }
}

function checkReading(
  reading: Reading,
  snapshot: Snapshot | undefined,
  pageDetails: CheckDetails,
): Finding {
  const { timescale, maxErrorNs, taiMinusUtcSec } = reading
  const boundUnavailable = maxErrorNs === undefined ? snapshot?.boundUnavailable : undefined
  const details = {
    ...pageDetails,
    timescale,
    maxErrorNs: maxErrorNs === undefined ? undefined : String(maxErrorNs),
    taiMinusUtcSec,
    ...boundDetails(boundUnavailable),
  }
  if (timescale === 'monotonic' || (timescale === 'tai' && taiMinusUtcSec === undefined)) {
    const orOffset =
      timescale === 'tai' ? ', or have its provider state the offset between TAI and UTC' : ''
    return warning(
      `the page has time in ${timescale}, from which UTC cannot be computed: VmClock.open() without a timescale gives no time`,
      `open it with timescale: '${timescale}'${orOffset}`,
      details,
    )
  }
  if (reading.status === 'free-running') {
    return warning(
      'the page has time, but nothing corrects its clock at present (free-running)',
      'have its provider synchronize the clock; for a page of `vmclock publish`, synchronize this machine (see system-clock), or state its error with --max-error',
      details,
    )
  }
  if (maxErrorNs === undefined && boundUnavailable !== undefined) {
    return warning(
      `the page has time without a bound: ${boundUnavailableText(boundUnavailable)}`,
      boundRemedy(boundUnavailable),
      details,
    )
  }
  if (maxErrorNs === undefined) {
    return warning(
      'the page has time without a bound: it does not state the maximum error',
      "have its provider state the maximum error of time and rate. If you know how far they may be off, assumedErrorNs supplies the time's, and assumedDriftPpm the rate's: you answer for both. The proposed host driver never states one",
      details,
    )
  }
  return ok(`the page has time (${snapshot?.timeType}), at most ${maxErrorNs} ns off now`, details)
}

/** Returns the details of a finding about a bound that a page does not state. */
export function boundDetails(unavailable: BoundUnavailable | undefined): CheckDetails {
  return {
    boundUnavailable: unavailable?.reason,
    boundUpdatesLeft: unavailable?.updatesLeft,
  }
}
