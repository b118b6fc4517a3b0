/** The PTP clock (PHC) that the driver makes of a page with time. */

import type { VmClockError } from '../errors'
import { type Device, DRIVER } from './device'
import { type Finding, skipped } from './diagnosis'
import { failure, refusalOf } from './page'
import type { DiagnosedClock, Scene } from './scene'

const CLASS = '/sys/class/ptp'

/** The PTP clock of a page's device. */
export interface Phc {
  /** `/dev/ptpN`. */
  readonly path: string
  /** Its `clock_name`, which is that of the device. */
  readonly name: string
}

/** The PTP clock of the device file, if it has one. */
export function phcOf({ files }: Scene, file: string): Phc | undefined {
  const name = file.slice('/dev/'.length)
  const found = files.names(CLASS).find((ptp) => files.line(`${CLASS}/${ptp}/clock_name`) === name)
  return found === undefined ? undefined : { path: `/dev/${found}`, name }
}

/** The finding; `hasTime` is whether the page has time now, where it could be looked at. */
export function checkPhc(
  scene: Scene,
  phc: Phc | undefined,
  devices: readonly Device[],
  hasTime: boolean | undefined,
): Finding {
  const { files } = scene
  if (phc !== undefined) {
    return {
      state: 'ok',
      finding: `${phc.path} is the PTP clock of ${phc.name}`,
      details: { ...phc },
    }
  }
  if (hasTime === undefined) return skipped('the page that it would be made of cannot be read')
  if (!hasTime) return skipped('the driver makes a PTP clock of pages with time only')
  const others = files.names(CLASS).flatMap((ptp) => files.line(`${CLASS}/${ptp}/clock_name`) ?? [])
  const device = devices.find(({ driver }) => driver === 'vmclock')?.name
  const command = ['unbind', 'bind'].map((file) => `echo ${device} > ${DRIVER}/${file}`).join('; ')
  return {
    state: 'warning',
    finding:
      'the page carries time, and the driver has made no PTP clock of it: that is done when the driver starts, of pages that have time then',
    remedy: `have the driver look at it again, as root: ${command} (chrony, phc2sys and \`vmclock ptp\` need this clock, the rest of vmclock does not)`,
    details: { otherClocks: others, command },
  }
}

/** What the PTP clock was found to tell, held against its page, or why that failed. */
export type Told = 'tai' | 'utc' | 'undecided' | VmClockError

/** Asks the PTP clock for its timescale. */
export function phcTimescale(scene: Scene, phc: Phc, clock: DiagnosedClock): Told {
  try {
    return scene.phcTimescale(phc.path, clock) ?? 'undecided'
  } catch (error) {
    return refusalOf(error)
  }
}

/** The finding; undefined is a clock that is not there or could not be asked. */
export function checkPhcTimescale(phc: Phc | undefined, told: Told | undefined): Finding {
  if (phc === undefined) return skipped('there is no PTP clock')
  const details = { ...phc }
  switch (told) {
    case undefined:
      return skipped('the page gives no time to hold the PTP clock against')
    case 'undecided':
      return {
        state: 'warning',
        finding: `whether ${phc.path} tells TAI or UTC is not decided by the page`,
        remedy:
          'steer no clock by it before the page bounds its error; `vmclock ptp` shows the two beside each other',
        details,
      }
    case 'tai':
    case 'utc':
      return {
        state: 'ok',
        finding: `${phc.path} tells ${told.toUpperCase()}`,
        details: { ...details, timescale: told },
      }
    default:
      return { ...failure(told, details), state: 'warning' }
  }
}
