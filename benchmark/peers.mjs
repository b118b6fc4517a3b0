// The C addon and the Rust program, built where they are needed and not before.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { capture, rootFolder, succeeds, timed } from '../tools/command.mjs'

const target = join(rootFolder, 'target/benchmark')

/** The C addon's file; undefined where there is no C compiler. */
export async function buildPeers() {
  if (!(await succeeds('cc', ['--version']))) return undefined
  mkdirSync(target, { recursive: true })
  const file = join(target, 'peers.node')
  await capture('cc', ['-O2', '-shared', '-fPIC', '-o', file, 'benchmark/peers.c'])
  return file
}

/** The Rust program's file. */
export async function buildCore() {
  const folder = join(target, 'core')
  const manifest = ['--manifest-path', 'benchmark/core/Cargo.toml']
  await timed('benchmark of the core (release)', () =>
    capture('cargo', ['build', '--release', '--locked', ...manifest], {
      env: { CARGO_TARGET_DIR: folder },
    }),
  )
  return join(folder, 'release/vmclock-benchmark')
}
