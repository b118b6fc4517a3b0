/**
 * From the firmware's description of the device to its file: what the kernel shows of it. Names are
 * those of `drivers/ptp/ptp_vmclock.c`.
 */

import { containerRemedy, mendedOnHost } from './container'
import { type CheckName, type Finding, skipped } from './diagnosis'
import { type Files, shown } from './files'
import type { Scene } from './scene'

const PLATFORM = '/sys/bus/platform'
const ACPI_DEVICES = '/sys/bus/acpi/devices'
/** The driver's folder in sysfs; it is there exactly while the driver is in the kernel. */
export const DRIVER: string = `${PLATFORM}/drivers/vmclock`
const MODULE = 'ptp_vmclock'
const OPTION = 'CONFIG_PTP_1588_CLOCK_VMCLOCK'

const PUBLISH = "`vmclock publish` makes a page from this machine's own clock instead"

// The driver's match tables: `_HID` or `_CID` in ACPI, `compatible` in a device tree.
const MODALIAS = /^(?:acpi:(?:[^:]*:)*?(?:AMZNC10C|VMCLOCK):|of:.*Camazon,vmclock(?:C|$))/

/** A vmclock device as the kernel knows it. */
export interface Device {
  readonly name: string
  readonly firmware: 'ACPI' | 'device tree'
  /** Where the firmware's description has it. */
  readonly firmwarePath: string | undefined
  /** Whether the kernel has made a device of the description that a driver could have. */
  readonly enabled: boolean
  /** ACPI's status of the device (`_STA`), where the kernel shows it. */
  readonly status: string | undefined
  /** The driver that has it, if one does. */
  readonly driver: string | undefined
}

/** The checks of this file, by name. */
export type DeviceFindings = Readonly<Record<DeviceCheck, Finding>>
type DeviceCheck = Extract<
  CheckName,
  'device' | 'driver-built' | 'driver-loaded' | 'driver-bound' | 'device-file'
>

/** The machine's vmclock devices. */
export function vmclockDevices({ files }: Scene): Device[] {
  const inPlatform = files
    .names(`${PLATFORM}/devices`)
    .filter((name) => MODALIAS.test(files.line(`${PLATFORM}/devices/${name}/modalias`) ?? ''))
    .map((name): Device => {
      const folder = `${PLATFORM}/devices/${name}`
      const isAcpi = files.line(`${folder}/modalias`)?.startsWith('acpi:') === true
      return {
        name: shown(name),
        firmware: isAcpi ? 'ACPI' : 'device tree',
        firmwarePath: isAcpi ? files.line(`${ACPI_DEVICES}/${name}/path`) : fullName(files, folder),
        enabled: true,
        status: isAcpi ? files.line(`${ACPI_DEVICES}/${name}/status`) : undefined,
        driver: files.linkName(`${folder}/driver`),
      }
    })
  // One that the firmware says is off gets no platform device.
  const inAcpiOnly = files
    .names(ACPI_DEVICES)
    .filter((name) => MODALIAS.test(files.line(`${ACPI_DEVICES}/${name}/modalias`) ?? ''))
    .filter((name) => !inPlatform.some((device) => device.name === shown(name)))
    .map(
      (name): Device => ({
        name: shown(name),
        firmware: 'ACPI',
        firmwarePath: files.line(`${ACPI_DEVICES}/${name}/path`),
        enabled: false,
        status: files.line(`${ACPI_DEVICES}/${name}/status`),
        driver: undefined,
      }),
    )
  return [...inPlatform, ...inAcpiOnly]
}

/** A file of a vmclock device. */
export interface DeviceFile {
  readonly path: string
  /** `vmclockN`, as the driver calls the device. */
  readonly name: string
}

/**
 * The device file that a path leads to, or would; undefined for any other, which somebody publishes.
 * Links and names of people's own making may lead to a device, so it counts what is there.
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

/**
 * The findings. `file` is the device file that is asked about, and `inContainer` whether this process
 * is in a container.
 */
