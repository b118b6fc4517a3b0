/** Writes the extension of a page in which a publisher says why the page states no bound. */

import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import type { BoundUnavailableReason, UnknownValue } from 'vmclock'

// `crate/core/src/abi.rs`, module `extension`.
const OFFSET = 0x800
const MAGIC = 0x584c_4356
const VERSION = 1
const SIZE = 0x10
const SEQ_COUNT_OFFSET = 0x0c

/** All reasons that this release knows, and one that it does not know. */
export type StatedReason = Exclude<BoundUnavailableReason, UnknownValue> | 'unrecognized (200)'

const CODES: Readonly<Record<StatedReason, number>> = {
  unsynchronized: 1,
  'never-updated': 2,
  'off-nominal': 3,
  'change-pending': 4,
  stepped: 16,
  slewed: 17,
  'frequency-changed': 18,
  suspended: 19,
  disrupted: 20,
  'taken-over': 21,
  started: 22,
  'zero-error': 23,
  'unrecognized (200)': 200,
}

/** A reason for a missing bound. Only those from `stepped` on have updates left. */
export interface NoBound {
  readonly reason: StatedReason
  readonly updatesLeft?: number
}

/** Writes a reason into the page of a file, as of the page's present update. */
export function stateNoBound(path: string, { reason, updatesLeft = 0 }: NoBound): void {
  const file = openSync(path, 'r+')
  try {
    const extension = Buffer.alloc(SIZE)
    extension.writeUInt32LE(MAGIC, 0)
    extension.writeUInt16LE(VERSION, 4)
    extension.writeUInt16LE(SIZE, 6)
    extension.writeUInt8(CODES[reason], 8)
    extension.writeUInt8(updatesLeft, 9)
    readSync(file, extension, 0x0c, 4, SEQ_COUNT_OFFSET)
    writeSync(file, extension, 0, SIZE, OFFSET)
  } finally {
    closeSync(file)
  }
}
