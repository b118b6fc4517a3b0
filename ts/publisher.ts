/** Publishes a page from this machine's own clock, for machines without a page and for tests. */

import * as argument from './arguments'
import { refuseDetached } from './detached'
import { makeDisposable } from './disposable'
import { checked, closedError, invalidArgument, type VmClockErrorCode } from './errors'
import { ofThisRealm } from './json'
import { type NativePublisher, type NativePublisherOptions, native } from './native'
import type { BoundUnavailable } from './snapshot'
import { SOURCE_CHOICES, type SourceChoice, type SourceOfTime } from './time-source'

/**
 * The content of a page.
 *
 * - `time`: time and disruption marker, and a generation counter if `generation` says so
 * - `marker`: only the disruption marker, like the pages of EC2 and QEMU
 * - `marker-and-generation`: disruption marker and generation counter, like the pages of Firecracker
 */
export type PageShape = 'time' | 'marker' | 'marker-and-generation'

/** The presence of a generation counter; `'auto'` follows this machine's own device. */
export type PageGeneration = 'auto' | boolean

/** An announced disruption: none, one within about a day, or one within about an hour. */
export type Maintenance = 'none' | 'soon' | 'imminent'

/** The fault of a vmclock device that a publisher cannot look at. */
export interface GuardUnavailable {
  /** The device's path. */
  readonly path: string
  /** The fault. */
  readonly reason: string
  /** The remedy, in the imperative. */
  readonly remedy: string
}

/** The source of a publisher's time. */
export interface PublisherTimeSource {
  /** The source. */
  readonly from: SourceOfTime
  /** The better sources that are not used, the best first. */
  readonly passedOver: readonly PassedOver[]
}

/** A source of time that is better and not used. */
export interface PassedOver {
  /** The source. */
  readonly from: SourceOfTime
  /** The code of its error. Undefined while it gives bounds again, and not for 10 s yet. */
  readonly code: VmClockErrorCode | undefined
  /** The reason. */
  readonly reason: string
}

