/** Stages machines for the doctor: the files and facts of a healthy guest, with the changes of a test. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { type TimeGuard, type TimeSource, VmClock, VmClockError } from 'vmclock'
import type { Diagnosis } from 'vmclock/doctor'
import { type PageFields, VmClockPage } from 'vmclock/testing'
import { diagnoseIn } from '../ts/doctor/diagnose'
import { Files } from '../ts/doctor/files'
import type { Scene } from '../ts/doctor/scene'
import { type NoBound, stateNoBound } from './extension'
import { FLAG, liveFields, newDirectory } from './pages'

// The built package's own: its native part does not load from the sources.
const { native } = createRequire(import.meta.url)(
  '../dist/shared.cjs',
) as typeof import('../ts/native')

/** The file at a path: its text or bytes, a link, a FIFO, or undefined for none. */
export type Staged = string | Buffer | { readonly link: string } | 'fifo' | undefined

/** The differences from a healthy machine. */
export interface Changes {
  readonly files?: Readonly<Record<string, Staged>>
  readonly facts?: Partial<Scene>
  /** Fields of `/dev/vmclock0`; null if it does not exist. */
  readonly page?: PageFields | null
  /** Fields of a page at `/run/vmclock/page`; if given, that page is diagnosed. */
  readonly published?: PageFields
  /** The published page's reason for a missing bound. */
  readonly noBound?: NoBound
  /** The guard of the page; by default, the device guards it. */
  readonly guard?: Partial<TimeGuard> | undefined
  /** The source of the page's time; by default, the page says it. */
  readonly from?: TimeSource['from'] | undefined
}

export const RELEASE = '7.1.0-test'
export const CLOCKSOURCE = '/sys/devices/system/clocksource/clocksource0'
const DEVICE = '/sys/bus/platform/devices/AMZNC10C:00'

/** The files of a guest without problems. */
export const HEALTHY: Readonly<Record<string, Staged>> = {
  '/proc/cmdline': 'root=/dev/vda1 quiet\n',
  '/proc/1/comm': 'systemd\n',
  '/proc/42/comm': 'chronyd\n',
  '/sys/class/dmi/id/sys_vendor': 'QEMU\n',
  '/sys/class/dmi/id/product_name': 'Standard PC\n',
  '/sys/bus/platform/devices/serial8250/modalias': 'platform:serial8250\n',
  [`${DEVICE}/modalias`]: 'acpi:AMZNC10C:VMCLOCK:\n',
  [`${DEVICE}/driver`]: { link: '../../../bus/platform/drivers/vmclock' },
  '/sys/bus/acpi/devices/AMZNC10C:00/modalias': 'acpi:AMZNC10C:VMCLOCK:\n',
  '/sys/bus/acpi/devices/AMZNC10C:00/path': '\\_SB_.VCLK\n',
  '/sys/bus/platform/drivers/vmclock/bind': '',
  '/sys/module/ptp_vmclock/refcnt': '0\n',
  '/sys/class/misc/vmclock0/dev': '10:260\n',
  '/sys/class/ptp/ptp0/clock_name': 'vmclock0\n',
  [`${CLOCKSOURCE}/available_clocksource`]: 'tsc kvm-clock acpi_pm \n',
  [`${CLOCKSOURCE}/current_clocksource`]: 'tsc\n',
}

/** Removes the files that the driver makes. */
export const NO_DRIVER: Readonly<Record<string, Staged>> = {
  [`${DEVICE}/driver`]: undefined,
  '/sys/bus/platform/drivers/vmclock/bind': undefined,
  '/sys/module/ptp_vmclock/refcnt': undefined,
  '/sys/class/misc/vmclock0/dev': undefined,
  '/sys/class/ptp/ptp0/clock_name': undefined,
}

