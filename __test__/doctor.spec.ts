// The doctor names the problem to fix first, with a remedy, and returns all findings as data. It neither
// throws nor blocks because of what it finds, and it escapes everything that it reads.

import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import test from 'ava'
import { type ClockStatus, type Snapshot, type TimeSource, VmClockError } from 'vmclock'
import {
  type Check,
  type CheckName,
  type CheckState,
  type Diagnosis,
  diagnose,
} from 'vmclock/doctor'
import { VmClockPage } from 'vmclock/testing'
import { diagnosisText } from '../ts/cli/doctor'
import { Files } from '../ts/doctor/files'
import type { Scene } from '../ts/doctor/scene'
import { commandLine, evaluate, run } from './node-command'
import { COUNTER_ID, FLAG, liveFields, newDirectory, OTHER_COUNTER_ID, page } from './pages'
import {
  type Changes,
  CLOCKSOURCE,
  diagnoseStaged,
  NO_DEVICE,
  NO_DRIVER,
  RELEASE,
  stage,
} from './staged-machine'

const NAMES: readonly CheckName[] = [
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
]

// biome-ignore lint/suspicious/noControlCharactersInRegex: the test looks for control characters
const UNSAFE = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/

function check(diagnosis: Diagnosis, name: CheckName): Check {
  const found = diagnosis.checks.find((one) => one.name === name)
  if (found === undefined) throw new Error(`there is no ${name}`)
  return found
}

function states(diagnosis: Diagnosis): Record<string, string> {
  return Object.fromEntries(diagnosis.checks.map(({ name, state }) => [name, state]))
}

test('a complete machine has no problem', (t) => {
  const diagnosis = diagnoseStaged(t)
  const all = Object.fromEntries(NAMES.map((name) => [name, 'ok']))
  t.deepEqual(states(diagnosis), { ...all, publisher: 'skipped', clockbound: 'skipped' })
  t.is(diagnosis.verdict, 'ok')
  t.false('firstProblem' in diagnosis)
  t.deepEqual(
    diagnosis.checks.map(({ name }) => name),
    NAMES,
  )
})

// Each broken machine: its differences from a healthy one, and the problem to be named first.

interface Broken extends Changes {
  readonly first: CheckName
  readonly verdict?: 'warning'
  readonly finding: RegExp
  readonly remedy: RegExp
  readonly states?: Partial<Record<CheckName, string>>
}

const noHypervisor = { hypervisorSignature: () => undefined }
const noDmi = {
  '/sys/class/dmi/id/sys_vendor': 'LENOVO\n',
  '/sys/class/dmi/id/product_name': '20XW\n',
}
const unsynchronized = {
  discipline: () => ({
    unsynchronized: true,
    maxErrorUs: 16_000_000,
    estErrorUs: 16_000_000,
    taiMinusUtcSec: 0,
  }),
}
const refused = {
  open: () => {
    throw new VmClockError('ERR_VMCLOCK_ACCESS', '/dev/vmclock0: permission denied', {
      remedy: 'a udev rule',
      errno: 13,
    })
  },
}
const notThere = {
  open: () => {
    throw new VmClockError('ERR_VMCLOCK_NOT_FOUND', 'there is no vmclock page here', {
      remedy: 'make one',
    })
  },
}
const config = (line: string): Buffer => gzipSync(`CONFIG_64BIT=y\n${line}\nCONFIG_PTP=y\n`)
const marks = { '/.dockerenv': '', '/run/.containerenv': '' }
const SECOND = '/sys/bus/platform/devices/AMZNC10C:01'
const second = {
  [`${SECOND}/modalias`]: 'acpi:AMZNC10C:VMCLOCK:\n',
  '/sys/bus/acpi/devices/AMZNC10C:01/modalias': 'acpi:AMZNC10C:VMCLOCK:\n',
}
const NOT_SET = '# CONFIG_PTP_1588_CLOCK_VMCLOCK is not set'
const AS_MODULE = 'CONFIG_PTP_1588_CLOCK_VMCLOCK=m'
const modules = `/lib/modules/${RELEASE}`

