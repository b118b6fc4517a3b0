// Runs specs on a Node that has an FFI, with clocks whose calls go through it.
//
// `node tools/ffi.mjs [SPEC…]`.

import { join } from 'node:path'
import { newestNode } from '../benchmark/nodes.mjs'
import { asProgram, rootDirectory, run } from './command.mjs'

// The specs of readers. `slots` and `vectors` compare all ways of a call. `boundary` has values of every kind.
const SPECS = [
  ...['ffi', 'slots', 'vectors', 'unordered', 'hr-time', 'lifetime', 'many-clocks', 'boundary'],
  ...[
    'bad-input',
    'continuity',
    'clones',
    'tearing',
    'usable',
    'truth',
    'process-page',
    'ordering',
  ],
  ...['open-options', 'paused-reader'],
]

/** Runs the specs, all of `SPECS` or the named ones. */
export async function checkFfi(names = SPECS) {
  const { path } = await newestNode()
  const specs = names.map((name) => `__test__/${name}.spec.ts`)
  await run(path, [join(rootDirectory, 'node_modules/ava/entrypoints/cli.mjs'), ...specs], {
    env: {
      VMCLOCK_CALLS: 'ffi',
      // The specs compare what a process prints.
      NODE_OPTIONS: '--disable-warning=ExperimentalWarning --disable-warning=DEP0205',
    },
  })
}

await asProgram(import.meta.url, (names) => checkFfi(names.length > 0 ? names : undefined))
