/** The system's own clock: is it synchronized, and who sees to that? */

import type { Finding } from './diagnosis'
import type { Phc } from './phc'
import type { Scene } from './scene'

interface Daemon {
  readonly name: string
  /** Whether it disciplines the system's clock by itself. */
  readonly disciplines: boolean
  /** Whether the kernel's figure of the error is a bound then; others set it to 0 time and again. */
  readonly bounds: boolean
}

// What the kernel shows of a process's name ends after 15 characters (`/proc/PID/comm`).
const DAEMONS: ReadonlyMap<string, Daemon> = new Map([
  ['chronyd', { name: 'chrony', disciplines: true, bounds: true }],
  ['systemd-timesyn', { name: 'systemd-timesyncd', disciplines: true, bounds: false }],
  // OpenNTPD's process has this name, too.
  ['ntpd', { name: 'ntpd', disciplines: true, bounds: true }],
  ['ntp-daemon', { name: 'ntpd-rs', disciplines: true, bounds: true }],
  ['phc2sys', { name: 'phc2sys', disciplines: true, bounds: false }],
  ['ptp4l', { name: 'ptp4l', disciplines: false, bounds: false }],
  ['clockbound', { name: 'ClockBound', disciplines: false, bounds: false }],
])

// Its daemon writes one of these, according to its version; a client of ours never opens them.
const CLOCKBOUND_SEGMENTS = ['shm1', 'shm0', 'shm'].map((name) => `/run/clockbound/${name}`)
// The first eight bytes of a segment, and where its generation stands: 0 is never written.
const CLOCKBOUND_MAGIC = Buffer.from('4e5a4d4100024243', 'hex')
const CLOCKBOUND_GENERATION = 14
const CLOCKBOUND_HEADER_BYTES = 16

const TIMESYNCD_MARK = '/run/systemd/timesync/synchronized'

/** The finding; the system's clock could be steered by `phc`, whose timescale is known then. */
export function checkSystemClock(scene: Scene, phc: Phc | undefined, inTai: boolean): Finding {
  const { files } = scene
  const all = daemons(scene)
  const disciplining = all.filter(({ disciplines }) => disciplines)
  const found = disciplining.map(({ name }) => name)
  const clockBound = CLOCKBOUND_SEGMENTS.find((path) => {
    const header = files.bytes(path, CLOCKBOUND_HEADER_BYTES)
    return (
      header?.length === CLOCKBOUND_HEADER_BYTES &&
      header.subarray(0, CLOCKBOUND_MAGIC.length).equals(CLOCKBOUND_MAGIC) &&
      header.readUInt16LE(CLOCKBOUND_GENERATION) !== 0
    )
  })
  const discipline = scene.discipline()
  const details = {
    synchronized: discipline === undefined ? undefined : !discipline.unsynchronized,
    maxErrorUs: discipline?.maxErrorUs,
    estErrorUs: discipline?.estErrorUs,
    taiMinusUtcSec: discipline?.taiMinusUtcSec,
    daemons: all.map(({ name }) => name),
    timesyncdSynchronized: files.has(TIMESYNCD_MARK),
    clockBoundSegment: clockBound,
  }
  const who = found.join(', ')
  if (discipline === undefined) {
    return {
      state: 'unknown',
      finding: 'the system does not tell how its clock is disciplined (adjtimex is refused)',
      details,
    }
  }
  if (
    !discipline.unsynchronized &&
    found.length > 0 &&
    !disciplining.some(({ bounds }) => bounds)
  ) {
    return {
      state: 'warning',
      finding: `the system's clock is synchronized, by ${who}, and its error has no bound`,
      remedy: "a bound needs chrony in its place, here or on the container's host",
      details,
    }
  }
  if (!discipline.unsynchronized) {
    const by = found.length === 0 ? ', by nobody who shows here' : `, by ${who}`
    const bound = discipline.maxErrorUs === 0 ? '' : ` within ${discipline.maxErrorUs} us`
    const shared = clockBound === undefined ? '' : '; ClockBound shares its bound'
    return {
      state: 'ok',
      finding: `the system's clock is synchronized${bound}${by}${shared}`,
      details,
    }
  }
  if (found.length > 0) {
    return {
      state: 'warning',
      finding: `the system's clock is not synchronized, though ${who} runs`,
      remedy: `see why it has no time yet: ${ask(found)}`,
      details,
    }
  }
  const byPage =
    phc === undefined
      ? ''
      : `; it can go by this machine's PTP clock (chrony.conf: refclock PHC ${phc.path}${inTai ? ' tai, with leapsectz' : ''})`
  return {
    state: 'warning',
    finding: "the system's clock is not synchronized, and nothing here would do it",
    remedy: `start chrony, systemd-timesyncd or another NTP client, here or on the container's host; chrony is the better where bounds count${byPage}`,
    details,
  }
}

function ask(found: readonly string[]): string {
  // Without that directive chrony steers the clock and leaves the kernel's word that nothing does.
  if (found.includes('chrony'))
    return '`chronyc tracking` and `chronyc sources`; if it has, chrony.conf lacks `rtcsync`'
  if (found.includes('systemd-timesyncd')) return '`timedatectl timesync-status`'
  if (found.includes('ntpd')) return '`ntpq -p`'
  return 'its log'
}

// By the processes, not by what they leave in files: those outlive them.
function daemons({ files }: Scene): Daemon[] {
  const found = files
    .names('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => DAEMONS.get(files.line(`/proc/${pid}/comm`) ?? '') ?? [])
  return [...new Set(found)].sort((one, other) => (one.name < other.name ? -1 : 1))
}
