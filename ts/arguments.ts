/**
 * Checks callers' arguments. Types do not exist at run time, so every argument passes these checks before it
 * reaches the native part. The messages say which values are allowed.
 */

import { types } from 'node:util'
import type { AbortSignalLike } from './abort-signal'
import { invalidArgument } from './errors'

const UINT64_MAX = 2n ** 64n - 1n

// Returns the type's name of a typed array. An own property cannot replace it.
const kindGetter = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  Symbol.toStringTag,
)?.get

/** Describes a value in a few words, without running code of the value's. */
function describe(value: unknown): string {
  if (value === null) return 'null'
  // This comes first: any other question runs the proxy's code, and throws if the proxy is revoked.
  if (types.isProxy(value)) return 'a proxy'
  if (Array.isArray(value)) return 'an array'
  switch (typeof value) {
    case 'string': {
      // A character of a string that was never made whole costs all of it.
      if (value.length > LONGEST_PATH_BYTES) return `a string of ${value.length} characters`
      const shown = value.length > 40 ? `${value.slice(0, 40)}…` : value
      return JSON.stringify(shown)
    }
    case 'bigint':
      // A very large bigint takes seconds to become decimal.
      return value === BigInt.asIntN(128, value) ? `${value}n` : 'a bigint of more than 128 bits'
    case 'object':
      return types.isTypedArray(value) ? `a ${kindGetter?.call(value)}` : 'an object'
    case 'function':
      return 'a function'
    case 'symbol':
      // Its description may be of any length.
      return 'a symbol'
    default:
      return String(value)
  }
}

/** Returns the answer to `question`; false if it throws, as it does for a revoked proxy. */
export function holds(question: () => boolean): boolean {
  try {
    return question()
  } catch {
    return false
  }
}

/** The longest path that Linux takes, in bytes: PATH_MAX without the NUL at its end. */
export const LONGEST_PATH_BYTES = 4095

/** Checks a path: a string that is not empty, not too long, and holds no NUL. */
export function path(value: unknown, name = 'path'): string {
  if (typeof value !== 'string') {
    throw invalidArgument(`${name} must be a string, and this is ${describe(value)}`)
  }
  if (value === '') {
    throw invalidArgument(`${name} is empty`, "leave it out to take this machine's own page")
  }
  // No character takes less than a byte, so a very long string is not encoded to measure it.
  if (value.length > LONGEST_PATH_BYTES || Buffer.byteLength(value) > LONGEST_PATH_BYTES) {
    throw invalidArgument(
      `${name} must be at most ${LONGEST_PATH_BYTES} bytes long, and this is ${describe(value)}`,
    )
  }
  if (value.includes('\0')) {
    throw invalidArgument(`${name} holds a NUL character, which no path can`, 'remove it')
  }
  return value
}

// Names of PTP clocks have at most 32 bytes in the kernel.
const LONGEST_NAME = 255

/** Checks a name: a string that is neither empty nor longer than any name. */
export function called(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '' && value.length <= LONGEST_NAME) return value
  throw invalidArgument(
    `${name} must be a string of 1 to ${LONGEST_NAME} characters, and this is ${describe(value)}`,
  )
}

/**
 * Checks a plain object and returns its own properties, each read once. It takes no property from a
 * prototype: other code that writes to `Object.prototype` cannot choose the timescale.
 */
export function record(
  value: unknown,
  name: string,
  known: readonly string[],
): Record<string, unknown> {
  if (value === undefined) return Object.create(null) as Record<string, unknown>
  if (typeof value !== 'object' || value === null || !holds(() => isPlain(value))) {
    throw invalidArgument(
      `${name} must be a plain object such as { ${known[0]}: … }, and this is ${describe(value)}`,
    )
  }
  const taken = Object.create(null) as Record<string, unknown>
  for (const key of Reflect.ownKeys(value)) {
    if (typeof key !== 'string' || !known.includes(key)) {
      throw invalidArgument(
        `${name} have no ${describe(typeof key === 'string' ? key : String(key))}`,
        `use only: ${known.join(', ')}`,
      )
    }
    taken[key] = (value as Record<string, unknown>)[key]
  }
  return taken
}

