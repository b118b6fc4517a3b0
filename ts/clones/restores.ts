/** Notices in this thread that the machine was restored, at every look. */

import { setImmediate as runAfterPoll } from 'node:timers'
import * as argument from '../arguments'
import { VmClock } from '../clock'
import type { ContinuityToken } from '../continuity'
import { checked, invalidArgument, isFailure, VmClockError } from '../errors'
import { type NativeRestoreSignal, native } from '../native'
import { onStampAfterRestore } from '../restored'
import type { VmClockWatcher } from '../watcher'

/** A restore, as a listener of {@link onRestore} gets it. */
export interface RestoreEvent {
  /** How many restores this thread has noticed, this one included. */
  readonly restores: number
}

/** The global `AbortSignal`, in a project whose types have it. */
export type RestoreSignal = typeof globalThis extends {
  /** The global class. */
  readonly AbortSignal: {
    /** The members of its instances. */
    readonly prototype: infer Signal
  }
}
  ? Signal
  : {
      /** True after a restore. */
      readonly aborted: boolean
      /** The error that says so. */
      readonly reason?: unknown
    }

/** Position of the sequence number among the page's 32-bit words. */
const SEQ_WORD = 3
const NO_WORDS = new Uint32Array(SEQ_WORD + 1)
/** The epoch if it is unknown, because the page cannot be read. */
export const UNKNOWN = 0

// The words to look at, and the values for which `epoch` is known. No word has the value -1.
let page: Uint32Array = NO_WORDS
let notices: Uint32Array = NO_WORDS
let knownSeq = -1
let knownNotices = -1
let epoch = UNKNOWN
let hasBegun = false
let trusted: readonly number[] = []
let areWordsVisible = false

let restores = 0
const listeners = new Set<(event: RestoreEvent) => void>()
let controller: AbortController | undefined

/**
 * Begins to look at the page at `path`, or at what the process looks at already, or at `$VMCLOCK_PATH`, or at
 * the machine's device.
 */
export function begin(path?: string, trustedUids: readonly number[] = []): void {
  if (hasBegun && path === undefined) return
  const binding = native()
  const isBegun = !isFailure(binding.restoreSignal())
  const chosen = path ?? (isBegun ? undefined : process.env['VMCLOCK_PATH'] || undefined)
  checked(binding.beginRestores(chosen, [...trustedUids]))
  if (hasBegun) return
  trusted = trustedUids
  const words = checked(
    binding.restoreWords() as { page: Uint32Array; notices: Uint32Array } | null,
  )
  if (words !== null) {
    areWordsVisible = true
    page = words.page
    notices = words.notices
  }
  hasBegun = true
  onStampAfterRestore(lookOrUnknown)
}

/** Returns how this process notices restores. */
export function signalNow(): NativeRestoreSignal {
  begin()
  return checked(native().restoreSignal())
}

/** Returns whether this thread sees the page's words, so that a look needs no native call. */
export function seesWords(): boolean {
  return areWordsVisible
}

/** Returns the epoch of the last look; {@link UNKNOWN} before the first. */
export function lastEpoch(): number {
  return epoch
}

/** Returns whether nothing has changed since the last look. */
export function isUnchanged(): boolean {
  // An atomic load is made each time. V8 may reuse the value of a plain load through a loop, but not across a call.
  // The atomic load is such a call. It costs as much as all the rest, so there is only one.
  return Atomics.load(page, SEQ_WORD) === knownSeq && notices[0] === knownNotices
}

/**
 * Returns what {@link isUnchanged} returns, without a call.
 *
 * @param zero - 0, calculated from a value that was just drawn, for example from its length
 */
export function isUnchangedAfter(zero: number): boolean {
  // V8 does not know that it is 0. So it can load neither word before the value is there, nor once for several
  // values. With another number the loads miss the words.
  return page[SEQ_WORD + zero] === knownSeq && notices[zero] === knownNotices
}

/**
 * Returns the epoch now, a number that is another one after each restore. Calls the listeners, if it has
 * changed.
 *
 * @throws VmClockError if the page cannot be read
 */
