/** Examines the system clock: is it synchronized, and by which daemon. */

import { boundRemedy, boundUnavailableText } from '../bound-unavailable'
import type { BoundUnavailable } from '../snapshot'
import { type CheckDetails, type Finding, ok, unknown, warning } from './diagnosis'
import type { Files } from './files'
import { boundDetails } from './page'
import type { Phc } from './phc'
import type { Scene } from './scene'
import { chronySteps, type Steps } from './stepping'

interface Daemon {
  readonly name: string
  /** True if the daemon itself disciplines the system clock. */
  readonly disciplines: boolean
  /** True if the kernel's maximum error is a bound then. Other daemons reset it to 0 repeatedly. */
  readonly bounds: boolean
  /** Returns whether the daemon steps a clock that is far off at any time, as after a restore of the machine. */
  readonly steps?: (files: Files) => Steps
}

// `/proc/PID/comm` has the first 15 characters of a process's name.
const DAEMONS: ReadonlyMap<string, Daemon> = new Map([
  ['chronyd', { name: 'chrony', disciplines: true, bounds: true, steps: chronySteps }],
  [
    'systemd-timesyn',
    // It steps by every offset above 0.4 s.
    { name: 'systemd-timesyncd', disciplines: true, bounds: false, steps: () => true },
  ],
  // OpenNTPD's process has the same name.
  ['ntpd', { name: 'ntpd', disciplines: true, bounds: true }],
  ['ntp-daemon', { name: 'ntpd-rs', disciplines: true, bounds: true }],
  ['phc2sys', { name: 'phc2sys', disciplines: true, bounds: false }],
  ['ptp4l', { name: 'ptp4l', disciplines: false, bounds: false }],
  ['clockbound', { name: 'ClockBound', disciplines: false, bounds: false }],
])

// ClockBound's daemon writes one of these files, depending on its version.
const CLOCKBOUND_SEGMENTS = ['shm1', 'shm0', 'shm'].map((name) => `/run/clockbound/${name}`)
// A segment begins with this magic number. Its generation is 0 until it is written.
const CLOCKBOUND_MAGIC = Buffer.from('4e5a4d4100024243', 'hex')
const CLOCKBOUND_GENERATION = 14
const CLOCKBOUND_HEADER_BYTES = 16

const TIMESYNCD_MARK = '/run/systemd/timesync/synchronized'

const ELSEWHERE = "here or on the container's host"

/**
 * Makes the finding. `phc` is a clock of known timescale that could steer the system clock, and
 * `boundUnavailable` is the reason why a page made from the system clock states no bound. On a virtual machine
 * the finding says who would step the clock after a restore.
 */
export function checkSystemClock(
  scene: Scene,
  phc: Phc | undefined,
  isTai: boolean,
  boundUnavailable: BoundUnavailable | undefined,
  isVirtual: boolean,
): Finding {
  const { files } = scene
  const all = runningDaemons(files)
  const disciplining = all.filter(({ disciplines }) => disciplines)
  const clockBound = clockBoundSegment(files)
  const steps = isVirtual ? stepsAfterRestore(files, disciplining) : undefined
  const discipline = scene.discipline()
  const details = {
    synchronized: discipline === undefined ? undefined : !discipline.unsynchronized,
    maxErrorUs: discipline?.maxErrorUs,
    estErrorUs: discipline?.estErrorUs,
    taiMinusUtcSec: discipline?.taiMinusUtcSec,
    daemons: all.map(({ name }) => name),
    timesyncdSynchronized: files.has(TIMESYNCD_MARK),
    clockBoundSegment: clockBound,
    stepsAfterRestore: steps?.answer,
    ...boundDetails(boundUnavailable),
  }
  if (discipline === undefined) {
    return unknown('the system does not say how its clock is disciplined (adjtimex fails)', details)
  }
  if (discipline.unsynchronized) return unsynchronized(disciplining, phc, isTai, details)
  const found =
    withoutBound(disciplining, boundUnavailable, details) ??
    synchronized(disciplining, discipline.maxErrorUs, clockBound !== undefined, details)
  return steps === undefined ? found : { ...found, finding: `${found.finding}; ${steps.text}` }
}

interface Stepping {
  readonly answer: Steps
  readonly text: string
}

// A restored machine's clock is behind by the time that it was saved, and no daemon is told of the restore.
function stepsAfterRestore(files: Files, daemons: readonly Daemon[]): Stepping {
  const answers = daemons.map(({ steps }) => steps?.(files))
  if (answers.includes(true)) {
    const stepping = daemons.filter((_, index) => answers[index] === true)
    return { answer: true, text: `after a restore ${names(stepping)} would step it` }
  }
  if (daemons.length > 0 && answers.includes(undefined)) {
    const text = `it cannot be seen here if ${names(daemons)} would step it after a restore`
    return { answer: undefined, text }
  }
  return {
    answer: false,
    text: 'after a restore nothing here would step it, unless vmclock watch --on-restore does',
  }
}

