/** Watching a page: events and an async iterator over what happens to the machine and its clock. */

import { EventEmitter } from 'node:events'
import * as argument from './arguments'
import { makeDisposable } from './disposable'
import { checked, errorFrom, invalidArgument, type VmClockError } from './errors'
import type {
  NativeChange,
  NativeClock,
  NativeNotices,
  NativeWatched,
  NativeWatcher,
} from './native'
import type { Maintenance } from './publisher'
import type { ClockStatus, LeapIndicator } from './snapshot'

/** How to watch. */
export interface VmClockWatchOptions {
  /**
   * How often a timer looks at the page, in milliseconds, a whole number from 1 to 3,600,000; 100 if
   * left out, which is about 0.03 % of a CPU. Where the kernel notifies (a device whose page says so,
   * Linux 7.0 and later) an interrupt ends the wait, and at rest nothing runs; there this is only how
   * often to look after the device was found not to keep its word.
   */
  readonly intervalMs?: number | undefined
  /** Closes the watcher when it is aborted. One that was aborted before gives a closed watcher. */
  readonly signal?: AbortSignal | undefined
}

/** Something on the page changed. */
export interface VmClockChange<Type extends string, Value> {
  /** What happened: the event's name. */
  readonly type: Type
  /** What the page said when a change of any kind was told last, or when watching began. */
  readonly previous: Value
  /** What it says now. Equal to `previous` where it changed and changed back before it was told. */
  readonly current: Value
  /**
   * Updates of the page since then, at least 1: those that came in a burst are told as one, and those
   * of the time alone count too. Events of one `seqCount` are told together and have the same number.
   */
  readonly updates: number
  /** The page's sequence number as of `current`. */
  readonly seqCount: number
}

/**
 * The counter was disrupted: a live migration, or a restore. Tokens from before are refused. Both
 * figures are `disruption_marker`, unsigned 64-bit.
 */
export interface DisruptionEvent extends VmClockChange<'disruption', bigint> {}
/**
 * The machine was restored from a snapshot or cloned: what must not be shared (random state, ids,
 * leases) is to be renewed. Both figures are `vm_generation_counter`, unsigned 64-bit; undefined
 * where the page has none. Clones of one snapshot are told the same figures, and a migration is a
 * {@link DisruptionEvent} without this one.
 */
export interface GenerationEvent extends VmClockChange<'generation', bigint | undefined> {}
/** A disruption was announced, or the announcement taken back. */
export interface MaintenanceEvent extends VmClockChange<'maintenance', Maintenance> {}
/** The state of the page's clock changed; undefined where the page ends before it. */
export interface StatusEvent extends VmClockChange<'status', ClockStatus | undefined> {}
/** What the page says of a leap second changed; undefined where the page ends before it. */
export interface LeapEvent extends VmClockChange<'leap', LeapIndicator | undefined> {}

/**
 * Another file stands at the page's path, so that whoever writes it does not write the page that is
 * watched. Told once: close watcher and clock, and open a new clock.
 */
export interface ReplacedEvent {
  /** The event's name. */
  readonly type: 'replaced'
  /** The page's path, as it was opened. */
  readonly path: string
}

/** Everything that a watcher tells. */
export type VmClockEvent =
  | DisruptionEvent
  | GenerationEvent
  | MaintenanceEvent
  | StatusEvent
  | LeapEvent
  | ReplacedEvent

/** The events of a {@link VmClockWatcher} and what their listeners are given. */
export interface VmClockWatcherEvents {
  /** The counter was disrupted. */
  disruption: [event: DisruptionEvent]
  /** The machine was restored or cloned. */
  generation: [event: GenerationEvent]
  /** A disruption was announced, or no longer is. */
  maintenance: [event: MaintenanceEvent]
  /** The state of the page's clock changed. */
  status: [event: StatusEvent]
  /** What the page says of a leap second changed. */
  leap: [event: LeapEvent]
  /** Another file stands at the page's path. */
  replaced: [event: ReplacedEvent]
  /**
   * The page cannot be read: `ERR_VMCLOCK_TIMEOUT` where an update was begun and did not end within
   * 100 ms, `ERR_VMCLOCK_BAD_VERSION`. Told once while it lasts.
   */
  error: [error: VmClockError]
}

const OPTIONS = ['intervalMs', 'signal'] as const satisfies ReadonlyArray<keyof VmClockWatchOptions>
// Without a prototype, where somebody may have put a `signal`.
const ONCE: { readonly once: true } = Object.assign(Object.create(null), { once: true })
const LONGEST_INTERVAL_MS = 3_600_000