export function look(): number {
  return isUnchanged() ? epoch : lookCloser()
}

/** Returns the epoch as {@link look} does, or {@link UNKNOWN}. */
export function lookOrUnknown(): number {
  try {
    return look()
  } catch {
    return UNKNOWN
  }
}

function lookCloser(): number {
  begin()
  const previous = epoch
  if (areWordsVisible) {
    const known = checked(native().lookForRestore())
    knownSeq = known.seqCount
    knownNotices = known.notices
    epoch = known.epoch
  } else {
    epoch = checked(native().restoreEpoch())
  }
  if (epoch !== previous && previous !== UNKNOWN) announce()
  return epoch
}

function announce(): void {
  restores += 1
  const event: RestoreEvent = Object.freeze({ restores })
  const aborted = controller
  controller = undefined
  // A copy, because a listener may add and remove others.
  for (const listener of [...listeners]) {
    try {
      listener(event)
    } catch (error) {
      // The others, and the call that looked, go on. The error is uncaught, as one of a timer is.
      queueMicrotask(() => {
        throw error
      })
    }
  }
  aborted?.abort(
    new VmClockError('ERR_VMCLOCK_DISRUPTED', 'the machine was restored or cloned', {
      remedy: 'renew what clones must not share, and start again',
    }),
  )
  if (aborted !== undefined) stopIfUnused()
}

/**
 * Calls `listener` after each restore or clone of the machine, in the thread that added it.
 *
 * The first wrapped draw ({@link protectRandomness}), {@link perMachine} access or timestamp of a `VmClock` in this
 * thread calls it synchronously. Without such a call it is called in the first turn of the event loop, after the
 * callbacks of the poll phase that the restore interrupted. An idle event loop is woken by the driver's notification,
 * else within 100 ms. A listener that throws stops no other, and its error is an uncaught exception.
 *
 * Listeners keep neither the process nor a worker alive.
 *
 * @param listener - called with the restore
 * @returns a function that removes the listener
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, and those of opening a page
 */
export function onRestore(listener: (event: RestoreEvent) => void): () => void {
  argument.functionValue(listener, 'listener')
  // Another function, so that adding one twice calls it twice.
  const added = (event: RestoreEvent): void => listener(event)
  look()
  start()
  listeners.add(added)
  return () => {
    listeners.delete(added)
    stopIfUnused()
  }
}

/**
 * Returns a signal that aborts at the next restore or clone, when the listeners of {@link onRestore} are
 * called. Its reason is a `VmClockError` with the code `ERR_VMCLOCK_DISRUPTED`. After a restore the function
 * returns a new signal.
 *
 * @throws VmClockError those of opening a page
 */
export function restoreSignal(): RestoreSignal {
  look()
  start()
  controller ??= new AbortController()
  return controller.signal
}

/**
 * Makes a value that renews itself: `make` is called at the first access, and again at the first access after
 * each restore or clone of the machine. Each access decides that synchronously.
 *
 * A restore during `make` discards its value, and `make` is called again. An error of `make` is thrown, and the
 * next access calls it again.
 *
 * @param make - makes the value for this machine
 * @param options - see {@link PerMachineOptions}
 * @returns a function that returns the value
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`. The returned function throws the errors of opening and
 * of reading the page, because it must not return a value that may be another machine's.
 *
 * @example
 * ```ts
 * import { randomUUID } from 'node:crypto'
 * import { perMachine } from 'vmclock/clones'
 * import 'vmclock/clones/protect'
 *
 * const workerId = perMachine(() => randomUUID())
 * console.log(workerId())
 * ```
 */
export function perMachine<Value>(make: () => Value, options?: PerMachineOptions): () => Value {
  argument.functionValue(make, 'make')
  const { clock } = argument.record(options, 'options', PER_MACHINE_OPTIONS)
  if (clock !== undefined) return perMachineOf(machineClock(clock), make)
  let madeIn = UNKNOWN
  let value: Value
  return () => {
    for (;;) {
      const before = look()
      // Also if a listener of a look has made it.
      if (before === madeIn) return value
      const made = make()
      if (look() !== before) continue
      value = made
      madeIn = before
      return value
    }
  }
}

