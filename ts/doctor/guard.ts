/** Examines what notices a migration or a clone, and whether a published page has a live publisher. */

import {
  cloneProtection,
  clonesAreNoticed,
  ENTROPY_TEXT,
  type PublisherState,
  signalText,
  publisherState as stateOf,
} from '../provenance'
import type { Snapshot } from '../snapshot'
import type { TimeSource } from '../time-source'
import type { Device } from './device'
import { type CheckDetails, type Finding, ok, skipped, warning } from './diagnosis'
import { shown } from './files'
import type { ExaminedPage } from './page'
import type { Scene } from './scene'

const NO_DEVICE =
  'so no software on this machine can notice that it is migrated, restored or cloned'

/**
 * Makes the finding: would a migration or a clone be noticed here. `obstacle` is the first check of the device
 * that is wrong.
 */
export function checkGuard(
  { source, snapshot }: ExaminedPage,
  devices: readonly Device[],
  isVirtual: boolean,
  obstacle: Finding | undefined,
): Finding {
  if (source === undefined || snapshot === undefined) return skipped('the page cannot be read')
  const { state, path, reason, remedy } = source.guard
  const isNoticed = clonesAreNoticed(source, snapshot)
  const details = { guard: state, device: path, clonesAreNoticed: isNoticed }
  const clones = isNoticed
    ? 'clones are noticed too'
    : 'clones are not noticed, because the device has no generation counter'
  switch (state) {
    case 'device':
      return ok(`migrations are noticed, by the hypervisor's page; ${clones}`, details)
    case 'guarded':
      return ok(`migrations are noticed, by ${shown(path ?? '')}; ${clones}`, details)
    case 'unavailable':
      return warning(
        `migrations and clones may not be noticed: ${shown(reason ?? '')}`,
        remedy || 'let this process read the device',
        { ...details, reason },
      )
    case 'none':
      return withoutDevice(devices, isVirtual, obstacle, details)
  }
}

function withoutDevice(
  devices: readonly Device[],
  isVirtual: boolean,
  obstacle: Finding | undefined,
  details: CheckDetails,
): Finding {
  const [device] = devices
  if (device !== undefined) {
    return warning(
      `the firmware describes a vmclock device (${device.name}), but its driver shows none, ${NO_DEVICE}`,
      // The obstacle's remedy may name a publisher too, whose page gives time.
      `${obstacle?.remedy ?? 'load the driver (`modprobe ptp_vmclock`)'}; only the device makes migrations noticed`,
      details,
    )
  }
  if (!isVirtual) return ok(`there is no vmclock device, ${NO_DEVICE}`, details)
  return warning(
    `there is no vmclock device, ${NO_DEVICE}`,
    'have the hypervisor provide one (QEMU: -device vmclock), if the machine may be migrated, restored or cloned',
    details,
  )
}

/** Makes the finding: would the protection of clones see a restore, and have entropy for it. */
export function checkClones(scene: Scene, { source }: ExaminedPage): Finding {
  if (source === undefined) return skipped('the page cannot be read')
  const protection = cloneProtection(source, scene.cloneFacts())
  const { signal, entropy } = protection
  const text = `${signalText(protection)}, and ${ENTROPY_TEXT[entropy]}`
  const details = { ...protection }
  // Without a signal no draw asks for entropy.
  if (signal === 'none' || entropy !== 'none') return ok(text, details)
  return warning(
    `${text}: \`vmclock/clones\` refuses to protect`,
    'give the machine a CPU with RDRAND or RNDR, or a VMGENID device, if it may be restored or cloned',
    details,
  )
}

/** Makes the finding: is the publisher of the published page alive. */
export function checkPublisher(scene: Scene, page: ExaminedPage): Finding {
  const chosen = publisherOf(page.source, page.snapshot)
  if (chosen !== undefined) return finding(page.path ?? '', chosen)
  const other = scene.published()
  const found = other && publisherOf(other.source, other.snapshot)
  if (other === undefined || found === undefined) return skipped('there is no published page')
  return finding(other.path, found)
}

interface Publisher {
  readonly state: PublisherState
  readonly ageNs: bigint
}

function publisherOf(
  source: TimeSource | undefined,
  snapshot: Snapshot | undefined,
): Publisher | undefined {
  const state = source && snapshot && stateOf(source, snapshot)
  return state === undefined ? undefined : { state, ageNs: snapshot?.ageNs ?? 0n }
}

function finding(path: string, { state, ageNs }: Publisher): Finding {
  const details = { path, publisher: state, ageNs: String(ageNs) }
  const page = shown(path)
  const ageSec = (Number(ageNs) / 1e9).toFixed(1)
  switch (state) {
    case 'alive':
      return ok(`the publisher of ${page} is alive`, details)
    case 'dead':
      return warning(
        `the publisher of ${page} is dead: it has not updated the page for ${ageSec} s`,
        'start it again (`vmclock publish`), best as a service that is restarted',
        details,
      )
    case 'ended':
      return warning(
        `the publisher of ${page} ended ${ageSec} s ago`,
        'start it again (`vmclock publish`), or remove the page',
        details,
      )
  }
}
