/** Publishes a page from this machine's own clock, for machines without one and for tests. */

import * as argument from './arguments'
import { makeDisposable } from './disposable'
import { checked, closedError, invalidArgument } from './errors'
import { type NativePublisher, type NativePublisherOptions, native } from './native'

/**
 * What a page holds: time; the disruption marker only, as EC2's and QEMU's do today; or marker and
 * generation counter, as Firecracker's does.
 */
export type PageShape = 'time' | 'marker' | 'marker-and-generation'

/** Whether a page has a generation counter: `'auto'` if this machine has a source of one. */
export type PageGeneration = 'auto' | boolean

/** What is announced: nothing, a disruption within about a day, or one within about an hour. */
export type Maintenance = 'none' | 'soon' | 'imminent'

/** How to publish. */
export interface VmClockPublisherOptions {
  /** What the page holds; `time` if left out. */
  readonly shape?: PageShape | undefined
  /**
   * Whether a page of the shape `time` has a generation counter; `'auto'` if left out.
   *
   * - `'auto'`: only if this machine has a source of one when the publisher starts, which is its own
   *   `/dev/vmclock0` with a generation counter, readable for this process
   * - `true`: always; without such a source only `bumpGeneration` changes it
   * - `false`: never
   *
   * The other shapes say it themselves: `true` contradicts `marker`, `false` contradicts
   * `marker-and-generation`.
   */
  readonly generation?: PageGeneration | undefined
  /** How often the page is written anew, in milliseconds, a whole number. */
  readonly intervalMs?: number | undefined
  /**
   * How far this machine's clock may be off, in nanoseconds, 0n to 2n ** 63n - 1n, on the word of
   * whoever says so. Left out: what the kernel says, and unknown where it does not know.
   */
  readonly maxErrorNs?: bigint | undefined
  /** TAI - UTC in seconds, 10 to 255, where the kernel was not told. */
  readonly taiMinusUtcSec?: number | undefined
  /** Allowance for the wander of the counter's rate between updates, in parts per million. */
  readonly wanderPpm?: number | undefined
  /** Publish even where the kernel does not trust the counter; false if left out. */
  readonly allowUntrustedCounter?: boolean | undefined
  /** The file's mode; 0o644 if left out. Others may read it; nobody but the owner may write it. */
  readonly mode?: number | undefined
}

const SHAPES: readonly PageShape[] = ['time', 'marker', 'marker-and-generation']
const GENERATIONS: readonly PageGeneration[] = ['auto', true, false]
const MAINTENANCE: readonly Maintenance[] = ['none', 'soon', 'imminent']
const OPTIONS = [
  'shape',
  'generation',
  'intervalMs',
  'maxErrorNs',
  'taiMinusUtcSec',
  'wanderPpm',
  'allowUntrustedCounter',
  'mode',
] as const satisfies ReadonlyArray<keyof VmClockPublisherOptions>

// Only this module makes publishers, whatever a caller does with the class. By way of the static block,
// because a class that names itself in its own body would lose its name to the bundler.
const KEY: unique symbol = Symbol('VmClockPublisher.create')
let make: (publisher: NativePublisher) => VmClockPublisher

// What is published is published until it is closed, whether or not anybody still holds the object.
const live = new Set<NativePublisher>()

function keep(publisher: NativePublisher): void {
  if (live.size === 0) process.once('exit', closeAll)
  live.add(publisher)
}

function closeAll(): void {
  for (const publisher of live) publisher.close()
  live.clear()
}

/**
 * Keeps a page up to date from this machine's counter and clock, with honest bounds, until closed.
 *
 * The work is done in a native thread, which does not keep the process alive. Closing marks the page
 * unreliable, so that readers refuse its time; the file stays. A publisher that is still open when its
 * process or worker ends is closed then; one whose process is killed, also by a signal that nobody
 * handles (no handler is installed here), leaves a page that nobody corrects any more, whose bound
 * grows.
 *
 * On a machine with a `/dev/vmclock0` that this process may read, a disruption or a new generation told
 * there is passed on: the page's marker changes, and no bound is stated until the kernel's clock has been
 * measured anew. That takes as long as the driver's notification (microseconds), or an interval where it
 * does not notify; readers who cannot afford that window read the device itself.
 *
 * After `close` everything throws `ERR_VMCLOCK_CLOSED` but `closed` and `path`.
 */
export class VmClockPublisher {
  readonly #native: NativePublisher
  readonly #path: string
  #closed = false

  /** As `close`, for `using`. */
  declare readonly [Symbol.dispose]: () => void

  static {
    make = (publisher) => new this(KEY, publisher)
  }

  private constructor(key: symbol, publisher: NativePublisher) {
    if (key !== KEY) {
      throw invalidArgument(
        'VmClockPublisher has no public constructor',
        'use VmClockPublisher.create()',
      )
    }
    this.#native = publisher
    this.#path = publisher.path
    keep(publisher)
  }