/** The options of {@link perMachine}. */
export interface PerMachineOptions {
  /**
   * The clock whose machine the value belongs to. A test passes a `SimulatedClock`, and clones it. The value then
   * renews itself after each change of the clock's token, also after a migration. Default: this machine, and
   * restores and clones only.
   */
  readonly clock?: MachineClock | undefined
}

/** The part of a clock that tells one machine from another. */
export interface MachineClock {
  /** Returns a token for the present machine. */
  continuityToken(): ContinuityToken
  /** Returns whether nothing disrupted the machine since a token was taken. */
  isContinuous(token: ContinuityToken): boolean
}

const PER_MACHINE_OPTIONS = ['clock'] as const satisfies ReadonlyArray<keyof PerMachineOptions>

function machineClock(clock: unknown): MachineClock {
  const has = (name: keyof MachineClock): boolean =>
    argument.holds(() => typeof (clock as Partial<MachineClock>)[name] === 'function')
  if (has('continuityToken') && has('isContinuous')) return clock as MachineClock
  throw invalidArgument('options.clock must be a clock', 'pass what VmClock.open() returned')
}

function perMachineOf<Value>(clock: MachineClock, make: () => Value): () => Value {
  let madeFor: ReturnType<MachineClock['continuityToken']> | undefined
  let value: Value
  return () => {
    for (;;) {
      const known = madeFor
      // Discards a value during whose making the machine changed, because its token was taken before.
      if (known !== undefined && clock.isContinuous(known)) return value
      const token = clock.continuityToken()
      // Unless a listener of a restore has made the value.
      if (madeFor !== known) continue
      const made = make()
      if (madeFor !== known) continue
      value = made
      madeFor = token
    }
  }
}

/**
 * Tells the process that its machine was restored or cloned, for platforms with a hook of their own. Every
 * thread of the process notices it at its next look.
 *
 * @param options - see {@link NotifyOptions}
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, and those of opening a page
 */
export function notifyRestored(options: NotifyOptions = {}): void {
  const given = argument.record(options, 'options', NOTIFY_OPTIONS)
  const kernelReseeded = argument.flag(given['kernelReseeded'], 'options.kernelReseeded') ?? false
  begin()
  checked(native().notifyRestored(kernelReseeded))
  look()
}

/** The options of {@link notifyRestored}. */
export interface NotifyOptions {
  /**
   * The caller's word that the kernel's random generator was reseeded since the restore, with entropy that no
   * clone has: by root, with `RNDADDENTROPY` and `RNDRESEEDCRNG`. It counts as the entropy `kernel`. Default:
   * false.
   */
  readonly kernelReseeded?: boolean | undefined
}

const NOTIFY_OPTIONS = ['kernelReseeded'] as const satisfies ReadonlyArray<keyof NotifyOptions>

let watcher: VmClockWatcher | undefined
let isTurning = false
let isListening = false

function isUsed(): boolean {
  return listeners.size > 0 || controller !== undefined
}

// Looks in every turn of the event loop, and wakes an idle one after a restore.
function start(): void {
  if (!isTurning) {
    isTurning = true
    runAfterPoll(turn).unref()
  }
  if (!isListening) {
    isListening = true
    checked(native().listenForNotices(wake))
  }
  const { path } = signalNow()
  if (watcher === undefined && path !== undefined) {
    const clock = VmClock.open(path, { trustedUids: trusted, calls: 'node-api' })
    watcher = clock.watch()
    // A watcher keeps the mapping.
    clock.close()
    // A page that cannot be read has no epoch: the draws reseed, and `perMachine` throws.
    watcher.on('error', wake).on('generation', wake).on('disruption', wake)
  }
}

function stopIfUnused(): void {
  if (isUsed()) return
  watcher?.close()
  watcher = undefined
}

// An immediate without a reference runs after each poll, and makes no poll return.
function turn(): void {
  if (!isUsed()) {
    isTurning = false
    return
  }
  runAfterPoll(turn).unref()
  lookOrUnknown()
}

function wake(): void {
  lookOrUnknown()
}
