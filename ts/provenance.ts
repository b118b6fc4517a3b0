/** Conclusions from a clock's time source: whether clones are noticed, and whether a publisher is alive. */

import { VmClock } from './clock'
import { VmClockError } from './errors'
import type { NativeCloneFacts } from './native'
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

/** The signal and the entropy that `vmclock/clones` has on a machine. */
export interface CloneProtection {
  /** `page`: the hypervisor's page shows a restore before the machine runs again. `none`: no page does. */
  readonly signal: 'page' | 'none'
  /** The origin of a reseed's entropy. `kernel` counts only once the kernel has announced its own reseed. */
  readonly entropy: 'hardware' | 'kernel' | 'none'
  /** True if the kernel reseeds its generator after a restore, because the machine has a VMGENID device. */
  readonly hasVmgenid: boolean
}

/** Returns what `vmclock/clones` has on this machine. */
export function cloneProtection(
  { guard }: TimeSource,
  { cpuHasEntropy, hasVmgenid }: NativeCloneFacts,
): CloneProtection {
  const seesDevice = guard.state === 'device' || guard.state === 'guarded'
  return {
    signal: seesDevice ? 'page' : 'none',
    entropy: cpuHasEntropy ? 'hardware' : hasVmgenid ? 'kernel' : 'none',
    hasVmgenid,
  }
}

/** The entropy in words. */
export const ENTROPY_TEXT: Readonly<Record<CloneProtection['entropy'], string>> = {
  hardware: "the CPU's generator gives entropy",
  kernel: "the kernel's generator gives entropy, once it has announced that it reseeded",
  none: 'nothing gives entropy that clones do not share',
}

/** The signal in words. */
export function signalText({ signal, hasVmgenid }: CloneProtection): string {
  if (signal === 'page') return 'the page shows a restore before the machine runs again'
  return hasVmgenid
    ? 'only a VMGENID uevent shows a restore, some time later, and not every kernel sends one'
    : 'nothing shows a restore'
}

function hasGeneration(path: string): boolean {
  try {
    const device = VmClock.open(path, { calls: 'node-api' })
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