  /**
   * Publishes at the place where readers look on machines without a driver, `/run/vmclock/page`.
   *
   * @param options - how to publish
   * @throws VmClockError as with a path
   */
  static create(options?: VmClockPublisherOptions): VmClockPublisher
  /**
   * Publishes a page. It stands, whole, when this returns. A valid page that is there already is
   * taken over in place, so that its readers carry on.
   *
   * @param path - the page; if undefined, `/run/vmclock/page`
   * @param options - how to publish
   * @throws VmClockError `ERR_VMCLOCK_BUSY` where another live publisher holds the page,
   * `ERR_VMCLOCK_UNTRUSTED_COUNTER` where the kernel does not trust the counter,
   * `ERR_VMCLOCK_NOT_FOUND`, `ERR_VMCLOCK_ACCESS`, `ERR_VMCLOCK_UNTRUSTED`, `ERR_VMCLOCK_SYSTEM`,
   * `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_UNSUPPORTED`, `ERR_VMCLOCK_NATIVE`
   */
  static create(path: string | undefined, options?: VmClockPublisherOptions): VmClockPublisher
  static create(
    pathOrOptions?: string | VmClockPublisherOptions,
    maybeOptions?: VmClockPublisherOptions,
  ): VmClockPublisher {
    const [path, options] = argument.pathAndOptions(pathOrOptions, maybeOptions)
    const checkedOptions = publisherOptions(options)
    return make(checked(native().createPublisher(path, checkedOptions)))
  }

  /** The page's path. */
  get path(): string {
    return this.#path
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * How often the page was written.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get updates(): bigint {
    return this.#open().updates()
  }

  /**
   * CPU time that publishing has taken, in nanoseconds.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get cpuTimeNs(): bigint {
    return this.#open().cpuTimeNs()
  }

  /**
   * Why publishing had to stop by itself; undefined while it goes on.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get failure(): string | undefined {
    return this.#open().failure() ?? undefined
  }

  /**
   * Changes the disruption marker, as a live migration does.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`, `ERR_VMCLOCK_SYSTEM`
   */
  disrupt(): void {
    checked(this.#open().disrupt())
  }

  /**
   * Changes the generation counter, and nothing else. A provider that restores a snapshot changes the
   * disruption marker as well: call `disrupt` too.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`, `ERR_VMCLOCK_SYSTEM`, `ERR_VMCLOCK_INVALID_ARGUMENT`
   * where the page has no generation counter
   */
  bumpGeneration(): void {
    checked(this.#open().bumpGeneration())
  }

  /**
   * Announces a disruption, or takes it back, by the flags DISRUPTION_SOON and DISRUPTION_IMMINENT.
   *
   * @param announced - what to announce
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`, `ERR_VMCLOCK_SYSTEM`, `ERR_VMCLOCK_INVALID_ARGUMENT`
   */
  setMaintenance(announced: Maintenance): void {
    const word = argument.choice(announced, 'announced', MAINTENANCE)
    if (word === undefined) throw invalidArgument("announced must be 'none', 'soon' or 'imminent'")
    checked(this.#open().setMaintenance(word))
  }

  /**
   * Stops, and marks the page unreliable. Closing again does nothing.
   *
   * @throws VmClockError `ERR_VMCLOCK_SYSTEM` where the page could not be marked; it is closed even so
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    live.delete(this.#native)
    if (live.size === 0) process.off('exit', closeAll)
    checked(this.#native.close())
  }

  #open(): NativePublisher {
    if (this.#closed) throw closedError('publisher')
    return this.#native
  }
}

makeDisposable(VmClockPublisher)

function publisherOptions(value: unknown): NativePublisherOptions {
  const given = argument.record(value, 'options', OPTIONS)
  const intervalMs = argument.integer(given['intervalMs'], 'options.intervalMs', 1, 2 ** 31 - 1)
  const maxErrorNs = argument.int63(given['maxErrorNs'], 'options.maxErrorNs')
  const taiMinusUtcSec = argument.integer(
    given['taiMinusUtcSec'],
    'options.taiMinusUtcSec',
    10,
    255,
  )
  const wanderPpm = argument.number(given['wanderPpm'], 'options.wanderPpm', 0, 1e6)
  const mode = argument.integer(given['mode'], 'options.mode', 0, 0o777)
  return {
    shape: argument.choice(given['shape'], 'options.shape', SHAPES) ?? 'time',
    generation: generationWord(given['generation']),
    intervalMs,
    maxErrorNs,
    taiMinusUtcSec,
    wanderPpb: wanderPpm === undefined ? undefined : Math.ceil(wanderPpm * 1000),
    allowUntrustedCounter:
      argument.flag(given['allowUntrustedCounter'], 'options.allowUntrustedCounter') ?? false,
    mode,
  }
}

function generationWord(value: unknown): 'auto' | 'always' | 'never' {
  const generation = argument.choice(value, 'options.generation', GENERATIONS) ?? 'auto'
  if (generation === 'auto') return 'auto'
  return generation ? 'always' : 'never'
}