// Only this module makes watchers, whatever a caller does with the class. By way of the static block,
// because a class that names itself in its own body would lose its name to the bundler.
const KEY: unique symbol = Symbol('VmClock.watch')
let make: (clock: NativeClock, path: string, options: VmClockWatchOptions) => VmClockWatcher

/** Watches the page of an open clock. */
export function watch(clock: NativeClock, path: string, options: unknown): VmClockWatcher {
  const given = argument.record(options, 'options', OPTIONS)
  return make(clock, path, {
    intervalMs: argument.integer(given['intervalMs'], 'options.intervalMs', 1, LONGEST_INTERVAL_MS),
    signal: argument.abortSignal(given['signal'], 'options.signal'),
  })
}

/**
 * Tells what happens to the machine and its clock, from `VmClock.watch()`: as an `EventEmitter`, and
 * as an async iterator. Both may be used, also several at a time.
 *
 * Whatever changes after `watch()` returned and is still visible on the page is told. Changes that
 * follow one another faster than the page is looked at, or than JavaScript comes to hear of them, are
 * told as one event of each kind, with the number of updates; nothing piles up.
 *
 * One native thread does the work while the watcher is open. Neither it nor a pending iteration keeps
 * the process or the worker alive: a program that is to wait for an event needs something else that
 * does, such as a server or a timer. An open watcher is not collected, so listeners stay without a
 * reference to it.
 *
 * After `close` no listener is called and every iteration ends. Closing the clock does not close its
 * watchers: each shares the mapping, which goes with the last of them.
 *
 * A device must not be taken from its driver (by hand, through sysfs: the module cannot be unloaded
 * under an open clock) while it is watched. Linux is at fault there, to 7.3 at least: it kills the
 * thread that waits in the driver, or hangs altogether.
 *
 * An event says that something happened, some time ago. Whether a token is still good is for
 * `VmClock.isContinuous` to say, at once.
 *
 * A page that cannot be read is an `error` event, and the watcher goes on; as with every
 * `EventEmitter`, one for which there is no listener is thrown, unless an iteration takes it: that
 * rejects, and a new one may be begun.
 *
 * @example
 * ```ts
 * import { VmClock } from 'vmclock'
 *
 * const watcher = VmClock.open().watch()
 * watcher.on('disruption', ({ previous, current }) => console.log('migrated', previous, current))
 * watcher.on('error', (error) => console.error(error.message))
 * // …
 * watcher.close()
 * ```
 */
