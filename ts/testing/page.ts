/** Writes a page field by field, for tests and for authors of hypervisors. */

import * as argument from '../arguments'
import { makeDisposable } from '../disposable'
import { checked, closedError, invalidArgument } from '../errors'
import { type NativePage, type NativePageFields, native } from '../native'

/**
 * Any of a page's fields, by the names of `vmclock-abi.h` in camel case. 64-bit fields are unsigned
 * bigints.
 */
export interface PageFields {
  /** Unsigned 32-bit; 0x4b4c4356, `VCLK`. */
  readonly magic?: number | undefined
  /** Unsigned 32-bit: bytes of the region that holds the structure. */
  readonly size?: number | undefined
  /** Unsigned 16-bit; 1. */
  readonly version?: number | undefined
  /** Unsigned 8-bit: 0 is Arm's virtual counter, 1 the x86 TSC, 255 none. */
  readonly counterId?: number | undefined
  /** Unsigned 8-bit: 0 is UTC, 1 TAI, 2 monotonic. */
  readonly timeType?: number | undefined
  /** Unsigned 32-bit; only for `create` and `writeUnguarded`. Odd while an update is in progress. */
  readonly seqCount?: number | undefined
  /** Changes when something disrupts the counter. */
  readonly disruptionMarker?: bigint | undefined
  /** The bits `VMCLOCK_FLAG_…`. */
  readonly flags?: bigint | undefined
  /** Unsigned 8-bit: 2 is synchronized, 3 free-running; time is refused in other states. */
  readonly clockStatus?: number | undefined
  /** Unsigned 8-bit: 0 is strict, 1 noon-linear, 2 UTC-SLS. */
  readonly leapSecondSmearingHint?: number | undefined
  /** Signed 16-bit: UTC - TAI in seconds, so -37. */
  readonly taiOffsetSec?: number | undefined
  /** Unsigned 8-bit: 0 is none. */
  readonly leapIndicator?: number | undefined
  /** Unsigned 8-bit, up to 127: the period's unit is 2^-(64 + this) s. */
  readonly counterPeriodShift?: number | undefined
  /** The counter at the reference time. */
  readonly counterValue?: bigint | undefined
  /** One tick, in 2^-(64 + shift) s. */
  readonly counterPeriodFracSec?: bigint | undefined
  /** The period's estimated error per tick, in the period's unit. */
  readonly counterPeriodEsterrorRateFracSec?: bigint | undefined
  /** The period's maximum error per tick, in the period's unit. */
  readonly counterPeriodMaxerrorRateFracSec?: bigint | undefined
  /** The reference time in seconds since the epoch of `timeType`. */
  readonly timeSec?: bigint | undefined
  /** The reference time's fraction, in 2^-64 s. */
  readonly timeFracSec?: bigint | undefined
  /** Estimated error at the reference time, nanoseconds. */
  readonly timeEsterrorNanosec?: bigint | undefined
  /** Maximum error at the reference time, nanoseconds. */
  readonly timeMaxerrorNanosec?: bigint | undefined
  /** Changes when the machine is restored from a snapshot or cloned. */
  readonly vmGenerationCounter?: bigint | undefined
}

/** The file's size and mode, and the page's place in it. */
export interface PageLayout {
  /** Length of the file in bytes; 4096 if left out. */
  readonly fileBytes?: number | undefined
  /** Offset of the page in the file in bytes, a multiple of 8; 0 if left out. */
  readonly pageOffset?: number | undefined
  /** The file's mode; 0o644 if left out. */
  readonly mode?: number | undefined
}

// The range of each field that is a number.
const UINT8 = [0, 0xff] as const
const NUMBER_RANGES = {
  magic: [0, 0xffff_ffff],
  size: [0, 0xffff_ffff],
  version: [0, 0xffff],
  counterId: UINT8,
  timeType: UINT8,
  seqCount: [0, 0xffff_ffff],
  clockStatus: UINT8,
  leapSecondSmearingHint: UINT8,
  taiOffsetSec: [-0x8000, 0x7fff],
  leapIndicator: UINT8,
  counterPeriodShift: UINT8,
} as const satisfies Partial<Record<keyof PageFields, readonly [number, number]>>
const UINT64_FIELDS = [
  'disruptionMarker',
  'flags',
  'counterValue',
  'counterPeriodFracSec',
  'counterPeriodEsterrorRateFracSec',
  'counterPeriodMaxerrorRateFracSec',
  'timeSec',
  'timeFracSec',
  'timeEsterrorNanosec',
  'timeMaxerrorNanosec',
  'vmGenerationCounter',
] as const satisfies ReadonlyArray<keyof PageFields>
const FIELDS: readonly string[] = [...Object.keys(NUMBER_RANGES), ...UINT64_FIELDS]
const LAYOUT = ['fileBytes', 'pageOffset', 'mode'] as const satisfies ReadonlyArray<
  keyof PageLayout
