/** The package's one error class, and the functions that make an error from a native failure. */

import type { Failure } from '../native/index'
import { ofThisRealm } from './json'

/**
 * The stable code of an error. Codes never change between releases; messages and remedies may be reworded.
 *
 * | code | meaning |
 * |---|---|
 * | `ERR_VMCLOCK_NOT_FOUND` | there is no page at the path, or none on this machine; no PTP clock of this path or name |
 * | `ERR_VMCLOCK_ACCESS` | the file may not be opened; the remedy says how to let this process read it |
 * | `ERR_VMCLOCK_UNTRUSTED` | a user who is not trusted could write the page, or the file is of a kind that no page has |
 * | `ERR_VMCLOCK_BAD_MAGIC` | the file does not begin with `VCLK` |
 * | `ERR_VMCLOCK_BAD_VERSION` | the page's version is not 1 |
 * | `ERR_VMCLOCK_TOO_SMALL` | file or page are shorter than 32 bytes, or the page claims more than the file holds |
 * | `ERR_VMCLOCK_NO_TIME` | the page carries no time, only the disruption marker |
 * | `ERR_VMCLOCK_UNSYNCHRONIZED` | the page's clock is in a state in which its time must not be used |
 * | `ERR_VMCLOCK_WRONG_COUNTER` | the page describes a counter that this machine does not have |
 * | `ERR_VMCLOCK_COUNTER_MISMATCH` | the counter is more than a second behind the page's reference |
 * | `ERR_VMCLOCK_BAD_PERIOD` | the page's counter period cannot be used |
 * | `ERR_VMCLOCK_OUT_OF_RANGE` | the result does not fit into signed 64-bit nanoseconds |
 * | `ERR_VMCLOCK_NO_TAI_OFFSET` | the page gives no usable offset between TAI and UTC |
 * | `ERR_VMCLOCK_TIMESCALE` | the page does not give this timescale, or the call needs another one than this clock's |
 * | `ERR_VMCLOCK_TIMEOUT` | the page was being updated for 100 ms without end; a PTP clock did not answer in time |
 * | `ERR_VMCLOCK_DISRUPTED` | the machine was migrated, restored or cloned since the token was taken |
 * | `ERR_VMCLOCK_STALE` | the page is older than the caller allows (`maxAgeMs`) |
 * | `ERR_VMCLOCK_TOO_UNCERTAIN` | the bound is greater than the caller allows (`errorLimitNs`), or there is none |
 * | `ERR_VMCLOCK_OTHER_BOOT` | the page was made in another boot of this machine, or on another machine |
 * | `ERR_VMCLOCK_FORKED` | the clock's page was in the memory of the process that this one was forked from |
 * | `ERR_VMCLOCK_BUSY` | another live publisher holds the page |
 * | `ERR_VMCLOCK_UNTRUSTED_COUNTER` | the counter is not sound enough to publish time from |
 * | `ERR_VMCLOCK_NOT_PTP` | the file is no PTP clock |
 * | `ERR_VMCLOCK_NOT_SUPPORTED` | this PTP clock or this kernel does not have the call |
 * | `ERR_VMCLOCK_CLOCKSOURCE` | the system's clocks run on another counter than the PTP clock is read from |
 * | `ERR_VMCLOCK_NO_SOURCE` | the source of time that was chosen gives no time with a bound |
 * | `ERR_VMCLOCK_VANISHED` | the PTP clock is gone: its driver was unbound, or its device removed |
 * | `ERR_VMCLOCK_STEPPED` | the system clock was set back within every bracket |
 * | `ERR_VMCLOCK_AHEAD` | a stamp lies further ahead of this clock than its bound and the allowed skew permit |
 * | `ERR_VMCLOCK_INVALID_ARGUMENT` | an argument is of the wrong type or out of its range |
 * | `ERR_VMCLOCK_CLOSED` | the object was closed |
 * | `ERR_VMCLOCK_UNSUPPORTED` | this system or this runtime cannot do it |
 * | `ERR_VMCLOCK_NO_PEER` | the library that this entry point adapts to does not load |
 * | `ERR_VMCLOCK_NATIVE` | the package's native part is missing or does not load |
 * | `ERR_VMCLOCK_SYSTEM` | a system call failed; see `errno` and `syscall` |
 */
export type VmClockErrorCode =
  | 'ERR_VMCLOCK_NOT_FOUND'
  | 'ERR_VMCLOCK_ACCESS'
  | 'ERR_VMCLOCK_UNTRUSTED'
  | 'ERR_VMCLOCK_BAD_MAGIC'
  | 'ERR_VMCLOCK_BAD_VERSION'
  | 'ERR_VMCLOCK_TOO_SMALL'
  | 'ERR_VMCLOCK_NO_TIME'
  | 'ERR_VMCLOCK_UNSYNCHRONIZED'
  | 'ERR_VMCLOCK_WRONG_COUNTER'
  | 'ERR_VMCLOCK_COUNTER_MISMATCH'
  | 'ERR_VMCLOCK_BAD_PERIOD'
  | 'ERR_VMCLOCK_OUT_OF_RANGE'
  | 'ERR_VMCLOCK_NO_TAI_OFFSET'
  | 'ERR_VMCLOCK_TIMESCALE'
  | 'ERR_VMCLOCK_TIMEOUT'
  | 'ERR_VMCLOCK_DISRUPTED'
  | 'ERR_VMCLOCK_STALE'
  | 'ERR_VMCLOCK_TOO_UNCERTAIN'
  | 'ERR_VMCLOCK_OTHER_BOOT'
  | 'ERR_VMCLOCK_FORKED'
  | 'ERR_VMCLOCK_BUSY'
  | 'ERR_VMCLOCK_UNTRUSTED_COUNTER'
  | 'ERR_VMCLOCK_NOT_PTP'
  | 'ERR_VMCLOCK_NOT_SUPPORTED'
  | 'ERR_VMCLOCK_CLOCKSOURCE'
  | 'ERR_VMCLOCK_NO_SOURCE'
  | 'ERR_VMCLOCK_VANISHED'
  | 'ERR_VMCLOCK_STEPPED'
  | 'ERR_VMCLOCK_AHEAD'
  | 'ERR_VMCLOCK_INVALID_ARGUMENT'
  | 'ERR_VMCLOCK_CLOSED'
  | 'ERR_VMCLOCK_UNSUPPORTED'
  | 'ERR_VMCLOCK_NO_PEER'
  | 'ERR_VMCLOCK_NATIVE'
  | 'ERR_VMCLOCK_SYSTEM'

