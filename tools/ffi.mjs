// Runs specs on a Node that has an FFI, with clocks whose calls go through it, and a program in Deno and Bun.
//
// `node tools/ffi.mjs [SPEC…]` runs only the named specs, on Node.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newestNode } from '../benchmark/nodes.mjs'
import { bun, deno } from '../install/runtimes.mjs'
import { asProgram, rootDirectory, run } from './command.mjs'

// The specs of readers. `slots` and `vectors` compare all ways of a call. `boundary` has values of every kind.
const SPECS = [
  ...['ffi', 'slots', 'vectors', 'unordered', 'hr-time', 'lifetime', 'many-clocks', 'boundary'],
  ...['bad-input', 'continuity', 'clones', 'tearing', 'usable', 'truth', 'process-page'],
  ...['ordering', 'open-options', 'paused-reader'],
]

/** Runs the specs, and the program in the other runtimes. */
export async function checkFfi() {
  await runSpecs(SPECS)
  // The runtimes' packages are those of x86-64.
  if (process.arch !== 'x64') return
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-ffi-'))
  try {
    for (const { name, command } of [deno, bun]) {
      const [program, ...args] = await command()
      await run(program, [...args, '__test__/ffi/program.cjs', join(directory, name)])
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

async function runSpecs(names) {
  const { path } = await newestNode()
  const specs = names.map((name) => `__test__/${name}.spec.ts`)
  const ava = join(rootDirectory, 'node_modules/ava/entrypoints/cli.mjs')
  // In worker threads, which this project's specs run in otherwise, the calls go by Node-API.
  await run(path, [ava, '--no-worker-threads', ...specs], {
    env: {
      VMCLOCK_CALLS: 'ffi',
      // The specs compare what a process prints.
      NODE_OPTIONS: '--disable-warning=ExperimentalWarning --disable-warning=DEP0205',
    },
  })
}

await asProgram(import.meta.url, (names) => (names.length > 0 ? runSpecs(names) : checkFfi()))
