/** Watches a page: events, and an async iterator over them. */

import type { AbortSignalLike } from './abort-signal'
import * as argument from './arguments'
import { refuseDetached } from './detached'
import { makeDisposable } from './disposable'
import { EmitterBase, refuseOtherEvents } from './emitter'
import { checked, errorFrom, invalidArgument, type VmClockError } from './errors'
import { toJSON } from './json'
import type {
  NativeChange,
  NativeClock,
  NativeNotices,
  NativeWatched,
  NativeWatcher,
} from './native'
import type { Maintenance } from './publisher'
import type { Reading } from './reading'
import type { ClockStatus, LeapIndicator } from './snapshot'

/** The options of `VmClock.watch()`. */
export interface VmClockWatchOptions {
  /**
   * The time between two looks at the page by a timer, in whole milliseconds, 1 to 3,600,000. Default: 100,
   * which costs 0.05 to 0.07 % of a CPU.
   *
   * If the kernel's driver notifies, an interrupt ends the wait, and an idle watcher costs nothing. That needs
   * Linux 7.0 and a device whose page has the flag NOTIFICATION_PRESENT. The timer is then used only
   * after a notification failed to come.
   */
  readonly intervalMs?: number | undefined
  /** A signal that closes the watcher. An aborted signal gives a closed watcher. */
  readonly signal?: AbortSignalLike | undefined
}

/** A change of one of the page's figures. */
export interface VmClockChange<Type extends string, Value> {
  /** The event's name. */
  readonly type: Type
  /** The figure at the previous event of any type, or when watching began. */
  readonly previous: Value
  /** The figure now. It equals `previous` if the figure changed and changed back. */
  readonly current: Value
  /**
   * The number of the page's updates since `previous`, at least 1. Several quick updates give one event, and
   * updates of the time alone count too. Events with one `seqCount` are emitted together and have the same
   * number.
   */
  readonly updates: number
  /** The page's sequence number as of `current`: even, unsigned 32-bit. */
  readonly seqCount: number
  /** When this process saw it: the system clock in milliseconds since 1970-01-01 UTC. */
  readonly seenMs: number
  /** A reading of the clock that watches, just after that; undefined if it gives no time, or was closed. */
  readonly reading: Reading | undefined
}

/**
 * The counter was disrupted by a live migration or a restore. Tokens from before are refused. Both figures
 * are `disruption_marker`, unsigned 64-bit.
 */
export interface DisruptionEvent extends VmClockChange<'disruption', bigint> {}
/**
 * The machine was restored from a snapshot or cloned. Renew everything that clones must not share, such as
 * random state, ids and leases.
 *
 * Both figures are `vm_generation_counter`, unsigned 64-bit, or undefined if the page has none. All clones
 * of one snapshot get the same figures. A migration gives a {@link DisruptionEvent} without this event.
 */
export interface GenerationEvent extends VmClockChange<'generation', bigint | undefined> {}
/** A disruption was announced, or the announcement was withdrawn: the flags DISRUPTION_SOON and _IMMINENT. */
export interface MaintenanceEvent extends VmClockChange<'maintenance', Maintenance> {}
/** The page's `clock_status` changed. A figure is undefined if the page ends before it. */
export interface StatusEvent extends VmClockChange<'status', ClockStatus | undefined> {}
/** The page's `leap_indicator` changed. A figure is undefined if the page ends before it. */
export interface LeapEvent extends VmClockChange<'leap', LeapIndicator | undefined> {}

/**
 * Another file is at the page's path, and its writer does not write the watched page. Emitted once. Close the
 * watcher and the clock, and open a new clock.
 */
export interface ReplacedEvent {
  /** The event's name. */
  readonly type: 'replaced'
  /** The page's path as it was opened. */
  readonly path: string
  /** When this process saw it: the system clock in milliseconds since 1970-01-01 UTC. */
  readonly seenMs: number
}

/**
 * Nobody updates the page any more, or somebody updates it again. The page is stale once its last update is older
 * than the clock's `maxAgeMs`, or than 3 s without that option. Emitted for pages of this package only, because a
 * hypervisor may update its page rarely. The clock goes on giving time, unless `maxAgeMs` was given.
 */
