/** What the checks look at: this machine, or one that a test stages. */

import { arch, release } from 'node:os'
import { VmClock } from '../clock'
import { isFailure } from '../errors'
import {
  type CounterCost,
  type CounterFacts,
  type NativeDiscipline,
  native,
  obstacle,
} from '../native'
import { PtpClock } from '../ptp'
import type { Timescale } from '../reading'
import type { Refusal } from './diagnosis'
import { Files } from './files'

/** The part of a clock that the checks use. */
export type DiagnosedClock = Pick<
  VmClock,
  'path' | 'hasTime' | 'snapshot' | 'read' | 'nowNs' | 'close'
>

/** A machine to be diagnosed. Where it is not supported nothing else of it is asked. */
export interface Scene {
  /** Why this package does not work on this system, if it does not. */
  readonly unsupported: Refusal | undefined
  /** As `process.arch`: `x64` or `arm64`. */
  readonly architecture: string
  /** The running kernel's release. */
  readonly kernelRelease: string
  readonly files: Files
  /** The page that is asked about. */
  pagePath(): string
  /** Opens the page as `VmClock.open` does. */
  open(timescale: Timescale): DiagnosedClock
  /** The hypervisor's signature that the CPU gives, where it does. */
  hypervisorSignature(): string | undefined
  counterFacts(): CounterFacts
  counterCost(): CounterCost
  /** What a PTP clock tells, as `PtpClock.timescale`; `clock` is what `open` gave. */
  phcTimescale(path: string, clock: DiagnosedClock): 'tai' | 'utc' | undefined
  /** How the kernel's clock is disciplined; undefined where the system refuses to tell. */
  discipline(): NativeDiscipline | undefined
}

/** This machine, and the page at a path; its own page where there is none. */
export function thisMachine(path: string | undefined): Scene {
  return {
    unsupported: obstacle(),
    architecture: arch(),
    kernelRelease: release(),
    files: new Files('/'),
    pagePath: () => path ?? native().defaultPath(),
    open: (timescale) => VmClock.open(path, { timescale }),
    hypervisorSignature: () => native().hypervisorSignature() ?? undefined,
    counterFacts: () => native().counterFacts(),
    counterCost: () => native().counterCost(),
    phcTimescale(ptpPath, clock) {
      const ptp = PtpClock.open(ptpPath)
      try {
        // It is one: `open` above made it.
        return ptp.timescale(clock as VmClock)
      } finally {
        ptp.close()
      }
    },
    discipline() {
      const discipline = native().systemDiscipline()
      return isFailure(discipline) ? undefined : discipline
    },
  }
}
