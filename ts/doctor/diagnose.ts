/** Makes all checks and names the problem to fix first. */

import * as argument from '../arguments'
import { isOfSourceClock } from '../bound-unavailable'
import type { BoundUnavailable } from '../snapshot'
import { checkContainer, container } from './container'
import { checkCost } from './cost'
import { checkCounter } from './counter'
import { type Device, type DeviceFile, deviceFileAt, vmclockDevices } from './device'
import { checkDevice, type DeviceFindings, sameForAll } from './device-checks'
import {
  type Check,
  type CheckName,
  type Diagnosis,
  type Finding,
  failed,
  ok,
  skipped,
} from './diagnosis'
import { checkMachine, hypervisor } from './machine'
import { checkPage, type ExaminedPage, examinePage } from './page'
import { checkPhc, checkPhcTimescale, phcOf, phcTimescale } from './phc'
import { type Scene, thisMachine } from './scene'
import { checkSystemClock } from './system-clock'

/** Options of {@link diagnose}. */
export interface DiagnoseOptions {
  /** The page; by default, the one that `VmClock.open()` opens. */
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
 * Checks everything that vmclock needs on this machine, from the hypervisor to the system clock, and
 * names the problem to fix first.
 *
 * It changes nothing and needs no privileges: a check of something that this process may not see is
 * `unknown`. It blocks for some tens of milliseconds. A page stuck in an update and a trapped counter
 * add some hundred milliseconds, and thousands of processes add more.
 *
 * It does not throw for what it finds. On a system that vmclock does not support, `platform` is
 * `wrong` and all other checks are `skipped`.
 *
 * @param options - the page to diagnose
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

/** Diagnoses a machine, which may be staged. */
export function diagnoseIn(scene: Scene): Diagnosis {
  const findings = findingsOf(scene)
  const checks = ORDER.map((name): Check => {
    const { state, finding, remedy, details } = findings[name]
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

function findingsOf(scene: Scene): Findings {
  if (scene.unsupported !== undefined) {
    const others = ORDER.map((name) => [name, skipped('vmclock does not work here')] as const)
    return { ...(Object.fromEntries(others) as Findings), platform: failed(scene.unsupported) }
  }
  const page = examinePage(scene)
  try {
    return checkAll(scene, page)
  } finally {
    page.clock?.close()
  }
}

function checkAll(scene: Scene, page: ExaminedPage): Findings {
  const kind = container(scene)
  const inContainer = kind !== undefined
  const devices = vmclockDevices(scene)
  // Any other file is a published page, which needs no hypervisor.
  const deviceFile = deviceFileAt(scene, page.path)
  const before = checkBeforePage(scene, page, devices, deviceFile, inContainer)
  const isOfDevice = deviceFile !== undefined
  const obstacle = ORDER.find((name) => before[name as 'device']?.state === 'wrong')
  const toPass = isOfDevice && inContainer ? `/dev/${deviceFile.name}` : undefined
  return {
    platform: ok(`Linux on ${scene.architecture} is supported`),
    container: checkContainer(kind),
    ...before,
    ...checkPage(page, obstacle, toPass),
    counter: checkCounter(scene, page, isOfDevice && page.hasTime === true, inContainer),
    cost: checkCost(scene, page.hasTime === true ? page.clock : undefined),
    ...checkOtherClocks(scene, page, devices, deviceFile, inContainer),
  }
}

// The checks of the way to the page: hypervisor, device and driver.
function checkBeforePage(
  scene: Scene,
  { clock }: ExaminedPage,
  devices: readonly Device[],
  deviceFile: DeviceFile | undefined,
  inContainer: boolean,
): DeviceFindings & { readonly machine: Finding } {
  const found = hypervisor(scene)
  const isOpenDevice = deviceFile !== undefined && clock !== undefined
  const isVirtual = found !== undefined || devices.length > 0 || isOpenDevice
  const machine = checkMachine(scene, found, isVirtual, deviceFile === undefined)
  if (!isVirtual) {
    return { machine, ...sameForAll(skipped('no hypervisor could give this machine a device')) }
  }
  const file = deviceFile ?? { path: '/dev/vmclock0', name: 'vmclock0' }
  const findings = checkDevice(scene, devices, file, inContainer)
  if (deviceFile === undefined) {
    return { machine, ...excused(findings, 'skipped', '; a published page does not need it') }
  }
  return { machine, ...(isOpenDevice ? excused(findings, 'unknown', '') : findings) }
}

// Problems of the device are none for a published page. If the device itself is open, they only seem to
// exist, because this process does not see everything.
function excused(
  findings: DeviceFindings,
  state: 'skipped' | 'unknown',
  because: string,
): DeviceFindings {
  const all = Object.entries(findings).map(([name, { finding, details, ...rest }]) => [
    name,
    rest.state === 'wrong'
      ? { state, finding: `${finding}${because}`, details }
      : { ...rest, finding, details },
  ])
  return Object.fromEntries(all) as DeviceFindings
}

function ofSourceClock(unavailable: BoundUnavailable | undefined): BoundUnavailable | undefined {
  return unavailable !== undefined && isOfSourceClock(unavailable) ? unavailable : undefined
}

function checkOtherClocks(
  scene: Scene,
  page: ExaminedPage,
  devices: readonly Device[],
  deviceFile: DeviceFile | undefined,
  inContainer: boolean,
): Pick<Findings, 'phc' | 'phc-timescale' | 'system-clock'> {
  const phc = deviceFile === undefined ? undefined : phcOf(scene, deviceFile.name)
  const { clock, snapshot, reading } = page
  const timescale =
    phc === undefined || clock === undefined || reading === undefined
      ? undefined
      : phcTimescale(scene, phc, clock)
  // Steered by a clock of unknown timescale, the system clock could be 37 s off.
  const isUsable = timescale === 'tai' || timescale === 'utc'
  return {
    phc:
      deviceFile === undefined
        ? skipped('a published page has no PTP clock')
        : checkPhc(scene, deviceFile.name, phc, devices, page, inContainer),
    'phc-timescale': checkPhcTimescale(phc, timescale, inContainer),
    'system-clock': checkSystemClock(
      scene,
      isUsable ? phc : undefined,
      timescale === 'tai',
      ofSourceClock(reading?.maxErrorNs === undefined ? snapshot?.boundUnavailable : undefined),
    ),
  }
}
