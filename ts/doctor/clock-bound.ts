/** Examines the shared memory of ClockBound's daemon. */

import type { TimeSource } from '../time-source'
import { type Finding, ok, skipped, warning } from './diagnosis'
import type { Scene } from './scene'

// The sources that rank below the daemon.
const LESS_GOOD: ReadonlyMap<TimeSource['from'] | undefined, string> = new Map([
  ['kernel', "the kernel's clock"],
  ['phc', 'a PTP clock'],
])

const SEE_DAEMON = 'see `cbctl status` and the log of the daemon (`journalctl -u clockbound`)'

/**
 * Makes the finding for ClockBound's memory. `deviceMarker` is the marker of the machine's device, if it was read.
 * `from` is the source of the page's time.
 */
export function checkClockBound(
  scene: Scene,
  deviceMarker: bigint | undefined,
  from: TimeSource['from'] | undefined,
): Finding {
  const memory = scene.clockBound()
  if (memory === undefined) return skipped("this machine has no memory of ClockBound's daemon")
  const { path, figures, fault, remedy } = memory
  if (figures === undefined) {
    return warning(`ClockBound's memory ${path} cannot be used: ${fault}`, remedy ?? SEE_DAEMON, {
      path,
    })
  }
  const { version, status, boundNs, disruptionMarker } = figures
  const details = {
    path,
    version,
    status,
    boundNs: String(boundNs),
    disruptionMarker: disruptionMarker?.toString(),
  }
  if (status === 'unknown' || status === 'disrupted') {
    return warning(`ClockBound's daemon says that its clock is ${status}`, SEE_DAEMON, details)
  }
  if (deviceMarker !== undefined && disruptionMarker === undefined) {
    return warning(
      "ClockBound's daemon does not look at this machine's vmclock device, so its bound is not used",
      'let its daemon look at the device: see its configuration, and the access to /dev/vmclock0',
      details,
    )
  }
  if (deviceMarker !== undefined && disruptionMarker !== deviceMarker) {
    return warning(
      "ClockBound's daemon has not followed a disruption that the machine's device reports",
      `wait; if it lasts, ${SEE_DAEMON}`,
      details,
    )
  }
  const used = LESS_GOOD.get(from)
  if (used !== undefined) {
    return warning(
      `ClockBound's daemon is ${status}, and it is a better source than ${used}, from which the page's time comes`,
      'let the process that makes the page read /run/clockbound, and choose the source (--from auto); if it does, its output and `vmclock status` say why it does not take this one',
      details,
    )
  }
  return ok(`ClockBound's daemon is ${status}, and its memory has version ${version}`, details)
}
