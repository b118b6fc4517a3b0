/** Finds vmclock devices and their files. Names are those of `drivers/ptp/ptp_vmclock.c`. */

import { type Files, shown } from './files'
import type { Scene } from './scene'

/** The platform bus in sysfs. */
export const PLATFORM = '/sys/bus/platform'
/** The driver's directory in sysfs, which exists exactly while the driver is in the kernel. */
export const DRIVER: string = `${PLATFORM}/drivers/vmclock`
const ACPI_DEVICES = '/sys/bus/acpi/devices'

// The driver's match tables: `_HID` or `_CID` in ACPI, `compatible` in a device tree.
const MODALIAS = /^(?:acpi:(?:[^:]*:)*?(?:AMZNC10C|VMCLOCK):|of:.*Camazon,vmclock(?:C|$))/

/** A vmclock device that the kernel knows. */
export interface Device {
  readonly name: string
  readonly firmware: 'ACPI' | 'device tree'
  /** The device's path in the firmware's description. */
  readonly firmwarePath: string | undefined
  /** True if the kernel made a platform device, to which a driver can be bound. */
  readonly enabled: boolean
  /** The device's status in ACPI (`_STA`), if the kernel shows it. */
  readonly status: string | undefined
  /** The driver that is bound to the device, if any. */
  readonly driver: string | undefined
}

/** The file of a vmclock device. */
export interface DeviceFile {
  readonly path: string
  /** The driver's name of the device, `vmclockN`. */
  readonly name: string
}

/** Returns the vmclock devices of the machine. */
export function vmclockDevices({ files }: Scene): Device[] {
  const platform = vmclockNames(files, `${PLATFORM}/devices`).map((name) =>
    platformDevice(files, name),
  )
  // A device that the firmware marks as absent has no platform device.
  const acpiOnly = vmclockNames(files, ACPI_DEVICES)
    .filter((name) => !platform.some((device) => device.name === shown(name)))
    .map((name) => acpiDevice(files, name))
  return [...platform, ...acpiOnly]
}

/**
 * Returns the device file that a path leads to, or would lead to. Returns undefined for any other
 * path, which is that of a published page. Links and nodes made by users may have any name, so the
 * device number decides.
 */
export function deviceFileAt({ files }: Scene, path: string): DeviceFile | undefined {
  const [, named] = /^\/dev\/(vmclock\d+)$/.exec(files.real(path)) ?? []
  const number = files.characterDevice(path)
  if (number === undefined) {
    return named === undefined ? undefined : { path: `/dev/${named}`, name: named }
  }
  const known = files.linkName(`/sys/dev/char/${number}`)
  const name = known ?? named ?? 'vmclock0'
  return /^vmclock\d+$/.test(name) ? { path, name } : undefined
}

function vmclockNames(files: Files, bus: string): string[] {
  return files
    .names(bus)
    .filter((name) => MODALIAS.test(files.line(`${bus}/${name}/modalias`) ?? ''))
}

function platformDevice(files: Files, name: string): Device {
  const directory = `${PLATFORM}/devices/${name}`
  const driver = files.linkName(`${directory}/driver`)
  if (files.line(`${directory}/modalias`)?.startsWith('acpi:') === true) {
    return { ...acpiDevice(files, name), enabled: true, driver }
  }
  return {
    name: shown(name),
    firmware: 'device tree',
    firmwarePath: deviceTreePath(files, directory),
    enabled: true,
    status: undefined,
    driver,
  }
}

function acpiDevice(files: Files, name: string): Device {
  return {
    name: shown(name),
    firmware: 'ACPI',
    firmwarePath: files.line(`${ACPI_DEVICES}/${name}/path`),
    enabled: false,
    status: files.line(`${ACPI_DEVICES}/${name}/status`),
    driver: undefined,
  }
}

function deviceTreePath(files: Files, directory: string): string | undefined {
  const line = files.lines(`${directory}/uevent`).find((text) => text.startsWith('OF_FULLNAME='))
  return line === undefined ? undefined : shown(line.slice('OF_FULLNAME='.length))
}
