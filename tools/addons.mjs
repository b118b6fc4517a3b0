// Builds the addons that are published, for four kinds of machine, on any x86-64 Linux machine.
//
// Rust's standard library is compiled along with each. That asks for its sources only, and for no
// target of rustup's; and it leaves out what prints backtraces, a third of the addon. It and the
// crates from elsewhere are compiled to be small, which no stamp runs through; our own to be fast.

import { existsSync, readdirSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { cacheFolder, pythonPackages, readFolder } from './cache.mjs'
import { capture, rootFolder, run, timed, Unavailable } from './command.mjs'
import { debianFolder, debianProgram } from './debian.mjs'

/** The oldest glibc that the addons load on. */
export const glibcFloor = '2.17'

/** What the addons are built for. `name` is also the end of the package's name. */
export const kinds = [
  { name: 'linux-x64-gnu', target: 'x86_64-unknown-linux-gnu', machine: 'x86-64' },
  { name: 'linux-arm64-gnu', target: 'aarch64-unknown-linux-gnu', machine: 'aarch64' },
  { name: 'linux-x64-musl', target: 'x86_64-unknown-linux-musl', machine: 'x86-64' },
  { name: 'linux-arm64-musl', target: 'aarch64-unknown-linux-musl', machine: 'aarch64' },
].map((kind) => ({ ...kind, isMusl: kind.name.endsWith('musl') }))

/** Builds them, and gives each kind with its file. */
export async function buildAddons() {
  const compiler = await sourceCompiler()
  const zig = await zigFolder()
  await run('cargo', ['fetch', '--quiet', '--locked'])
  const flags = [
    // Rust would link musl into the addon, which has to use that of its Node.
    '-Ctarget-feature=-crt-static',
    // Nothing unwinds where a panic aborts.
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
          // -Zbuild-std is for nightly compilers; the one that is used is stable all the same.
          RUSTC_BOOTSTRAP: '1',
          CARGO_ENCODED_RUSTFLAGS: flags.join('\x1f'),
          CARGO_ZIGBUILD_ZIG_PATH: join(zig, 'ziglang/zig'),
          CARGO_ZIGBUILD_CACHE_DIR: join(cacheFolder(), 'cargo-zigbuild'),
          ZIG_GLOBAL_CACHE_DIR: join(cacheFolder(), 'zig-objects'),
          CARGO_TARGET_DIR: targetFolder,
        },
      },
    ),
  )
  return kinds.map((kind) => ({
    kind,
    file: join(targetFolder, kind.target, 'release/libvmclock_napi.so'),
  }))
}

/** The one that this machine's set-up made for itself, and its kind. */
export function ownAddon() {
  const kind = kinds.find(({ name }) => name === ownKindName)
  if (kind === undefined) throw new Unavailable(`nothing is published for ${ownKindName}`)
  return { kind, file: join(rootFolder, `native/vmclock.${kind.name}.node`) }
}

/** The kind of this machine, by its name. */
export const ownKindName = [
  process.platform,
  process.arch,
  process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu',
].join('-')

// Apart from the rest of target/: it is made by another compiler, perhaps, and with other flags.
const targetFolder = join(rootFolder, 'target/addons')

/** What would tell of the machine that built: paths, each with what stands in for it. */
function machinePaths(sources) {
  const cargo = process.env.CARGO_HOME || join(homedir(), '.cargo')
  const registries = join(cargo, 'registry/src')
  // rustc takes the last that fits. The folder of a registry is named for its address.
  return [
    [homedir(), 'home'],
    [cargo, 'cargo'],
    ...readdirSync(registries).map((name) => [join(registries, name), 'crates']),
    [sources, 'rust'],
    [rootFolder, 'vmclock'],
  ]
}

/**
 * A compiler with the sources of its standard library: the machine's (`rustup component add rust-src`),
 * or Debian's own.
 */
export async function sourceCompiler() {
  const own = (await capture('rustc', ['--print', 'sysroot'])).trim()
  const sources = join(own, 'lib/rustlib/src/rust')
  if (existsSync(join(sources, 'library/Cargo.lock'))) return { env: {}, sources }
  const folder = await debianFolder({
    name: 'rust-compiler',
    packages: ['rustc-web', 'rust-web-src'],
    // This machine has a linker for what runs on it; the addons' is zig.
    without:
      /^(gcc|gcc-[0-9]+|cpp|cpp-[0-9]+|libgcc-[0-9]+-dev|libc6-dev|libicu[0-9]+|lib(asan|hwasan|itm|lsan|quadmath|tsan|ubsan).*)_/,
    finish(unfinished) {
      // Of all the sources, those of the compiler itself are by far the most.
      const [sources] = readFolder(join(unfinished, 'usr/src'))
      for (const part of readFolder(sources)) {
        if (basename(part) !== 'library') rmSync(part, { recursive: true })
      }
    },
  })
  return {
    env: { RUSTC: debianProgram(folder, 'rustc') },
    sources: join(folder, 'usr/lib/rustlib/src/rust'),
  }
}

function zigFolder() {
  if (process.arch !== 'x64') throw new Unavailable('the addons are built on x86-64 only')
  return pythonPackages('zig', join(rootFolder, 'tools/zig-requirements.txt'))
}
