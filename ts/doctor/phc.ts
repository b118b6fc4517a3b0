/** The PTP clock (PHC) that the driver makes of a page with time. */

import type { VmClockError } from '../errors'
import { containerRemedy, mendedOnHost } from './container'
import { type Device, DRIVER } from './device'
import { type Finding, skipped } from './diagnosis'
import { failure, type Looked, refusalOf } from './page'
import type { DiagnosedClock, Scene } from './scene'

const CLASS = '/sys/class/ptp'

/** The PTP clock of a page's device. */
export interface Phc {
  /** `/dev/ptpN`. */
  readonly path: string
  /** Its `clock_name`, which is that of the device. */
  readonly name: string
}

/** The PTP clock of the device of a name, if it has one. */
export function phcOf({ files }: Scene, name: string): Phc | undefined {
  const found = files.names(CLASS).find((ptp) => files.line(`${CLASS}/${ptp}/clock_name`) === name)
  return found === undefined ? undefined : { path: `/dev/${found}`, name }
}

/** The finding for the device of a name, of whose page `looked` tells. */
export function checkPhc(
  scene: Scene,
  name: string,
  phc: Phc | undefined,
  devices: readonly Device[],
  looked: Looked | undefined,
  inContainer: boolean,
): Finding {
  const { hasTime, refusal } = looked ?? {}
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
  if (
    refusal?.code === 'ERR_VMCLOCK_WRONG_COUNTER' ||
    refusal?.code === 'ERR_VMCLOCK_COUNTER_MISMATCH'
  ) {
    return skipped("the driver makes a PTP clock of pages of this machine's counter only")
  }
  const others = files.names(CLASS).flatMap((ptp) => files.line(`${CLASS}/${ptp}/clock_name`) ?? [])
  const [device, ...more] = devices.filter(({ driver }) => driver === 'vmclock')
  // Which of several is whose, sysfs does not say.
  const command =
    device === undefined || more.length > 0
      ? undefined
      : ['unbind', 'bind'].map((file) => `echo ${device.name} > ${DRIVER}/${file}`).join('; ')
  const again = command ?? `unbind and bind the device of /dev/${name} in ${DRIVER}`
  const finding: Finding = {
    state: 'warning',
    finding:
      'the page carries time, and the driver has made no PTP clock of it: that is done when the driver starts, of pages that have time then',
    // Linux does not bear to lose the device while somebody polls it (`crate/core/src/watch/wait.rs`).
    remedy: `stop what has /dev/${name} open first, lest the kernel come to harm, and have the driver look at it again, as root: ${again} (chrony, phc2sys and \`vmclock ptp\` need this clock, the rest of vmclock does not)`,
    details: { otherClocks: others, command },
  }
  return mendedOnHost(finding, inContainer)
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
export function checkPhcTimescale(
  phc: Phc | undefined,
  told: Told | undefined,
  inContainer: boolean,
): Finding {
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
    default: {
      const failed: Finding = { ...failure(told, details), state: 'warning' }
      const isWithheld = told.code === 'ERR_VMCLOCK_ACCESS' || told.code === 'ERR_VMCLOCK_NOT_FOUND'
      return inContainer && isWithheld ? { ...failed, remedy: containerRemedy(phc.path) } : failed
    }
  }
}