const BROKEN: Readonly<Record<string, Broken>> = {
  'not a virtual machine': {
    files: { ...NO_DEVICE, ...noDmi },
    facts: noHypervisor,
    page: null,
    first: 'machine',
    finding: /not a virtual machine/,
    remedy: /run `vmclock publish`, which makes a page/,
    states: { device: 'skipped', access: 'skipped', counter: 'ok', 'system-clock': 'ok' },
  },
  'a bare-metal machine of EC2': {
    files: {
      ...NO_DEVICE,
      '/sys/class/dmi/id/sys_vendor': 'Amazon EC2\n',
      '/sys/class/dmi/id/product_name': 'm7g.metal-48xl\n',
    },
    facts: noHypervisor,
    page: null,
    first: 'machine',
    finding: /not a virtual machine/,
    remedy: /vmclock publish/,
  },
  'a virtual machine without a device': {
    files: { ...NO_DEVICE, ...NO_DRIVER },
    page: null,
    first: 'device',
    finding:
      /^the firmware describes no vmclock device \(ACPI AMZNC10C, device tree amazon,vmclock\)$/,
    remedy: /-device vmclock.*vmclock publish/,
    states: { machine: 'ok', 'driver-loaded': 'skipped', page: 'skipped', phc: 'skipped' },
  },
  'a driver without a device': {
    files: { ...NO_DEVICE, '/sys/bus/platform/drivers/vmclock/bind': '' },
    page: null,
    first: 'device',
    finding: /the driver is loaded, but has no device/,
    remedy: /-device vmclock/,
  },
  'a device that the firmware marks as absent': {
    files: {
      ...NO_DRIVER,
      '/sys/bus/platform/devices/AMZNC10C:00/modalias': undefined,
    },
    page: null,
    first: 'device',
    finding: /AMZNC10C:00\), but marks it as absent/,
    remedy: /enable the device/,
  },
  'a device that is present, but has no platform device': {
    files: {
      ...NO_DRIVER,
      '/sys/bus/platform/devices/AMZNC10C:00/modalias': undefined,
      '/sys/bus/acpi/devices/AMZNC10C:00/status': '15\n',
    },
    page: null,
    first: 'device',
    finding: /AMZNC10C:00\), but the kernel made no platform device for it/,
    remedy: /kernel log/,
  },
  'a kernel that was built without the driver': {
    files: { ...NO_DRIVER, '/proc/config.gz': config(NOT_SET) },
    page: null,
    first: 'driver-built',
    finding: /CONFIG_PTP_1588_CLOCK_VMCLOCK is not set/,
    remedy: /Linux 6\.13 or later.*vmclock publish/,
    states: { 'driver-loaded': 'skipped', 'driver-bound': 'skipped', access: 'skipped' },
  },
  'a driver whose module is not installed': {
    files: {
      ...NO_DRIVER,
      [`/boot/config-${RELEASE}`]: `${AS_MODULE}\n`,
      [`${modules}/modules.dep`]: 'kernel/drivers/ptp/ptp_kvm.ko.xz:\n',
    },
    page: null,
    first: 'driver-built',
    finding: /the module is not installed/,
    remedy: /linux-modules-extra-7\.1\.0-test/,
  },
  'a driver that is not loaded': {
    files: {
      ...NO_DRIVER,
      [`${modules}/modules.dep`]:
        'kernel/a.ko:\nkernel/drivers/ptp/ptp_vmclock.ko.xz: kernel/a.ko\n',
    },
    page: null,
    first: 'driver-loaded',
    finding: /ptp_vmclock is not loaded$/,
    remedy: /modprobe ptp_vmclock/,
    states: { 'driver-built': 'ok', 'driver-bound': 'skipped', 'device-file': 'skipped' },
  },
  'a driver that is not loaded, on a kernel of unknown configuration': {
    files: NO_DRIVER,
    page: null,
    first: 'driver-loaded',
    finding: /ptp_vmclock is not loaded$/,
    remedy: /modprobe ptp_vmclock.*boot a kernel with/,
    states: { 'driver-built': 'unknown' },
  },
  'a driver on a blacklist': {
    files: {
      ...NO_DRIVER,
      '/proc/config.gz': config(AS_MODULE),
      '/etc/modprobe.d/no.conf': '# why\nblacklist ptp-vmclock\n',
      '/proc/cmdline': 'quiet modprobe.blacklist=floppy,ptp_vmclock\n',
    },
    page: null,
    first: 'driver-loaded',
    finding: /\/etc\/modprobe\.d\/no\.conf: blacklist ptp-vmclock; kernel command line: modprobe/,
    remedy: /remove that setting/,
  },
  'a driver on a blacklist, in a container': {
    files: { ...NO_DRIVER, ...marks, '/etc/modprobe.d/no.conf': 'blacklist ptp_vmclock\n' },
    page: null,
    first: 'driver-loaded',
    finding: /because it is disabled/,
    remedy: /^on the container's host: remove that setting/,
  },
  'a kernel that loads no modules': {
    files: {
      ...NO_DRIVER,
      '/proc/cmdline': 'quiet nomodule\n',
      '/proc/sys/kernel/modules_disabled': '1\n',
      '/usr/local/lib/modprobe.d/no.conf': 'install ptp_vmclock /bin/false\n',
    },
    page: null,
    first: 'driver-loaded',
    finding:
      /: \/usr\/local\/lib\/modprobe\.d\/no\.conf: install ptp_vmclock \/bin\/false; kernel command line: nomodule; .*modules_disabled: 1, until the next boot$/,
    remedy: /remove that setting/,
  },
  'a driver that is not loaded, on a kernel without a module list': {
    files: {
      ...NO_DRIVER,
      [`/boot/config-${RELEASE}`]: `${AS_MODULE}\n`,
      [`${modules}/kernel/a.ko`]: '',
    },
    page: null,
    first: 'driver-loaded',
    finding: /ptp_vmclock is not loaded$/,
    remedy: /modprobe ptp_vmclock/,
    states: { 'driver-built': 'ok' },
  },
  'a built-in driver that did not start': {
    files: { ...NO_DRIVER, '/proc/config.gz': config('CONFIG_PTP_1588_CLOCK_VMCLOCK=y') },
    page: null,
    first: 'driver-loaded',
    finding: /built in, but did not start/,
    remedy: /initcall_blacklist/,
  },
  'a device that is not bound to the driver': {
    files: {
      '/sys/bus/platform/devices/AMZNC10C:00/driver': undefined,
      '/sys/class/misc/vmclock0/dev': undefined,
      '/sys/class/ptp/ptp0/clock_name': undefined,
    },
    page: null,
    first: 'driver-bound',
    finding: /the driver is not bound to AMZNC10C:00/,
    remedy: /echo AMZNC10C:00 > \/sys\/bus\/platform\/drivers\/vmclock\/bind/,
    states: { 'driver-loaded': 'ok', 'device-file': 'skipped' },
  },
  'a second device that is not bound to the driver': {
    files: second,
    facts: { pagePath: () => '/dev/vmclock1', ...notThere },
    first: 'driver-bound',
    finding: /the driver is not bound to AMZNC10C:01/,
    remedy: /echo AMZNC10C:01 > .*\/bind/,
    states: { 'device-file': 'skipped' },
  },
  'a device that is bound to another driver': {
    files: { '/sys/bus/platform/devices/AMZNC10C:00/driver': { link: '../../drivers/other' } },
    page: null,
    first: 'driver-bound',
    finding: /the driver other is bound to AMZNC10C:00/,
    remedy: /bind/,
  },
  'a device without a registered device file': {
    files: { '/sys/class/misc/vmclock0/dev': undefined },
    page: null,
    first: 'device-file',
    finding: /registered no device file/,
    remedy: /4 KiB pages/,
  },
  'a missing device file': {
    page: null,
    first: 'device-file',
    finding: /registered \/dev\/vmclock0 \(device 10:260\), but the file does not exist/,
    remedy: /mknod \/dev\/vmclock0 c 10 260/,
  },
  'a container without the device': {
    files: { '/.dockerenv': '' },
    page: null,
    first: 'device-file',
    finding: /the file does not exist here/,
    remedy:
      /docker run --device \/dev\/vmclock0:\/dev\/vmclock0:r .*Kubernetes.*mode .* udev rule on the host/,
    states: { container: 'ok' },
  },
  'a device that may not be opened': {
    facts: refused,
    first: 'access',
    finding: /permission denied$/,
    remedy: /udev rule/,
    states: { 'device-file': 'ok', page: 'skipped', time: 'skipped', phc: 'ok' },
  },
  'a device that may not be opened in a container': {
    files: { '/.dockerenv': '' },
    facts: refused,
    first: 'access',
    finding: /permission denied$/,
    remedy: /docker run --device \/dev\/vmclock0:\/dev\/vmclock0:r .* udev rule on the host/,
  },
  'a container that sees no devices of the machine': {
    files: {
      ...NO_DEVICE,
      '/sys/bus/platform/devices/serial8250/modalias': undefined,
      '/.dockerenv': '',
    },
    page: null,
    first: 'access',
    finding: /no vmclock page here/,
    remedy: /docker run --device/,
    states: { device: 'unknown', 'driver-loaded': 'skipped' },
  },
  'a file that is not a page': {
    page: { magic: 1 },
    first: 'page',
    finding: /not a vmclock page/,
    remedy: /check the path/,
    states: { access: 'ok', time: 'skipped' },
  },
  'a page stuck in an update': {
    page: { seqCount: 7 },
    first: 'page',
    finding: /being updated for 100 ms without end/,
    remedy: /restart what publishes the page/,
    states: { access: 'ok', time: 'skipped' },
  },
  'a page with only the disruption marker': {
    page: { counterId: 255, flags: 0n, clockStatus: 0 },
    first: 'time',
    verdict: 'warning',
    finding: /only the disruption marker: continuity and events work, time does not/,
    remedy: /without a path.*`vmclock publish`/,
    states: { page: 'ok', counter: 'ok', 'phc-timescale': 'skipped' },
  },
  'a page whose clock is unreliable': {
    page: { clockStatus: 4 },
    first: 'time',
    finding: /clock is unreliable/,
    remedy: /start the publisher again/,
  },
  'a page whose clock is free-running': {
    page: { clockStatus: 3 },
    first: 'time',
    verdict: 'warning',
    finding: /free-running/,
    remedy: /--max-error/,
  },
  'a page without a bound': {
    page: { flags: FLAG.TAI_OFFSET_VALID },
    first: 'time',
    verdict: 'warning',
    finding: /without a bound: it does not state the maximum error/,
    remedy: /assumedDriftPpm/,
  },
  'a page for another counter': {
    page: { counterId: OTHER_COUNTER_ID },
    files: { '/sys/class/ptp/ptp0/clock_name': undefined },
    first: 'counter',
    finding: new RegExp(
      `describes counter ${OTHER_COUNTER_ID}, and this machine's is ${COUNTER_ID}`,
    ),
    remedy: /open this machine's own page/,
    states: { time: 'skipped', phc: 'skipped' },
  },
  'a counter that does not match the page': {
    page: { counterValue: 2n ** 63n, counterPeriodFracSec: 2n ** 63n },
    files: { '/sys/class/ptp/ptp0/clock_name': undefined },
    first: 'counter',
    finding: /ticks behind the page's reference/,
    remedy: /restart what publishes the page/,
    states: { time: 'skipped', phc: 'skipped' },
  },
  'a counter that the kernel does not trust': {
    files: { [`${CLOCKSOURCE}/available_clocksource`]: 'kvm-clock hpet\n' },
    first: 'counter',
    verdict: 'warning',
    finding: /does not list tsc/,
    remedy: /tsc=unstable/,
    states: { time: 'ok' },
  },
  'a counter that is not invariant, and not on a hypervisor’s page': {
    page: { counterId: 255, flags: 0n, clockStatus: 3 },
    published: {},
    facts: { counterFacts: () => ({ counterId: 1, invariant: false }) },
    first: 'counter',
    verdict: 'warning',
    finding: /does not promise/,
    remedy: /\+invtsc.*--allow-untrusted-counter/,
  },
  'a system clock on another clock source': {
    files: { [`${CLOCKSOURCE}/current_clocksource`]: 'acpi_pm\n' },
    first: 'counter',
    verdict: 'warning',
    finding: /runs on acpi_pm, not on tsc/,
    remedy: /^as root: echo tsc > .*current_clocksource/,
  },
  'a system clock on another clock source, in a container': {
    files: { ...marks, [`${CLOCKSOURCE}/current_clocksource`]: 'acpi_pm\n' },
    first: 'counter',
    verdict: 'warning',
    finding: /runs on acpi_pm, not on tsc/,
    remedy: /^on the container's host: as root: echo tsc/,
  },
  'a trapped counter': {
    facts: {
      counterCost: () => ({ medianNs: 2100, leastNs: 1900, trapped: true, trappedAboveNs: 300 }),
    },
    first: 'cost',
    verdict: 'warning',
    finding: /a read of the counter takes 2100 ns, and a timestamp .*trapped/,
    remedy: /RDTSC exiting/,
  },
  'a trapped counter on Arm': {
    files: {
      [`${CLOCKSOURCE}/available_clocksource`]: 'arch_sys_counter\n',
      [`${CLOCKSOURCE}/current_clocksource`]: 'arch_sys_counter\n',
    },
    facts: {
      architecture: 'arm64',
      counterCost: () => ({ medianNs: 2100, leastNs: 1900, trapped: true, trappedAboveNs: 300 }),
    },
    first: 'cost',
    verdict: 'warning',
    finding: /trapped/,
    remedy: /^have the hypervisor let the guest read its counter \(CNTVCT_EL0/,
  },
  'a missing PTP clock': {
    files: { '/sys/class/ptp/ptp0/clock_name': 'KVM virtual PTP\n' },
    first: 'phc',
    verdict: 'warning',
    finding: /made no PTP clock for it/,
    remedy:
      /^stop all programs that have \/dev\/vmclock0 open.*: echo AMZNC10C:00 > .*unbind; echo AMZNC10C:00 > .*bind/,
    states: { 'phc-timescale': 'skipped' },
  },
  'a missing PTP clock of one of two devices': {
    files: {
      ...second,
      [`${SECOND}/driver`]: { link: '../../../bus/platform/drivers/vmclock' },
      '/sys/class/ptp/ptp0/clock_name': 'vmclock1\n',
    },
    first: 'phc',
    verdict: 'warning',
    finding: /made no PTP clock for it/,
    // Nothing says which of them is vmclock0, and the other may be in use.
    remedy:
      /^stop all programs that have \/dev\/vmclock0 open(?!.*echo).*unbind and bind the device of \/dev\/vmclock0/,
  },
  'a PTP clock of undecided timescale': {
    facts: { phcTimescale: () => undefined },
    first: 'phc-timescale',
    verdict: 'warning',
    finding: /does not decide if \/dev\/ptp0 is in TAI or in UTC/,
    remedy: /steer no clock by it/,
  },
  'a PTP clock that may not be opened': {
    facts: {
      phcTimescale: () => {
        throw new VmClockError('ERR_VMCLOCK_ACCESS', '/dev/ptp0: permission denied', {
          remedy: 'a udev rule',
        })
      },
    },
    first: 'phc-timescale',
    verdict: 'warning',
    finding: /permission denied/,
    remedy: /udev rule/,
  },
  'a PTP clock that was not passed to a container': {
    files: marks,
    facts: {
      phcTimescale: () => {
        throw new VmClockError('ERR_VMCLOCK_NOT_FOUND', '/dev/ptp0: there is no such device', {
          remedy: 'find',
        })
      },
    },
    first: 'phc-timescale',
    verdict: 'warning',
    finding: /no such device/,
    remedy: /--device \/dev\/ptp0:\/dev\/ptp0:r/,
  },
  'a system clock whose daemon gives no bound': {
    files: { '/proc/42/comm': 'systemd-timesyn\n' },
    first: 'system-clock',
    verdict: 'warning',
    // The kernel's 1234 us are not a bound.
    finding:
      /^the system clock is synchronized by systemd-timesyncd, which gives no bound of its error; after/,
    remedy: /to get a bound, use chrony/,
  },
  'a system clock that the running daemons do not discipline': {
    files: { '/proc/42/comm': 'clockbound\n', '/proc/43/comm': 'ptp4l\n' },
    facts: unsynchronized,
    first: 'system-clock',
    verdict: 'warning',
    finding: /no daemon runs that would do it/,
    remedy: /start chrony/,
  },
  'a system clock without a daemon': {
    files: { '/proc/42/comm': 'bash\n' },
    facts: unsynchronized,
    first: 'system-clock',
    verdict: 'warning',
    finding: /not synchronized, and no daemon runs that would do it/,
    remedy: /start chrony.*refclock PHC \/dev\/ptp0 tai/,
  },
  'a daemon that has no time yet': {
    facts: unsynchronized,
    first: 'system-clock',
    verdict: 'warning',
    finding: /not synchronized, although chrony runs/,
    remedy: /chronyc sources.*rtcsync/,
  },
}

