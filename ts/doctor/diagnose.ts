/** Walks through what a vmclock needs, and names the first thing that is wrong. */

import * as argument from '../arguments'
import { checkContainer, container } from './container'
import { checkCost, checkCounter } from './counter'
import { checkDevice, type DeviceFindings, noDevice, vmclockDevices } from './device'
import {
  type Check,
  type CheckName,
  type Diagnosis,
  type Finding,
  skipped,
  wrong,
} from './diagnosis'
import { checkMachine, hypervisor } from './machine'
import { checkPage, lookAt, openPage } from './page'
import { checkPhc, checkPhcTimescale, phcOf, phcTimescale } from './phc'
import { type Scene, thisMachine } from './scene'
import { checkSystemClock } from './system-clock'

/** What to diagnose. */
export interface DiagnoseOptions {
  /** The page; if left out, the one that `VmClock.open()` would open. */
  readonly path?: string | undefined
}

const ORDER = [
  'platform',
  'machine',
  'container',
  'device',
  'driver-built',
  'driver-loaded',
  'driver-bound',
  'device-file',
  'access',
  'page',
  'time',
  'counter',
  'cost',
  'phc',
  'phc-timescale',
  'system-clock',
] as const satisfies readonly CheckName[]

type Findings = Readonly<Record<CheckName, Finding>>

const DEVICE_FILE = /^\/dev\/vmclock\d+$/

/**
 * Looks at everything that a vmclock needs on this machine, from the hypervisor to the system's clock,
 * and says what to mend first. It changes nothing, needs no privilege (what it may not see is
 * `unknown`), and takes some tens of milliseconds, in which it does not give way; more on machines with
 * thousands of processes.
 *
 * What it finds it does not throw: on a system that vmclock does not support, `platform` is `wrong`
 * and the other checks are `skipped`.
 *
 * @param options - what to diagnose
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
 *
 * @example
 * ```ts
 * import { diagnose } from 'vmclock'
 *
 * const { verdict, firstProblem } = diagnose()
 * if (verdict === 'wrong') console.error(firstProblem?.finding, firstProblem?.remedy)
 * ```
 */
export function diagnose(options?: DiagnoseOptions): Diagnosis {
  const { path } = argument.record(options, 'options', ['path'])
  return diagnoseIn(thisMachine(path === undefined ? undefined : argument.path(path)))
}

/** Diagnoses a machine that may be staged. */
export function diagnoseIn(scene: Scene): Diagnosis {
  const findings = scene.unsupported === undefined ? walk(scene) : unsupported(scene.unsupported)
  const checks = ORDER.map((name): Check => {
    const { state, finding, remedy, details = {} } = findings[name]
    return { name, state, finding, ...(remedy !== undefined && { remedy }), details }
  })
  const firstProblem =
    checks.find(({ state }) => state === 'wrong') ?? checks.find(({ state }) => state === 'warning')
  return {
    verdict: firstProblem === undefined ? 'ok' : (firstProblem.state as 'wrong' | 'warning'),
    ...(firstProblem !== undefined && { firstProblem }),
    checks,
  }
}

function unsupported(reason: string): Findings {
  const others = ORDER.map((name) => [name, skipped('the package does not work here')] as const)
  return { ...(Object.fromEntries(others) as Findings), platform: wrong(reason) }
}

function walk(scene: Scene): Findings {
  const path = scene.pagePath()
  // Any other page is a file that somebody publishes, and serves without a hypervisor's.
  const isDeviceFile = DEVICE_FILE.test(path)
  const file = isDeviceFile ? path : '/dev/vmclock0'
  const opened = openPage(scene, 'utc')
  const clock = 'clock' in opened ? opened.clock : undefined
  try {
    const looked = clock === undefined ? undefined : lookAt(scene, clock)
    const hasTime = looked?.hasTime
    const kind = container(scene)
    const found = hypervisor(scene)
    const devices = vmclockDevices(scene)
    const isVirtual =
      found !== undefined || devices.length > 0 || (isDeviceFile && clock !== undefined)
    const towardsPage = {
      machine: checkMachine(scene, found, isVirtual, !isDeviceFile),
      ...(isVirtual
        ? judged(
            checkDevice(scene, devices, file, kind !== undefined),
            isDeviceFile ? (clock === undefined ? 'wrong' : 'unknown') : 'warning',
          )
        : noDevice(skipped('there is no hypervisor to give this machine a device'))),
    }
    const obstacle = ORDER.find((name) => towardsPage[name as 'device']?.state === 'wrong')
    const missing =
      obstacle !== undefined && 'refusal' in opened
        ? `there is no page to open: see ${obstacle}`
        : undefined
    const phc = isDeviceFile ? phcOf(scene, file) : undefined
    const told =
      phc === undefined || clock === undefined || looked?.reading === undefined
        ? undefined
        : phcTimescale(scene, phc, clock)
    return {
      platform: { state: 'ok', finding: `Linux on ${scene.architecture} is supported` },
      container: checkContainer(kind),
      ...towardsPage,
      ...checkPage(path, opened, looked, missing, isDeviceFile && kind !== undefined),
      counter: checkCounter(scene, looked, isDeviceFile && hasTime === true),
      cost: checkCost(scene, hasTime === true ? clock : undefined),
      phc: isDeviceFile
        ? checkPhc(scene, phc, devices, hasTime)
        : skipped("only a hypervisor's page has a PTP clock"),
      'phc-timescale': checkPhcTimescale(phc, told),
      'system-clock': checkSystemClock(scene, phc, told === 'tai'),
    }
  } finally {
    clock?.close()
  }
}

// What keeps the hypervisor's page away is no more than a pity where another page is asked about; and
// where the device's own file opens, what seems to be in its way only cannot be seen from here.
function judged(findings: DeviceFindings, as: 'wrong' | 'warning' | 'unknown'): DeviceFindings {
  const all = Object.entries(findings).map(([name, finding]) => {
    if (finding.state !== 'wrong') return [name, finding]
    const remedy = as === 'unknown' ? undefined : finding.remedy
    return [name, { ...finding, state: as, remedy }]
  })
  return Object.fromEntries(all) as DeviceFindings
}
