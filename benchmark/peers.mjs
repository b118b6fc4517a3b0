// Builds the C addon and the Rust program, and installs the npm clocks, when the benchmark needs them.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { capture, rootDirectory, succeeds, timed } from '../tools/command.mjs'
import { digest, isStamped, stamp } from '../tools/stamp.mjs'

const target = join(rootDirectory, 'target/benchmark')

/** Builds the C addon and returns its path, or undefined if there is no C compiler. */
export async function buildPeers() {
  if (!(await succeeds('cc', ['--version']))) return undefined
  mkdirSync(target, { recursive: true })
  const file = join(target, 'peers.node')
  await capture('cc', ['-O2', '-shared', '-fPIC', '-o', file, 'benchmark/peers.c'])
  return file
}

/** Installs the npm clocks and returns the file to require them from. None of them needs a compiler. */
export async function installClocks() {
  const directory = 'benchmark/clocks'
  const modules = `${directory}/node_modules`
  const manifest = `${directory}/package.json`
  const inputs = digest([manifest, `${directory}/package-lock.json`, `${directory}/.npmrc`])
  if (!isStamped(modules, inputs, [])) {
    await timed('npm ci of the clocks', () =>
      capture('npm', ['ci', '--no-audit', '--no-fund'], { cwd: join(rootDirectory, directory) }),
    )
    stamp(modules, inputs)
  }
  return join(rootDirectory, manifest)
}

/** Builds the Rust program and returns its path. */
export async function buildCore() {
  const directory = join(target, 'core')
  const manifest = ['--manifest-path', 'benchmark/core/Cargo.toml']
  await timed('benchmark of the core (release)', () =>
    capture('cargo', ['build', '--release', '--locked', ...manifest], {
      env: { CARGO_TARGET_DIR: directory },
    }),
  )
  return join(directory, 'release/vmclock-benchmark')
}