>

// Only this module can make pages: a caller's `new` lacks the key. The static block refers to the class as
// `this`, because the bundler renames a class that names itself in its own body.
const KEY: unique symbol = Symbol('VmClockPage.create')
let make: (page: NativePage) => VmClockPage

/**
 * Writes a page field by field. It knows nothing of clocks and checks no value's meaning: the page holds
 * exactly the given fields.
 *
 * After `close` everything throws `ERR_VMCLOCK_CLOSED` but `closed` and `path`.
 */
export class VmClockPage {
  readonly #native: NativePage
  readonly #path: string
  #closed = false

  /** As `close`, for `using`. */
  declare readonly [Symbol.dispose]: () => void

  static {
    make = (page) => new this(KEY, page)
  }

  private constructor(key: symbol, page: NativePage) {
    if (key !== KEY) {
      throw invalidArgument(
        'VmClockPage has no public constructor',
        'use VmClockPage.create() or VmClockPage.open()',
      )
    }
    this.#native = page
    this.#path = page.path
  }

  /**
   * Makes a file that holds a page. The file appears under its name complete, and replaces an existing one.
   *
   * @param path - the file
   * @param fields - the page's fields. Left-out ones become: the right magic, version 1, size 4096,
   * counterId 255 (none), and 0 for all others
   * @param layout - the file's size and mode, and the page's place in it
   * @throws VmClockError `ERR_VMCLOCK_NOT_FOUND`, `ERR_VMCLOCK_ACCESS`, `ERR_VMCLOCK_SYSTEM`,
   * `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_UNSUPPORTED`, `ERR_VMCLOCK_NATIVE`
   */
  static create(path: string, fields: PageFields, layout?: PageLayout): VmClockPage {
    const given = argument.record(layout, 'layout', LAYOUT)
    const most = Number.MAX_SAFE_INTEGER
    const fileBytes = argument.integer(given['fileBytes'], 'layout.fileBytes', 0, most)
    const pageOffset = argument.integer(given['pageOffset'], 'layout.pageOffset', 0, most)
    const mode = argument.integer(given['mode'], 'layout.mode', 0, 0o777)
    const page = native().createPage(argument.path(path), pageFields(fields), {
      fileBytes,
      pageOffset,
      mode,
    })
    return make(checked(page))
  }

  /**
   * Opens a file that holds a page, for writing.
   *
   * @param path - the file
   * @param pageOffset - offset of the page in the file in bytes, a multiple of 8
   * @throws VmClockError as {@link VmClockPage.create}
   */
  static open(path: string, pageOffset = 0): VmClockPage {
    const offset = argument.integer(pageOffset, 'pageOffset', 0, Number.MAX_SAFE_INTEGER) ?? 0
    return make(checked(native().openPage(argument.path(path), offset)))
  }

  /** The file's path. */
  get path(): string {
    return this.#path
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * The page's sequence number, unsigned 32-bit: odd while an update is in progress.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get seqCount(): number {
    return checked(this.#open().seqCount())
  }

  /**
   * Writes fields as one update: readers see all of them or none.
   *
   * @param fields - any of them but `seqCount`
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`, `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  write(fields: PageFields): void {
    checked(this.#open().write(pageFields(fields)))
  }

  /**
   * Writes fields without an update around them, for states that a correct provider never produces.
   * Unless `seqCount` is among the fields, the sequence number stays, so readers do not notice the change.
   *
   * @param fields - any of them
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`, `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  writeUnguarded(fields: PageFields): void {
    checked(this.#open().writeUnguarded(pageFields(fields)))
  }

  /**
   * Begins an update: the sequence number becomes odd. Readers wait for `end`, at most 100 ms.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  begin(): void {
    checked(this.#open().begin())
  }

  /**
   * Ends an update: the sequence number becomes the next even one.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  end(): void {
    checked(this.#open().end())
  }

  /** Unmaps the page; the file stays. Closing again does nothing. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native.close()
  }

  #open(): NativePage {
    if (this.#closed) throw closedError('page')
    return this.#native
  }
}

makeDisposable(VmClockPage)

function pageFields(fields: unknown): NativePageFields {
  const given = argument.record(fields, 'fields', FIELDS)
  const taken: { [Field in keyof NativePageFields]?: number | bigint } = Object.create(null)
  for (const [field, [least, most]] of Object.entries(NUMBER_RANGES)) {
    const value = argument.integer(given[field], `fields.${field}`, least, most)
    if (value !== undefined) taken[field as keyof typeof NUMBER_RANGES] = value
  }
  for (const field of UINT64_FIELDS) {
    const value = argument.optionalUint64(given[field], `fields.${field}`)
    if (value !== undefined) taken[field] = value
  }
  return taken as NativePageFields
}