// A clock whose daemon gives no bound at all, or none now according to the page made from it.
function withoutBound(
  daemons: readonly Daemon[],
  boundUnavailable: BoundUnavailable | undefined,
  details: CheckDetails,
): Finding | undefined {
  if (daemons.length > 0 && !daemons.some(({ bounds }) => bounds)) {
    return warning(
      `the system clock is synchronized ${by(daemons)}, which gives no bound of its error`,
      `to get a bound, use chrony instead, ${ELSEWHERE}${daemons.some(({ name }) => name === 'phc2sys') ? '; or state everything that phc2sys does not report (--host-error): nothing checks that figure' : ''}`,
      details,
    )
  }
  if (boundUnavailable === undefined) return undefined
  const isZero = ['zero-error', 'never-updated'].includes(boundUnavailable.reason)
  if (isZero && daemons.some(({ name }) => name === 'chrony')) {
    return warning(
      `the system clock is synchronized ${by(daemons)}, but the page made from it states no bound: ${boundUnavailableText(boundUnavailable)}; chrony on a PTP clock reports 0 for ever, because that clock does not say how far its host is off`,
      boundRemedy(boundUnavailable),
      details,
    )
  }
  return warning(
    `the system clock is synchronized ${by(daemons)}, but the page made from it states no bound: ${boundUnavailableText(boundUnavailable)}`,
    boundRemedy(boundUnavailable),
    details,
  )
}

function synchronized(
  daemons: readonly Daemon[],
  maxErrorUs: number,
  hasClockBound: boolean,
  details: CheckDetails,
): Finding {
  const bound = maxErrorUs === 0 ? '' : `, within ${maxErrorUs} us`
  const shared = hasClockBound ? '; ClockBound shares its bound' : ''
  return ok(`the system clock is synchronized ${by(daemons)}${bound}${shared}`, details)
}

function unsynchronized(
  daemons: readonly Daemon[],
  phc: Phc | undefined,
  isTai: boolean,
  details: CheckDetails,
): Finding {
  if (daemons.length > 0) {
    return warning(
      `the system clock is not synchronized, although ${names(daemons)} runs`,
      `find out why it has no time yet: ${inquiry(daemons)}`,
      details,
    )
  }
  const byPhc =
    phc === undefined
      ? ''
      : `; it can use this machine's PTP clock (chrony.conf: refclock PHC ${phc.path}${isTai ? ' tai, with leapsectz' : ''})`
  return warning(
    'the system clock is not synchronized, and no daemon runs that would do it',
    `start chrony, systemd-timesyncd or another NTP client, ${ELSEWHERE}; chrony gives a bound, systemd-timesyncd does not${byPhc}`,
    details,
  )
}

function by(daemons: readonly Daemon[]): string {
  return daemons.length === 0 ? 'by a daemon that cannot be seen here' : `by ${names(daemons)}`
}

function names(daemons: readonly Daemon[]): string {
  return daemons.map(({ name }) => name).join(', ')
}

function inquiry(daemons: readonly Daemon[]): string {
  const isRunning = (name: string): boolean => daemons.some((daemon) => daemon.name === name)
  if (isRunning('chrony')) {
    // Without rtcsync chrony steers the clock but never marks it as synchronized in the kernel.
    return 'run `chronyc tracking` and `chronyc sources`; if it has time, chrony.conf lacks `rtcsync`'
  }
  if (isRunning('systemd-timesyncd')) return 'run `timedatectl timesync-status`'
  if (isRunning('ntpd')) return 'run `ntpq -p`'
  return 'read its log'
}

function clockBoundSegment(files: Files): string | undefined {
  return CLOCKBOUND_SEGMENTS.find((path) => {
    const header = files.bytes(path, CLOCKBOUND_HEADER_BYTES)
    return (
      header?.length === CLOCKBOUND_HEADER_BYTES &&
      header.subarray(0, CLOCKBOUND_MAGIC.length).equals(CLOCKBOUND_MAGIC) &&
      header.readUInt16LE(CLOCKBOUND_GENERATION) !== 0
    )
  })
}

// Processes are the evidence: files of a daemon outlive it.
function runningDaemons(files: Files): Daemon[] {
  const found = files
    .names('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => DAEMONS.get(files.line(`/proc/${pid}/comm`) ?? '') ?? [])
  return [...new Set(found)].sort((one, other) => (one.name < other.name ? -1 : 1))
}
