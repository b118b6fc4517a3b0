/** Writes the extension of a page, as a publisher does: what its maker knew. */

import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import type { BoundUnavailableReason, UnknownValue } from 'vmclock'
import type { PageFields, VmClockPage } from 'vmclock/testing'

// `crate/core/src/abi.rs`, module `extension`.
const OFFSET = 0x800
const MAGIC = 0x584c_4356
const VERSION = 2
const SIZE = 0x48
const SEQ_COUNT_OFFSET = 0x0c
const DEVICE_UNAVAILABLE = 1 << 2
const SOURCE_KERNEL = 1

/** All reasons that a publisher gives, and one that this release does not know. */
export type StatedReason =
  | Exclude<BoundUnavailableReason, UnknownValue | 'not-followed' | 'device-stuck' | 'void'>
  | 'unrecognized (200)'

const CODES: Readonly<Record<StatedReason, number>> = {
  unsynchronized: 1,
  'never-updated': 2,
  'off-nominal': 3,
  'change-pending': 4,
  unguarded: 5,
  'stated-error-voided': 6,
  'source-unavailable': 7,
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

/** What the maker of a page knew. Left out: a page of this boot with a bound, on a machine without a device. */
export interface Made {
  readonly noBound?: NoBound | undefined
  /** The boot that the page was made in, 128 bits; this one if left out. */
  readonly bootId?: bigint
  /** True if the machine had a device that the maker could not look at. */
  readonly deviceUnavailable?: boolean
  /** The age in nanoseconds from which the page has no bound; never if left out. */
  readonly voidAfterNs?: bigint
  /** When the maker began, in nanoseconds since 1970. */
  readonly beganNs?: bigint
}

/** The identifier of this boot, 128 bits. */
export function bootIdHere(): bigint {
  const text = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')
  return BigInt(`0x${text.trim().replaceAll('-', '')}`)
}

/** Writes fields and the extension as one update, as a publisher does. */
export function publishWith(page: VmClockPage, fields: PageFields, made: Made = {}): void {
  page.begin()
  page.writeUnguarded(fields)
  writeExtension(page.path, made, page.seqCount + 1)
  page.end()
}

/** Writes the extension into the page of a file, as of the page's present update or of the update `seqCount`. */
export function writeExtension(path: string, made: Made, seqCount?: number): void {
  const { noBound, bootId = bootIdHere(), voidAfterNs = 0n, beganNs = 0n } = made
  const file = openSync(path, 'r+')
  try {
    const extension = Buffer.alloc(SIZE)
    extension.writeUInt32LE(MAGIC, 0)
    extension.writeUInt16LE(VERSION, 4)
    extension.writeUInt16LE(SIZE, 6)
    extension.writeUInt8(noBound === undefined ? 0 : CODES[noBound.reason], 8)
    extension.writeUInt8(noBound?.updatesLeft ?? 0, 9)
    extension.writeUInt8(made.deviceUnavailable === true ? DEVICE_UNAVAILABLE : 0, 10)
    extension.writeUInt8(SOURCE_KERNEL, 11)
    if (seqCount === undefined) readSync(file, extension, 0x0c, 4, SEQ_COUNT_OFFSET)
    else extension.writeUInt32LE(seqCount, 0x0c)
    extension.writeBigUInt64LE(BigInt.asUintN(64, bootId), 0x10)
    extension.writeBigUInt64LE(bootId >> 64n, 0x18)
    extension.writeBigUInt64LE(voidAfterNs, 0x38)
    extension.writeBigInt64LE(beganNs, 0x40)
    writeSync(file, extension, 0, SIZE, OFFSET)
  } finally {
    closeSync(file)
  }
}

/** Writes a reason for a missing bound into the page of a file, as of the page's present update. */
export function stateNoBound(path: string, noBound: NoBound): void {
  writeExtension(path, { noBound })
}
