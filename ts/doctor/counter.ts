/** The CPU's counter: is it the page's, can it be trusted, what does it cost. */

import { mendedOnHost } from './container'
import type { Finding } from './diagnosis'
import { failure, type Looked } from './page'
import type { DiagnosedClock, Scene } from './scene'

const CLOCKSOURCE = '/sys/devices/system/clocksource/clocksource0'

// What the kernel calls each architecture's counter among its clock sources, and what it may count by
// without this being another counter: kvm-clock is the TSC under the hypervisor's own scale, and
// `ptp_vmclock.c` knows it.
const COUNTERS: Readonly<Record<string, { clocksource: string; same: readonly string[] }>> = {
  x64: { clocksource: 'tsc', same: ['tsc', 'tsc-early', 'kvm-clock'] },
  arm64: { clocksource: 'arch_sys_counter', same: ['arch_sys_counter'] },
}

// Who keeps a program from reading the counter: on Arm the kernel does, too, where the CPU has a fault.
const LETS_READ: Readonly<Record<string, string>> = {
  x64: 'the hypervisor let the guest read its counter (RDTSC exiting off, TSC scaling on)',
  arm64:
    'the hypervisor let the guest read its counter (CNTVCT_EL0 not trapped), or see in the kernel log (`dmesg | grep -i arch_timer`) whether the kernel works around a fault of this CPU',
}

/**
 * Whether the counter can be trusted, and is the one that the page's time goes by. `vouched` is whether
 * the hypervisor has it on its page: it answers for it, then, whatever it lets the CPU promise.
 */
export function checkCounter(
  scene: Scene,
  looked: Looked | undefined,
  vouched: boolean,
  inContainer: boolean,
): Finding {
  const { snapshot, refusal } = looked ?? {}
  const facts = scene.counterFacts()
  const { clocksource, same } = COUNTERS[scene.architecture] ?? { clocksource: '', same: [] }
  const available = scene.files.line(`${CLOCKSOURCE}/available_clocksource`)?.split(/\s+/)
  const current = scene.files.line(`${CLOCKSOURCE}/current_clocksource`)
  const details = {
    counterId: facts.counterId,
    pageCounterId: snapshot?.raw.counterId,
    frequencyHz: facts.frequencyHz === undefined ? undefined : String(facts.frequencyHz),
    invariant: facts.invariant,
    clocksource: current,
    clocksources: available,
  }
  const { code } = refusal ?? {}
  if (
    refusal !== undefined &&
    (code === 'ERR_VMCLOCK_WRONG_COUNTER' || code === 'ERR_VMCLOCK_COUNTER_MISMATCH')
  ) {
    return failure(refusal, details)
  }
  if (available !== undefined && !available.includes(clocksource)) {
    // Continuity needs no trust in it, and a page's own time does not either; the rest does.
    const finding: Finding = {
      state: 'warning',
      finding: `the kernel does not list ${clocksource} among its clock sources: it found this machine's counter untrustworthy, or was told not to use it, and then has no PTP clock of it`,
      remedy:
        'look in the kernel log for why (`dmesg | grep -i -e tsc -e clocksource`) and take notsc, tsc=unstable or the like off the kernel command line; a counter that really is unstable is for the hypervisor to mend',
      details,
    }
    return mendedOnHost(finding, inContainer)
  }
  if (!facts.invariant && !vouched) {
    return {
      state: 'warning',
      finding:
        'the CPU does not promise that its counter runs at one rate and never stops, and no hypervisor vouches for it',
      remedy:
        'have the hypervisor offer an invariant TSC (QEMU: -cpu …,+invtsc); `vmclock publish` refuses such a counter without --allow-untrusted-counter',
      details,
    }
  }
  if (current !== undefined && !same.includes(current)) {
    const finding: Finding = {
      state: 'warning',
      finding: `the system's clock runs on ${current}, not on ${clocksource}: both can be compared less finely, and precise PTP cross timestamps fail`,
      remedy: `as root: echo ${clocksource} > ${CLOCKSOURCE}/current_clocksource`,
      details,
    }
    return mendedOnHost(finding, inContainer)
  }
  if (available === undefined) {
    return {
      state: 'unknown',
      finding:
        'whether the kernel trusts the counter cannot be seen: its clock sources cannot be read',
      details,
    }
  }
  const promise = facts.invariant
    ? 'the CPU calls it invariant'
    : "the hypervisor's page vouches for it"
  return { state: 'ok', finding: `the kernel trusts ${clocksource}, and ${promise}`, details }
}

/** What a read of the counter and a stamp cost, and whether the hypervisor intercepts the read. */
export function checkCost(scene: Scene, clock: DiagnosedClock | undefined): Finding {
  const cost = scene.counterCost()
  const stampNs = clock === undefined ? undefined : stampCostNs(clock, cost.trapped)
  const details = {
    counterReadNs: rounded(cost.medianNs),
    leastCounterReadNs: rounded(cost.leastNs),
    trappedAboveNs: cost.trappedAboveNs,
    stampNs: stampNs === undefined ? undefined : rounded(stampNs),
  }
  const stamp = stampNs === undefined ? '' : `, and a stamp ${rounded(stampNs)} ns`
  const read = `a read of the counter costs ${rounded(cost.medianNs)} ns here${stamp}`
  if (cost.trapped) {
    return {
      state: 'warning',
      finding: `${read}: each read is trapped and answered in software`,
      remedy: `have ${LETS_READ[scene.architecture] ?? 'the hypervisor let the guest read its counter'}; until then times are right and dear`,
      details,
    }
  }
  return { state: 'ok', finding: read, details }
}

// The median of some batches, after the calls were compiled: beside traps that makes no difference, and
// they would make it long.
function stampCostNs(clock: DiagnosedClock, isTrapped: boolean): number | undefined {
  const [BATCHES, STAMPS, WARM_UP] = [15, 64, 100]
  const batches: number[] = []
  try {
    for (let batch = isTrapped ? 0 : -WARM_UP; batch < BATCHES; batch++) {
      const start = process.hrtime.bigint()
      for (let stamp = 0; stamp < STAMPS; stamp++) clock.nowNs()
      if (batch >= 0) batches.push(Number(process.hrtime.bigint() - start) / STAMPS)
    }
  } catch {
    // The page gives no time in UTC now; why, the check of the time says.
    return undefined
  }
  return batches.sort((one, other) => one - other)[BATCHES >> 1]
}

function rounded(ns: number): number {
  return Math.round(ns * 10) / 10
}
