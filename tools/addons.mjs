// Builds the published addons, for four kinds of machine, on any x86-64 Linux machine.
//
// Each build compiles Rust's standard library too. That needs its sources and no rustup target, and it omits
// the backtrace printer, a third of the addon. The standard library and the dependencies are compiled for
// size, because no stamp runs through them. Our own crates are compiled for speed.

import { existsSync, readdirSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { cacheDirectory, pythonPackages, readDirectory } from './cache.mjs'
import { capture, rootDirectory, run, timed, Unavailable } from './command.mjs'
import { debianDirectory, debianProgram } from './debian.mjs'

/** The oldest glibc that can load the addons. */
export const glibcFloor = '2.17'

/** The kinds of machine that have an addon. A package's name ends with `name`. */
export const kinds = [
  { name: 'linux-x64-gnu', target: 'x86_64-unknown-linux-gnu', machine: 'x86-64' },
  { name: 'linux-arm64-gnu', target: 'aarch64-unknown-linux-gnu', machine: 'aarch64' },
  { name: 'linux-x64-musl', target: 'x86_64-unknown-linux-musl', machine: 'x86-64' },
  { name: 'linux-arm64-musl', target: 'aarch64-unknown-linux-musl', machine: 'aarch64' },
].map((kind) => ({ ...kind, isMusl: kind.name.endsWith('musl') }))

/** Builds the four addons, and returns each kind with its file. */
export async function buildAddons() {
  const compiler = await sourceCompiler()
  const zig = await zigDirectory()
  await run('cargo', ['fetch', '--quiet', '--locked'])
  const flags = [
    // Without this flag Rust links musl into the addon, which must use the musl of its Node.
    '-Ctarget-feature=-crt-static',
    // A panic aborts, so nothing unwinds.
    '-Cforce-unwind-tables=no',
    ...machinePaths(compiler.sources).map(
      ([path, shown]) => `--remap-path-prefix=${path}=${shown}`,
    ),
  ]
  const targets = kinds.map(({ target, isMusl }) => (isMusl ? target : `${target}.${glibcFloor}`))
  await timed('four addons (release)', () =>
    run(
      join(zig, 'bin/cargo-zigbuild'),
      [
        ...['zigbuild', '--release', '--locked', '-p', 'vmclock-napi'],
        ...['-Zbuild-std=std,panic_abort', '-Zbuild-std-features=optimize_for_size'],
        ...['--config', 'profile.release.package."*".opt-level="s"'],
        ...targets.map((target) => `--target=${target}`),
      ],
      {
        env: {
          ...compiler.env,
          // Lets the stable compiler use -Zbuild-std.
          RUSTC_BOOTSTRAP: '1',
          CARGO_ENCODED_RUSTFLAGS: flags.join('\x1f'),
          CARGO_ZIGBUILD_ZIG_PATH: join(zig, 'ziglang/zig'),
          CARGO_ZIGBUILD_CACHE_DIR: join(cacheDirectory(), 'cargo-zigbuild'),
          ZIG_GLOBAL_CACHE_DIR: join(cacheDirectory(), 'zig-objects'),
          CARGO_TARGET_DIR: targetDirectory,
        },
      },
    ),
  )
  return kinds.map((kind) => ({
    kind,
    file: join(targetDirectory, kind.target, 'release/libvmclock_napi.so'),
  }))
}

/** Returns the addon that tools/setup.mjs built for this machine, and its kind. */
export function ownAddon() {
  const kind = kinds.find(({ name }) => name === ownKindName)
  if (kind === undefined) throw new Unavailable(`nothing is published for ${ownKindName}`)
  return { kind, file: join(rootDirectory, `native/vmclock.${kind.name}.node`) }
}

/** The name of this machine's kind. */
export const ownKindName = [
  process.platform,
  process.arch,
  process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu',
].join('-')

// Not target/ itself: the compiler may be another one, and the flags differ.
const targetDirectory = join(rootDirectory, 'target/addons')

/** Returns the paths that would reveal the machine that built, each with its replacement. */
function machinePaths(sources) {
  const cargo = process.env.CARGO_HOME || join(homedir(), '.cargo')
  const registries = join(cargo, 'registry/src')
  // rustc applies the last match. The name of a registry's directory contains its address.
  return [
    [homedir(), 'home'],
    [cargo, 'cargo'],
    ...readdirSync(registries).map((name) => [join(registries, name), 'crates']),
    [sources, 'rust'],
    [rootDirectory, 'vmclock'],
  ]
}

/**
 * Returns a compiler with the sources of its standard library: the machine's own (after `rustup component
 * add rust-src`), or Debian's.
 */
export async function sourceCompiler() {
  const own = (await capture('rustc', ['--print', 'sysroot'])).trim()
  const sources = join(own, 'lib/rustlib/src/rust')
  if (existsSync(join(sources, 'library/Cargo.lock'))) return { env: {}, sources }
  const directory = await debianDirectory({
    name: 'rust-compiler',
    packages: ['rustc-web', 'rust-web-src'],
    // This machine has a linker for its own programs, and zig links the addons.
    without:
      /^(gcc|gcc-[0-9]+|cpp|cpp-[0-9]+|libgcc-[0-9]+-dev|libc6-dev|libicu[0-9]+|lib(asan|hwasan|itm|lsan|quadmath|tsan|ubsan).*)_/,
    finish(unfinished) {
      // The sources of the compiler itself are by far the largest part.
      const [sources] = readDirectory(join(unfinished, 'usr/src'))
      for (const part of readDirectory(sources)) {
        if (basename(part) !== 'library') rmSync(part, { recursive: true })
      }
    },
  })
  return {
    env: { RUSTC: debianProgram(directory, 'rustc') },
    sources: join(directory, 'usr/lib/rustlib/src/rust'),
  }
}

function zigDirectory() {
  if (process.arch !== 'x64') throw new Unavailable('the addons are built on x86-64 only')
  return pythonPackages('zig', join(rootDirectory, 'tools/zig-requirements.txt'))
}
