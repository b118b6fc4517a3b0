/** The watching side of a simulated clock: what the native part does for a page. */

import type { Failure, NativeClock, NativeNotices, NativeWatched, NativeWatcher } from '../native'

/** The figures that a watcher compares. */
export type Watched = Omit<NativeWatched, 'seqCount'>

const FIGURES = {
  disruption: 'disruptionMarker',
  generation: 'vmGeneration',
  maintenance: 'maintenance',
  status: 'clockStatus',
  leap: 'leapIndicator',
} as const satisfies Record<string, keyof Watched>

/** Hands changes of a clock's figures to its watchers. */
export class WatchedFigures {
  readonly #watchers: Set<SimulatedWatcher> = new Set()
  readonly #onWatchers: () => void
  #figures: Watched
  #seqCount = 2

  /** `onWatchers` is called when a watcher begins, and when one ends. */
  constructor(figures: Watched, onWatchers: () => void) {
    this.#figures = figures
    this.#onWatchers = onWatchers
  }

  /** True while there is a watcher. */
  get isWatched(): boolean {
    return this.#watchers.size > 0
  }

  /** Notes one update of the figures, whether or not they changed. */
  update(figures: Watched): void {
    const before = this.#figures
    this.#figures = figures
    this.#seqCount += 2
    for (const watcher of this.#watchers) watcher.note(before, this.current)
  }

  /** Tells all watchers how old a stale page is; undefined for one that is not stale. */
  noteAge(ageNs: bigint | undefined): void {
    for (const watcher of this.#watchers) watcher.noteAge(ageNs)
  }

  /** Tells all watchers that the page cannot be read. */
  fail(error: Failure): void {
    for (const watcher of this.#watchers) watcher.fail(error)
  }

  /** The part of a native clock that makes watchers. */
  get asNative(): NativeClock {
    const watch = (_intervalMs: unknown, notify: () => unknown): NativeWatcher => {
      const watcher = new SimulatedWatcher(this.current, notify, () => {
        this.#watchers.delete(watcher)
        this.#onWatchers()
      })
      this.#watchers.add(watcher)
      this.#onWatchers()
      return watcher as unknown as NativeWatcher
    }
    return { watch } as unknown as NativeClock
  }

  get current(): NativeWatched {
    return { ...this.#figures, seqCount: this.#seqCount }
  }
}

/** Collects the changes between two notices, as the native watcher does. */
class SimulatedWatcher {
  readonly #notify: () => unknown
  readonly #leave: () => void
  #before: NativeWatched
  #after: NativeWatched
  readonly #changed: Set<keyof typeof FIGURES> = new Set()
  #error: Failure | undefined
  #isStale = false
  #freshness: NativeNotices['freshness']
  #isNotified = false

  constructor(current: NativeWatched, notify: () => unknown, leave: () => void) {
    this.#before = current
    this.#after = current
    this.#notify = notify
    this.#leave = leave
  }

  note(before: Watched, after: NativeWatched): void {
    this.#after = after
    for (const [event, figure] of Object.entries(FIGURES)) {
      if (before[figure] !== after[figure]) this.#changed.add(event as keyof typeof FIGURES)
    }
    if (this.#changed.size > 0) this.#schedule()
  }

  noteAge(ageNs: bigint | undefined): void {
    const isStale = ageNs !== undefined
    if (isStale === this.#isStale) return
    this.#isStale = isStale
    this.#freshness = isStale ? { isStale, ageNs } : { isStale }
    this.#schedule()
  }

  fail(error: Failure): void {
    this.#error = error
    this.#schedule()
  }

  take(): NativeNotices {
    this.#isNotified = false
    const notices: NativeNotices = { replaced: false }
    if (this.#error !== undefined) notices.error = this.#error
    this.#error = undefined
    if (this.#freshness !== undefined) notices.freshness = this.#freshness
    this.#freshness = undefined
    if (this.#changed.size > 0) {
      const has = (event: keyof typeof FIGURES): boolean => this.#changed.has(event)
      notices.change = {
        before: this.#before,
        after: this.#after,
        updates: (this.#after.seqCount - this.#before.seqCount) / 2,
        disruption: has('disruption'),
        generation: has('generation'),
        maintenance: has('maintenance'),
        status: has('status'),
        leap: has('leap'),
      }
      this.#before = this.#after
      this.#changed.clear()
    }
    return notices
  }

  close(): void {
    this.#leave()
  }

  // A promise's reaction, because no fake timers replace those.
  #schedule(): void {
    if (this.#isNotified) return
    this.#isNotified = true
    Promise.resolve().then(this.#notify)
  }
}