for (const [name, broken] of Object.entries(BROKEN)) {
  test(`the problem named first: ${name}`, (t) => {
    const { first, verdict = 'wrong', finding, remedy, states: expected = {}, ...changes } = broken
    const diagnosis = diagnoseStaged(t, changes)
    const { firstProblem } = diagnosis
    t.is(firstProblem?.name, first, firstProblem?.finding)
    t.is(firstProblem?.state, verdict)
    t.is(diagnosis.verdict, verdict)
    t.regex(firstProblem?.finding ?? '', finding)
    t.regex(firstProblem?.remedy ?? '', remedy)
    t.like(states(diagnosis), { [first]: verdict, ...expected })
    t.deepEqual(
      diagnosis.checks.map((one) => one.name),
      NAMES,
    )
    // Warnings and wrong checks have a remedy, others have none.
    for (const { name: one, state, remedy: given } of diagnosis.checks) {
      t.is(given !== undefined, state === 'warning' || state === 'wrong', one)
    }
  })
}

for (const name of [
  'a kernel that was built without the driver',
  'a driver whose module is not installed',
  'a driver that is not loaded',
  'a device that is not bound to the driver',
  'a device without a registered device file',
  'a counter that the kernel does not trust',
  'a missing PTP clock',
]) {
  test(`in a container, the remedy applies to its host: ${name}`, (t) => {
    const { first, ...changes } = BROKEN[name] as Broken
    const { remedy = '' } = diagnoseStaged(t, changes).firstProblem ?? {}
    const inside = diagnoseStaged(t, { ...changes, files: { ...changes.files, ...marks } })
    t.is(inside.firstProblem?.name, first)
    t.is(inside.firstProblem?.remedy, `on the container's host: ${remedy}`)
  })
}

test('a page without time works on a kernel that does not trust the counter', (t) => {
  const page = { counterId: 255, flags: 0n, clockStatus: 0 }
  const files = { [`${CLOCKSOURCE}/available_clocksource`]: 'hpet\n' }
  const diagnosis = diagnoseStaged(t, { page, files })
  t.is(diagnosis.verdict, 'warning')
  t.is(diagnosis.firstProblem?.name, 'time')
  t.is(check(diagnosis, 'counter').state, 'warning')
})

