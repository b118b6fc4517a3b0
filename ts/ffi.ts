/**
 * Binds the native part's C interface by the runtime's foreign function interface (FFI).
 *
 * The functions have only the fast path of each call. They answer NaN where that has no result, or where this thread
 * has no clock of that name. The same call by Node-API then gives the result or the error.
 */

import { checked, VmClockError } from './errors'
import { native } from './native'

/** A call on the clock of a name: NaN, or a number from 0 on, with the figures in the clock's slots. */
type FfiCall = (name: number) => number

/** The functions of the C interface, by their symbols without the prefix. */
export type FfiCalls = { readonly [Name in (typeof CALLS)[number]]: FfiCall }

const CALLS = [
  'now_ns',
  'now_ms',
  'now_hr_time',
  'read',
  'counter',
  'unordered_now_ns',
  'unordered_now_ms',
  'unordered_now_hr_time',
  'unordered_read',
  'unordered_counter',
  'is_continuous',
] as const

/** The part of `node:ffi` that this file uses. */
interface NodeFfi {
  dlopen(
    path: string,
    definitions: Readonly<Record<string, Signature>>,
  ): { readonly functions: Readonly<Record<string, FfiCall & { readonly pointer: bigint }>> }
}

interface Signature {
  readonly arguments: readonly ['double']
  readonly return: 'double'
}

const SIGNATURE: Signature = { arguments: ['double'], return: 'double' }
const OTHERWISE = "or leave out calls: 'ffi' and the variable VMCLOCK_CALLS"

let bound: FfiCalls | undefined

/** Returns the functions of the C interface, or throws why this runtime cannot call them. */
export function ffiCalls(): FfiCalls {
  bound ??= bind()
  return bound
}

function bind(): FfiCalls {
  const { path, address } = checked(native().cInterface())
  const symbols = CALLS.map((call) => `vmclock_${call}`)
  const functions = open(path, Object.fromEntries(symbols.map((symbol) => [symbol, SIGNATURE])))
  // Another file may lie at the path by now. The functions of another copy would know no clock.
  if (functions[`vmclock_${CALLS[0]}`]?.pointer !== address) {
    throw unsupported(
      `the addon at ${path} is not the one that this process has loaded`,
      `restart the process, ${OTHERWISE}`,
    )
  }
  return Object.fromEntries(
    CALLS.map((call) => [call, functions[`vmclock_${call}`]]),
  ) as unknown as FfiCalls
}

function open(path: string, definitions: Readonly<Record<string, Signature>>) {
  const ffi = process.getBuiltinModule?.('node:ffi') as NodeFfi | undefined
  if (ffi === undefined) {
    throw unsupported(
      "calls: 'ffi' needs the module node:ffi, which this runtime does not have",
      `use Node 26.1 or later, and start it with --experimental-ffi where it has that flag, ${OTHERWISE}`,
    )
  }
  try {
    return ffi.dlopen(path, definitions).functions
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_ACCESS_DENIED') {
      throw unsupported(
        "calls: 'ffi' is forbidden by Node's permission model",
        `start Node with --allow-ffi beside --permission, ${OTHERWISE}`,
        cause,
      )
    }
    throw unsupported(
      `node:ffi does not open the addon at ${path}: ${(cause as Error).message}`,
      `use another release of Node, ${OTHERWISE}`,
      cause,
    )
  }
}

function unsupported(message: string, remedy: string, cause?: unknown): VmClockError {
  return new VmClockError('ERR_VMCLOCK_UNSUPPORTED', message, { remedy, cause })
}