export function checkDevice(
  scene: Scene,
  devices: readonly Device[],
  file: DeviceFile,
  inContainer: boolean,
): DeviceFindings {
  const device = firmwareFinding(scene, devices)
  const findings: Record<DeviceCheck, Finding> = {
    ...noDevice(skipped('no device is known that a driver could have')),
    device,
  }
  if (device.state !== 'ok') return findings

  const isRegistered = scene.files.has(DRIVER)
  findings['driver-built'] = mendedOnHost(built(scene, isRegistered), inContainer)
  if (findings['driver-built'].state === 'wrong') {
    findings['driver-loaded'] = skipped('the kernel has no driver to load')
  } else {
    findings['driver-loaded'] = mendedOnHost(loaded(scene, isRegistered), inContainer)
  }
  if (!isRegistered) {
    findings['driver-bound'] = skipped('there is no driver to have the device')
    findings['device-file'] = skipped('the driver makes the file')
    return findings
  }

  findings['driver-bound'] = mendedOnHost(bound(scene.files, devices, file), inContainer)
  findings['device-file'] =
    findings['driver-bound'].state === 'ok'
      ? deviceFile(scene.files, file, inContainer)
      : skipped('the driver makes the file, and it does not have the device')
  return findings
}

/** One finding for all of them. */
export function noDevice(finding: Finding): DeviceFindings {
  return {
    device: finding,
    'driver-built': finding,
    'driver-loaded': finding,
    'driver-bound': finding,
    'device-file': finding,
  }
}

function firmwareFinding(scene: Scene, devices: readonly Device[]): Finding {
  if (!scene.files.has(`${PLATFORM}/devices`)) {
    return {
      state: 'unknown',
      finding: 'whether there is a vmclock device cannot be seen here: sysfs shows no devices',
    }
  }
  const driverLoaded = scene.files.has(DRIVER)
  if (devices.length === 0) {
    const waiting = driverLoaded ? '; the driver is loaded and finds none to drive' : ''
    return {
      state: 'wrong',
      finding: `the firmware describes no vmclock device (ACPI AMZNC10C, device tree amazon,vmclock)${waiting}`,
      remedy: `have the hypervisor give this machine one (QEMU: -device vmclock; Firecracker and EC2 have it on some machines and versions); ${PUBLISH}`,
      details: { driverLoaded },
    }
  }
  const details = {
    devices: devices.map((device) => device.name),
    firmware: devices.map((device) => device.firmware),
    firmwarePaths: devices.flatMap(({ firmwarePath }) => firmwarePath ?? []),
    statuses: devices.flatMap(({ status }) => status ?? []),
    driverLoaded,
  }
  const there = devices.filter((device) => device.enabled)
  if (there.length === 0) {
    const [first] = devices
    // Bits 0 and 3: it is present, and it works. A kernel that shows no status went by the same.
    const isOn = (Number(first?.status ?? 0) & 0b1001) !== 0
    return isOn
      ? {
          state: 'wrong',
          finding: `the firmware describes a vmclock device (${first?.name}), and the kernel made no platform device of it`,
          remedy: `look in the kernel log for why (\`dmesg | grep -i -e acpi -e ${first?.name}\`); ${PUBLISH}`,
          details,
        }
      : {
          state: 'wrong',
          finding: `the firmware describes a vmclock device (${first?.name}) and says that it is not there (_STA)`,
          remedy: `have the hypervisor switch the device on; ${PUBLISH}`,
          details,
        }
  }
  const each = there.map(({ name, firmware }) => `${name} (${firmware})`)
  return { state: 'ok', finding: `the firmware describes ${each.join(', ')}`, details }
}