export interface FreshnessEvent {
  /** The event's name. */
  readonly type: 'freshness'
  /** True if the page is stale now. */
  readonly isStale: boolean
  /** The time since the last update in nanoseconds; undefined if the page is not stale. */
  readonly ageNs: bigint | undefined
  /** When this process saw it: the system clock in milliseconds since 1970-01-01 UTC. */
  readonly seenMs: number
}

/** An event of a {@link VmClockWatcher}, other than `error`. */
export type VmClockEvent =
  | DisruptionEvent
  | GenerationEvent
  | MaintenanceEvent
  | StatusEvent
  | LeapEvent
  | ReplacedEvent
  | FreshnessEvent

/** The events of a {@link VmClockWatcher} and their listeners' arguments. */
export interface VmClockWatcherEvents {
  /** The counter was disrupted. */
  disruption: [event: DisruptionEvent]
  /** The machine was restored or cloned. */
  generation: [event: GenerationEvent]
  /** A disruption was announced, or the announcement was withdrawn. */
  maintenance: [event: MaintenanceEvent]
  /** The status of the page's clock changed. */
  status: [event: StatusEvent]
  /** The page's leap indicator changed. */
  leap: [event: LeapEvent]
  /** Another file is at the page's path. */
  replaced: [event: ReplacedEvent]
  /** Nobody updates the page any more, or somebody updates it again. */
  freshness: [event: FreshnessEvent]
  /**
   * The page cannot be read: `ERR_VMCLOCK_TIMEOUT` if an update began and did not end within 100 ms, or
   * `ERR_VMCLOCK_BAD_VERSION`. Emitted once while it lasts.
   */
  error: [error: VmClockError]
}

// All names of events. The compiler requires each of them.
const EVENTS: Readonly<Record<keyof VmClockWatcherEvents, true>> = {
  disruption: true,
  generation: true,
  maintenance: true,
  status: true,
  leap: true,
  replaced: true,
  freshness: true,
  error: true,
}

const OPTIONS = ['intervalMs', 'signal'] as const satisfies ReadonlyArray<keyof VmClockWatchOptions>
// It has no prototype, because a program may have added a `signal` to `Object.prototype`.
const ONCE: { readonly once: true } = Object.assign(Object.create(null), { once: true })
const LONGEST_INTERVAL_MS = 3_600_000

// Only this module can make watchers: the constructor requires KEY. A static block sets `make`, because the
// bundler would rename a class that names itself in its own body.
const KEY: unique symbol = Symbol('VmClock.watch')
let make: (
  clock: NativeClock,
  path: string | undefined,
  options: VmClockWatchOptions,
  read: () => Reading | undefined,
) => VmClockWatcher

/** Watches the page of an open clock. `read` gives the readings of its events. */
export function watch(
  clock: NativeClock,
  path: string | undefined,
  options: unknown,
  read: () => Reading | undefined = () => undefined,
): VmClockWatcher {
  const given = argument.record(options, 'options', OPTIONS)
  return make(
    clock,
    path,
    {
      intervalMs: argument.integer(
        given['intervalMs'],
        'options.intervalMs',
        1,
        LONGEST_INTERVAL_MS,
      ),
      signal: argument.abortSignal(given['signal'], 'options.signal'),
    },
    read,
  )
}