/** The options of {@link VmClockPublisher.create}. */
export interface VmClockPublisherOptions {
  /** The content of the page. Default: `'time'`. */
  readonly shape?: PageShape | undefined
  /**
   * The presence of a generation counter on a page of the shape `time`. Default: `'auto'`.
   *
   * - `'auto'`: the page has one if this machine has a source of one when the publisher starts. The source
   *   is the machine's own `/dev/vmclock0` with a generation counter, if this process may read it.
   * - `true`: the page has one. Without such a source only `bumpGeneration` changes it.
   * - `false`: the page has none.
   *
   * The other shapes decide it: `marker` refuses `true`, and `marker-and-generation` refuses `false`.
   */
  readonly generation?: PageGeneration | undefined
  /**
   * The source of the time. Default: `'auto'`, the best one that works: ClockBound, a PTP hardware clock with a
   * bound, the kernel's clock. The publisher leaves a source that fails for the next best at once. It returns to a
   * better one that gave bounds for 10 s.
   *
   * Another value names the only source. If `'phc'` or `'clockbound'` gives no time with a bound at the start,
   * `create` throws, with the source's own code. If it gives none later, the page shows the kernel's time without a bound.
   * The option `maxErrorNs` is the error of the kernel's clock: it needs `'kernel'` or `'auto'`, which then is the same.
   */
  readonly from?: SourceChoice | undefined
  /** The time from one update of the page to the next, in whole milliseconds, 100 to 1,000. Default: 250. */
  readonly intervalMs?: number | undefined
  /**
   * The largest error of this machine's clock, in nanoseconds, 0n to 2n ** 63n - 1n. The caller answers for
   * it, and the page then counts as synchronized. Default: the bound that the kernel's figures permit,
   * or none.
   *
   * It holds from the start until the machine is disrupted: migrated, restored or suspended. From then on this
   * publisher, and each later one of this page until the machine boots, use the kernel's figures.
   */
  readonly maxErrorNs?: bigint | undefined
  /**
   * The error that neither the time daemon nor a PTP clock's driver reports, in nanoseconds, 0n to 2n ** 63n - 1n.
   * It says how far the clock of the host may be off. The caller answers for it, on each host that the machine may be
   * migrated to. `timeSource.assumed` of a reader names `time-error` by `operator`. Default: nothing is added.
   *
   * With the kernel's clock it is added to the daemon's figure. A daemon's figure of 0 then counts, because chrony
   * reports 0 for a PTP clock. It must cover everything that the daemon does not report. phc2sys, which reports
   * 0 whatever its error is, cannot be told from chrony. A 0 with the kernel's loop, as systemd-timesyncd reports
   * it, still gives no bound.
   *
   * With a PTP clock whose driver states no bound it is the bound. With `from: 'clockbound'` it is refused, because
   * that daemon states the whole error.
   */
  readonly hostErrorNs?: bigint | undefined
  /**
   * Lets `maxErrorNs` hold after a disruption too. The caller answers for it. Default: false.
   */
  readonly maxErrorAfterMigration?: boolean | undefined
  /**
   * States a bound although this process cannot look at the machine's vmclock device, so that nobody would
   * notice a migration. The caller answers for it. Default: false.
   */
  readonly allowUnguarded?: boolean | undefined
  /**
   * Leaves the page as it is when the publisher is closed or its process ends. Readers then continue with a
   * growing bound, until another publisher takes the page over. It states no bound from 1,000 s after the last
   * update on. Default: false, and the page is marked unreliable.
   */
  readonly keepOnExit?: boolean | undefined
  /**
   * TAI - UTC in seconds, 10 to 255, for a machine whose kernel and tzdata do not know it. Default: unknown,
   * and the page then gives UTC only.
   */
  readonly taiMinusUtcSec?: number | undefined
  /**
   * The allowance for the wander of the counter's rate around its measured average, in parts per million, 0
   * to 1,000,000. Default: 15, the PHI of RFC 5905.
   */
  readonly wanderPpm?: number | undefined
  /**
   * An offset that is added to the page's time, in nanoseconds, an hour at most in either direction. For tests of
   * programs on machines whose clocks differ. The bound grows by as much, so that it holds. While the machine's
   * clock reports a leap second, such a page gives no time. Default: 0n.
   */
  readonly offsetNs?: bigint | undefined
  /**
   * Publishes although the CPU or the kernel does not vouch for the counter. The caller answers for it.
   * Default: false.
   */
  readonly allowUntrustedCounter?: boolean | undefined
  /**
   * The file's permission bits, independent of the umask. The owner must read and write the page, and nobody
   * else may write it. Default: 0o644.
   */
  readonly mode?: number | undefined
}

const SHAPES: readonly PageShape[] = ['time', 'marker', 'marker-and-generation']
const GENERATIONS: readonly PageGeneration[] = ['auto', true, false]
const MAINTENANCE: readonly Maintenance[] = ['none', 'soon', 'imminent']
const OPTIONS = [
  'shape',
  'generation',
  'from',
  'intervalMs',
  'maxErrorNs',
  'hostErrorNs',
  'maxErrorAfterMigration',
  'allowUnguarded',
  'keepOnExit',
  'taiMinusUtcSec',
  'wanderPpm',
  'offsetNs',
  'allowUntrustedCounter',
  'mode',
] as const satisfies ReadonlyArray<keyof VmClockPublisherOptions>

// Only this module can make publishers: the constructor requires KEY. A static block sets `make`, because the
// bundler would rename a class that names itself in its own body.
const KEY: unique symbol = Symbol('VmClockPublisher.create')
let make: (publisher: NativePublisher) => VmClockPublisher

// Keeps every open publisher, so none is collected while it publishes.
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
 * Updates a page from this machine's counter and clock until it is closed.
 *
 * A native thread does the work. It does not keep the process alive. Closing marks the page unreliable, so
 * readers refuse its time, unless `keepOnExit` is given; the file remains. A publisher that is open when its process or worker ends is
 * closed then. If its process is killed, nobody updates the page any more, and its bound grows. A signal
 * without a handler kills too; this class installs no handler.
 *
 * If the machine has a vmclock device, the publisher looks at it before and after each sample, and records its
 * state on the page. It passes on disruptions and new generations: the page's marker changes by what the
 * device's changes by, and the page states no bound until the time daemon has updated the kernel's clock 8
 * times. It follows within the driver's notification (microseconds), or one interval if the driver does not
 * notify. Until then, readers that look at the device see by the record that the page is of before.
 *
 * A publisher that starts on a machine with a device cannot know whether a migration came before. It states no
 * bound for 8 updates of the daemon, unless it takes over a page with a bound that records the device's
 * present state.
 *
 * After `close` everything except `closed` and `path` throws `ERR_VMCLOCK_CLOSED`.
 */