function built({ files, kernelRelease }: Scene, isRegistered: boolean): Finding {
  const release = shown(kernelRelease)
  const option = configured(files, kernelRelease)
  const module = moduleFile(files, kernelRelease)
  const details = { kernelRelease: release, option: option ?? undefined, module }
  const withDriver = `boot a kernel that has it: Linux 6.13 or later with ${OPTION} (device tree: Linux 7.0 or later)`
  if (isRegistered) {
    const how = files.has(`/sys/module/${MODULE}`) ? 'a module' : 'built in'
    return { state: 'ok', finding: `the kernel ${release} has the driver, ${how}`, details }
  }
  if (module !== undefined) {
    return { state: 'ok', finding: `the kernel ${release} has the driver: ${module}`, details }
  }
  if (option === 'n') {
    return {
      state: 'wrong',
      finding: `the kernel ${release} was built without the driver (${OPTION} is not set)`,
      remedy: `${withDriver}; ${PUBLISH}`,
      details,
    }
  }
  if (option === 'm' && files.lines(`${modulesFolder(kernelRelease)}/modules.dep`).length > 0) {
    return {
      state: 'wrong',
      finding: `the kernel ${release} has the driver as a module (${OPTION}=m), and the module is not installed`,
      remedy: `install the rest of this kernel's modules (on Ubuntu: linux-modules-extra-${release}); ${PUBLISH}`,
      details,
    }
  }
  if (option !== undefined) {
    return {
      state: 'ok',
      finding: `the kernel ${release} has the driver (${OPTION}=${option})`,
      details,
    }
  }
  return {
    state: 'unknown',
    finding: `whether the kernel ${release} has the driver cannot be seen here: neither its configuration nor its modules can be read`,
    details,
  }
}

function loaded({ files, kernelRelease }: Scene, isRegistered: boolean): Finding {
  if (isRegistered) return { state: 'ok', finding: 'the driver is in the running kernel' }
  const held = hindrances(files)
  const details = { hindrances: held }
  if (held.length > 0) {
    return {
      state: 'wrong',
      finding: `the driver ${MODULE} is not loaded, and is kept from it: ${held.join('; ')}`,
      remedy: `take that away, then run \`modprobe ${MODULE}\` as root`,
      details,
    }
  }
  if (configured(files, kernelRelease) === 'y') {
    return {
      state: 'wrong',
      finding: 'the driver is built in, and did not start',
      remedy:
        'look in the kernel log (`dmesg`) for why, and for initcall_blacklist on its command line',
      details,
    }
  }
  return {
    state: 'wrong',
    finding: `the driver ${MODULE} is not loaded`,
    remedy: `run \`modprobe ${MODULE}\` as root; to have it at every boot, write its name to /etc/modules-load.d/vmclock.conf. Where there is no such module, boot a kernel with ${OPTION}, Linux 6.13 or later`,
    details,
  }
}

function bound(files: Files, devices: readonly Device[], file: DeviceFile): Finding {
  const there = devices.filter((device) => device.enabled)
  const driven = there.filter((device) => device.driver === 'vmclock')
  const details = { devices: driven.map((device) => device.name) }
  const idle = there.filter((device) => device.driver !== 'vmclock')
  // One without the driver is nobody's loss, unless the file that is asked about is missing.
  const isMissing = !files.has(file.path) && !files.has(`/sys/class/misc/${file.name}`)
  if (driven.length > 0 && !(idle.length > 0 && isMissing)) {
    return { state: 'ok', finding: `the driver has ${details.devices.join(', ')}`, details }
  }
  const [first] = idle
  const other = first?.driver
  return {
    state: 'wrong',
    finding:
      other === undefined
        ? `the driver does not have ${first?.name}`
        : `the driver ${other} has ${first?.name}, not vmclock`,
    remedy: `look in the kernel log for why it refused the device (\`dmesg | grep vmclock\`), and bind it as root: echo ${first?.name} > ${DRIVER}/bind. Before Linux 7.0 the driver takes devices of ACPI only`,
    details,
  }
}

