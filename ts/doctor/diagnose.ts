/** Walks through what a vmclock needs, and names the first thing that is wrong. */

import * as argument from '../arguments'
import { checkContainer, container } from './container'
import { checkCost, checkCounter } from './counter'
import { checkDevice, type DeviceFindings, deviceFileAt, noDevice, vmclockDevices } from './device'
import {
  type Check,
  type CheckName,
  type Diagnosis,
  type Finding,
  type Refusal,
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

/**
 * Looks at everything that a vmclock needs on this machine, from the hypervisor to the system's clock,
 * and says what to mend first. It changes nothing, needs no privilege (what it may not see is
 * `unknown`), and takes some tens of milliseconds, in which it does not give way; up to some hundred
 * more where the page is stuck in an update or reads of the counter are trapped, and more on machines
 * with thousands of processes.
 *
 * What it finds it does not throw: on a system that vmclock does not support, `platform` is `wrong`
 * and the other checks are `skipped`.
 *
 * @param options - what to diagnose
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
 *
 * @example
 * ```ts
 * import { diagnose } from 'vmclock/doctor'
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

function unsupported(reason: Refusal): Findings {
  const others = ORDER.map((name) => [name, skipped('the package does not work here')] as const)
  return { ...(Object.fromEntries(others) as Findings), platform: wrong(reason) }
}

function walk(scene: Scene): Findings {
  const path = scene.pagePath()
  // Any other page is a file that somebody publishes, and serves without a hypervisor's.
  const asked = deviceFileAt(scene, path)
  const isDeviceFile = asked !== undefined
  const file = asked ?? { path: '/dev/vmclock0', name: 'vmclock0' }
  const opened = openPage(scene, 'utc')
  const clock = 'clock' in opened ? opened.clock : undefined
  try {
    const looked = clock === undefined ? undefined : lookAt(scene, clock)
    const hasTime = looked?.hasTime
    const kind = container(scene)
    const inContainer = kind !== undefined
    const found = hypervisor(scene)
    const devices = vmclockDevices(scene)
    const isVirtual =
      found !== undefined || devices.length > 0 || (isDeviceFile && clock !== undefined)
    const towardsPage = {
      machine: checkMachine(scene, found, isVirtual, !isDeviceFile),
      ...(isVirtual
        ? judged(
            checkDevice(scene, devices, file, inContainer),
            isDeviceFile ? (clock === undefined ? 'wrong' : 'unknown') : 'skipped',
          )
        : noDevice(skipped('there is no hypervisor to give this machine a device'))),
    }
    const obstacle = ORDER.find((name) => towardsPage[name as 'device']?.state === 'wrong')
    const missing =
      obstacle !== undefined && 'refusal' in opened
        ? `there is no page to open: see ${obstacle}`
        : undefined
    const phc = isDeviceFile ? phcOf(scene, file.name) : undefined
    const told =
      phc === undefined || clock === undefined || looked?.reading === undefined
        ? undefined
        : phcTimescale(scene, phc, clock)
    // Steered by a clock of which that is not known, the system's could end 37 s beside the time.
    const isUsable = told === 'tai' || told === 'utc'
    const toBeHanded = isDeviceFile && inContainer ? `/dev/${file.name}` : undefined
    return {
      platform: { state: 'ok', finding: `Linux on ${scene.architecture} is supported` },
      container: checkContainer(kind),
      ...towardsPage,
      ...checkPage(path, opened, looked, missing, toBeHanded),
      counter: checkCounter(scene, looked, isDeviceFile && hasTime === true, inContainer),
      cost: checkCost(scene, hasTime === true ? clock : undefined),
      phc: isDeviceFile
        ? checkPhc(scene, file.name, phc, devices, looked, inContainer)
        : skipped("only a hypervisor's page has a PTP clock"),
      'phc-timescale': checkPhcTimescale(phc, told, inContainer),
      'system-clock': checkSystemClock(scene, isUsable ? phc : undefined, told === 'tai'),
    }
  } finally {
    clock?.close()
  }
}

// What keeps the hypervisor's page away is no matter where a published page is asked about; and where
// the device's own file opens, what seems to be in its way only cannot be seen from here.
function judged(findings: DeviceFindings, as: 'wrong' | 'skipped' | 'unknown'): DeviceFindings {
  if (as === 'wrong') return findings
  const why = as === 'skipped' ? '; a published page does without' : ''
  const all = Object.entries(findings).map(([name, finding]) => {
    if (finding.state !== 'wrong') return [name, finding]
    const { details } = finding
    return [name, { state: as, finding: `${finding.finding}${why}`, details }]
  })
  return Object.fromEntries(all) as DeviceFindings
}
