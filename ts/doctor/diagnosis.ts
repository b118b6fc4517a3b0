/** The types of a diagnosis, and the functions that make the findings of checks. */

/**
 * The state of a check.
 *
 * | state | meaning |
 * |---|---|
 * | `ok` | as it should be |
 * | `warning` | it works, but could be better |
 * | `wrong` | it prevents the use of the page or of its time |
 * | `unknown` | this machine does not say |
 * | `skipped` | meaningless because of the state of another check; the finding says which |
 */
export type CheckState = 'ok' | 'warning' | 'wrong' | 'unknown' | 'skipped'

/**
 * The name of a check. The checks are made in this order.
 *
 * | check | question |
 * |---|---|
 * | `platform` | does this package work on this system |
 * | `machine` | is this a virtual machine, and under which hypervisor |
 * | `container` | is this process in a container |
 * | `device` | does the firmware (ACPI or device tree) describe a vmclock device |
 * | `driver-built` | does the kernel have the driver |
 * | `driver-loaded` | is the driver in the running kernel |
 * | `driver-bound` | is the driver bound to the device |
 * | `device-file` | does `/dev/vmclock0` exist |
 * | `access` | may this process open the page |
 * | `page` | is it a valid page, and can it be read |
 * | `time` | does the page have time, and is that usable now |
 * | `publisher` | is the publisher of the published page alive |
 * | `guard` | would a migration or a clone of this machine be noticed |
 * | `clones` | would `vmclock/clones` see a restore of this machine, and have entropy for it |
 * | `counter` | is the page's counter this CPU's, and can the counter be trusted |
 * | `cost` | how long do a counter read and a timestamp take, and is the counter trapped |
 * | `phc` | did the driver make a PTP clock (PHC) for the page; else, on EC2, does the network card have one, with a bound |
 * | `phc-timescale` | is that clock in TAI or in UTC |
 * | `system-clock` | is the system clock synchronized, and by which daemon |
 * | `clockbound` | does ClockBound's daemon give a bound here |
 */
export type CheckName =
  | 'platform'
  | 'machine'
  | 'container'
  | 'device'
  | 'driver-built'
  | 'driver-loaded'
  | 'driver-bound'
  | 'device-file'
  | 'access'
  | 'page'
  | 'time'
  | 'publisher'
  | 'guard'
  | 'clones'
  | 'counter'
  | 'cost'
  | 'phc'
  | 'phc-timescale'
  | 'system-clock'
  | 'clockbound'

/** The result of a check, without its name. */
export interface Finding {
  readonly state: CheckState
  readonly finding: string
  readonly remedy?: string | undefined
  readonly details: CheckDetails
}

/**
 * The values behind a finding, for logs and for the person who fixes the problem. Names carry their
 * unit. Unknown values are left out, and 64-bit numbers are decimal strings. Later releases may add
 * values.
 */
export type CheckDetails = Readonly<
  Record<string, string | number | boolean | readonly string[] | undefined>
>

/** A check and its result. */
export interface Check {
  /** The name of the check; stable. */
  readonly name: CheckName
  /** The state that the check found. */
  readonly state: CheckState
  /**
   * The finding, in one sentence. In text from firmware, kernel and other processes everything except
   * printable ASCII is escaped.
   */
  readonly finding: string
  /** The way to fix it; given if and only if the state is `warning` or `wrong`. */
  readonly remedy?: string | undefined
  /** The values behind the finding. */
  readonly details: CheckDetails
}

/** The result of {@link diagnose}, which `JSON.stringify` accepts as it is. */
export interface Diagnosis {
  /** The worst state of all checks: `wrong`, else `warning`, else `ok`. */
  readonly verdict: 'ok' | 'warning' | 'wrong'
  /**
   * The problem to fix first: the first check that is `wrong`, else the first that is a `warning`.
   * Left out if there is neither. Later problems may be consequences of this one.
   */
  readonly firstProblem?: Check
  /** All checks in their order. No check is ever left out. */
  readonly checks: readonly Check[]
}

/** Makes a finding for something that is as it should be. */
export function ok(finding: string, details: CheckDetails = {}): Finding {
  return { state: 'ok', finding, details }
}

/** Makes a finding for something that works but could be better. */
export function warning(finding: string, remedy: string, details: CheckDetails = {}): Finding {
  return { state: 'warning', finding, remedy, details }
}

/** Makes a finding for something that prevents the use of the page or of its time. */
export function wrong(finding: string, remedy: string, details: CheckDetails = {}): Finding {
  return { state: 'wrong', finding, remedy, details }
}

/** Makes a finding for something that this machine does not say. */
export function unknown(finding: string, details: CheckDetails = {}): Finding {
  return { state: 'unknown', finding, details }
}

/** Makes a finding for a check that is meaningless because of another check. */
export function skipped(because: string): Finding {
  return { state: 'skipped', finding: because, details: {} }
}

// The remedy for an error that has none, such as a failed system call.
const SYSTEM_REMEDY =
  'look at the file (`ls -lL`), and in the kernel log (`dmesg`) for the reason of the refusal'

/** The part of an error that a finding is made from. */
export interface Refusal {
  readonly code: string
  readonly message: string
  readonly remedy?: string | undefined
  readonly errno?: number | undefined
}

/** Makes a finding from an error. */
export function failed(error: Refusal, details: CheckDetails = {}): Finding {
  const { code, message, remedy = SYSTEM_REMEDY, errno } = error
  return wrong(message, remedy, { ...details, code, errno })
}
