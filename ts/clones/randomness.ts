/** Makes every random value of the process differ from those of its clones. */

import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import * as argument from '../arguments'
import { checked, VmClockError } from '../errors'
import { native } from '../native'
import {
  begin,
  isUnchanged,
  isUnchangedAfter,
  lastEpoch,
  lookOrUnknown,
  onRestore,
  seesWords,
  signalNow,
  UNKNOWN,
} from './restores'
import { uuidPool } from './uuid-pool'

/** Options of {@link protectRandomness}. */
export interface ProtectOptions {
  /**
   * The answer to a lack of entropy that clones do not share. `throw` (the default): the call throws, and later
   * draws fail if a restore comes and there is none. Node reports a failed draw as an error or, at some places,
   * ends the process. `warn`: the generator is reseeded from counter and time, so that clones differ, but others
   * could guess the difference; a process warning `VMCLOCK_NO_ENTROPY` says so.
   *
   * The process remains strict once any of its threads has asked for `throw`.
   */
  readonly onNoEntropy?: 'throw' | 'warn' | undefined
  /**
   * The page to look at. Default: the page at `$VMCLOCK_PATH`, else the machine's device, `/dev/vmclock0`. The
   * first call in a process decides.
   */
  readonly path?: string | undefined
  /** User IDs, besides root's and the caller's, that may own a page that is a regular file. */
  readonly trustedUids?: readonly number[] | undefined
}

/** How the process notices that its machine was restored. */
export interface ProtectionSignal {
  /**
   * `page`: a vmclock page. `uevent`: the kernel's VMGENID uevent. `none`: nothing but {@link notifyRestored}.
   * A kernel that has not sent a uevent yet may be one that never does, so that is `none`.
   */
  readonly kind: 'page' | 'uevent' | 'none'
  /**
   * True if the signal is there before the first instruction after a restore: the page is the hypervisor's
   * device. False if it comes some time later. Until then clones may draw the same values.
   */
  readonly isSynchronous: boolean
  /**
   * Which of the page's numbers counts: `generation`, or `marker` on pages without one, which a live migration
   * changes too. Undefined without a page.
   */
  readonly counts: 'generation' | 'marker' | undefined
  /** The page's path; undefined without a page. */
  readonly path: string | undefined
  /** Why this process cannot look at the machine's device. */
  readonly unavailable: string | undefined
  /** The remedy for that, in the imperative. */
  readonly remedy: string | undefined
}

/** The protection of the process, and of this thread's caches. */
export interface RandomnessProtection {
  /** True while OpenSSL calls the protection. Other native code can replace it at any time. */
  readonly active: boolean
  /**
   * The entropy of the last reseed; before the first restore, the one that a reseed will have.
   *
   * - `hardware`: the CPU's generator
   * - `kernel`: the kernel's, known to have reseeded since the restore. Before the first restore it means that a
   *   draw will wait for that
   * - `none`: none that clones do not share
   */
  readonly entropy: 'hardware' | 'kernel' | 'none'
  /** How the process notices restores. */
  readonly signal: ProtectionSignal
  /** How often the protection has reseeded OpenSSL in this process, the first time included. */
  readonly reseeds: number
  /** True if JavaScript sees the page, so that a look at it costs a nanosecond or two. */
  readonly looksFromJavaScript: boolean
}

const OPTIONS = ['onNoEntropy', 'path', 'trustedUids'] as const satisfies ReadonlyArray<
  keyof ProtectOptions
>

class Protection implements RandomnessProtection {
  get active(): boolean {
    return native().protectionState()?.isInstalled ?? false
  }

  get entropy(): 'hardware' | 'kernel' | 'none' {
    return (native().protectionState()?.entropy ?? 'none') as 'hardware' | 'kernel' | 'none'
  }

  get signal(): ProtectionSignal {
    const { path, isDevice, hasGeneration, unavailable, remedy, hasSeenUevent } = signalNow()
    const kind = path !== undefined ? 'page' : hasSeenUevent ? 'uevent' : 'none'
    const counts = path === undefined ? undefined : hasGeneration ? 'generation' : 'marker'
    return Object.freeze({ kind, isSynchronous: isDevice, counts, path, unavailable, remedy })
  }

  get reseeds(): number {
    return native().protectionState()?.reseeds ?? 0
  }

  get looksFromJavaScript(): boolean {
    return seesWords()
  }
}

let protection: Protection | undefined