export class VmClockWatcher
  extends EventEmitter<VmClockWatcherEvents>
  implements AsyncIterable<VmClockEvent>
{
  readonly #native: NativeWatcher
  readonly #path: string
  readonly #iterations: Set<Iteration> = new Set()
  readonly #signal: AbortSignal | undefined
  readonly #onAbort = (): void => this.close()
  #closed = false

  /** As `close`, for `using`. */
  declare readonly [Symbol.dispose]: () => void

  static {
    make = (clock, path, options) => new this(KEY, clock, path, options)
  }

  private constructor(key: symbol, clock: NativeClock, path: string, options: VmClockWatchOptions) {
    if (key !== KEY) {
      throw invalidArgument('VmClockWatcher has no public constructor', 'use VmClock.watch()')
    }
    super()
    const { intervalMs, signal } = options
    this.#path = path
    this.#signal = signal
    this.#native = checked(clock.watch(intervalMs, () => this.#take()))
    try {
      signal?.addEventListener('abort', this.#onAbort, ONCE)
      if (signal?.aborted) this.close()
    } catch (error) {
      // Nobody else can close it.
      this.close()
      throw error
    }
  }

  /** The page's path, as the clock opened it. */
  get path(): string {
    return this.#path
  }

  /** Whether `close` was called, or the signal aborted. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Begins an iteration over what happens from now on; events that come while it is busy are merged,
   * one of each kind. It ends when the watcher is closed, and rejects on an error. Leaving it does
   * not close the watcher.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<VmClockEvent, undefined> {
    const iteration = new Iteration(() => this.#iterations.delete(iteration))
    if (this.#closed) iteration.end()
    else this.#iterations.add(iteration)
    return iteration
  }

  /** Ends the native thread; nothing is told any more. Closing again does nothing. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native.close()
    for (const iteration of [...this.#iterations]) iteration.end()
    // Last, because it is not ours: whatever it does, the watcher is closed.
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }

  #take(): void {
    // A call may have been under way when the watcher was closed.
    if (this.#closed) return
    const notices = this.#native.take()
    const events = eventsFrom(notices, this.#path)
    const error = Object.hasOwn(notices, 'trouble') ? notices.trouble : undefined
    const iterations = [...this.#iterations]
    for (const iteration of iterations) {
      for (const event of events) iteration.push(event)
    }
    const tell: Array<() => void> = events.map((event) => () => {
      // The compiler does not see that name and event belong together.
      this.emit(event.type as 'replaced', event as ReplacedEvent)
    })
    if (error !== undefined) {
      const thrown = errorFrom(error)
      for (const iteration of iterations) iteration.fail(thrown)
      if (iterations.length === 0 || this.listenerCount('error') > 0) {
        tell.push(() => this.emit('error', thrown))
      }
    }
    this.#tellEach(tell)
  }

  // A listener that throws takes nothing from those after it, and one that closes, everything.
  #tellEach([first, ...others]: ReadonlyArray<() => void>): void {
    if (first === undefined || this.#closed) return
    try {
      first()
    } finally {
      this.#tellEach(others)
    }
  }
}

makeDisposable(VmClockWatcher)

type Next = IteratorResult<VmClockEvent, undefined>

const DONE: Next = Object.freeze({ done: true, value: undefined })

/** One `for await` over a watcher. */
class Iteration implements AsyncIterableIterator<VmClockEvent, undefined> {
  readonly #leave: () => void
  // One event of each kind at most, in the order in which they came first.
  readonly #backlog: Map<VmClockEvent['type'], VmClockEvent> = new Map()
  readonly #waiting: Array<{ resolve(next: Next): void; reject(error: unknown): void }> = []
  #error: VmClockError | undefined
  #ended = false

  constructor(leave: () => void) {
    this.#leave = leave
  }

  next(): Promise<Next> {
    for (const [type, value] of this.#backlog) {
      this.#backlog.delete(type)
      return Promise.resolve({ done: false, value })
    }
    if (this.#error !== undefined) {
      const error = this.#error
      this.#error = undefined
      return Promise.reject(error)
    }
    if (this.#ended) return Promise.resolve(DONE)
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  return(): Promise<Next> {
    this.end()
    return Promise.resolve(DONE)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  push(event: VmClockEvent): void {
    const waiting = this.#waiting.shift()
    if (waiting !== undefined) {
      waiting.resolve({ done: false, value: event })
      return
    }
    const earlier = this.#backlog.get(event.type)
    this.#backlog.set(event.type, earlier === undefined ? event : merged(earlier, event))
  }

  /** Ends it with an error, after what came before. */
  fail(error: VmClockError): void {
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#error = error
    else waiting.reject(error)
    this.#finish()
  }

  /** Ends it at once. */
  end(): void {
    this.#backlog.clear()
    this.#error = undefined
    this.#finish()
  }

  #finish(): void {
    this.#ended = true
    this.#leave()
    for (const { resolve } of this.#waiting.splice(0)) resolve(DONE)
  }
}

function merged(earlier: VmClockEvent, later: VmClockEvent): VmClockEvent {
  if (!('updates' in earlier) || !('updates' in later)) return later
  // Both are of one kind.
  return Object.freeze({
    ...later,
    previous: earlier.previous,
    updates: earlier.updates + later.updates,
  }) as VmClockEvent
}

function eventsFrom(notices: NativeNotices, path: string): VmClockEvent[] {
  // What did not happen is not there, and must not come from a prototype.
  const change = Object.hasOwn(notices, 'change') ? notices.change : undefined
  const events = change === undefined ? [] : changesFrom(change)
  if (notices.replaced) events.push(Object.freeze({ type: 'replaced', path }))
  return events
}

function changesFrom(change: NativeChange): VmClockEvent[] {
  const { updates } = change
  const before: NativeWatched = Object.assign(Object.create(null), change.before)
  const after: NativeWatched = Object.assign(Object.create(null), change.after)
  const told: VmClockEvent[] = []
  const tell = <Type extends string, Value>(
    type: Type,
    happened: boolean,
    value: (watched: NativeWatched) => Value,
  ): Array<VmClockChange<Type, Value>> =>
    happened
      ? [
          Object.freeze({
            type,
            previous: value(before),
            current: value(after),
            updates,
            seqCount: after.seqCount,
          }),
        ]
      : []
  told.push(
    ...tell('disruption', change.disruption, ({ disruptionMarker }) => disruptionMarker),
    ...tell('generation', change.generation, ({ vmGeneration }) => vmGeneration),
    ...tell('maintenance', change.maintenance, ({ maintenance }) => maintenance as Maintenance),
    ...tell('status', change.status, ({ clockStatus }) => clockStatus as ClockStatus | undefined),
    ...tell('leap', change.leap, ({ leapIndicator }) => leapIndicator as LeapIndicator | undefined),
  )
  return told
}