function deviceFile(files: Files, { path, name }: DeviceFile, inContainer: boolean): Finding {
  const file = shown(path)
  const registered = files.names('/sys/class/misc').filter((other) => /^vmclock\d+$/.test(other))
  const number = files.line(`/sys/class/misc/${name}/dev`)
  const details = { file, number, registered }
  if (files.has(path)) return { state: 'ok', finding: `${file} is there`, details }
  if (number !== undefined) {
    return {
      state: 'wrong',
      finding: `the driver has made ${file} (device ${number}), and there is no such file here`,
      remedy: inContainer
        ? containerRemedy(`/dev/${name}`)
        : `mount devtmpfs on /dev, or make the file as root: mknod ${file} c ${number.replace(':', ' ')}`,
      details,
    }
  }
  if (registered.length > 0) {
    return {
      state: 'wrong',
      finding: `there is no ${file}; the driver has made ${registered.join(', ')}`,
      remedy: `open /dev/${registered[0]}`,
      details,
    }
  }
  const finding: Finding = {
    state: 'wrong',
    finding: `the driver has the device and made no file of it`,
    remedy: `its region is smaller than a page of this kernel's memory, or the driver refused it (\`dmesg | grep vmclock\`): use a kernel with pages of 4 KiB; ${PUBLISH}`,
    details,
  }
  return mendedOnHost(finding, inContainer)
}

// y, m or n; undefined where no configuration can be read.
function configured(files: Files, release: string): 'y' | 'm' | 'n' | undefined {
  const sources = [
    () => files.unzippedLines('/proc/config.gz'),
    () => files.lines(`/boot/config-${release}`),
    () => files.lines(`${modulesFolder(release)}/config`),
  ]
  for (const source of sources) {
    const lines = source()
    // Anything else that has lines is no configuration.
    if (!lines.some((line) => line.startsWith('CONFIG_'))) continue
    const line = lines.find((text) => text.startsWith(`${OPTION}=`))
    const value = line?.slice(OPTION.length + 1, OPTION.length + 2)
    return value === 'y' || value === 'm' ? value : 'n'
  }
  return undefined
}

function moduleFile(files: Files, release: string): string | undefined {
  const folder = modulesFolder(release)
  const pattern = new RegExp(`^[^:]*/${MODULE}\\.ko[.a-z0-9]*(?=:|$)`)
  for (const list of ['modules.dep', 'modules.builtin']) {
    for (const line of files.lines(`${folder}/${list}`)) {
      const [module] = pattern.exec(line) ?? []
      if (module !== undefined) return shown(module)
    }
  }
  return undefined
}

function modulesFolder(release: string): string {
  return `/lib/modules/${release}`
}

// What keeps the module from being loaded: modprobe.d(5), and the kernel's command line.
function hindrances(files: Files): string[] {
  const roots = ['/etc', '/run', '/usr/local/lib', '/usr/lib', '/lib']
  // Of most systems /lib is a link to /usr/lib.
  const folders = new Set(roots.map((root) => files.real(`${root}/modprobe.d`)))
  const inFiles = [...folders].flatMap((folder) =>
    files
      .names(folder)
      .filter((name) => name.endsWith('.conf'))
      .flatMap((name) =>
        files
          .lines(`${folder}/${name}`)
          .filter((line) => /^\s*(blacklist|install)\s+ptp[_-]vmclock(\s|$)/.test(line))
          .map((line) => shown(`${folder}/${name}: ${line.trim()}`)),
      ),
  )
  const words = (files.lines('/proc/cmdline')[0] ?? '').split(/\s+/)
  const onCommandLine = words
    .filter((word) =>
      /^(nomodule|(module_blacklist|modprobe\.blacklist)=(.*,)?ptp[_-]vmclock(,.*)?)$/.test(word),
    )
    .map((word) => shown(`kernel command line: ${word}`))
  const [disabled] = files.lines('/proc/sys/kernel/modules_disabled')
  const inKernel =
    disabled === '1' ? ['/proc/sys/kernel/modules_disabled: 1, until the next boot'] : []
  return [...inFiles, ...onCommandLine, ...inKernel]
}

function fullName(files: Files, folder: string): string | undefined {
  const line = files.lines(`${folder}/uevent`).find((text) => text.startsWith('OF_FULLNAME='))
  return line === undefined ? undefined : shown(line.slice('OF_FULLNAME='.length))
}