export class VmClockPublisher {
  readonly #native: NativePublisher
  readonly #path: string
  #closed = false

  /** Calls `close`, for `using`. */
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
   * Publishes a page at `/run/vmclock/page`, where readers look on a machine without a device.
   *
   * @param options - see {@link VmClockPublisherOptions}
   * @throws VmClockError as with a path
   */
  static create(options?: VmClockPublisherOptions): VmClockPublisher
  /**
   * Publishes a page, which is complete when this returns, after about 10 ms. If there is a valid page at
   * the path, the publisher takes it over in place, and its readers carry on.
   *
   * @param path - the page; if undefined, `/run/vmclock/page`
   * @param options - see {@link VmClockPublisherOptions}
   * @throws VmClockError
   *
   * - `ERR_VMCLOCK_BUSY`: another live publisher holds the page
   * - `ERR_VMCLOCK_UNTRUSTED_COUNTER`: the CPU or the kernel does not vouch for the counter, or the counter
   *   does not advance
   * - `ERR_VMCLOCK_NOT_FOUND`: the page's directory does not exist
   * - `ERR_VMCLOCK_ACCESS`: this process may not create or write a page here
   * - `ERR_VMCLOCK_UNTRUSTED`: the path is another user's file, or not a regular file
   * - `ERR_VMCLOCK_BAD_MAGIC`: the path is a file of another kind
   * - `ERR_VMCLOCK_OUT_OF_RANGE`: this machine's clock is before 1970
   * - `ERR_VMCLOCK_INVALID_ARGUMENT`: an argument is of the wrong type or out of its range
   * - `ERR_VMCLOCK_NO_SOURCE`: the source that `from` names gives no time with a bound
   * - `ERR_VMCLOCK_UNSUPPORTED`: the system is not Linux on x86-64 or 64-bit Arm
   * - `ERR_VMCLOCK_NATIVE`: the native part does not load
   * - `ERR_VMCLOCK_SYSTEM`: another system call failed; see `errno` and `syscall`
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

  /** The page's path, as it was given. */
  get path(): string {
    return this.#path
  }

  /** True once `close` was called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * The number of times that the page was written, at least 1n.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get updates(): bigint {
    return this.#open().updates()
  }

  /**
   * The CPU time that the publisher's thread has used until its last update, in nanoseconds.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get cpuTimeNs(): bigint {
    return this.#open().cpuTimeNs()
  }

  /**
   * The reason why the publisher had to stop by itself; undefined while it publishes.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get failure(): string | undefined {
    return this.#open().failure() ?? undefined
  }

  /**
   * Why the page states no bound on its time, as of its last update; undefined if it states one, or
   * has no time.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get boundUnavailable(): BoundUnavailable | undefined {
    // The native part names reasons as the type lists them.
    return ofThisRealm(this.#open().boundUnavailable()) as BoundUnavailable | undefined
  }

  /**
   * The source of the page's time, as of its last update, and the better ones that are not used; undefined for a page
   * without time.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get timeSource(): PublisherTimeSource | undefined {
    const { from, passedOver } = this.#open().timeSource()
    if (from === 'unknown') return undefined
    // The native part names sources as the type lists them.
    return ofThisRealm({ from, passedOver }) as PublisherTimeSource
  }

  /**
   * Why the publisher cannot look at the machine's vmclock device, so that it notices no migration; undefined
   * if it can, or if the machine has none. The page then states no bound, unless `allowUnguarded` is given.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`
   */
  get guardUnavailable(): GuardUnavailable | undefined {
    return this.#open().guardUnavailable() ?? undefined
  }

