/** The page: may it be opened, is it one, does it carry time that may be used now. */

import { VmClockError } from '../errors'
import type { Reading, Timescale } from '../reading'
import type { Snapshot } from '../snapshot'
import { containerRemedy } from './container'
import { type CheckName, type Finding, skipped, wrong } from './diagnosis'
import { shown } from './files'
import type { DiagnosedClock, Scene } from './scene'

/** The page, open, or what kept it from being opened. */
export type Opened = { readonly clock: DiagnosedClock } | { readonly refusal: VmClockError }

/** A page that was looked at, and what it gave. */
export interface Looked {
  readonly snapshot: Snapshot | undefined
  /** Whether it carries time at all; undefined where it cannot be read. */
  readonly hasTime: boolean | undefined
  readonly reading: Reading | undefined
  /** Why there is no reading. */
  readonly refusal: VmClockError | undefined
}

/** The checks of this file, by name. */
export type PageFindings = Readonly<Record<Extract<CheckName, 'access' | 'page' | 'time'>, Finding>>

/** What failed, where it is an error of this package; anything else is a mistake, and thrown. */
export function refusalOf(error: unknown): VmClockError {
  if (VmClockError.isVmClockError(error)) return error
  throw error
}

/** Opens the page. */
export function openPage(scene: Scene, timescale: Timescale): Opened {
  try {
    return { clock: scene.open(timescale) }
  } catch (error) {
    return { refusal: refusalOf(error) }
  }
}

/** Looks at the page: everything that it says, and one stamp. */
export function lookAt(scene: Scene, clock: DiagnosedClock): Looked {
  try {
    const snapshot = clock.snapshot()
    const { hasTime } = clock
    return { snapshot, hasTime, ...stamp(scene, clock, snapshot) }
  } catch (error) {
    const refusal = refusalOf(error)
    return { snapshot: undefined, hasTime: undefined, reading: undefined, refusal }
  }
}

// In UTC, and where the page cannot give that, in what it is kept in.
function stamp(
  scene: Scene,
  clock: DiagnosedClock,
  { timeType }: Snapshot,
): Pick<Looked, 'reading' | 'refusal'> {
  const inUtc = tryRead(clock)
  const { code } = inUtc.refusal ?? {}
  const own = timeType === 'tai' || timeType === 'monotonic' ? timeType : undefined
  if (own === undefined) return inUtc
  if (code !== 'ERR_VMCLOCK_TIMESCALE' && code !== 'ERR_VMCLOCK_NO_TAI_OFFSET') return inUtc
  const again = openPage(scene, own)
  if ('refusal' in again) return { reading: undefined, refusal: again.refusal }
  try {
    return tryRead(again.clock)
  } finally {
    again.clock.close()
  }
}

function tryRead(clock: DiagnosedClock): Pick<Looked, 'reading' | 'refusal'> {
  try {
    return { reading: clock.read(), refusal: undefined }
  } catch (error) {
    return { reading: undefined, refusal: refusalOf(error) }
  }
}

/**
 * The findings. `missing` says why the page need not be looked for: an earlier check has found what
 * keeps it away. `toBeHanded` is the device that the page is of, where this process is in a container.
 */
export function checkPage(
  path: string,
  opened: Opened,
  looked: Looked | undefined,
  missing: string | undefined,
  toBeHanded: string | undefined,
): PageFindings {
  const access: Finding = {
    state: 'ok',
    finding: `${shown(path)} may be read`,
    details: { path },
  }
  if ('refusal' in opened) {
    const { refusal } = opened
    if (missing !== undefined) {
      return { access: skipped(missing), page: skipped(missing), time: skipped(missing) }
    }
    const failed = failure(refusal, { path })
    const closed = skipped('the page cannot be opened')
    switch (refusal.code) {
      case 'ERR_VMCLOCK_ACCESS':
      case 'ERR_VMCLOCK_NOT_FOUND': {
        // A device that its container was not given is not there, or is refused whatever its mode.
        const remedy = toBeHanded === undefined ? failed.remedy : containerRemedy(toBeHanded)
        return { access: { ...failed, remedy }, page: closed, time: closed }
      }
      case 'ERR_VMCLOCK_SYSTEM':
        return { access: failed, page: closed, time: closed }
      default:
        return { access, page: failed, time: skipped('there is no page that could carry time') }
    }
  }
  if (looked?.snapshot === undefined) {
    const unread = skipped('the page cannot be read')
    const page = looked?.refusal === undefined ? unread : failure(looked.refusal, { path })
    return { access, page, time: unread }
  }
  return { access, page: pageFinding(path, looked.snapshot), time: timeFinding(looked) }
}

