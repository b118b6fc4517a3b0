/** The checks from the firmware's description of the device to the device file. */

import { containerRemedy, fixedOnHost } from './container'
import { type Device, type DeviceFile, DRIVER, PLATFORM } from './device'
import { type CheckName, type Finding, ok, skipped, unknown, wrong } from './diagnosis'
import {
  driverModule,
  driverOption,
  hasModuleList,
  loadingHindrances,
  MODULE,
  OPTION,
} from './driver-module'
import { type Files, shown } from './files'
import type { Scene } from './scene'

const OR_PUBLISH = "or run `vmclock publish`, which makes a page from this machine's clock"

/** The findings of the checks in this file. */
export type DeviceFindings = Readonly<Record<DeviceCheck, Finding>>
type DeviceCheck = Extract<
  CheckName,
  'device' | 'driver-built' | 'driver-loaded' | 'driver-bound' | 'device-file'
>

/** Makes the findings for the machine's devices, and for the device file to diagnose. */
export function checkDevice(
  scene: Scene,
  devices: readonly Device[],
  file: DeviceFile,
  inContainer: boolean,
): DeviceFindings {
  const findings: Record<DeviceCheck, Finding> = {
    ...sameForAll(skipped('there is no device that a driver could be bound to')),
    device: checkFirmware(scene, devices),
  }
  if (findings.device.state !== 'ok') return findings

  const isRegistered = scene.files.has(DRIVER)
  findings['driver-built'] = fixedOnHost(checkBuilt(scene, isRegistered), inContainer)
  findings['driver-loaded'] =
    findings['driver-built'].state === 'wrong'
      ? skipped('the kernel has no driver to load')
      : fixedOnHost(checkLoaded(scene, isRegistered), inContainer)
  if (!isRegistered) {
    findings['driver-bound'] = skipped('the driver is not loaded')
    findings['device-file'] = skipped('the driver makes the file, and is not loaded')
    return findings
  }

  findings['driver-bound'] = fixedOnHost(checkBound(scene.files, devices, file), inContainer)
  findings['device-file'] =
    findings['driver-bound'].state === 'ok'
      ? checkDeviceFile(scene.files, file, inContainer)
      : skipped('the driver makes the file, and is not bound to the device')
  return findings
}

/** Makes the same finding for all checks in this file. */
export function sameForAll(finding: Finding): DeviceFindings {
  return {
    device: finding,
    'driver-built': finding,
    'driver-loaded': finding,
    'driver-bound': finding,
    'device-file': finding,
  }
}

function checkFirmware({ files }: Scene, devices: readonly Device[]): Finding {
  if (!files.has(`${PLATFORM}/devices`)) {
    return unknown('sysfs shows no devices here, so a vmclock device cannot be found')
  }
  const driverLoaded = files.has(DRIVER)
  const [first] = devices
  if (first === undefined) {
    const idle = driverLoaded ? '; the driver is loaded, but has no device' : ''
    return wrong(
      `the firmware describes no vmclock device (ACPI AMZNC10C, device tree amazon,vmclock)${idle}`,
      `have the hypervisor provide one (QEMU: -device vmclock; on Firecracker and EC2 it depends on version and machine type), ${OR_PUBLISH}`,
      { driverLoaded },
    )
  }
  const details = {
    devices: devices.map(({ name }) => name),
    firmware: devices.map(({ firmware }) => firmware),
    firmwarePaths: devices.flatMap(({ firmwarePath }) => firmwarePath ?? []),
    statuses: devices.flatMap(({ status }) => status ?? []),
    driverLoaded,
  }
  const enabled = devices.filter((device) => device.enabled)
  if (enabled.length > 0) {
    const each = enabled.map(({ name, firmware }) => `${name} (${firmware})`)
    return ok(`the firmware describes ${each.join(', ')}`, details)
  }
  // Bits 0 and 3 mean present and functioning. A kernel that shows no status acts on the same bits.
  const isOn = (Number(first.status ?? 0) & 0b1001) !== 0
  return isOn
    ? wrong(
        `the firmware describes a vmclock device (${first.name}), but the kernel made no platform device for it`,
        `read the reason in the kernel log (\`dmesg | grep -i -e acpi -e ${first.name}\`), ${OR_PUBLISH}`,
        details,
      )
    : wrong(
        `the firmware describes a vmclock device (${first.name}), but marks it as absent (_STA)`,
        `have the hypervisor enable the device, ${OR_PUBLISH}`,
        details,
      )
}

