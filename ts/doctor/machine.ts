/** Detects the hypervisor, mostly by the same evidence as systemd-detect-virt. */

import { type Finding, ok, wrong } from './diagnosis'
import { shown } from './files'
import type { Scene } from './scene'

/** A hypervisor, and what identified it. */
export interface Hypervisor {
  readonly name: string
  readonly evidence: string
}

// The signatures in CPUID leaf 0x4000_0000.
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

// The firmware's DMI strings: the files to read, and how the strings of each vendor begin.
const DMI_DIRECTORY = '/sys/class/dmi/id'
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

// Vendors whose DMI strings are more specific than their CPU signature, such as KVM's.
const DMI_FIRST: ReadonlySet<string> = new Set([
  'Amazon EC2',
  'Google Compute Engine',
  'VirtualBox',
  'Xen',
  'Parallels',
])

/** Returns the hypervisor of this machine, or undefined if none can be detected. */
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
  // Other hypervisors imitate Hyper-V's signature for Windows guests.
  return name === undefined || name === 'Hyper-V' ? (vendor ?? byCpu) : byCpu
}

/**
 * Makes the finding. A machine with a vmclock device `isVirtual` even if no hypervisor is `found`.
 * `isPublished` says that the page is a published one, which needs no hypervisor.
 */
export function checkMachine(
  scene: Scene,
  found: Hypervisor | undefined,
  isVirtual: boolean,
  isPublished: boolean,
): Finding {
  const { files } = scene
  const details = {
    hypervisor: found?.name,
    evidence: found?.evidence,
    vendor: files.line(`${DMI_DIRECTORY}/sys_vendor`),
    product: files.line(`${DMI_DIRECTORY}/product_name`),
    kernelRelease: shown(scene.kernelRelease),
  }
  if (found !== undefined) {
    return ok(`a virtual machine under ${found.name} (${found.evidence})`, details)
  }
  if (isVirtual) {
    return ok('a virtual machine with a vmclock device, under an unnamed hypervisor', details)
  }
  const finding = 'not a virtual machine, or the hypervisor cannot be detected'
  if (isPublished) return ok(`${finding}; the page does not need one`, details)
  return wrong(
    finding,
    "run `vmclock publish`, which makes a page from this machine's clock: without a hypervisor there is no other page",
    details,
  )
}

function fromDmi({ files }: Scene): Hypervisor | undefined {
  for (const field of DMI_FIELDS) {
    const text = files.line(`${DMI_DIRECTORY}/${field}`) ?? ''
    const [, name] = DMI_BEGINNINGS.find(([beginning]) => text.startsWith(beginning)) ?? []
    if (name === undefined) continue
    // The bare-metal machines of EC2 have the same vendor.
    const product = files.line(`${DMI_DIRECTORY}/product_name`) ?? ''
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
  // The board of Linux virtual machines under QEMU, kvmtool, Firecracker and crosvm.
  if (files.strings(`${DEVICE_TREE}/compatible`).includes('linux,dummy-virt')) {
    return { name: 'an unnamed hypervisor', evidence: 'the device tree is for linux,dummy-virt' }
  }
  return undefined
}