/** Removes the device and the driver. */
export const NO_DEVICE: Readonly<Record<string, Staged>> = {
  ...NO_DRIVER,
  [`${DEVICE}/modalias`]: undefined,
  '/sys/bus/acpi/devices/AMZNC10C:00/modalias': undefined,
  '/sys/bus/acpi/devices/AMZNC10C:00/path': undefined,
}

/** Diagnoses a healthy machine with the changes. */
export function diagnoseStaged(t: ExecutionContext, changes: Changes = {}): Diagnosis {
  return diagnoseIn(stage(t, changes))
}

/** Stages a healthy machine with the changes. */
export function stage(
  t: ExecutionContext,
  { files, facts, page, published, noBound, guard, from }: Changes,
): Scene {
  const root = newDirectory(t)
  for (const [path, staged] of Object.entries({ ...HEALTHY, ...files })) {
    put(join(root, path), staged)
  }
  const healthy = { ...liveFields(t), timeType: 1, taiOffsetSec: -37, vmGenerationCounter: 1n }
  const flags = healthy.flags | FLAG.TAI_OFFSET_VALID | FLAG.VM_GEN_COUNTER_PRESENT
  if (page !== null) makePage(join(root, '/dev/vmclock0'), { ...healthy, flags, ...page })
  if (published !== undefined) {
    makePage(join(root, '/run/vmclock/page'), { ...healthy, flags, ...published })
    if (noBound !== undefined) stateNoBound(join(root, '/run/vmclock/page'), noBound)
  }
  const path = published === undefined ? '/dev/vmclock0' : '/run/vmclock/page'
  return {
    unsupported: undefined,
    // The architecture of the staged files. The page's counter is this machine's.
    architecture: 'x64',
    kernelRelease: RELEASE,
    files: new Files(root),
    pagePath: () => path,
    published: () => undefined,
    clockBound: () => native().examineClockBound(root) ?? undefined,
    open() {
      try {
        return staged(VmClock.open(join(root, path), { timescale: 'page' }), path, { guard, from })
      } catch (error) {
        if (!(error instanceof VmClockError)) throw error
        // The message names the path below the root of the staged files.
        const { code, message, remedy } = error
        throw new VmClockError(code, message.replaceAll(root, ''), { remedy, path })
      }
    },
    hypervisorSignature: () => 'KVMKVMKVM',
    cloneFacts: () => ({ cpuHasEntropy: true, hasVmgenid: false }),
    counterFacts: () => ({ counterId: 1, invariant: true }),
    counterCost: () => ({ medianNs: 15.04, leastNs: 14, trapped: false, trappedAboveNs: 300 }),
    discipline: () => ({
      unsynchronized: false,
      maxErrorUs: 1234,
      estErrorUs: 12,
      taiMinusUtcSec: 37,
    }),
    phcTimescale: () => 'tai',
    ...facts,
  }
}

// This machine's guard and a path below the root would otherwise show in the findings.
function staged(
  clock: VmClock,
  path: string,
  { guard, from = clock.timeSource.from }: Pick<Changes, 'guard' | 'from'>,
): VmClock {
  const isDevice = path === '/dev/vmclock0'
  const own: TimeGuard = {
    state: isDevice ? 'device' : 'guarded',
    path: isDevice ? undefined : '/dev/vmclock0',
    reason: undefined,
    remedy: undefined,
    ...guard,
  }
  const timeSource: TimeSource = { ...clock.timeSource, path, from, guard: own }
  Object.defineProperties(clock, { path: { value: path }, timeSource: { value: timeSource } })
  return clock
}

function makePage(path: string, fields: PageFields): void {
  mkdirSync(dirname(path), { recursive: true })
  VmClockPage.create(path, fields).close()
}

function put(path: string, staged: Staged): void {
  if (staged === undefined) return
  mkdirSync(dirname(path), { recursive: true })
  if (staged === 'fifo') execFileSync('mkfifo', [path])
  else if (typeof staged === 'object' && 'link' in staged) symlinkSync(staged.link, path)
  else writeFileSync(path, staged)
}