// A plain object's prototype is null or has no prototype itself, in every realm.
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

/** Checks one of a few words or booleans; undefined stays undefined. */
export function choice<Word extends string | boolean>(
  value: unknown,
  name: string,
  words: readonly Word[],
): Word | undefined {
  if (value === undefined) return undefined
  const found = words.find((word) => word === value)
  if (found !== undefined) return found
  throw invalidArgument(
    `${name} must be ${words.map(quoted).join(' or ')}, and this is ${describe(value)}`,
  )
}

function quoted(word: string | boolean): string {
  return typeof word === 'string' ? `'${word}'` : String(word)
}

/** Checks that a value is a function. */
export function functionValue(value: unknown, name: string): void {
  if (typeof value === 'function') return
  throw invalidArgument(`${name} must be a function, and this is ${describe(value)}`)
}

/** Checks a boolean; undefined stays undefined. */
export function flag(value: unknown, name: string): boolean | undefined {
  if (value === undefined || typeof value === 'boolean') return value
  throw invalidArgument(`${name} must be true or false, and this is ${describe(value)}`)
}

/** Checks a number within a range, both ends included; undefined stays undefined. */
export function number(
  value: unknown,
  name: string,
  least: number,
  most: number,
): number | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'number' && value >= least && value <= most) return value
  throw invalidArgument(
    `${name} must be a number from ${least} to ${most}, and this is ${describe(value)}`,
  )
}

/** Checks a whole number within a range, both ends included; undefined stays undefined. */
export function integer(
  value: unknown,
  name: string,
  least: number,
  most: number,
): number | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) {
    return value
  }
  throw invalidArgument(
    `${name} must be a whole number from ${least} to ${most}, and this is ${describe(value)}`,
  )
}

/** Checks an unsigned 64-bit value as a bigint. */
export function uint64(value: unknown, name: string): bigint {
  if (typeof value === 'bigint' && value >= 0n && value <= UINT64_MAX) return value
  throw invalidArgument(
    `${name} must be a bigint from 0n to 2n ** 64n - 1n, and this is ${describe(value)}`,
  )
}

/** Checks an unsigned 64-bit value as a bigint; undefined stays undefined. */
export function optionalUint64(value: unknown, name: string): bigint | undefined {
  return value === undefined ? undefined : uint64(value, name)
}

/** Checks a count of nanoseconds, from 0 to the largest signed 64-bit value; undefined stays undefined. */
export function int63(value: unknown, name: string): bigint | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'bigint' && value >= 0n && value < 2n ** 63n) return value
  throw invalidArgument(
    `${name} must be a bigint from 0n to 2n ** 63n - 1n, and this is ${describe(value)}`,
  )
}

/** Checks a signed 64-bit count of nanoseconds. */
export function int64(value: unknown, name: string): bigint {
  if (typeof value === 'bigint' && value === BigInt.asIntN(64, value)) return value
  throw invalidArgument(
    `${name} must be a bigint from -(2n ** 63n) to 2n ** 63n - 1n, and this is ${describe(value)}`,
  )
}

/** Checks an abort signal, of any realm; undefined stays undefined. */
export function abortSignal(value: unknown, name: string): AbortSignalLike | undefined {
  if (value === undefined) return undefined
  const signal = value as AbortSignalLike | null
  if (
    typeof signal === 'object' &&
    signal !== null &&
    holds(
      () =>
        typeof signal.aborted === 'boolean' &&
        typeof signal.addEventListener === 'function' &&
        typeof signal.removeEventListener === 'function',
    )
  ) {
    return signal
  }
  throw invalidArgument(
    `${name} must be an AbortSignal such as that of an AbortController, and this is ${describe(value)}`,
  )
}

// An array can claim billions of elements without holding them.
const MOST_UIDS = 65_536