for (const [name, changes] of Object.entries<Changes>({
  'of undecided timescale': { facts: { phcTimescale: () => undefined } },
  'that may not be opened': BROKEN['a PTP clock that may not be opened'] ?? {},
  'whose page may not be opened': { facts: refused },
  'whose page is unreliable': { page: { clockStatus: 4 } },
  'whose page has no time now': { page: { counterId: 255, flags: 0n, clockStatus: 0 } },
})) {
  test(`no remedy recommends a PTP clock ${name}`, (t) => {
    const diagnosis = diagnoseStaged(t, {
      ...changes,
      files: { '/proc/42/comm': 'bash\n' },
      facts: { ...unsynchronized, ...changes.facts },
    })
    t.is(check(diagnosis, 'phc').state, 'ok')
    const { remedy } = check(diagnosis, 'system-clock')
    t.regex(remedy ?? '', /start chrony/)
    t.notRegex(remedy ?? '', /refclock PHC/)
  })
}

// Published pages

test('a published page works without a hypervisor', (t) => {
  const diagnosis = diagnoseStaged(t, {
    files: { ...NO_DEVICE, ...noDmi },
    facts: noHypervisor,
    page: null,
    published: {},
  })
  t.is(diagnosis.verdict, 'ok')
  t.regex(check(diagnosis, 'machine').finding, /; the page does not need one$/)
  t.like(states(diagnosis), { device: 'skipped', time: 'ok', phc: 'skipped' })
})

// The guard

for (const [name, changes, state, finding, remedy] of [
  ['the page of a device', {}, 'ok', /by the hypervisor's page; clones are noticed too/, undefined],
  [
    'the page of a device without a generation',
    { page: { flags: FLAG.TAI_OFFSET_VALID | FLAG.TIME_MAXERROR_VALID } },
    'ok',
    /by the hypervisor's page; clones are not noticed/,
    undefined,
  ],
  [
    'a published page with a guard',
    { published: { flags: 0n } },
    'ok',
    /by \/dev\/vmclock0; clones are not noticed/,
    undefined,
  ],
  [
    'a published page whose generation only its operator changes',
    { page: null, published: {} },
    'ok',
    /clones are not noticed, because the device has no generation counter/,
    undefined,
  ],
  [
    'a device that this process cannot look at',
    {
      published: {},
      guard: { state: 'unavailable', reason: 'permission denied', remedy: 'a udev rule' },
    },
    'warning',
    /may not be noticed: permission denied/,
    /^a udev rule$/,
  ],
  [
    'a device whose driver is not loaded',
    { files: NO_DRIVER, page: null, published: {}, guard: { state: 'none', path: undefined } },
    'warning',
    /AMZNC10C:00\), but its driver shows none, so no software on this machine can notice/,
    /modprobe ptp_vmclock/,
  ],
  [
    'a virtual machine without a device',
    { files: NO_DEVICE, page: null, published: {}, guard: { state: 'none', path: undefined } },
    'warning',
    /there is no vmclock device, so no software on this machine can notice/,
    /have the hypervisor provide one/,
  ],
  [
    'a laptop',
    {
      files: { ...NO_DEVICE, ...noDmi },
      facts: noHypervisor,
      page: null,
      published: {},
      guard: { state: 'none', path: undefined },
    },
    'ok',
    /there is no vmclock device, so no software on this machine can notice/,
    undefined,
  ],
] as ReadonlyArray<[string, Changes, CheckState, RegExp, RegExp | undefined]>) {
  test(`the doctor says whether migrations and clones are noticed: ${name}`, (t) => {
    const guard = check(diagnoseStaged(t, changes), 'guard')
    t.is(guard.state, state)
    t.regex(guard.finding, finding)
    if (remedy === undefined) t.is(guard.remedy, undefined)
    else t.regex(guard.remedy ?? '', remedy)
  })
}

