/**
 * Binds the native part's C interface by the runtime's foreign function interface (FFI).
 *
 * The functions have only the fast path of each call. They answer NaN where that has no result, or where this thread
 * has no clock of that name. The same call by Node-API then gives the result or the error.
 */

import { createRequire } from 'node:module'
import { checked, VmClockError } from './errors'
import { type HotCalls, native } from './native'
import { SLOT } from './slots'

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

type Symbols = { readonly [Name in (typeof CALLS)[number] as `vmclock_${Name}`]: FfiCall }
type Definitions<Signature> = Readonly<Record<string, Signature>>

/** The parts of the runtimes' interfaces that this file uses. */
interface NodeFfi {
  dlopen(path: string, definitions: Definitions<typeof NODE>): { readonly functions: Symbols }
}
interface Deno {
  dlopen(path: string, definitions: Definitions<typeof DENO>): { readonly symbols: Symbols }
}
interface BunFfi {
  dlopen(path: string, definitions: Definitions<typeof BUN>): { readonly symbols: Symbols }
}

// The signature of every function, in the words of each runtime.
// Without a prototype: `Object.prototype` may have options of theirs.
const NODE = { __proto__: null, arguments: ['double'], return: 'double' } as const
const DENO = { __proto__: null, parameters: ['f64'], result: 'f64' } as const
const BUN = { __proto__: null, args: ['f64'], returns: 'f64' } as const

const OTHERWISE = "or leave out calls: 'ffi' and the variable VMCLOCK_CALLS"

// As an unsigned number, the last one before a counter wraps.
const NO_COUNTER = -1n

let bound: FfiCalls | undefined

/** Returns the functions of the C interface, or throws why this runtime cannot call them. */
export function ffiCalls(): FfiCalls {
  bound ??= bind()
  return bound
}

/**
 * Throws if the functions are those of another copy of the addon. That copy may know a clock of the same name. So the
 * figures must arrive in the slots of this clock.
 */
export function checkFound(calls: FfiCalls, { name, slots }: HotCalls): void {
  slots[SLOT.Counter] = NO_COUNTER
  if (calls.counter(name) >= 0 && slots[SLOT.Counter] !== NO_COUNTER) return
  throw unsupported(
    "calls: 'ffi' finds another addon in the place of the one that this process has loaded",
    `restart the process, ${OTHERWISE}`,
  )
}

function bind(): FfiCalls {
  const symbols = openAddon(checked(native().addonPath()))
  return Object.fromEntries(
    CALLS.map((call) => [call, symbols[`vmclock_${call}`]]),
  ) as unknown as FfiCalls
}

function openAddon(path: string): Symbols {
  const { Deno, Bun } = globalThis as { readonly Deno?: Deno; readonly Bun?: unknown }
  const node = process.getBuiltinModule?.('node:ffi') as NodeFfi | undefined
  try {
    if (node !== undefined) return node.dlopen(path, definitions(NODE)).functions
    if (Deno !== undefined) return Deno.dlopen(path, definitions(DENO)).symbols
    if (Bun !== undefined) {
      // A name that bundlers do not look for.
      const bun = createRequire(path)('bun:ffi') as BunFfi
      return bun.dlopen(path, definitions(BUN)).symbols
    }
  } catch (cause) {
    throw refused(path, cause as NodeJS.ErrnoException)
  }
  throw unsupported(
    "calls: 'ffi' needs a foreign function interface such as node:ffi, which this runtime does not have",
    `use Node 26.1 or later, and start it with --experimental-ffi where it has that flag, ${OTHERWISE}`,
  )
}

function definitions<Signature>(signature: Signature): Definitions<Signature> {
  const entries = CALLS.map((call) => [`vmclock_${call}`, signature])
  return Object.assign(Object.create(null), Object.fromEntries(entries))
}

function refused(path: string, cause: NodeJS.ErrnoException): VmClockError {
  // Deno has no such case: without --allow-ffi it does not even load the addon.
  if (cause.code === 'ERR_ACCESS_DENIED') {
    return unsupported(
      "calls: 'ffi' is forbidden by Node's permission model",
      `start Node with --allow-ffi, ${OTHERWISE}`,
      cause,
    )
  }
  return unsupported(
    `the runtime's foreign function interface does not open the addon at ${path}: ${cause.message}`,
    `use another release of the runtime, ${OTHERWISE}`,
    cause,
  )
}

function unsupported(message: string, remedy: string, cause?: unknown): VmClockError {
  return new VmClockError('ERR_VMCLOCK_UNSUPPORTED', message, { remedy, cause })
}
