// What a guest is made of, out of the cache: the emulator and the tools for its tables, Debian's
// kernel for the cloud with its driver, and the userland's few files.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { npmPackage } from '../tools/cache.mjs'
import { Unavailable } from '../tools/command.mjs'
import { debianFolder, debianProgram } from '../tools/debian.mjs'

// The kernel is the backports': the driver gained its device tree binding and its `poll` in Linux 7.0.
const suites = ['trixie', 'trixie-backports']

// The oldest Node that the package supports.
const nodeVersion = '20.20.2'

/**
 * Programs that run on this machine, by their names, and `folder`, in which the emulator's firmware
 * and modules lie.
 */
export async function hostTools(name, packages) {
  const folder = await debianFolder({ name: `rig-tools-${name}`, packages, suites })
  return { folder, program: (program) => debianProgram(folder, program) }
}

// A kernel's package wants a system around it. Its image, its modules and what Node links to are all
// that a guest of ours has.
const userland = ['busybox-static_', 'libc6_', 'libgcc-s1_', 'libstdc']

/**
 * The guest's parts, as paths on this machine: `kernel`, `modules` (the folder of this kernel's
 * drivers), `kernelVersion`, `busybox`, `phcCtl` (linuxptp's program that asks a PTP clock), `node`, and
 * `libraries` (the folder with the C and C++ ones).
 */
export async function guestParts({ debianName, nodeName, libraryFolder }) {
  const folder = await debianFolder({
    name: `rig-guest-${debianName}`,
    packages: [`linux-image-cloud-${debianName}`, 'busybox-static', 'libstdc++6'].map(
      (name) => `${name}:${debianName}`,
    ),
    without: allBut(['linux-binary-', 'linux-modules-', ...userland], debianName),
    suites,
  })
  const ptpFolder = await debianFolder({
    name: `rig-ptp-${debianName}`,
    packages: [`linuxptp:${debianName}`],
    // Its program needs no more than the libraries that Node links to.
    without: /^(?!linuxptp_)/,
    suites,
  })
  const node = join(await npmPackage(nodeName, nodeVersion), nodeName, 'bin/node')
  return {
    ...kernelIn(folder),
    busybox: join(folder, 'usr/bin/busybox'),
    phcCtl: join(ptpFolder, 'usr/sbin/phc_ctl'),
    node,
    libraries: join(folder, libraryFolder),
  }
}

/**
 * Of the parts, those of another kernel: `flavour` is of Debian's, and `withModules` whether its drivers
 * come along, or are all built in that are wanted of it.
 */
export async function kernelParts({ debianName, flavour, withModules }) {
  const folder = await debianFolder({
    name: `rig-kernel-${flavour}`,
    packages: [`linux-image-${flavour}:${debianName}`],
    without: allBut(['linux-binary-', ...(withModules ? ['linux-modules-'] : [])], debianName),
    suites,
  })
  return kernelIn(folder)
}

function allBut(names, debianName) {
  return RegExp(`^(?!(${names.join('|')}).*_${debianName}[.])`)
}

function kernelIn(folder) {
  const modulesFolder = join(folder, 'usr/lib/modules')
  const [kernelVersion] = readdirSync(modulesFolder)
  if (kernelVersion === undefined)
    throw new Unavailable(`no kernel among the packages of ${folder}`)
  return {
    kernel: join(modulesFolder, kernelVersion, 'vmlinuz'),
    modules: join(modulesFolder, kernelVersion, 'kernel'),
    kernelVersion,
  }
}
