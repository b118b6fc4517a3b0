/** The ways in which a clock's calls are made. Each gives the same results, to the last bit. */

import type { VmClockOptions } from 'vmclock'

/** The options of each way, by a name for test titles. */
export const KINDS: ReadonlyArray<readonly [name: string, options: VmClockOptions]> = [
  ['ordered', {}],
  ['unordered', { ordered: false }],
]
