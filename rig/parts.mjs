// Puts the parts of a guest into the cache: the emulator and the tools for its firmware tables, Debian's cloud
// kernel with the driver, and the few files of the userland.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { npmPackage } from '../tools/cache.mjs'
import { Unavailable } from '../tools/command.mjs'
import { debianDirectory, debianProgram } from '../tools/debian.mjs'

// The kernel is from backports, because the driver supports device trees and `poll` since Linux 7.0.
const suites = ['trixie', 'trixie-backports']

// The oldest and the newest Node that the package supports.
const nodeVersion = '20.20.2'
const newestNodeVersion = '26.10.0'

/**
 * Returns the host's programs: `program(name)` is a path, and `directory` contains the emulator's firmware and
 * modules.
 */
export async function hostTools(name, packages) {
  const directory = await debianDirectory({ name: `rig-tools-${name}`, packages, suites })
  return { directory, program: (program) => debianProgram(directory, program) }
}

// A guest needs busybox and the libraries that Node links with, and no other dependency of the kernel's
// package.
const userland = ['busybox-static_', 'libc6_', 'libgcc-s1_', 'libstdc']

/**
 * Returns the guest's parts as paths on the host: `kernel`, `modules` (the directory of the kernel's
 * drivers), `busybox`, `phcCtl` (linuxptp's tool for PTP clocks), `node` and `libraries` (the directory of
 * the C and C++ libraries). `kernelVersion` is a text.
 */
export async function guestParts({ debianName, nodeName, libraryDirectory }) {
  const directory = await debianDirectory({
    name: `rig-guest-${debianName}`,
    packages: [`linux-image-cloud-${debianName}`, 'busybox-static', 'libstdc++6'].map(
      (name) => `${name}:${debianName}`,
    ),
    without: allBut(['linux-binary-', 'linux-modules-', ...userland], debianName),
    suites,
  })
  const ptpDirectory = await debianDirectory({
    name: `rig-ptp-${debianName}`,
    packages: [`linuxptp:${debianName}`],
    // phc_ctl needs only libraries that Node links with.
    without: /^(?!linuxptp_)/,
    suites,
  })
  const node = join(await npmPackage(nodeName, nodeVersion), nodeName, 'bin/node')
  return {
    ...kernelIn(directory),
    busybox: join(directory, 'usr/bin/busybox'),
    phcCtl: join(ptpDirectory, 'usr/sbin/phc_ctl'),
    node,
    libraries: join(directory, libraryDirectory),
  }
}

/** Returns the parts that replace `node` by the newest Node, with the library that it needs besides. */
export async function newestNodeParts({ debianName, nodeName, libraryDirectory }) {
  const directory = await debianDirectory({
    name: `rig-atomic-${debianName}`,
    packages: [`libatomic1:${debianName}`],
    without: /^(?!libatomic1_)/,
    suites,
  })
  return {
    node: join(await npmPackage(nodeName, newestNodeVersion), nodeName, 'bin/node'),
    libatomic: join(directory, libraryDirectory, 'libatomic.so.1'),
  }
}

/**
 * Returns the parts of another kernel. `flavour` is Debian's name for it. With `withModules` its drivers are
 * unpacked too.
 */
export async function kernelParts({ debianName, flavour, withModules }) {
  const directory = await debianDirectory({
    name: `rig-kernel-${flavour}`,
    packages: [`linux-image-${flavour}:${debianName}`],
    without: allBut(['linux-binary-', ...(withModules ? ['linux-modules-'] : [])], debianName),
    suites,
  })
  return kernelIn(directory)
}

function allBut(names, debianName) {
  return RegExp(`^(?!(${names.join('|')}).*_${debianName}[.])`)
}

function kernelIn(directory) {
  const modulesDirectory = join(directory, 'usr/lib/modules')
  const [kernelVersion] = readdirSync(modulesDirectory)
  if (kernelVersion === undefined)
    throw new Unavailable(`no kernel among the packages of ${directory}`)
  return {
    kernel: join(modulesDirectory, kernelVersion, 'vmlinuz'),
    modules: join(modulesDirectory, kernelVersion, 'kernel'),
    kernelVersion,
  }
}