function checkBuilt({ files, kernelRelease }: Scene, isRegistered: boolean): Finding {
  const release = shown(kernelRelease)
  const option = driverOption(files, kernelRelease)
  const module = driverModule(files, kernelRelease)
  const details = { kernelRelease: release, option, module }
  if (isRegistered) {
    const how = files.has(`/sys/module/${MODULE}`) ? 'as a module' : 'built in'
    return ok(`the kernel ${release} has the driver, ${how}`, details)
  }
  if (module !== undefined) return ok(`the kernel ${release} has the driver: ${module}`, details)
  if (option === 'n') {
    return wrong(
      `the kernel ${release} was built without the driver (${OPTION} is not set)`,
      `boot a kernel that has it: Linux 6.13 or later with ${OPTION} (device tree: Linux 7.0 or later), ${OR_PUBLISH}`,
      details,
    )
  }
  if (option === 'm' && hasModuleList(files, kernelRelease)) {
    return wrong(
      `the kernel ${release} has the driver as a module (${OPTION}=m), but the module is not installed`,
      `install the rest of this kernel's modules (on Ubuntu: linux-modules-extra-${release}, and from 25.10 on linux-modules-${release}), ${OR_PUBLISH}`,
      details,
    )
  }
  if (option !== undefined) {
    return ok(`the kernel ${release} has the driver (${OPTION}=${option})`, details)
  }
  return unknown(
    `the kernel ${release} may have the driver: neither its configuration nor its modules can be read`,
    details,
  )
}

function checkLoaded({ files, kernelRelease }: Scene, isRegistered: boolean): Finding {
  if (isRegistered) return ok('the driver is in the running kernel')
  const hindrances = loadingHindrances(files)
  const details = { hindrances }
  if (hindrances.length > 0) {
    return wrong(
      `the driver ${MODULE} is not loaded, because it is disabled: ${hindrances.join('; ')}`,
      `remove that setting, then run \`modprobe ${MODULE}\` as root`,
      details,
    )
  }
  if (driverOption(files, kernelRelease) === 'y') {
    return wrong(
      'the driver is built in, but did not start',
      'read the reason in the kernel log (`dmesg`), and look for initcall_blacklist on the kernel command line',
      details,
    )
  }
  return wrong(
    `the driver ${MODULE} is not loaded`,
    `run \`modprobe ${MODULE}\` as root; to load it at every boot, write its name to /etc/modules-load.d/vmclock.conf. If there is no such module, boot a kernel with ${OPTION}, Linux 6.13 or later`,
    details,
  )
}

function checkBound(files: Files, devices: readonly Device[], file: DeviceFile): Finding {
  const enabled = devices.filter((device) => device.enabled)
  const bound = enabled.filter((device) => device.driver === 'vmclock')
  const [idle] = enabled.filter((device) => device.driver !== 'vmclock')
  const details = { devices: bound.map(({ name }) => name) }
  // An idle device matters only if the file to diagnose is missing.
  const isMissing = !files.has(file.path) && !files.has(`/sys/class/misc/${file.name}`)
  if (idle === undefined || (bound.length > 0 && !isMissing)) {
    return ok(`the driver is bound to ${details.devices.join(', ')}`, details)
  }
  return wrong(
    idle.driver === undefined
      ? `the driver is not bound to ${idle.name}`
      : `the driver ${idle.driver} is bound to ${idle.name}, instead of vmclock`,
    `read in the kernel log why it refused the device (\`dmesg | grep vmclock\`), and bind it as root: echo ${idle.name} > ${DRIVER}/bind. Before Linux 7.0 the driver supports only ACPI devices`,
    details,
  )
}

function checkDeviceFile(files: Files, { path, name }: DeviceFile, inContainer: boolean): Finding {
  const file = shown(path)
  const registered = files.names('/sys/class/misc').filter((other) => /^vmclock\d+$/.test(other))
  const number = files.line(`/sys/class/misc/${name}/dev`)
  const details = { file, number, registered }
  if (files.has(path)) return ok(`${file} exists`, details)
  if (number !== undefined) {
    return wrong(
      `the driver registered ${file} (device ${number}), but the file does not exist here`,
      inContainer
        ? containerRemedy(`/dev/${name}`)
        : `mount devtmpfs on /dev, or make the file as root: mknod ${file} c ${number.replace(':', ' ')}`,
      details,
    )
  }
  if (registered.length > 0) {
    return wrong(
      `${file} does not exist; the driver registered ${registered.join(', ')}`,
      `open /dev/${registered[0]}`,
      details,
    )
  }
  const finding = wrong(
    'the driver is bound to the device, but registered no device file',
    `the device's region is smaller than a memory page of this kernel, or the driver refused it (\`dmesg | grep vmclock\`): use a kernel with 4 KiB pages, ${OR_PUBLISH}`,
    details,
  )
  return fixedOnHost(finding, inContainer)
}
