/** Makes all checks and names the problem to fix first. */

import * as argument from '../arguments'
import { isOfSourceClock } from '../bound-unavailable'
import type { BoundUnavailable } from '../snapshot'
import { checkClockBound } from './clock-bound'
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
import { checkEna } from './ena'
import { checkClones, checkGuard, checkPublisher } from './guard'
import { checkMachine, hypervisor } from './machine'
import { checkPage, type ExaminedPage, examinePage } from './page'
import { checkPhc, checkPhcTimescale, type Phc, phcOf, phcTimescale } from './phc'
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
  'publisher',
  'guard',
  'clones',
  'counter',
  'cost',
  'phc',
  'phc-timescale',
  'system-clock',
  'clockbound',
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
  // Any other page is published or made here, and needs no hypervisor.
  const deviceFile = page.path === undefined ? undefined : deviceFileAt(scene, page.path)
  const { before, isVirtual, hindrance } = checkBeforePage(
    scene,
    page,
    devices,
    deviceFile,
    inContainer,
  )
  const isOfDevice = deviceFile !== undefined
  const obstacle = ORDER.find((name) => before[name as 'device']?.state === 'wrong')
  const toPass = isOfDevice && inContainer ? `/dev/${deviceFile.name}` : undefined
  return {
    platform: ok(`Linux on ${scene.architecture} is supported`),
    container: checkContainer(kind),
    ...before,
    ...checkPage(page, obstacle, toPass),
    publisher: checkPublisher(scene, page),
    guard: checkGuard(page, devices, isVirtual, hindrance),
    clones: checkClones(scene, page),
    counter: checkCounter(scene, page, isOfDevice && page.hasTime === true, inContainer),
    cost: checkCost(scene, page.hasTime === true ? page.clock : undefined),
    clockbound: checkClockBound(
      scene,
      isOfDevice ? page.snapshot?.disruptionMarker : undefined,
      page.source?.from,
    ),
    ...checkOtherClocks(scene, page, devices, deviceFile, inContainer, isVirtual),
  }
}

interface BeforePage {
  readonly before: DeviceFindings & { readonly machine: Finding }
  readonly isVirtual: boolean
  /** The first check of the device that is wrong, also if the page does not need the device. */
  readonly hindrance: Finding | undefined
}

// The checks of the way to the page: hypervisor, device and driver.
function checkBeforePage(
  scene: Scene,
  { clock }: ExaminedPage,
  devices: readonly Device[],
  deviceFile: DeviceFile | undefined,
  inContainer: boolean,
): BeforePage {
  const found = hypervisor(scene)
  const isOpenDevice = deviceFile !== undefined && clock !== undefined
  const isVirtual = found !== undefined || devices.length > 0 || isOpenDevice
  const machine = checkMachine(scene, found, isVirtual, deviceFile === undefined)
  if (!isVirtual) {
    const skippedAll = sameForAll(skipped('no hypervisor could give this machine a device'))
    return { before: { machine, ...skippedAll }, isVirtual, hindrance: undefined }
  }
  const file = deviceFile ?? { path: '/dev/vmclock0', name: 'vmclock0' }
  const findings = checkDevice(scene, devices, file, inContainer)
  const hindrance = Object.values(findings).find(({ state }) => state === 'wrong')
  const excusedAll =
    deviceFile === undefined
      ? excused(findings, 'skipped', '; the page does not need it')
      : findings
  const before = isOpenDevice ? excused(findings, 'unknown', '') : excusedAll
  return { before: { machine, ...before }, isVirtual, hindrance }
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

// The PTP clock of the page's own device comes first, then that of Amazon's network card.
function checkPtpClock(
  scene: Scene,
  page: ExaminedPage,
  devices: readonly Device[],
  deviceFile: DeviceFile | undefined,
  phc: Phc | undefined,
  inContainer: boolean,
): Finding {
  const ofPage =
    deviceFile === undefined
      ? skipped('only the page of a device has a PTP clock')
      : checkPhc(scene, deviceFile.name, phc, devices, page, inContainer)
  return ofPage.state === 'skipped' ? (checkEna(scene, page) ?? ofPage) : ofPage
}

function checkOtherClocks(
  scene: Scene,
  page: ExaminedPage,
  devices: readonly Device[],
  deviceFile: DeviceFile | undefined,
  inContainer: boolean,
  isVirtual: boolean,
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
    phc: checkPtpClock(scene, page, devices, deviceFile, phc, inContainer),
    'phc-timescale': checkPhcTimescale(phc, timescale, inContainer),
    'system-clock': checkSystemClock(
      scene,
      isUsable ? phc : undefined,
      timescale === 'tai',
      ofSourceClock(reading?.maxErrorNs === undefined ? snapshot?.boundUnavailable : undefined),
      isVirtual,
    ),
  }
}
