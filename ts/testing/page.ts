/** Writes a page field by field, for tests and for authors of hypervisors. */

import * as argument from '../arguments'
import { refuseDetached } from '../detached'
import { makeDisposable } from '../disposable'
import { checked, closedError, invalidArgument } from '../errors'
import { type NativeFieldType, type NativePage, type NativePageFields, native } from '../native'
import type { RawPage } from '../snapshot'

/**
 * Any subset of a page's fields, by the names of `vmclock-abi.h` in camel case. 64-bit fields are unsigned
 * bigints.
 */
export interface PageFields extends Settable<RawPage> {
  /** Unsigned 32-bit; 0x4b4c4356, `VCLK`. */
  readonly magic?: number | undefined
}

type Settable<Fields> = {
  readonly [Name in keyof Fields]?: NonNullable<Fields[Name]> | undefined
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
      fileBytes: fileBytes ?? null,
      pageOffset: pageOffset ?? null,
      mode: mode ?? null,
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
refuseDetached(VmClockPage)

let fieldTypes: readonly NativeFieldType[] | undefined

/** Checks fields against what each of them can hold. */
function pageFields(fields: unknown): NativePageFields {
  fieldTypes ??= native().pageFieldTypes()
  const names = fieldTypes.map(({ name }) => name)
  const given = argument.record(fields, 'fields', names)
  const checkedFields: { [Name in keyof NativePageFields]?: number | bigint } = Object.create(null)
  for (const { name, isBigint, least, most } of fieldTypes) {
    const value = isBigint
      ? argument.optionalUint64(given[name], `fields.${name}`)
      : argument.integer(given[name], `fields.${name}`, least, most)
    if (value !== undefined) checkedFields[name] = value
  }
  return checkedFields as NativePageFields
}
