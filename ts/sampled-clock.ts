/** The system clocks that a PTP clock is sampled against. */

/** An auxiliary clock of the kernel: CLOCK_AUX + the number. */
export type AuxiliaryClock = `aux${0 | 1 | 2 | 3 | 4 | 5 | 6 | 7}`

/**
 * A system clock that a PTP clock is sampled against.
 *
 * - `realtime`: CLOCK_REALTIME, this machine's UTC
 * - `monotonic`: CLOCK_MONOTONIC, never stepped, slewed together with CLOCK_REALTIME
 * - `monotonic-raw`: CLOCK_MONOTONIC_RAW, never stepped, never slewed
 * - `aux0` to `aux7`: an auxiliary clock, CLOCK_AUX + the number. It needs Linux 6.17 with
 *   CONFIG_POSIX_AUX_CLOCKS, and an operator who enabled it
 *
 * `monotonic` and `monotonic-raw` need Linux 6.12. For a vmclock's PTP clock all but the first need a later
 * release: older drivers sample CLOCK_REALTIME instead, and such samples are refused.
 */
export type SampledClock = 'realtime' | 'monotonic' | 'monotonic-raw' | AuxiliaryClock

/** All of them. */
export const SAMPLED_CLOCKS: readonly SampledClock[] = [
  'realtime',
  'monotonic',
  'monotonic-raw',
  'aux0',
  'aux1',
  'aux2',
  'aux3',
  'aux4',
  'aux5',
  'aux6',
  'aux7',
]