for (const [name, cloneFacts, guard, state, finding] of [
  ['RDRAND', [true, false], {}, 'ok', /before the machine runs again, and the CPU's generator/],
  ['VMGENID', [false, true], {}, 'ok', /and the kernel's generator gives entropy, once/],
  ['neither', [false, false], {}, 'warning', /and nothing gives entropy .* refuses to protect/],
  ['no device', [true, true], { state: 'none', path: undefined }, 'ok', /only a VMGENID uevent/],
  ['nothing', [false, false], { state: 'none', path: undefined }, 'ok', /nothing shows a restore/],
] as const) {
  test(`the doctor says what a protection of clones would have: ${name}`, (t) => {
    const [cpuHasEntropy, hasVmgenid] = cloneFacts
    const facts = { cloneFacts: () => ({ cpuHasEntropy, hasVmgenid }) }
    const clones = check(diagnoseStaged(t, { facts, guard }), 'clones')
    t.is(clones.state, state)
    t.regex(clones.finding, finding)
    t.is(clones.remedy === undefined, state === 'ok')
    t.is(clones.details['hasVmgenid'], hasVmgenid)
  })
}

// The publisher

const SECOND_NS = 1_000_000_000n
const published = (ageNs: bigint, clockStatus: ClockStatus = 'free-running'): Partial<Scene> => ({
  published: () => ({
    path: '/run/vmclock/page',
    source: { kind: 'path', from: 'kernel' } as TimeSource,
    snapshot: { ageNs, clockStatus } as Snapshot,
  }),
})

for (const [name, facts, state, finding] of [
  ['alive', published(SECOND_NS), 'ok', /the publisher of \/run\/vmclock\/page is alive/],
  [
    'dead',
    published(60n * SECOND_NS),
    'warning',
    /is dead: it has not updated the page for 60.0 s/,
  ],
  ['ended', published(60n * SECOND_NS, 'unreliable'), 'warning', /ended 60.0 s ago/],
  ['not there', {}, 'skipped', /no published page/],
] as const) {
  test(`the doctor says that the publisher is ${name}, also if its page is not taken`, (t) => {
    const publisher = check(diagnoseStaged(t, { facts }), 'publisher')
    t.is(publisher.state, state)
    t.regex(publisher.finding, finding)
    if (state === 'warning') t.regex(publisher.remedy ?? '', /start it again \(`vmclock publish`\)/)
  })
}

test('problems of the device do not matter if a published page is used', (t) => {
  const files = { ...NO_DRIVER, '/proc/config.gz': config(NOT_SET) }
  for (const without of [files, NO_DEVICE]) {
    const healthy = diagnoseStaged(t, { files: without, page: null, published: {} })
    t.is(healthy.verdict, 'ok', healthy.firstProblem?.finding)
  }
  const built = check(diagnoseStaged(t, { files, page: null, published: {} }), 'driver-built')
  t.is(built.state, 'skipped')
  t.regex(built.finding, /is not set\); the page does not need it$/)
  const broken = diagnoseStaged(t, { files, page: null, published: { clockStatus: 3 } })
  t.is(broken.firstProblem?.name, 'time')
})

test('a page that cannot be read is not reported as one without time', (t) => {
  const files = { '/sys/class/ptp/ptp0/clock_name': undefined }
  const { state, finding } = check(diagnoseStaged(t, { page: { seqCount: 7 }, files }), 'phc')
  t.is(state, 'skipped')
  t.regex(finding, /cannot be read/)
})

test('fewer timestamps are measured if each is trapped', (t) => {
  const stamps = (trapped: boolean): number => {
    let count = 0
    const scene = stage(t, {})
    const facts = {
      counterCost: () => ({ medianNs: 2100, leastNs: 1900, trapped, trappedAboveNs: 300 }),
      open() {
        const clock = scene.open()
        const nowNs = clock.nowNs.bind(clock)
        clock.nowNs = () => {
          count++
          return nowNs()
        }
        return clock
      },
    }
    t.regex(check(diagnoseStaged(t, { facts }), 'cost').finding, /and a timestamp/)
    return count
  }
  t.true(stamps(true) * 5 < stamps(false))
})

// Pages without a bound

const WITHOUT_BOUND = { flags: FLAG.TAI_OFFSET_VALID | FLAG.PERIOD_MAXERROR_VALID }
const ADJUSTED = /find the program that adjusts the clock/

for (const [reason, why, remedy, updatesLeft] of [
  ['unsynchronized', /no daemon synchronizes this machine's clock/, /start a time daemon/],
  ['never-updated', /no time daemon has reported an error/, /wait for the first update/],
  ['off-nominal', /more than 500 ppm off its nominal rate/, /wait until the time daemon/],
  ['change-pending', /was changed just now/, /wait for the next update of the page/],
  ['stepped', /was stepped by another process/, ADJUSTED, 12],
  ['slewed', /was slewed by another process/, ADJUSTED, 64],
  ['frequency-changed', /frequency was changed by another process/, ADJUSTED, 2],
  ['suspended', /the machine was suspended/, /wait for these updates/, 8],
  ['disrupted', /migrated or restored, or its counter jumped/, /wait for these updates/, 7],
  ['taken-over', /took over a page without a bound/, /wait for these updates/, 6],
  ['started', /before the publisher started/, /wait for these updates/, 5],
  ['zero-error', /maximum error of 0, which is not a bound/, /use chrony/, 1],
  ['unrecognized (200)', /reason is unrecognized \(200\)/, /update this package/, 3],
] as const) {
  test(`a page is diagnosed without a bound: ${reason}`, (t) => {
    const noBound = updatesLeft === undefined ? { reason } : { reason, updatesLeft }
    const diagnosis = diagnoseStaged(t, { page: null, published: WITHOUT_BOUND, noBound })
    t.is(diagnosis.firstProblem?.name, 'time')
    for (const name of ['time', 'system-clock'] as const) {
      const { state, finding, remedy: given, details } = check(diagnosis, name)
      t.is(state, 'warning')
      t.regex(finding, /without a bound: |by chrony, but the page made from it states no bound: /)
      t.regex(finding, why)
      t.regex(given ?? '', remedy)
      t.is(details['boundUnavailable'], reason)
      t.is(details['boundUpdatesLeft'], updatesLeft)
      const [, until] = /; the bound returns after ([^;]*)/.exec(finding) ?? []
      const updates = updatesLeft === 1 ? '1 more update' : `${updatesLeft} more updates`
      t.is(until, updatesLeft === undefined ? undefined : `${updates} of the time daemon`)
    }
  })
}

for (const [reason, why, remedy] of [
  ['stated-error-voided', /disrupted after the operator had stated/, /--max-error-after-migration/],
  ['unguarded', /nobody here would notice a migration/, /vmclock doctor --udev-rule/],
] as const) {
  test(`a missing bound is not blamed on the system clock: ${reason}`, (t) => {
    const noBound = { reason }
    const diagnosis = diagnoseStaged(t, { page: null, published: WITHOUT_BOUND, noBound })
    const time = check(diagnosis, 'time')
    t.is(time.state, 'warning')
    t.regex(time.finding, why)
    t.regex(time.remedy ?? '', remedy)
    t.is(check(diagnosis, 'system-clock').state, 'ok')
  })
}

test('a reason for a missing bound does not hide a daemon that never gives one', (t) => {
  const { finding, remedy } = check(
    diagnoseStaged(t, {
      files: { '/proc/42/comm': 'systemd-timesyn\n' },
      page: null,
      published: WITHOUT_BOUND,
      noBound: { reason: 'zero-error', updatesLeft: 64 },
    }),
    'system-clock',
  )
  t.regex(finding, /synchronized by systemd-timesyncd, which gives no bound/)
  t.regex(remedy ?? '', /to get a bound, use chrony/)
})

test('the reason of an earlier update is ignored if the page has a bound again', (t) => {
  const noBound = { reason: 'stepped', updatesLeft: 12 } as const
  const diagnosis = diagnoseStaged(t, { page: null, published: {}, noBound })
  t.is(diagnosis.verdict, 'ok')
  t.is(check(diagnosis, 'time').details['boundUnavailable'], undefined)
})

// Paths that lead to a device

test('a device is recognized by any path that leads to it', (t) => {
  const toDevice = { '/run/vmclock/link': { link: '../../dev/vmclock0' } }
  for (const path of ['/run/vmclock/link', '//dev/vmclock0', '/dev/../dev/vmclock0']) {
    const diagnosis = diagnoseStaged(t, { files: toDevice, facts: { pagePath: () => path } })
    t.like(states(diagnosis), { 'device-file': 'ok', phc: 'ok', 'phc-timescale': 'ok' }, path)
  }
  // /dev/null takes the place of a device node with another name, which is recognized by its number.
  const node = {
    '/vmclock; reboot': { link: '/dev/null' },
    '/sys/dev/char/1:3': { link: '../../devices/virtual/misc/vmclock0' },
  }
  const facts = { pagePath: () => '/vmclock; reboot', ...refused }
  const elsewhere = diagnoseStaged(t, { files: { ...node, ...marks }, facts, page: null })
  t.like(states(elsewhere), { 'device-file': 'ok', access: 'wrong', phc: 'ok' })
  t.regex(elsewhere.firstProblem?.remedy ?? '', /--device \/dev\/vmclock0:\/dev\/vmclock0:r/)
  for (const { remedy = '' } of elsewhere.checks) t.notRegex(remedy, /reboot/)
  // Any other device is not a vmclock device.
  const other = { ...node, '/sys/dev/char/1:3': { link: '../../devices/virtual/mem/null' } }
  t.is(check(diagnoseStaged(t, { files: other, facts }), 'phc').state, 'skipped')
})

test('a device that opens is accepted, although its container hides the firmware', (t) => {
  const diagnosis = diagnoseStaged(t, {
    files: {
      ...NO_DEVICE,
      ...noDmi,
      '/run/.containerenv': '',
      '/sys/class/ptp/ptp0/clock_name': 'vmclock0\n',
    },
    facts: noHypervisor,
  })
  t.is(diagnosis.verdict, 'ok')
  t.like(states(diagnosis), { machine: 'ok', device: 'unknown', access: 'ok', time: 'ok' })
})

// Hypervisors and containers

for (const [name, files, signature] of [
  ['KVM', {}, 'KVMKVMKVM'],
  ['QEMU without KVM', {}, 'TCGTCGTCGTCG'],
  ['Amazon EC2', { '/sys/class/dmi/id/sys_vendor': 'Amazon EC2\n' }, 'KVMKVMKVM'],
  ['QEMU', {}, 'Microsoft Hv'],
  ['Hyper-V', noDmi, 'Microsoft Hv'],
  ['an unknown hypervisor', noDmi, 'SomethingNew'],
  ['Xen', { ...noDmi, '/sys/hypervisor/type': 'xen\n' }, undefined],
  ['KVM', { ...noDmi, '/proc/device-tree/hypervisor/compatible': 'linux,kvm\0' }, undefined],
  ['QEMU', { ...noDmi, '/proc/device-tree/fw-cfg@9020000/reg': '' }, undefined],
  [
    'an unnamed hypervisor',
    { ...noDmi, '/proc/device-tree/compatible': 'linux,dummy-virt\0' },
    undefined,
  ],
] as const) {
  test(`the hypervisor ${name} is detected by ${signature ?? Object.keys(files).at(-1)}`, (t) => {
    const facts = { hypervisorSignature: () => signature }
    t.is(check(diagnoseStaged(t, { files, facts }), 'machine').details['hypervisor'], name)
  })
}

for (const [kind, files] of [
  ['podman', { '/run/.containerenv': '' }],
  ['docker', { '/.dockerenv': '' }],
  ['Kubernetes', { '/.dockerenv': '', '/run/secrets/kubernetes.io/token': '' }],
  ['systemd-nspawn', { '/run/host/container-manager': 'systemd-nspawn\n' }],
  ['lxc', { '/run/systemd/container': 'lxc\n' }],
  ['kubepods', { '/proc/1/cgroup': '11:cpu:/kubepods/besteffort/pod1\n' }],
  ['of an unknown kind', { '/sys/fs/cgroup/cgroup.type': 'domain\n' }],
  [undefined, { '/proc/1/cgroup': '0::/init.scope\n' }],
  ['podman', { ...marks, '/proc/self/ns/pid': { link: 'pid:[4026531836]' } }],
  ['podman', { ...marks, '/proc/self/ns/cgroup': { link: 'cgroup:[4026531835]' } }],
] as const) {
  test(`a container of kind ${kind ?? 'none'} is detected by ${Object.keys(files).join(', ')}`, (t) => {
    const { state, details } = check(diagnoseStaged(t, { files }), 'container')
    t.is(state, 'ok')
    t.is(details['container'], kind)
  })
}

test('a machine whose root was made from a container image is not a container', (t) => {
  const files = {
    ...marks,
    '/proc/self/ns/pid': { link: 'pid:[4026531836]' },
    '/proc/self/ns/cgroup': { link: 'cgroup:[4026531835]' },
  }
  t.false('container' in check(diagnoseStaged(t, { files }), 'container').details)
  const { remedy } = check(diagnoseStaged(t, { files, facts: refused }), 'access')
  t.is(remedy, 'a udev rule')
})

test('a setting that disables the driver is reported once if it has two paths', (t) => {
  const files = {
    ...NO_DRIVER,
    '/usr/lib/modprobe.d/no.conf': 'blacklist ptp_vmclock\n',
    '/lib': { link: 'usr/lib' },
  }
  const { details } = check(diagnoseStaged(t, { files, page: null }), 'driver-loaded')
  t.deepEqual(details['hindrances'], ['/usr/lib/modprobe.d/no.conf: blacklist ptp_vmclock'])
})

test('a device of the device tree is found', (t) => {
  const device = '/sys/bus/platform/devices/60000000.ptp'
  const files = {
    ...NO_DEVICE,
    [`${device}/modalias`]: 'of:NptpT(null)Camazon,vmclock\n',
    [`${device}/uevent`]: 'OF_NAME=ptp\nOF_FULLNAME=/ptp@60000000\n',
  }
  const { state, details } = check(diagnoseStaged(t, { files, page: null }), 'device')
  t.is(state, 'ok')
  t.deepEqual(details['devices'], ['60000000.ptp'])
  t.deepEqual(details['firmware'], ['device tree'])
  t.deepEqual(details['firmwarePaths'], ['/ptp@60000000'])
})

test('only names that the driver matches are devices', (t) => {
  for (const modalias of [
    'acpi:AMZNC10D:',
    'acpi:XVMCLOCK:',
    'of:NptpT(null)Camazon,vmclock2',
    '',
  ]) {
    const files = { ...NO_DEVICE, '/sys/bus/platform/devices/other/modalias': `${modalias}\n` }
    t.is(check(diagnoseStaged(t, { files, page: null }), 'device').state, 'wrong', modalias)
  }
})

// The system clock

for (const [who, comm] of [
  ['chrony', 'chronyd'],
  ['ntpd', 'ntpd'],
  ['ntpd-rs', 'ntp-daemon'],
] as const) {
  test(`the clock is reported as synchronized by ${who}`, (t) => {
    const files = { '/proc/42/comm': `${comm}\n` }
    const { finding, details } = check(diagnoseStaged(t, { files }), 'system-clock')
    const [state] = finding.split('; ')
    t.is(state, `the system clock is synchronized by ${who}, within 1234 us`)
    t.deepEqual(details['daemons'], [who])
  })
}

test('the clock has a bound if and only if one of its daemons gives one', (t) => {
  const finding = (...comms: string[]): string => {
    const running = comms.map((comm, index) => [`/proc/${42 + index}/comm`, `${comm}\n`])
    return check(diagnoseStaged(t, { files: Object.fromEntries(running) }), 'system-clock').finding
  }
  t.regex(
    finding('chronyd', 'phc2sys', 'ptp4l', 'clockbound'),
    /synchronized by chrony, phc2sys, within 1234 us; /,
  )
  t.regex(
    finding('ptp4l', 'phc2sys'),
    /synchronized by phc2sys, which gives no bound of its error; /,
  )
})

for (const [name, files, expected, text] of [
  [
    'chrony that may step at any time',
    { '/etc/chrony/chrony.conf': '# makestep 1 3\nMakeStep 1.0 -1\n' },
    true,
    /; after a restore chrony would step it$/,
  ],
  [
    'chrony that steps in its first updates only',
    { '/etc/chrony.conf': 'pool example.net\nmakestep 1.0 3\n' },
    false,
    /; after a restore nothing here would step it, unless vmclock watch --on-restore does$/,
  ],
  ['chrony that never steps', { '/etc/chrony.conf': 'rtcsync\n' }, false, /nothing here/],
  [
    'chrony with a directory of files',
    {
      '/etc/chrony/chrony.conf': 'confdir /etc/chrony/conf.d\n',
      '/etc/chrony/conf.d/step.conf': 'makestep 0.1 -1\n',
      '/etc/chrony/conf.d/step.disabled': 'makestep 0.1 1\n',
    },
    true,
    /chrony would/,
  ],
  [
    'chrony with two answers',
    { '/etc/chrony.conf': 'makestep 1 3\nmakestep 1 -1\n' },
    undefined,
    /; it cannot be seen here if chrony would step it after a restore$/,
  ],
  ['chrony with an include', { '/etc/chrony.conf': 'include /a\n' }, undefined, /cannot be seen/],
  ['chrony without a file', {}, undefined, /cannot be seen/],
  ['ntpd', { '/proc/42/comm': 'ntpd\n' }, undefined, /if ntpd would/],
  [
    'systemd-timesyncd',
    { '/proc/42/comm': 'systemd-timesyn\n' },
    true,
    /; after a restore systemd-timesyncd would step it$/,
  ],
  ['no daemon', { '/proc/42/comm': 'bash\n' }, false, /nothing here would step it/],
] as const) {
  test(`the doctor says whether anything would step a restored clock: ${name}`, (t) => {
    const { finding, details } = check(diagnoseStaged(t, { files }), 'system-clock')
    t.regex(finding, text)
    t.is(details['stepsAfterRestore'], expected)
  })
}

test('a machine that nothing can restore has no line on who would step its clock', (t) => {
  const files = { ...NO_DEVICE, ...noDmi }
  const staged = diagnoseStaged(t, { files, facts: noHypervisor, page: null })
  const { finding } = check(staged, 'system-clock')
  t.regex(finding, /synchronized by chrony/)
  t.notRegex(finding, /restore/)
})

test('the segment of ClockBound counts once it was written', (t) => {
  const segment = Buffer.alloc(80)
  segment.writeUInt32LE(0x414d5a4e, 0)
  segment.writeUInt32LE(0x43420200, 4)
  const seen = (): unknown =>
    check(diagnoseStaged(t, { files: { '/run/clockbound/shm0': segment } }), 'system-clock')
      .details['clockBoundSegment']
  t.is(seen(), undefined)
  segment.writeUInt16LE(2, 14)
  t.is(seen(), '/run/clockbound/shm0')
})

test('a clock whose state the system does not give is unknown', (t) => {
  const diagnosis = diagnoseStaged(t, { facts: { discipline: () => undefined } })
  t.is(check(diagnosis, 'system-clock').state, 'unknown')
  t.is(diagnosis.verdict, 'ok')
})

// Untrusted input

test('unreadable files, endless files and FIFOs count as missing', (t) => {
  const files = {
    '/sys/class/dmi/id/sys_vendor': 'fifo',
    '/proc/config.gz': 'no gzip at all',
    '/proc/cmdline': 'fifo',
    '/proc/42/comm': { link: '/dev/zero' },
    '/sys/class/dmi/id/product_name': { link: 'product_name' },
    '/run/clockbound/shm0': 'fifo',
    [`${CLOCKSOURCE}/available_clocksource`]: { link: '/dev/zero' },
  } as const
  const diagnosis = diagnoseStaged(t, { files })
  t.is(check(diagnosis, 'machine').state, 'ok')
  t.is(check(diagnosis, 'counter').state, 'unknown')
  // It is not opened, and it is no memory of a daemon.
  t.is(check(diagnosis, 'clockbound').state, 'warning')
  t.is(diagnosis.verdict, 'warning')
})

test('a gzip bomb is not unpacked', (t) => {
  const bomb = gzipSync(`${NOT_SET}\nCONFIG_64BIT=y\n${'\n'.repeat(64 * 1024 * 1024)}`)
  const files = { ...NO_DRIVER, '/proc/config.gz': bomb }
  t.is(check(diagnoseStaged(t, { files, page: null }), 'driver-built').state, 'unknown')
})

test('files and directories are read up to a limit', (t) => {
  const root = newDirectory(t)
  const line = `${'x'.repeat(1023)}\n`
  writeFileSync(join(root, 'large'), line.repeat(5 * 1024))
  t.is(new Files(root).lines('/large').join('\n').length, 4 * 1024 * 1024)
  mkdirSync(join(root, 'many'))
  for (let index = 0; index <= 16_384; index++) writeFileSync(join(root, 'many', `${index}`), '')
  t.is(new Files(root).names('/many').length, 16_384)
})

test('unsafe characters of all input are escaped in findings and output', (t) => {
  const evil = '\u001b]0;owned\u0007\u001b[31m\u009b1m\u202e\r\u0000end'
  const bytes = Buffer.from(`${evil}\n`)
  const machine = (): Diagnosis =>
    diagnoseStaged(t, {
      files: {
        ...NO_DRIVER,
        '/sys/class/dmi/id/sys_vendor': bytes,
        '/sys/class/dmi/id/product_name': bytes,
        '/sys/hypervisor/type': bytes,
        '/run/systemd/container': bytes,
        '/sys/bus/acpi/devices/AMZNC10C:00/path': bytes,
        [`/sys/bus/platform/devices/${evil.replaceAll('\u0000', '')}/modalias`]: 'acpi:VMCLOCK:\n',
        '/sys/bus/platform/drivers/vmclock/bind': '',
        '/sys/bus/platform/devices/AMZNC10C:00/driver': { link: evil.replaceAll('\u0000', '') },
        '/sys/class/ptp/ptp0/clock_name': bytes,
        [`${CLOCKSOURCE}/available_clocksource`]: bytes,
        [`${CLOCKSOURCE}/current_clocksource`]: bytes,
        '/proc/42/comm': bytes,
        '/proc/cmdline': Buffer.from(`modprobe.blacklist=${evil},ptp_vmclock\n`),
        [`/etc/modprobe.d/\u001b[2J.conf`]: `blacklist ptp_vmclock ${evil}\n`,
      },
      facts: {
        hypervisorSignature: () => undefined,
        kernelRelease: `7${evil.replaceAll('\u0000', '')}`,
      },
      page: null,
    })
  const diagnosis = machine()
  for (const { finding, remedy, details } of diagnosis.checks) {
    for (const text of [finding, remedy ?? '', ...Object.values(details).flat()].map(String)) {
      t.notRegex(text, UNSAFE)
      t.notRegex(text, /\n/)
    }
  }
  t.notRegex(diagnosisText(diagnosis), UNSAFE)
  t.regex(diagnosisText(diagnosis), /\\u\{1b\}/)
})

// The diagnosis as data

test('an unsupported system is a finding, not an error', (t) => {
  const scene = {
    ...stage(t, {}),
    unsupported: {
      code: 'ERR_VMCLOCK_UNSUPPORTED',
      message: 'vmclock works on Linux, and this is darwin-arm64',
      remedy: 'use another clock here',
    },
    pagePath: (): never => {
      throw new Error('asked')
    },
  }
  const diagnosis = diagnoseStaged(t, { facts: scene })
  t.is(diagnosis.verdict, 'wrong')
  t.like(diagnosis.firstProblem, {
    name: 'platform',
    finding: 'vmclock works on Linux, and this is darwin-arm64',
    remedy: 'use another clock here',
  })
  t.deepEqual(
    diagnosis.checks.map(({ state }) => state),
    NAMES.map((name) => (name === 'platform' ? 'wrong' : 'skipped')),
  )
})

test('JSON keeps the whole diagnosis, with 64-bit numbers as decimal strings', (t) => {
  const diagnosis = diagnoseStaged(t, {
    page: { disruptionMarker: 2n ** 64n - 1n, vmGenerationCounter: 2n ** 63n },
    facts: {
      counterFacts: () => ({ counterId: 1, invariant: true, frequencyHz: 2n ** 60n }),
    },
  })
  t.like(check(diagnosis, 'page').details, {
    disruptionMarker: '18446744073709551615',
    vmGeneration: '9223372036854775808',
  })
  t.is(check(diagnosis, 'counter').details['frequencyHz'], String(2n ** 60n))
  t.regex(String(check(diagnosis, 'time').details['maxErrorNs']), /^\d+$/)
  const parsed = JSON.parse(JSON.stringify(diagnosis)) as Diagnosis
  t.deepEqual(states(parsed), states(diagnosis))
})

test('this machine is diagnosed', (t) => {
  const diagnosis = diagnose()
  t.deepEqual(
    diagnosis.checks.map(({ name }) => name),
    NAMES,
  )
  t.is(check(diagnosis, 'platform').state, 'ok')
  const { counterReadNs, leastCounterReadNs } = check(diagnosis, 'cost').details
  t.true(Number(leastCounterReadNs) > 0)
  t.true(Number(counterReadNs) >= Number(leastCounterReadNs))
})

test('a page without UTC is reported with its own timescale to open it with', (t) => {
  for (const [timeType, timescale] of [
    [1, 'tai'],
    [2, 'monotonic'],
  ] as const) {
    const fields = { timeType, flags: FLAG.TIME_MAXERROR_VALID | FLAG.PERIOD_MAXERROR_VALID }
    const { state, remedy, details } = check(diagnoseStaged(t, { page: fields }), 'time')
    t.is(state, 'warning')
    t.true(remedy?.startsWith(`open it with timescale: '${timescale}'`), remedy)
    t.is(details['timescale'], timescale)
  }
})

test('a page is diagnosed by its path', (t) => {
  const path = `${newDirectory(t)}/\u001b[31m\u202e`
  VmClockPage.create(path, { ...liveFields(t), clockStatus: 4 }).close()
  const diagnosis = diagnose({ path })
  t.is(diagnosis.firstProblem?.name, 'time')
  t.is(check(diagnosis, 'page').details['path'], path)
  for (const { finding } of diagnosis.checks) t.notRegex(finding, UNSAFE)
})

test('a missing page is the problem if it was given by its path', (t) => {
  const path = `${newDirectory(t)}/page`
  const { firstProblem } = diagnose({ path })
  t.is(firstProblem?.name, 'access')
  t.is(firstProblem?.details['code'], 'ERR_VMCLOCK_NOT_FOUND')
})

test('text from a path never becomes a part of a remedy', (t) => {
  const name = 'a; rm -rf x'
  const absent = join(newDirectory(t), name)
  const empty = join(newDirectory(t), name)
  writeFileSync(empty, '')
  const loop = join(newDirectory(t), name)
  symlinkSync(name, loop)
  for (const path of [absent, empty, loop]) {
    const { firstProblem } = diagnose({ path })
    t.regex(firstProblem?.finding ?? '', /a; rm -rf x/)
    t.truthy(firstProblem?.remedy)
    t.notRegex(firstProblem?.remedy ?? '', /rm -rf/)
  }
  // An error of the system has no remedy of its own.
  t.regex(diagnose({ path: loop }).firstProblem?.remedy ?? '', /^look at the file/)
})

test('a published page that may not be read is not fixed by udev, but by its mode', async (t) => {
  const { path } = page(t, liveFields(t))
  chmodSync(path, 0)
  chmodSync(dirname(path), 0o755)
  const { checks } = await evaluate<Diagnosis>(`
    const { diagnose } = require('vmclock/doctor')
    if (process.getuid() === 0) { process.setgroups([]); process.setgid(65534); process.setuid(65534) }
    console.log(JSON.stringify(diagnose({ path: ${JSON.stringify(path)} })))`)
  const { state, remedy } = checks.find(({ name }) => name === 'access') ?? {}
  t.is(state, 'wrong')
  t.regex(remedy ?? '', /let others read the page \(chmod 0644\)/)
  t.notRegex(remedy ?? '', /udev/)
})

test('invalid options are refused', (t) => {
  for (const options of [{ path: 1 }, { path: '' }, { file: 'x' }, null, 'x'] as unknown[]) {
    t.throws(() => diagnose(options as { path: string }), { code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
  }
})

// The command

test('doctor: ends with 1 if something is wrong, else with 0', async (t) => {
  const right = page(t, liveFields(t)).path
  const wrong = page(t, { ...liveFields(t), clockStatus: 4 }).path
  for (const [path, exitCode] of [
    // The page has no problem, but an emulated machine mixes the counters of two architectures.
    [right, diagnose({ path: right }).verdict === 'wrong' ? 1 : 0],
    [wrong, 1],
  ] as const) {
    const inJson = await run([commandLine, 'doctor', path, '--json'])
    t.is(inJson.stderr, '')
    t.is(inJson.exitCode, exitCode)
    const { verdict, checks } = JSON.parse(inJson.stdout) as Diagnosis
    t.is(verdict === 'wrong', exitCode === 1)
    const plain = await run([commandLine, 'doctor', path])
    t.is(plain.exitCode, exitCode)
    for (const { name } of checks) t.regex(plain.stdout, new RegExp(`^[a-z]+ +${name} +\\S`, 'm'))
  }
})

test('doctor: the text output ends with the first problem and its remedy', async (t) => {
  const { path } = page(t, { ...liveFields(t), clockStatus: 4 })
  const { stdout } = await run([commandLine, 'doctor', path])
  t.regex(stdout, /\n\nfirst wrong {2}time\nremedy {7}start the publisher again.*\n$/)
})

test('doctor: unsafe characters of a path never reach the terminal', async (t) => {
  const path = `${newDirectory(t)}/\u001b]0;x\u0007\u009b31m\u202e`
  for (const words of [[], ['--json']]) {
    const { stdout, exitCode } = await run([commandLine, 'doctor', path, ...words])
    t.is(exitCode, 1)
    t.notRegex(stdout, UNSAFE)
  }
})

test('doctor: --udev-rule prints only the udev rules', async (t) => {
  const { stdout, exitCode } = await run([commandLine, 'doctor', '--udev-rule'])
  t.is(exitCode, 0)
  t.deepEqual(
    stdout.split('\n').filter((line) => !line.startsWith('#')),
    [
      'KERNEL=="vmclock*", MODE="0444"',
      'SUBSYSTEM=="ptp", ATTR{clock_name}=="vmclock*", MODE="0444"',
      '',
    ],
  )
  const inJson = await run([commandLine, 'doctor', '--udev-rule', '--json'])
  t.deepEqual(JSON.parse(inJson.stdout), {
    path: '/etc/udev/rules.d/60-vmclock.rules',
    text: stdout,
  })
})

const ENA = '/sys/bus/pci/devices/0000:00:05.0'
const ena = {
  '/sys/class/net/ens5/device/uevent': 'DRIVER=ena\nPCI_SLOT_NAME=0000:00:05.0\n',
}
const enaClock = { ...ena, [`${ENA}/ptp/ptp1/clock_name`]: 'ena-ptp-05\n' }
const NO_CLOCK = { '/sys/class/ptp/ptp0/clock_name': undefined }
// A page of EC2: a marker without time.
const ec2 = { clockStatus: 0, counterId: 255, flags: 0n }

test("phc: on EC2 the PTP clock of the network card is examined, with the driver's own command", (t) => {
  const phcWith = (files: Changes['files']): Check =>
    check(diagnoseStaged(t, { page: ec2, files: { ...NO_CLOCK, ...files } }), 'phc')
  const mainline = phcWith(ena)
  t.is(mainline.state, 'unknown')
  t.regex(mainline.finding, /devlink dev param set pci\/0000:00:05.0 name enable_phc/)
  const amazons = phcWith({ ...ena, '/sys/module/ena/parameters/phc_enable': '0\n' })
  t.regex(amazons.finding, /options ena phc_enable=1/)
  t.regex(phcWith(enaClock).finding, /no file with an error bound.*--host-error/)
  const bounded = phcWith({ ...enaClock, [`${ENA}/phc_error_bound`]: '23456\n' })
  t.is(bounded.state, 'ok')
  t.like(bounded.details, { path: '/dev/ptp1', card: 'ens5', errorBoundNs: '23456' })
  for (const text of ['4294967295', '0', '-1', '', '0x10', '12345678901']) {
    const { state, finding } = phcWith({ ...enaClock, [`${ENA}/phc_error_bound`]: `${text}\n` })
    t.is(state, 'unknown', text)
    t.regex(finding, /does not know its error/, text)
  }
  // Text from the bus never becomes a part of a command.
  const forged = { '/sys/class/net/x/device/uevent': 'DRIVER=ena\nPCI_SLOT_NAME=0; reboot\n' }
  t.is(phcWith(forged).state, 'skipped')
})

test("phc: a card's clock with a bound is named where the page is made from the kernel's clock", (t) => {
  const files = { ...enaClock, [`${ENA}/phc_error_bound`]: '23456\n' }
  const noBound = { reason: 'never-updated' } as const
  const diagnosis = diagnoseStaged(t, { published: {}, noBound, files })
  const { state, finding, remedy } = check(diagnosis, 'phc')
  t.is(state, 'warning')
  t.regex(finding, /at most 23456 ns off.*kernel's clock/)
  t.regex(remedy ?? '', /udev.*--from auto/)
})

test("phc: the processes that have the card's clock open are named, and those unseen are counted", (t) => {
  const files = {
    ...{ ...enaClock, [`${ENA}/phc_error_bound`]: '23456\n' },
    '/proc/42/fd/5': { link: '/dev/ptp1' },
    '/proc/43/fd/5': { link: '/dev/ptp11' },
    '/proc/44/comm': 'phc2sys\n',
    '/proc/44/cmdline': 'phc2sys',
  }
  const { finding, details } = check(diagnoseStaged(t, { published: {}, files }), 'phc')
  t.regex(finding, /open in: chronyd \(1 processes cannot be looked at without root\)/)
  t.like(details, { openIn: ['chronyd'], processesHidden: 1 })
  const unused = { ...files, '/proc/42/fd/5': undefined, '/proc/44/cmdline': '' }
  const none = check(diagnoseStaged(t, { published: {}, files: unused }), 'phc')
  t.regex(none.finding, /open in: no process that can be seen$/)
})

test('phc: UTC without the offset of TAI is named as the reason for a missing PTP clock', (t) => {
  const files = NO_CLOCK
  const page = { timeType: 0, taiOffsetSec: 0, flags: FLAG.TIME_MAXERROR_VALID }
  const { state, finding } = check(diagnoseStaged(t, { page, files }), 'phc')
  t.is(state, 'warning')
  t.regex(finding, /UTC without the offset of TAI/)
})

test('system-clock: chrony that reports 0 is on a PTP clock, and --host-error is the remedy', (t) => {
  for (const reason of ['zero-error', 'never-updated'] as const) {
    const noBound = reason === 'zero-error' ? { reason, updatesLeft: 64 } : { reason }
    const flags = FLAG.PERIOD_MAXERROR_VALID | FLAG.TAI_OFFSET_VALID
    const diagnosis = diagnoseStaged(t, { published: { flags }, noBound })
    const { state, finding, remedy } = check(diagnosis, 'system-clock')
    t.is(state, 'warning')
    t.regex(finding, /by chrony.*chrony on a PTP clock reports 0/)
    t.regex(remedy ?? '', /--host-error/)
  }
})