/** Checks user numbers; undefined means none. */
export function uids(value: unknown, name: string): number[] {
  if (value === undefined) return []
  if (!holds(() => Array.isArray(value))) {
    throw invalidArgument(
      `${name} must be an array of user numbers such as [1000], and this is ${describe(value)}`,
    )
  }
  if ((value as unknown[]).length > MOST_UIDS) {
    throw invalidArgument(`${name} must hold at most ${MOST_UIDS} user numbers`)
  }
  return Array.from(value as unknown[], (uid, index) => {
    const checked = integer(uid, `${name}[${index}]`, 0, 2 ** 32 - 1)
    if (checked === undefined) throw invalidArgument(`${name}[${index}] must be a user number`)
    return checked
  })
}

/** Makes the error for a value that cannot take a pair of figures. */
export function notPair(value: unknown, name: string): Error {
  return holds(() => Array.isArray(value))
    ? invalidArgument(`${name} refused to be written`, 'pass an array that is not frozen, or none')
    : invalidArgument(`${name} must be an array such as [0, 0], and this is ${describe(value)}`)
}

/**
 * Checks that `slots` has room for `count` values from index `at`. It is short, so that V8 inlines it into
 * its callers.
 */
export function room(slots: BigInt64Array, at: number, count: number): void {
  if (
    typeNameOf(slots) !== 'BigInt64Array' ||
    !Number.isInteger(at) ||
    at < 0 ||
    slots[at + count - 1] === undefined
  ) {
    throw noRoom(slots, at, count)
  }
}

function noRoom(slots: unknown, at: unknown, count: number): Error {
  if (!types.isBigInt64Array(slots)) {
    return invalidArgument(`slots must be a BigInt64Array, and this is ${describe(slots)}`)
  }
  if (typeof at !== 'number' || !Number.isInteger(at) || at < 0) {
    return invalidArgument(`at must be a whole number from 0 on, and this is ${describe(at)}`)
  }
  return tooShort('slots', slots, at + count)
}

/** Checks a `BigUint64Array` of counters, and a `BigInt64Array` with room for as many results. */
export function conversion(counters: unknown, out: unknown): void {
  if (!types.isBigUint64Array(counters)) {
    throw invalidArgument(`counters must be a BigUint64Array, and this is ${describe(counters)}`)
  }
  if (!types.isBigInt64Array(out)) {
    throw invalidArgument(`out must be a BigInt64Array, and this is ${describe(out)}`)
  }
  if (isDetached(counters)) throw detached('counters')
  if (isDetached(out)) throw detached('out')
  if (lengthOf(out) < lengthOf(counters)) throw tooShort('out', out, lengthOf(counters))
}

function tooShort(name: string, array: BigInt64Array, needed: number): Error {
  if (isDetached(array)) return detached(name)
  return invalidArgument(
    `${name} holds ${lengthOf(array)} figures and ${needed} are needed`,
    'make it longer',
  )
}

function detached(name: string): Error {
  return invalidArgument(
    `the buffer of ${name} is detached: it was transferred elsewhere`,
    'use the array that received it, or a new one',
  )
}

// These getters work on a typed array itself: no subclass and no own property can replace them. They are
// bound to `call` once, because V8 does not inline a function that calls a getter by the getter's `call`.
const typedArray = Object.getPrototypeOf(BigInt64Array.prototype) as object
const lengthOf = getterOf('length') as (array: BigInt64Array | BigUint64Array) => number
/** Returns the name of the type; undefined if the value is no typed array. */
const typeNameOf = getterOf(Symbol.toStringTag) as (value: unknown) => string | undefined

function getterOf(name: string | symbol): unknown {
  const getter = Object.getOwnPropertyDescriptor(typedArray, name)?.get
  return Function.prototype.call.bind(getter as () => unknown)
}

// Node 20 has no `ArrayBuffer.prototype.detached`. Making a view of a detached buffer throws.
function isDetached(array: BigInt64Array | BigUint64Array): boolean {
  try {
    new Uint8Array(array.buffer)
    return false
  } catch {
    return true
  }
}

/** Sorts the arguments of calls that take a path, options, or both. */
export function pathAndOptions(first: unknown, second: unknown): [string | undefined, unknown] {
  if (first === undefined) return [undefined, second]
  if (typeof first === 'object' && first !== null) {
    if (second === undefined) return [undefined, first]
    throw invalidArgument('options were given twice', 'give (path, options) or (options)')
  }
  return [path(first), second]
}
