/** The machine that the checks examine: this one, or one that a test stages. */

import { arch, release } from 'node:os'
import { VmClock } from '../clock'
import { isFailure, VmClockError } from '../errors'
import {
  type CounterCost,
  type CounterFacts,
  environmentPath,
  type NativeClockBound,
  type NativeCloneFacts,
  type NativeDiscipline,
  native,
  obstacle,
} from '../native'
import { PtpClock } from '../ptp'
import type { Snapshot } from '../snapshot'
import type { TimeSource } from '../time-source'
import type { Refusal } from './diagnosis'
import { Files } from './files'

/** The part of a clock that the checks use. */
export type DiagnosedClock = Pick<
  VmClock,
  'path' | 'hasTime' | 'snapshot' | 'read' | 'nowNs' | 'timeSource' | 'close'
>

/** A published page as it is now. */
export interface PublishedPage {
  readonly path: string
  readonly source: TimeSource
  readonly snapshot: Snapshot
}

const PUBLISHED_PATH = '/run/vmclock/page'

/** A machine to diagnose. If `unsupported` is defined, nothing else is used. */
export interface Scene {
  /** Why this package does not work on this system; undefined if it works. */
  readonly unsupported: Refusal | undefined
  /** The architecture as in `process.arch`: `x64` or `arm64`. */
  readonly architecture: string
  /** The running kernel's release. */
  readonly kernelRelease: string
  readonly files: Files
  /** Returns the path of the page to diagnose, if `open` fails. */
  pagePath(): string
  /** Opens that page as `VmClock.open` does. */
  open(): DiagnosedClock
  /** Returns the page at the publisher's default path; undefined if it cannot be read. */
  published(): PublishedPage | undefined
  /** Returns the hypervisor's signature from CPUID, if there is one. */
  hypervisorSignature(): string | undefined
  /** Returns what the protection of clones would have, besides a page. */
  cloneFacts(): NativeCloneFacts
  counterFacts(): CounterFacts
  counterCost(): CounterCost
  /** Returns `PtpClock.timescale` of the PTP clock at a path; `clock` comes from `open`. */
  phcTimescale(path: string, clock: DiagnosedClock): 'tai' | 'utc' | undefined
  /** Returns the memory of ClockBound's daemon; undefined if there is none. */
  clockBound(): NativeClockBound | undefined
  /** Returns how the kernel's clock is disciplined; undefined if the system refuses to say. */
  discipline(): NativeDiscipline | undefined
}

/** Returns this machine, with the page at a path; by default, this machine's own page. */
export function thisMachine(path: string | undefined): Scene {
  return {
    unsupported: obstacle(),
    architecture: arch(),
    kernelRelease: release(),
    files: new Files('/'),
    pagePath: () => path ?? environmentPath() ?? native().listPages(null)[0] ?? '/dev/vmclock0',
    open: () => VmClock.open(path, { timescale: 'page', calls: 'node-api' }),
    published() {
      try {
        const clock = VmClock.open(PUBLISHED_PATH, { timescale: 'page', calls: 'node-api' })
        try {
          const { timeSource } = clock
          return { path: PUBLISHED_PATH, source: timeSource, snapshot: clock.snapshot() }
        } finally {
          clock.close()
        }
      } catch (error) {
        if (VmClockError.isVmClockError(error)) return undefined
        throw error
      }
    },
    hypervisorSignature: () => native().hypervisorSignature() ?? undefined,
    cloneFacts: () => native().cloneFacts(),
    counterFacts: () => native().counterFacts(),
    counterCost: () => native().counterCost(),
    phcTimescale(ptpPath, clock) {
      const ptp = PtpClock.open(ptpPath)
      try {
        // `open` above made it.
        return ptp.timescale(clock as VmClock)
      } finally {
        ptp.close()
      }
    },
    clockBound: () => native().examineClockBound('/') ?? undefined,
    discipline() {
      const discipline = native().systemDiscipline()
      return isFailure(discipline) ? undefined : discipline
    },
  }
}
