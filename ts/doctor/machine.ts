/**
 * Is this a virtual machine, and which hypervisor runs it? In the main what systemd-detect-virt goes by.
 */

import type { Finding } from './diagnosis'
import { shown } from './files'
import type { Scene } from './scene'

/** How a hypervisor was recognized, and what it says of itself. */
export interface Hypervisor {
  readonly name: string
  readonly evidence: string
}

// CPUID leaf 0x4000_0000.
const SIGNATURES: ReadonlyMap<string, string> = new Map([
  ['KVMKVMKVM', 'KVM'],
  ['Linux KVM Hv', 'KVM'],
  ['TCGTCGTCGTCG', 'QEMU without KVM'],
  ['XenVMMXenVMM', 'Xen'],
  ['VMwareVMware', 'VMware'],
  ['VBoxVBoxVBox', 'VirtualBox'],
  ['bhyve bhyve', 'bhyve'],
  ['ACRNACRNACRN', 'ACRN'],
  ['Apple VZ', 'Apple Virtualization'],
  ['Microsoft Hv', 'Hyper-V'],
])

// How the strings of the firmware's tables begin, in the files that are looked into.
const DMI_FOLDER = '/sys/class/dmi/id'
const DMI_FIELDS = ['product_name', 'sys_vendor', 'board_vendor', 'bios_vendor', 'product_version']
const DMI_BEGINNINGS: ReadonlyArray<readonly [string, string]> = [
  ['KVM', 'KVM'],
  ['OpenStack', 'KVM'],
  ['KubeVirt', 'KVM'],
  ['Amazon EC2', 'Amazon EC2'],
  ['Google Compute Engine', 'Google Compute Engine'],
  ['QEMU', 'QEMU'],
  ['VMware', 'VMware'],
  ['VMW', 'VMware'],
  ['innotek GmbH', 'VirtualBox'],
  ['VirtualBox', 'VirtualBox'],
  ['Xen', 'Xen'],
  ['Bochs', 'Bochs'],
  ['Parallels', 'Parallels'],
  ['BHYVE', 'bhyve'],
  ['Hyper-V', 'Hyper-V'],
  ['Apple Virtualization', 'Apple Virtualization'],
]

const DEVICE_TREE = '/proc/device-tree'

// Who says more by them than by the CPU's signature, which is KVM's or another's.
const DMI_FIRST: ReadonlySet<string> = new Set([
  'Amazon EC2',
  'Google Compute Engine',
  'VirtualBox',
  'Xen',
  'Parallels',
])

/** The hypervisor under this machine; undefined where none shows itself. */
export function hypervisor(scene: Scene): Hypervisor | undefined {
  const vendor = fromDmi(scene)
  const signature = scene.hypervisorSignature()
  if (signature === undefined) return vendor ?? fromKernel(scene) ?? fromDeviceTree(scene)
  const name = SIGNATURES.get(signature.trim())
  const byCpu = {
    name: name ?? 'an unknown hypervisor',
    evidence: `CPUID says ${shown(signature)}`,
  }
  if (vendor !== undefined && DMI_FIRST.has(vendor.name)) return vendor
  // Others imitate Hyper-V's signature, so that Windows takes them for it.
  return name === undefined || name === 'Hyper-V' ? (vendor ?? byCpu) : byCpu
}

/**
 * The finding. A machine is virtual, too, where no hypervisor is `found` and it has a vmclock device;
 * `published` is whether a published page stands in for the hypervisor's.
 */
export function checkMachine(
  scene: Scene,
  found: Hypervisor | undefined,
  isVirtual: boolean,
  published: boolean,
): Finding {
  const { files } = scene
  const details = {
    hypervisor: found?.name,
    evidence: found?.evidence,
    vendor: files.line(`${DMI_FOLDER}/sys_vendor`),
    product: files.line(`${DMI_FOLDER}/product_name`),
    kernelRelease: shown(scene.kernelRelease),
  }
  if (found !== undefined) {
    const finding = `a virtual machine under ${found.name} (${found.evidence})`
    return { state: 'ok', finding, details }
  }
  if (isVirtual) {
    const finding = 'a virtual machine: it has a vmclock device, and its hypervisor tells no name'
    return { state: 'ok', finding, details }
  }
  const finding = 'not a virtual machine, or one whose hypervisor hides: nothing here names any'
  if (published) return { state: 'ok', finding: `${finding}; a published page is used`, details }
  return {
    state: 'wrong',
    finding,
    remedy:
      "there is no hypervisor to give this machine a page: `vmclock publish` makes one from the machine's own clock",
    details,
  }
}

function fromDmi({ files }: Scene): Hypervisor | undefined {
  for (const field of DMI_FIELDS) {
    const text = files.line(`${DMI_FOLDER}/${field}`) ?? ''
    const [, name] = DMI_BEGINNINGS.find(([beginning]) => text.startsWith(beginning)) ?? []
    if (name === undefined) continue
    // EC2's bare machines carry the same vendor.
    const product = files.line(`${DMI_FOLDER}/product_name`) ?? ''
    if (name === 'Amazon EC2' && /\.metal($|-)/.test(product)) return undefined
    return { name, evidence: `DMI ${field} is ${text}` }
  }
  return undefined
}

function fromKernel({ files }: Scene): Hypervisor | undefined {
  const type = files.line('/sys/hypervisor/type')
  if (type === undefined) return undefined
  return { name: type === 'xen' ? 'Xen' : type, evidence: `/sys/hypervisor/type is ${type}` }
}

function fromDeviceTree({ files }: Scene): Hypervisor | undefined {
  const [compatible] = files.strings(`${DEVICE_TREE}/hypervisor/compatible`)
  if (compatible !== undefined) {
    const name = compatible === 'linux,kvm' ? 'KVM' : compatible
    return { name, evidence: `the device tree's hypervisor is ${compatible}` }
  }
  if (files.names(DEVICE_TREE).some((name) => name.startsWith('fw-cfg'))) {
    return { name: 'QEMU', evidence: 'the device tree has fw-cfg' }
  }
  // The board that Linux's own virtual machines have: QEMU's, kvmtool's, Firecracker's, crosvm's.
  if (files.strings(`${DEVICE_TREE}/compatible`).includes('linux,dummy-virt')) {
    return { name: 'an unnamed hypervisor', evidence: 'the device tree is for linux,dummy-virt' }
  }
  return undefined
}