/**
 * Protects the randomness of this process: every byte that OpenSSL gives is drawn after a reseed, if the machine
 * was restored or cloned since the last. That is all of `node:crypto`, webcrypto, key generation and TLS, in all
 * threads. The look happens in the call itself.
 *
 * In the calling thread it also wraps the functions whose values Node prepares ahead or returns later:
 * `randomUUID`, `randomInt`, `randomBytes`, `randomFill`, `generateKey`, `generateKeyPair`, `generatePrime`,
 * `getRandomValues`, `subtle.generateKey` and their kin. References that were taken before are not covered, so
 * load `vmclock/clones/protect` first. Workers inherit `node --import vmclock/clones/protect`; without it, call
 * this in each worker.
 *
 * `Math.random` is not covered: V8 gives no access to its state.
 *
 * Calling it again returns the same protection.
 *
 * @param options - see {@link ProtectOptions}
 * @returns the protection, which lasts as long as the process
 * @throws VmClockError
 * - `ERR_VMCLOCK_UNSUPPORTED`: a runtime whose generator no hook reaches (Bun, Deno, Electron, FIPS), other
 *   code's RAND_METHOD, or no entropy
 * - `ERR_VMCLOCK_INVALID_ARGUMENT`: also for another path than the process's
 * - `ERR_VMCLOCK_NATIVE`, and those of opening a page
 */
export function protectRandomness(options: ProtectOptions = {}): RandomnessProtection {
  const given = argument.record(options, 'options', OPTIONS)
  const onNoEntropy =
    argument.choice(given['onNoEntropy'], 'options.onNoEntropy', ['throw', 'warn']) ?? 'throw'
  const path =
    given['path'] === undefined ? undefined : argument.path(given['path'], 'options.path')
  const trustedUids = argument.uids(given['trustedUids'], 'options.trustedUids')
  begin(path, trustedUids)
  const binding = native()
  const wasInstalled = binding.protectionState()?.isInstalled ?? false
  checked(binding.protectOpenSsl(onNoEntropy === 'throw'))
  if (protection === undefined) {
    try {
      prove()
    } catch (error) {
      if (!wasInstalled) binding.unprotectOpenSsl()
      throw error
    }
    wrapAll()
    protection = new Protection()
    warnOf(protection)
    // A reseed after a restore may have less than the machine promised.
    if (onNoEntropy === 'warn') onRestore(() => setImmediate(warnIfNoEntropy).unref())
  }
  return protection
}

function warnOf({ entropy, signal }: RandomnessProtection): void {
  if (entropy === 'none') warnOfNoEntropy()
  if (signal.unavailable === undefined) return
  process.emitWarning(
    `clones of this machine may share random values: ${signal.unavailable}; ${signal.remedy}`,
    { type: 'VmClockWarning', code: 'VMCLOCK_NO_SIGNAL' },
  )
}

function warnIfNoEntropy(): void {
  if (protection?.entropy === 'none') warnOfNoEntropy()
}

function warnOfNoEntropy(): void {
  process.emitWarning(
    'this machine has no entropy that clones do not share: clones differ, but their random values can be guessed from each other',
    { type: 'VmClockWarning', code: 'VMCLOCK_NO_ENTROPY' },
  )
}

/**
 * Calls `draw` until it has drawn from OpenSSL in this thread, and returns what it returned then. So it empties
 * a pool of random bytes that `draw` hands out. Call it in {@link perMachine}, before each use of the pool.
 *
 * @param draw - hands out values from a pool, and fills the pool from `node:crypto` or webcrypto
 * @throws VmClockError `ERR_VMCLOCK_UNSUPPORTED` if it has not drawn after 65,536 calls;
 * `ERR_VMCLOCK_INVALID_ARGUMENT`
 *
 * @example
 * ```ts
 * import 'vmclock/clones/protect'
 * import { nanoid } from 'nanoid'
 * import { drain, perMachine } from 'vmclock/clones'
 *
 * const emptied = perMachine(() => drain(() => nanoid()))
 * const id = () => (emptied(), nanoid())
 * ```
 */
export function drain<Value>(draw: () => Value): Value {
  argument.functionValue(draw, 'draw')
  const { drawsOfThread } = native()
  const before = drawsOfThread()
  for (let calls = 0; calls < MOST_CALLS; calls++) {
    const value = draw()
    if (drawsOfThread() !== before) return value
  }
  throw notReached('this function')
}

const MOST_CALLS = 65_536

