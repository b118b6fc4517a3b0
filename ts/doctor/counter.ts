/** Examines the CPU's counter: is it the page's, and can it be trusted. */

import type { VmClockError } from '../errors'
import type { CounterFacts } from '../native'
import { fixedOnHost } from './container'
import { type CheckDetails, type Finding, failed, ok, unknown, warning } from './diagnosis'
import type { ExaminedPage } from './page'
import type { Scene } from './scene'

const CLOCKSOURCE = '/sys/devices/system/clocksource/clocksource0'

// The kernel's name of each architecture's counter, and the clock sources that count by it: kvm-clock
// is the TSC with the hypervisor's own scale, which `ptp_vmclock.c` supports.
const COUNTERS: Readonly<Record<string, { clocksource: string; same: readonly string[] }>> = {
  x64: { clocksource: 'tsc', same: ['tsc', 'tsc-early', 'kvm-clock'] },
  arm64: { clocksource: 'arch_sys_counter', same: ['arch_sys_counter'] },
}

/** Returns true if a page's time is refused because it belongs to another counter. */
export function isOfOtherCounter(refusal: VmClockError | undefined): refusal is VmClockError {
  return (
    refusal?.code === 'ERR_VMCLOCK_WRONG_COUNTER' ||
    refusal?.code === 'ERR_VMCLOCK_COUNTER_MISMATCH'
  )
}

/**
 * Makes the finding. `isGuaranteed` says that the hypervisor's page names the counter: then the
 * hypervisor guarantees its rate, even if the CPU does not promise it.
 */
export function checkCounter(
  scene: Scene,
  page: ExaminedPage,
  isGuaranteed: boolean,
  inContainer: boolean,
): Finding {
  const facts = scene.counterFacts()
  const { clocksource, same } = COUNTERS[scene.architecture] ?? { clocksource: '', same: [] }
  const available = scene.files.line(`${CLOCKSOURCE}/available_clocksource`)?.split(/\s+/)
  const current = scene.files.line(`${CLOCKSOURCE}/current_clocksource`)
  const details = {
    counterId: facts.counterId,
    pageCounterId: page.snapshot?.raw.counterId,
    frequencyHz: facts.frequencyHz === undefined ? undefined : String(facts.frequencyHz),
    invariant: facts.invariant,
    clocksource: current,
    clocksources: available,
  }
  if (isOfOtherCounter(page.refusal)) return failed(page.refusal, details)
  if (available !== undefined && !available.includes(clocksource)) {
    return fixedOnHost(untrusted(clocksource, details), inContainer)
  }
  if (!facts.invariant && !isGuaranteed) return notInvariant(details)
  if (current !== undefined && !same.includes(current)) {
    return fixedOnHost(otherClockSource(current, clocksource, details), inContainer)
  }
  if (available === undefined) {
    return unknown(
      "the kernel's clock sources cannot be read, so it is unknown if it trusts the counter",
      details,
    )
  }
  return ok(`the kernel trusts ${clocksource}, and ${guarantee(facts)}`, details)
}

// A warning only: continuity and the time of a hypervisor's page do not depend on the kernel's trust.
function untrusted(clocksource: string, details: CheckDetails): Finding {
  return warning(
    `the kernel does not list ${clocksource} as a clock source: it found the counter unstable, or was configured not to use it. It then has no PTP clock for a page either`,
    'read the reason in the kernel log (`dmesg | grep -i -e tsc -e clocksource`), and remove notsc, tsc=unstable or the like from the kernel command line; if the counter really is unstable, only the hypervisor can fix it',
    details,
  )
}

function notInvariant(details: CheckDetails): Finding {
  return warning(
    'the CPU does not promise a counter of constant rate that never stops, and no hypervisor guarantees it',
    'have the hypervisor offer an invariant TSC (QEMU: -cpu …,+invtsc); `vmclock publish` refuses such a counter without --allow-untrusted-counter',
    details,
  )
}

function otherClockSource(current: string, clocksource: string, details: CheckDetails): Finding {
  return warning(
    `the system clock runs on ${current}, not on ${clocksource}: it is compared with the page less precisely, and precise PTP cross timestamps fail`,
    `as root: echo ${clocksource} > ${CLOCKSOURCE}/current_clocksource`,
    details,
  )
}

function guarantee({ invariant }: CounterFacts): string {
  return invariant ? 'the CPU calls it invariant' : "the hypervisor's page guarantees it"
}
