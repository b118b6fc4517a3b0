/** The ways in which a clock's calls are made. Each gives the same results, to the last bit. */

import type { VmClockOptions } from 'vmclock'

/** True if this runtime has an FFI that the package binds. The suite `ffi` runs the specs on one that has. */
export const hasFfi: boolean = process.getBuiltinModule?.('node:ffi') !== undefined

/** The options of each way, by a name for test titles. */
export const KINDS: ReadonlyArray<readonly [name: string, options: VmClockOptions]> = [
  ['ordered', { calls: 'node-api' }],
  ['unordered', { calls: 'node-api', ordered: false }],
  ...(hasFfi
    ? ([
        ['ordered by FFI', { calls: 'ffi' }],
        ['unordered by FFI', { calls: 'ffi', ordered: false }],
      ] as const)
    : []),
]