function notReached(name: string): VmClockError {
  return new VmClockError(
    'ERR_VMCLOCK_UNSUPPORTED',
    `the random generator of this runtime cannot be protected: ${name} does not draw through OpenSSL's RAND_METHOD`,
    {
      remedy: 'use an official Node.js, or one with a shared OpenSSL 3, without the FIPS provider',
    },
  )
}

// Draws through each API, and throws if one of them has not reached the hook.
function prove(): void {
  const { webcrypto } = crypto
  const proofs: Record<string, () => unknown> = {
    randomBytes: () => crypto.randomBytes(16),
    randomFillSync: () => crypto.randomFillSync(new Uint8Array(16)),
    getRandomValues: () => webcrypto.getRandomValues(new Uint8Array(16)),
    randomUUID: () => crypto.randomUUID({ disableEntropyCache: true }),
    generateKeySync: () => crypto.generateKeySync('hmac', { length: 256 }),
    'generateKeyPairSync (ec)': () => crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    'generateKeyPairSync (ed25519)': () => crypto.generateKeyPairSync('ed25519'),
    'generateKeyPairSync (x25519)': () => crypto.generateKeyPairSync('x25519'),
  }
  const { drawsOfThread } = native()
  for (const [name, draw] of Object.entries(proofs)) {
    const before = drawsOfThread()
    draw()
    if (drawsOfThread() === before) throw notReached(name)
  }
}

type Fn = (this: unknown, ...args: unknown[]) => unknown
type Holder = Record<string, Fn>

/** Functions whose value is drawn in the call, and may be returned after a restore. */
const SYNCHRONOUS = [
  'randomFillSync',
  'generateKeySync',
  'generateKeyPairSync',
  'generatePrimeSync',
]
/** Functions that draw on another thread and call back. Some draw in the call itself if they get no callback. */
const CALLING_BACK = [
  'randomFill',
  'generateKey',
  'generateKeyPair',
  'generatePrime',
  'encapsulate',
]
/** Methods of `SubtleCrypto` that draw on another thread and return a promise. */
const PROMISING = ['generateKey', 'encapsulateBits', 'encapsulateKey']

function wrapAll(): void {
  const module = crypto as unknown as Holder
  const { webcrypto } = crypto
  const cryptoPrototype = Object.getPrototypeOf(webcrypto) as Holder
  const subtlePrototype = Object.getPrototypeOf(webcrypto.subtle) as Holder
  for (const name of SYNCHRONOUS) replace(module, name, drawingAgain)
  for (const name of CALLING_BACK) replace(module, name, callingBack)
  replace(module, 'randomBytes', randomBytesOf)
  replace(module, 'randomInt', randomIntOf)
  const uuid = uuidPool(filling(crypto.randomFillSync as Fn))
  for (const name of Object.keys(module)) {
    if (name.startsWith('randomUUID')) replace(module, name, cached)
  }
  // Over the wrapper, which remains for calls with options.
  replace(module, 'randomUUID', (withOptions) => {
    return function (options) {
      return options === undefined ? uuid() : withOptions.call(this, options)
    }
  })
  replace(cryptoPrototype, 'getRandomValues', drawingAgain)
  replace(cryptoPrototype, 'randomUUID', (original) => {
    const ofOthers = cached(original)
    return function () {
      return this === webcrypto ? uuid() : ofOthers.call(this)
    }
  })
  for (const name of PROMISING) replace(subtlePrototype, name, promising)
  syncBuiltinESMExports()
}

/** Replaces a function by one that looks like it, if there is one. */
function replace(holder: Holder, name: string, wrap: (original: Fn) => Fn): void {
  const described = Object.getOwnPropertyDescriptor(holder, name)
  if (typeof described?.value !== 'function') return
  const original = described.value as Fn
  const wrapped = wrap(original)
  // Name, length, and what `util.promisify` looks for.
  for (const key of Reflect.ownKeys(original)) {
    const own = Object.getOwnPropertyDescriptor(original, key)
    if (own !== undefined && key !== 'prototype') define(wrapped, key, own)
  }
  define(holder, name, { ...described, value: wrapped })
}

// Without a prototype: `Object.prototype` may have a `get`.
function define(holder: object, key: PropertyKey, described: PropertyDescriptor): void {
  Object.defineProperty(holder, key, Object.assign(Object.create(null), described))
}

/** Fills the pool of UUIDs, after a restore only from a draw that reaches the hook. */
function filling(randomFillSync: Fn): (bytes: Uint8Array, filledIn: number) => void {
  const { drawsOfThread } = native()
  return (bytes, filledIn) => {
    const before = drawsOfThread()
    randomFillSync(bytes)
    // The draw itself may have noticed the restore.
    if (lastEpoch() !== filledIn && drawsOfThread() === before) throw notReached('randomUUID')
  }
}

