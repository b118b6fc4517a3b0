/** The PTP clock (PHC) that the driver makes of a page with time. */

import { type Device, DRIVER } from './device'
import { type Finding, skipped } from './diagnosis'
import type { Scene } from './scene'

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