/**
 * Reports what happens to the machine and its clock, as an `EventEmitter` and as an async iterator.
 * `VmClock.watch()` makes it. Listeners and any number of iterations may be used together.
 *
 * A watcher reports every change after `watch()` returned that is still visible on the page. Several changes
 * between two looks at the page, or between two turns of the event loop, give one event of each type. It has
 * the number of updates, so events never accumulate.
 *
 * One native thread does the work while the watcher is open. Neither the thread nor a pending iteration keeps
 * the process or the worker alive. A program that waits for an event needs something else that keeps it
 * alive, such as a server or a timer. An open watcher is never collected, so it needs no reference.
 *
 * After `close` no listener is called, and every iteration ends. Closing the clock does not close its
 * watchers. Clock and watchers share the page's mapping, which is released with the last of them.
 *
 * Do not unbind a watched device from its driver by hand (through sysfs). Linux up to 7.3 at least has a fault:
 * it then kills the thread that waits in the driver, or hangs. The module cannot be unloaded while a
 * clock is open.
 *
 * An event reports something that happened some time ago. `VmClock.isContinuous` says at once whether a token
 * is still valid.
 *
 * If the page cannot be read, the watcher emits `error` and goes on. An iteration rejects with that error, and a
 * new one may begin. Without an `error` listener and without an iteration the error is thrown, as with
 * every `EventEmitter`.
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
  extends EmitterBase<VmClockWatcherEvents>
  implements AsyncIterable<VmClockEvent>
{
  readonly #native: NativeWatcher
  readonly #path: string | undefined
  readonly #read: () => Reading | undefined
  readonly #iterations: Set<Iteration> = new Set()
  readonly #signal: AbortSignalLike | undefined
  readonly #onAbort = (): void => this.close()
  #closed = false

  /** Calls `close`, for `using`. */
  declare readonly [Symbol.dispose]: () => void

  static {
    make = (clock, path, options, read) => new this(KEY, clock, path, options, read)
  }

  private constructor(
    key: symbol,
    clock: NativeClock,
    path: string | undefined,
    options: VmClockWatchOptions,
    read: () => Reading | undefined,
  ) {
    if (key !== KEY) {
      throw invalidArgument('VmClockWatcher has no public constructor', 'use VmClock.watch()')
    }
    super()
    const { intervalMs, signal } = options
    this.#path = path
    this.#read = read
    this.#signal = signal
    this.#native = checked(clock.watch(intervalMs, () => this.#take()))
    try {
      signal?.addEventListener('abort', this.#onAbort, ONCE)
      if (signal?.aborted) this.close()
    } catch (error) {
      // The caller gets no watcher that it could close.
      this.close()
      throw error
    }
  }

  /** The page's path as the clock opened it; undefined if it has none. */
  get path(): string | undefined {
    return this.#path
  }

  /** True once `close` was called or the signal was aborted. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Begins an iteration over the events from now on. Events that come while the loop's body runs are merged
   * into one of each type. The iteration ends when the watcher is closed, and rejects on an error.
   * Leaving it does not close the watcher.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<VmClockEvent, undefined> {
    const iteration = new Iteration(() => this.#iterations.delete(iteration))
    if (this.#closed) iteration.end()
    else this.#iterations.add(iteration)
    return iteration
  }

  /** Ends the native thread and all events. A second call does nothing. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native.close()
    for (const iteration of [...this.#iterations]) iteration.end()
    // This comes last, because the caller's signal may throw. The watcher is closed in any case.
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }

  #take(): void {
    // The native part may have queued this call before the watcher was closed.
    if (this.#closed) return
    const notices = this.#native.take()
    const seen = { seenMs: Date.now(), reading: this.#read() }
    const events = eventsFrom(notices, this.#path, seen)
    const error = Object.hasOwn(notices, 'error') ? notices.error : undefined
    const iterations = [...this.#iterations]
    for (const iteration of iterations) {
      for (const event of events) iteration.push(event)
    }
    const emits: Array<() => void> = events.map((event) => () => {
      // The compiler does not know that the name and the event belong together.
      this.emit(event.type as 'replaced', event as ReplacedEvent)
    })
    if (error !== undefined) {
      const thrown = errorFrom(error)
      for (const iteration of iterations) iteration.fail(thrown)
      if (iterations.length === 0 || this.listenerCount('error') > 0) {
        emits.push(() => this.emit('error', thrown))
      }
    }
    this.#emitEach(emits)
  }

  // If a listener throws, the other events are emitted all the same. If one closes the watcher, none are.
  #emitEach([first, ...others]: ReadonlyArray<() => void>): void {
    if (first === undefined || this.#closed) return
    try {
      first()
    } finally {
      this.#emitEach(others)
    }
  }
}

makeDisposable(VmClockWatcher)
refuseOtherEvents(VmClockWatcher, Object.keys(EVENTS))
refuseDetached(VmClockWatcher)

type Next = IteratorResult<VmClockEvent, undefined>

const DONE: Next = Object.freeze({ done: true, value: undefined })

/** One `for await` over a watcher. */
class Iteration implements AsyncIterableIterator<VmClockEvent, undefined> {
  readonly #leave: () => void
  // At most one event of each type, in the order of their first occurrence.
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

  /** Ends the iteration with an error, after the events in the backlog. */
  fail(error: VmClockError): void {
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#error = error
    else waiting.reject(error)
    this.#finish()
  }

  /** Ends the iteration at once. */
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
  // Both events have the same type.
  return event(
    { ...later, previous: earlier.previous, updates: earlier.updates + later.updates },
    { seenMs: later.seenMs, reading: later.reading },
  ) as VmClockEvent
}

/** When a change was seen, and the reading that was taken then. */
interface Seen {
  readonly seenMs: number
  readonly reading?: Reading | undefined
}

/**
 * Makes an event: frozen, and with `toJSON`. When it was seen is no part of the change. So these fields are not
 * enumerable, and two events of the same change are equal.
 */
function event<const Fields extends object, When extends Seen>(
  fields: Fields,
  when: When,
): Fields & When {
  const all = { ...fields, ...when }
  for (const [name, value] of Object.entries(when)) {
    Object.defineProperty(all, name, hidden(value))
  }
  return Object.freeze(
    Object.defineProperty(
      all,
      'toJSON',
      hidden(() => toJSON.call({ ...fields, ...when })),
    ),
  )
}

// Without a prototype: `Object.prototype` may have a `get`.
function hidden(value: unknown): PropertyDescriptor {
  return Object.assign(Object.create(null), { value, enumerable: false })
}

function eventsFrom(
  notices: NativeNotices,
  path: string | undefined,
  seen: Required<Seen>,
): VmClockEvent[] {
  // The native part leaves out an absent change. A lookup could then find one on a prototype.
  const change = Object.hasOwn(notices, 'change') ? notices.change : undefined
  const events = change === undefined ? [] : changesFrom(change, seen)
  if (notices.replaced && path !== undefined) {
    events.push(event({ type: 'replaced', path }, { seenMs: seen.seenMs }))
  }
  const freshness = Object.hasOwn(notices, 'freshness') ? notices.freshness : undefined
  if (freshness !== undefined) {
    const { isStale, ageNs }: typeof freshness = Object.assign(Object.create(null), freshness)
    events.push(event({ type: 'freshness', isStale, ageNs }, { seenMs: seen.seenMs }))
  }
  return events
}

function changesFrom(change: NativeChange, seen: Required<Seen>): VmClockEvent[] {
  const { updates } = change
  const before: NativeWatched = Object.assign(Object.create(null), change.before)
  const after: NativeWatched = Object.assign(Object.create(null), change.after)
  const changed = <Type extends string, Value>(
    type: Type,
    happened: boolean,
    value: (watched: NativeWatched) => Value,
  ): Array<VmClockChange<Type, Value>> =>
    happened
      ? [
          event(
            {
              type,
              previous: value(before),
              current: value(after),
              updates,
              seqCount: after.seqCount,
            },
            seen,
          ),
        ]
      : []
  return [
    ...changed('disruption', change.disruption, ({ disruptionMarker }) => disruptionMarker),
    ...changed('generation', change.generation, ({ vmGeneration }) => vmGeneration),
    ...changed('maintenance', change.maintenance, ({ maintenance }) => maintenance as Maintenance),
    ...changed(
      'status',
      change.status,
      ({ clockStatus }) => clockStatus as ClockStatus | undefined,
    ),
    ...changed(
      'leap',
      change.leap,
      ({ leapIndicator }) => leapIndicator as LeapIndicator | undefined,
    ),
  ]
}