/** Draws again if the machine was restored during the draw. */
function drawingAgain(original: Fn): Fn {
  return function (...args) {
    for (;;) {
      const before = lastEpoch()
      const value = Reflect.apply(original, this, args)
      if (isStill(before)) return value
    }
  }
}

function randomBytesOf(original: Fn): Fn {
  const withCallback = callingBack(original)
  return function (size, callback) {
    if (callback !== undefined) return Reflect.apply(withCallback, this, [size, callback])
    for (;;) {
      const before = lastEpoch()
      const value = original(size) as Buffer
      if (isUnchangedAfter(value.length - (size as number)) || isStill(before)) return value
    }
  }
}

// Returns whether a value may be returned that was drawn after the look that returned `before`. If the page
// cannot be read, every draw reseeds, and drawing again would change nothing.
function isStill(before: number): boolean {
  if (isUnchanged()) return true
  const now = lookOrUnknown()
  return now === before || now === UNKNOWN
}

// The epoch of a cache that is not filled, or not known to be filled after the last restore. No epoch equals it.
const NEVER = -1

/** Empties the cache of the original function after a restore. */
function cached(original: Fn): Fn {
  let filledIn = NEVER
  return function (options) {
    // A listener of a look may draw too, and fill the cache. So each value has an epoch of its own.
    let drawnIn = filledIn
    if (drawnIn === lastEpoch()) {
      const value = original.call(this, options)
      if (isUnchanged() || lookOrUnknown() === drawnIn) return value
    }
    for (;;) {
      drawnIn = filledIn = refill(() => original.call(this))
      const value = original.call(this, options)
      // Without a known epoch the cache is filled for one call.
      if (drawnIn === NEVER || lookOrUnknown() === drawnIn) return value
    }
  }
}

/** Empties and fills a cache. Returns the epoch of that, or {@link NEVER} if it is unknown. */
function refill(draw: () => unknown): number {
  const before = lookOrUnknown()
  drain(draw)
  return before === UNKNOWN ? NEVER : before
}

const LARGEST_INT = 2 ** 48 - 1

function randomIntOf(original: Fn): Fn {
  let filledIn = NEVER
  const refillCache = (): number => {
    filledIn = refill(() => original(LARGEST_INT))
    return filledIn
  }
  // Returns the epoch of the cache. A look of its own could see a restore that the cache is older than.
  const prepare = (): number => {
    const drawnIn = lookOrUnknown() === filledIn ? filledIn : refillCache()
    return drawnIn === NEVER ? UNKNOWN : drawnIn
  }
  return function (...args) {
    const callback = args.at(-1)
    if (typeof callback === 'function') {
      return again(this, original, args.slice(0, -1), callback as Fn, prepare)
    }
    // As in `cached`.
    let drawnIn = filledIn
    if (drawnIn === lastEpoch()) {
      const value = Reflect.apply(original, this, args)
      if (isUnchanged() || lookOrUnknown() === drawnIn) return value
    }
    for (;;) {
      drawnIn = refillCache()
      const value = Reflect.apply(original, this, args)
      if (drawnIn === NEVER || lookOrUnknown() === drawnIn) return value
    }
  }
}

/** Draws again before it calls back, if the machine was restored since the draw began. */
function callingBack(original: Fn): Fn {
  const synchronous = drawingAgain(original)
  return function (...args) {
    const callback = args.at(-1)
    if (typeof callback !== 'function') return Reflect.apply(synchronous, this, args)
    return again(this, original, args.slice(0, -1), callback as Fn)
  }
}

function again(
  self: unknown,
  original: Fn,
  args: readonly unknown[],
  callback: Fn,
  prepare: () => number = lookOrUnknown,
): unknown {
  const before = prepare()
  return Reflect.apply(original, self, [
    ...args,
    function (this: unknown, ...results: unknown[]) {
      if (lookOrUnknown() === before) return Reflect.apply(callback, this, results)
      return again(self, original, args, callback, prepare)
    },
  ])
}

/** Draws again before the promise is fulfilled, if the machine was restored since the draw began. */
function promising(original: Fn): Fn {
  return async function (...args) {
    for (;;) {
      const before = lookOrUnknown()
      const value = await Reflect.apply(original, this, args)
      if (lookOrUnknown() === before) return value
    }
  }
}