/** Further details of a {@link VmClockError}. */
export interface VmClockErrorDetails {
  /** The remedy: what the caller can do, in the imperative. */
  readonly remedy?: string | undefined
  /** The file that the error is about. */
  readonly path?: string | undefined
  /** The system's error number, positive. */
  readonly errno?: number | undefined
  /** The system call that failed. */
  readonly syscall?: string | undefined
  /** The error underneath. */
  readonly cause?: unknown
}

// From the global registry, so that two copies of the package recognize each other's errors.
const BRAND = Symbol.for('vmclock.VmClockError')
// Without a prototype: `Object.prototype` may have a `get`.
const BRANDED: PropertyDescriptor = Object.assign(Object.create(null), { value: true })

/**
 * Every error that this package throws of itself. `code` is stable, `message` says what is wrong, and
 * `remedy` says what to do about it.
 *
 * `instanceof` recognizes the errors of every copy of the package that is loaded.
 */
export class VmClockError extends Error {
  /** Always `VmClockError`. */
  override readonly name: string = 'VmClockError'
  /** The stable code. */
  readonly code: VmClockErrorCode
  /** The remedy, in the imperative; undefined if the message already says what is allowed. */
  declare readonly remedy?: string
  /** The file that the error is about, if there is one. */
  declare readonly path?: string
  /** The system's error number, positive, if a system call failed. */
  declare readonly errno?: number
  /** The system call that failed, if one did. */
  declare readonly syscall?: string

  /**
   * @param code - the stable code
   * @param message - what is wrong
   * @param details - the remedy and further details
   */
  constructor(code: VmClockErrorCode, message: string, details: VmClockErrorDetails = {}) {
    // Without a prototype, so that an absent detail is not taken from one.
    const { cause, remedy, path, errno, syscall }: VmClockErrorDetails = Object.assign(
      Object.create(null),
      details,
    )
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    if (remedy !== undefined) this.remedy = remedy
    if (path !== undefined) this.path = path
    if (errno !== undefined) this.errno = errno
    if (syscall !== undefined) this.syscall = syscall
    Object.defineProperty(this, BRAND, BRANDED)
  }

  /** Returns the error for `JSON.stringify`, with its message, which is no enumerable property. */
  toJSON(): Readonly<Record<string, unknown>> {
    // `refuseDetached` imports this file.
    if (this === undefined) {
      throw invalidArgument('toJSON was called without its object', 'call it as object.toJSON()')
    }
    const { name, code, message, remedy, path, errno, syscall } = this
    return { name, code, message, remedy, path, errno, syscall }
  }

  /**
   * Returns whether a value is an error of this package, of any copy of it.
   *
   * @param value - anything
   */
  static isVmClockError(value: unknown): value is VmClockError {
    return isBranded(value)
  }
}

// Outside of the class, because the bundler renames a class that names itself in its own body.
Object.defineProperty(VmClockError, Symbol.hasInstance, {
  value: function hasInstance(this: unknown, value: unknown): boolean {
    // A subclass inherits this function. An error of this package need not be an instance of the subclass.
    return this === VmClockError
      ? isBranded(value)
      : Function.prototype[Symbol.hasInstance].call(this, value)
  },
})

// Not `instanceof Error`, because each realm has its own Error.
function isBranded(value: unknown): value is VmClockError {
  try {
    return typeof value === 'object' && value !== null && Object.hasOwn(value, BRAND)
  } catch {
    // A revoked proxy, or one whose trap throws.
    return false
  }
}

/** Returns whether a native call failed. */
export function isFailure(result: unknown): result is Failure {
  return typeof result === 'object' && result !== null && Object.hasOwn(result, 'failed')
}

/** Makes the error for a native failure. */
export function errorFrom(failure: Failure): VmClockError {
  return new VmClockError(failure.code as VmClockErrorCode, failure.message, failure)
}

/** Returns the result of a native call as a value of this realm, or throws its failure. */
export function checked<Result>(result: Result | Failure): Result {
  if (isFailure(result)) throw errorFrom(result)
  return ofThisRealm(result)
}

/** Makes the error for a call on a closed object. */
export function closedError(what: string): VmClockError {
  return new VmClockError('ERR_VMCLOCK_CLOSED', `this ${what} is closed`, {
    remedy: 'open a new one',
  })
}

/** Makes the error for a wrong argument. The message says what is allowed. */
export function invalidArgument(message: string, remedy?: string): VmClockError {
  return new VmClockError('ERR_VMCLOCK_INVALID_ARGUMENT', message, { remedy })
}