/** What a refusal says. */
export function failure(refusal: VmClockError, details: Finding['details'] = {}): Finding {
  const { code, errno } = refusal
  return wrong(refusal, { ...details, code, errno })
}

function pageFinding(path: string, snapshot: Snapshot): Finding {
  const { raw, disruptionMarker, vmGeneration } = snapshot
  const generation =
    vmGeneration === undefined
      ? 'a disruption marker, and no generation: clones go unnoticed'
      : 'a disruption marker and a generation'
  return {
    state: 'ok',
    finding: `a page of ${raw.size} bytes with ${generation}`,
    details: {
      path,
      sizeBytes: raw.size,
      seqCount: raw.seqCount,
      disruptionMarker: String(disruptionMarker),
      vmGeneration: vmGeneration === undefined ? undefined : String(vmGeneration),
      notificationPresent: snapshot.notificationPresent,
    },
  }
}

function timeFinding({ snapshot, hasTime, reading, refusal }: Looked): Finding {
  const details = {
    counterKind: snapshot?.counterKind,
    timeType: snapshot?.timeType,
    clockStatus: snapshot?.clockStatus,
  }
  if (!hasTime) {
    return {
      state: 'warning',
      finding:
        'the page carries no time, only the disruption marker: continuity and events work on it, and time does not',
      remedy:
        "most hypervisors give no more; `vmclock publish` makes a page with time from this machine's own clock, and VMCLOCK_PATH=/run/vmclock/page has it opened in this one's place",
      details,
    }
  }
  if (reading === undefined) {
    const code = refusal?.code
    if (refusal === undefined || code === 'ERR_VMCLOCK_WRONG_COUNTER') {
      return skipped("the page carries time, by a counter that is not this machine's")
    }
    if (code === 'ERR_VMCLOCK_COUNTER_MISMATCH') {
      return skipped("the page carries time, and this machine's counter does not belong to it")
    }
    return failure(refusal, details)
  }
  const told = {
    ...details,
    timescale: reading.timescale,
    maxErrorNs: reading.maxErrorNs === undefined ? undefined : String(reading.maxErrorNs),
    taiMinusUtcSec: reading.taiMinusUtcSec,
  }
  if (reading.timescale !== 'utc') {
    return {
      state: 'warning',
      finding: `the page carries time in ${reading.timescale}, from which UTC cannot be computed: opened without a timescale it gives none`,
      remedy: `open it with timescale: '${reading.timescale}'${reading.timescale === 'tai' ? ', or have its provider state the offset between TAI and UTC' : ''}`,
      details: told,
    }
  }
  if (reading.status === 'free-running') {
    return {
      state: 'warning',
      finding: 'the page carries time that nothing corrects at present: its clock is free-running',
      remedy:
        'have its provider synchronize it; for a page of `vmclock publish`, synchronize this machine (see system-clock), or state its error with --max-error',
      details: told,
    }
  }
  if (reading.maxErrorNs === undefined) {
    return {
      state: 'warning',
      finding: 'the page carries time and does not bound its error',
      remedy:
        'have its provider state the error of time and period; where only that of the period is missing, assumedDriftPpm supplies it',
      details: told,
    }
  }
  return {
    state: 'ok',
    finding: `the page carries time (kept in ${snapshot?.timeType}), right to ${reading.maxErrorNs} ns now`,
    details: told,
  }
}
