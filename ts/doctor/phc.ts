/** Examines the PTP clock (PHC) that the driver makes for a page with time. */

import type { VmClockError } from '../errors'
import { containerRemedy, fixedOnHost } from './container'
import { isOfOtherCounter } from './counter'
import { type Device, DRIVER } from './device'
import { type Finding, failed, ok, skipped, warning } from './diagnosis'
import { type ExaminedPage, refusalOf } from './page'
import type { DiagnosedClock, Scene } from './scene'

const CLASS = '/sys/class/ptp'

/** The PTP clock of a page's device. */
export interface Phc {
  /** `/dev/ptpN`. */
  readonly path: string
  /** Its `clock_name`, which is the name of the device. */
  readonly name: string
}

/** Returns the PTP clock of the device with this name, if it has one. */
export function phcOf({ files }: Scene, name: string): Phc | undefined {
  const found = files.names(CLASS).find((ptp) => files.line(`${CLASS}/${ptp}/clock_name`) === name)
  return found === undefined ? undefined : { path: `/dev/${found}`, name }
}

/** Makes the finding for the device with this name and its page. */
export function checkPhc(
  scene: Scene,
  name: string,
  phc: Phc | undefined,
  devices: readonly Device[],
  { hasTime, refusal, snapshot }: ExaminedPage,
  inContainer: boolean,
): Finding {
  if (phc !== undefined) return ok(`${phc.path} is the PTP clock of ${phc.name}`, { ...phc })
  if (hasTime === undefined) return skipped('the page cannot be read')
  if (!hasTime) return skipped('the driver makes a PTP clock only for a page with time')
  if (isOfOtherCounter(refusal)) {
    return skipped("the driver makes a PTP clock only for a page of this machine's counter")
  }
  if (snapshot?.timeType === 'utc' && snapshot.taiMinusUtcSec === undefined) {
    return warning(
      'the page has UTC without the offset of TAI, so the driver of Linux 7.0 and later makes no PTP clock for it',
      'have the provider of the page state the offset. Only chrony, phc2sys and `vmclock ptp` need this clock',
      {},
    )
  }
  const { files } = scene
  const otherClocks = files
    .names(CLASS)
    .flatMap((ptp) => files.line(`${CLASS}/${ptp}/clock_name`) ?? [])
  const command = rebindCommand(devices)
  const rebind = command ?? `unbind and bind the device of /dev/${name} in ${DRIVER}`
  // Linux crashes if the device goes away while a process polls it (`crate/core/src/watch/wait.rs`).
  const finding = warning(
    'the page has time, but the driver made no PTP clock for it: it does so only when it starts, for a page that has time by then, in TAI or in UTC with a TAI offset (before Linux 7.0: in UTC, or in TAI with one), and never for a monotonic page',
    `stop all programs that have /dev/${name} open, because unbinding under them can crash the kernel. If the page has had no time before, have the driver examine it again, as root: ${rebind}. That does not help a page in another timescale. Only chrony, phc2sys and \`vmclock ptp\` need this clock`,
    { otherClocks, command },
  )
  return fixedOnHost(finding, inContainer)
}

// Undefined for several devices: sysfs does not say which of them has which file.
function rebindCommand(devices: readonly Device[]): string | undefined {
  const [device, ...more] = devices.filter(({ driver }) => driver === 'vmclock')
  if (device === undefined || more.length > 0) return undefined
  return ['unbind', 'bind'].map((file) => `echo ${device.name} > ${DRIVER}/${file}`).join('; ')
}

/** The timescale of a PTP clock, found by comparison with its page, or the error of the comparison. */
export type PhcTimescale = 'tai' | 'utc' | 'undecided' | VmClockError

/** Finds the timescale of a PTP clock. */
export function phcTimescale(scene: Scene, phc: Phc, clock: DiagnosedClock): PhcTimescale {
  try {
    return scene.phcTimescale(phc.path, clock) ?? 'undecided'
  } catch (error) {
    return refusalOf(error)
  }
}

/** Makes the finding; `timescale` is undefined if there is no clock, or no time to compare it with. */
export function checkPhcTimescale(
  phc: Phc | undefined,
  timescale: PhcTimescale | undefined,
  inContainer: boolean,
): Finding {
  if (phc === undefined) return skipped('there is no PTP clock')
  const details = { ...phc }
  switch (timescale) {
    case undefined:
      return skipped('the page gives no time to compare the PTP clock with')
    case 'undecided':
      return warning(
        `a comparison with the page does not decide if ${phc.path} is in TAI or in UTC`,
        'steer no clock by it until the page has a bound; `vmclock ptp` shows both times',
        details,
      )
    case 'tai':
    case 'utc':
      return ok(`${phc.path} is in ${timescale.toUpperCase()}`, { ...details, timescale })
    default:
      return timescaleFailure(phc, timescale, inContainer)
  }
}

function timescaleFailure(phc: Phc, error: VmClockError, inContainer: boolean): Finding {
  const failure: Finding = { ...failed(error, { ...phc }), state: 'warning' }
  const isHidden = error.code === 'ERR_VMCLOCK_ACCESS' || error.code === 'ERR_VMCLOCK_NOT_FOUND'
  return inContainer && isHidden ? { ...failure, remedy: containerRemedy(phc.path) } : failure
}
