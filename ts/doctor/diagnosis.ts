/** What a diagnosis says. */

/**
 * How a check came out.
 *
 * | state | meaning |
 * |---|---|
 * | `ok` | as it should be |
 * | `warning` | what there is works, with less than it could have |
 * | `wrong` | it keeps the page, or its time, from being used |
 * | `unknown` | this machine does not tell |
 * | `skipped` | it means nothing while an earlier check is as it is; the finding says which |
 */
export type CheckState = 'ok' | 'warning' | 'wrong' | 'unknown' | 'skipped'

/**
 * What is checked, in this order.
 *
 * | check | asks |
 * |---|---|
 * | `platform` | does this package work on this system |
 * | `machine` | is this a virtual machine, and which hypervisor runs it |
 * | `container` | is this process in a container |
 * | `device` | does the firmware (ACPI or device tree) describe a vmclock device |
 * | `driver-built` | has the kernel a driver for it |
 * | `driver-loaded` | is that driver in the running kernel |
 * | `driver-bound` | does it drive the device |
 * | `device-file` | is `/dev/vmclock0` there |
 * | `access` | may this process open the page |
 * | `page` | is it a page, and does it hold still to be read |
 * | `time` | does it carry time, and may that be used now |
 * | `counter` | does the page belong to this CPU's counter, and can that be trusted |
 * | `cost` | what reading the counter and a stamp cost here, and whether the counter is trapped |
 * | `phc` | did the driver make a PTP clock (PHC) of the page |
 * | `phc-timescale` | what timescale does that clock report |
 * | `system-clock` | is the system's clock synchronized, and by whom |
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
  | 'counter'
  | 'cost'
  | 'phc'
  | 'phc-timescale'
  | 'system-clock'

/** How one check came out, without its name. */
export interface Finding {
  readonly state: CheckState
  readonly finding: string
  readonly remedy?: string | undefined
  readonly details?: CheckDetails
}

/**
 * The figures and names behind a finding: for logs, and for who mends it. Names carry their unit, and
 * more may be added. What is unknown is left out. 64-bit figures are decimal strings.
 */
export type CheckDetails = Readonly<
  Record<string, string | number | boolean | readonly string[] | undefined>
>

/** One check and how it came out. */
export interface Check {
  /** What was checked; stable. */
  readonly name: CheckName
  /** How it came out. */
  readonly state: CheckState
  /**
   * What was found, in a sentence. What firmware, kernel and processes say stands in it with all but
   * printable ASCII escaped.
   */
  readonly finding: string
  /** What to do about it; there where the state is `warning` or `wrong`. */
  readonly remedy?: string | undefined
  /** The figures and names behind it. */
  readonly details: CheckDetails
}

/** What {@link diagnose} found. `JSON.stringify` takes it as it is. */
export interface Diagnosis {
  /** The worst state among the checks: `wrong`, else `warning`, else `ok`. */
  readonly verdict: 'ok' | 'warning' | 'wrong'
  /**
   * What to mend first: the first check that is `wrong`; where none is, the first that is a
   * `warning`; left out where all is well. What comes after it may well go away with it.
   */
  readonly firstProblem?: Check
  /** Every check, always all of them, in their order. */
  readonly checks: readonly Check[]
}

/** A check that says nothing because of an earlier one. */
export function skipped(because: string): Finding {
  return { state: 'skipped', finding: because }
}

// The remedy for a refusal that has none, such as a failed system call.
const LOOK =
  'see what stands there (`ls -lL`), and in the kernel log (`dmesg`) why the system refuses it'

/** What keeps something from working, and what to do about it. */
export interface Refusal {
  readonly message: string
  readonly remedy?: string | undefined
}

/** The finding for a refusal. */
export function wrong({ message, remedy = LOOK }: Refusal, details: CheckDetails = {}): Finding {
  return { state: 'wrong', finding: message, remedy, details }
}
