/** Measures the cost of a counter read and of a timestamp. */

import { type Finding, ok, warning } from './diagnosis'
import type { DiagnosedClock, Scene } from './scene'

// The way to stop the trapping of counter reads. On Arm the kernel traps them too if the CPU has an
// erratum.
const REMEDIES: Readonly<Record<string, string>> = {
  x64: 'have the hypervisor let the guest read its counter (RDTSC exiting off, TSC scaling on)',
  arm64:
    'have the hypervisor let the guest read its counter (CNTVCT_EL0 not trapped), or see in the kernel log (`dmesg | grep -i arch_timer`) if the kernel works around an erratum of this CPU',
}

/** Makes the finding; without a clock that has time, only for the counter. */
export function checkCost(scene: Scene, clock: DiagnosedClock | undefined): Finding {
  const cost = scene.counterCost()
  const stampNs = clock === undefined ? undefined : stampCostNs(clock, cost.trapped)
  const details = {
    counterReadNs: rounded(cost.medianNs),
    leastCounterReadNs: rounded(cost.leastNs),
    trappedAboveNs: cost.trappedAboveNs,
    stampNs: stampNs === undefined ? undefined : rounded(stampNs),
  }
  const stamp = stampNs === undefined ? '' : `, and a timestamp ${details.stampNs} ns`
  const read = `a read of the counter takes ${details.counterReadNs} ns${stamp}`
  if (!cost.trapped) return ok(read, details)
  const remedy =
    REMEDIES[scene.architecture] ?? 'have the hypervisor let the guest read its counter'
  return warning(
    `${read}: each read is trapped and emulated`,
    `${remedy}; until then timestamps are correct but slow`,
    details,
  )
}

// The median of some batches, measured after the calls were compiled. The warm-up is left
// out if each read is trapped: it would take long and make no difference.
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
    // The page gives no time now. The check of the time says why.
    return undefined
  }
  return batches.sort((one, other) => one - other)[BATCHES >> 1]
}

function rounded(ns: number): number {
  return Math.round(ns * 10) / 10
}
