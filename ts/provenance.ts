/** Conclusions from a clock's time source: whether clones are noticed, and whether a publisher is alive. */

import { VmClock } from './clock'
import { VmClockError } from './errors'
import type { Snapshot } from './snapshot'
import type { TimeSource } from './time-source'

// A publisher updates its page at least once per second.
const LONGEST_PAUSE_NS = 3_000_000_000n

/**
 * Returns whether a clock would notice that its machine was restored or cloned. A published page may have a
 * generation counter that only its operator changes.
 */
export function clonesAreNoticed({ guard }: TimeSource, snapshot: Snapshot): boolean {
  if (snapshot.vmGeneration === undefined) return false
  if (guard.state === 'device') return true
  return guard.state === 'guarded' && guard.path !== undefined && hasGeneration(guard.path)
}

function hasGeneration(path: string): boolean {
  try {
    const device = VmClock.open(path)
    try {
      return device.continuityToken().vmGeneration !== undefined
    } finally {
      device.close()
    }
  } catch (error) {
    if (VmClockError.isVmClockError(error)) return false
    throw error
  }
}

/** The state of a page's publisher. */
export type PublisherState = 'alive' | 'dead' | 'ended'

/** Returns the state of a page's publisher; undefined for a page without one. */
export function publisherState(
  { kind, from }: TimeSource,
  { ageNs, clockStatus }: Snapshot,
): PublisherState | undefined {
  const isMadeHere = from !== 'hypervisor' && from !== 'unknown'
  const isPublished = isMadeHere && (kind === 'published' || kind === 'path')
  if (!isPublished || ageNs === undefined) return undefined
  if (clockStatus === 'unreliable') return 'ended'
  return ageNs <= LONGEST_PAUSE_NS ? 'alive' : 'dead'
}