  /**
   * Changes the disruption marker, as a live migration does. The page shows it when this returns.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED`, also if the publisher had to stop
   */
  disrupt(): void {
    checked(this.#open().disrupt())
  }

  /**
   * Changes the generation counter, and nothing else. The page shows it when this returns. A hypervisor
   * that restores a snapshot changes the disruption marker as well: call `disrupt` too.
   *
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT` if the page has no generation counter (see
   * {@link VmClockPublisherOptions.generation}); `ERR_VMCLOCK_CLOSED`, also if the publisher had to stop
   */
  bumpGeneration(): void {
    checked(this.#open().bumpGeneration())
  }

  /**
   * Announces a disruption, or withdraws the announcement, by the page's flags DISRUPTION_SOON and
   * DISRUPTION_IMMINENT. The page shows it when this returns.
   *
   * @param announced - `'none'`; `'soon'`, within about a day; or `'imminent'`, within about an hour
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`; `ERR_VMCLOCK_CLOSED`, also if the publisher had to
   * stop
   */
  setMaintenance(announced: Maintenance): void {
    const word = argument.choice(announced, 'announced', MAINTENANCE)
    if (word === undefined) throw invalidArgument("announced must be 'none', 'soon' or 'imminent'")
    checked(this.#open().setMaintenance(word))
  }

  /**
   * Stops publishing, and marks the page unreliable, unless `keepOnExit` was given. The file remains. A second
   * call does nothing.
   *
   * @throws VmClockError `ERR_VMCLOCK_CLOSED` if the publisher had to stop before, with the reason; it is
   * closed all the same
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
refuseDetached(VmClockPublisher)

function publisherOptions(value: unknown): NativePublisherOptions {
  const given = argument.record(value, 'options', OPTIONS)
  const flag = (name: keyof VmClockPublisherOptions): boolean =>
    argument.flag(given[name], `options.${name}`) ?? false
  const intervalMs = argument.integer(given['intervalMs'], 'options.intervalMs', 100, 1000)
  const maxErrorNs = argument.int63(given['maxErrorNs'], 'options.maxErrorNs')
  const taiMinusUtcSec = argument.integer(
    given['taiMinusUtcSec'],
    'options.taiMinusUtcSec',
    10,
    255,
  )
  const wanderPpm = argument.number(given['wanderPpm'], 'options.wanderPpm', 0, 1e6)
  const offsetNs = given['offsetNs'] === undefined ? null : offset(given['offsetNs'])
  const mode = argument.integer(given['mode'], 'options.mode', 0, 0o777)
  return {
    shape: argument.choice(given['shape'], 'options.shape', SHAPES) ?? 'time',
    generation: generationWord(given['generation']),
    from: argument.choice(given['from'], 'options.from', SOURCE_CHOICES) ?? 'auto',
    intervalMs: intervalMs ?? null,
    maxErrorNs: maxErrorNs ?? null,
    hostErrorNs: argument.int63(given['hostErrorNs'], 'options.hostErrorNs') ?? null,
    maxErrorAfterMigration: flag('maxErrorAfterMigration'),
    allowUnguarded: flag('allowUnguarded'),
    keepOnExit: flag('keepOnExit'),
    taiMinusUtcSec: taiMinusUtcSec ?? null,
    wanderPpb: wanderPpm === undefined ? null : Math.ceil(wanderPpm * 1000),
    offsetNs,
    allowUntrustedCounter: flag('allowUntrustedCounter'),
    mode: mode ?? null,
  }
}

const MOST_OFFSET_NS = 3_600_000_000_000n

function offset(value: unknown): bigint {
  const ns = argument.int64(value, 'options.offsetNs')
  if (ns >= -MOST_OFFSET_NS && ns <= MOST_OFFSET_NS) return ns
  throw invalidArgument(
    `options.offsetNs must be at most an hour in either direction, and this is ${ns} ns`,
  )
}

function generationWord(value: unknown): 'auto' | 'always' | 'never' {
  const generation = argument.choice(value, 'options.generation', GENERATIONS) ?? 'auto'
  if (generation === 'auto') return 'auto'
  return generation ? 'always' : 'never'
}
