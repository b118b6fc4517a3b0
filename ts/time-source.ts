/** Says where a clock's time comes from, and what guards it. */

import type { NativeTimeSource } from './native'

/** A source that this package makes pages from. */
export type SourceOfTime = 'kernel' | 'phc' | 'clockbound'

/** The choice of such a source; `auto` is the best one that works. */
export type SourceChoice = 'auto' | SourceOfTime

/** All choices of a source. */
export const SOURCE_CHOICES: readonly SourceChoice[] = ['auto', 'kernel', 'phc', 'clockbound']

const NS_PER_MS = 1_000_000n

/**
 * Where a clock's time comes from, from `timeSource` of a clock. It is frozen, and can be cloned, posted and
 * written as JSON.
 */
export interface TimeSource {
  /**
   * What the clock reads:
   *
   * - `device`: the hypervisor's page
   * - `published`: the page of a live publisher, in another process
   * - `process`: a page that this process keeps itself
   * - `path`: the page that the caller or `$VMCLOCK_PATH` named
   * - `system-clock`: no page, but this system's clock (see `VmClockFallbackOptions`)
   * - `simulated`: no page, but a clock that a test moves
   */
  readonly kind: 'device' | 'published' | 'process' | 'path' | 'system-clock' | 'simulated'
  /** The page's path; undefined if it has none. */
  readonly path: string | undefined
  /**
   * By what the time is calibrated. A publisher, or this process, may change it while the clock is open: it takes
   * the best source that works.
   */
  readonly from: 'hypervisor' | SourceOfTime | 'unknown'
  /** What notices that the machine was migrated, restored or cloned. */
  readonly guard: TimeGuard
  /**
   * When the generation changes after the machine was restored or cloned; undefined while there is no generation.
   *
   * - `synchronous`: before the machine runs again, because it is the device's
   * - `asynchronous`: some time after the machine runs again. The kernel's VMGENID uevent, `notifyRestored()` or the
   *   page's publisher changes it. Until then a clone is not noticed
   */
  readonly generation: 'synchronous' | 'asynchronous' | undefined
  /** The parts of the time or its bound that somebody vouches for. Empty if the page states all of them. */
  readonly assumed: readonly AssumedPart[]
  /** When the page's maker began, in milliseconds since 1970-01-01 UTC; undefined if the page does not say. */
  readonly sinceMs: number | undefined
}

/** What notices that the machine was migrated, restored or cloned. */
export interface TimeGuard {
  /**
   * - `device`: the page is the device's own
   * - `guarded`: the page's maker and this clock both look at the device
   * - `none`: the machine has no such device, so that no software on it can notice
   * - `unavailable`: the machine has a device, and the maker or this clock cannot look at it. The time has no
   *   bound, unless the clock was opened with `allowUnguarded`
   */
  readonly state: 'device' | 'guarded' | 'none' | 'unavailable'
  /** The device; undefined if there is none, or it cannot be found. */
  readonly path: string | undefined
  /** Why the guard is unavailable; else undefined. */
  readonly reason: string | undefined
  /** What to do about it; else undefined. */
  readonly remedy: string | undefined
}

/** A part of the time or its bound that somebody vouches for. */
export interface AssumedPart {
  /**
   * - `time-error`: the error of the page's time
   * - `rate-error`: the error of the counter's rate
   * - `counter`: that the counter is sound, although the kernel does not trust it
   * - `guard`: that nobody disrupts the machine unnoticed
   */
  readonly part: 'time-error' | 'rate-error' | 'counter' | 'guard'
  /**
   * - `maker`: the page's maker, by a documented assumption
   * - `operator`: the operator of the page's maker, by one of its options
   * - `caller`: this program, by an option of `VmClock.open`
   */
  readonly by: 'maker' | 'operator' | 'caller'
}

/** Makes the frozen public form of a native time source. */
export function timeSourceFrom(source: NativeTimeSource): TimeSource {
  const { kind, path, from, guard, generation, assumed, sinceNs } = source
  // The native part writes every property, and the names of values as the types here list them.
  return Object.freeze({
    kind,
    path,
    from,
    guard: Object.freeze({ ...guard }),
    generation,
    assumed: Object.freeze(Array.from(assumed, (part) => Object.freeze({ ...part }))),
    sinceMs: sinceNs === undefined ? undefined : Number(sinceNs / NS_PER_MS),
  }) as TimeSource
}
