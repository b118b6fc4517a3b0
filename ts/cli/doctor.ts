/** `vmclock doctor`: what this machine has and lacks, and how to mend it. */

import { diagnose } from '../doctor/diagnose'
import type { CheckState, Diagnosis } from '../doctor/diagnosis'
import { native } from '../native'
import { json, printable } from './escape'
import { coloursFor, EXIT, line, table } from './output'

/** What `vmclock doctor` was told. */
export interface DoctorOptions {
  readonly json?: boolean
  readonly udevRule?: boolean
}

/** Said in `vmclock doctor --help`. */
export const DOCTOR_HELP = `
Ends with 0 where nothing is wrong (a warning is not: it says what could be better), and with 1 where
something is. Each check is ok, warning, wrong, unknown (this machine does not tell) or skipped
(meaningless while an earlier one is as it is). --json prints what diagnose() of the package returns.

To install the udev rules, as root:
  vmclock doctor --udev-rule > /etc/udev/rules.d/60-vmclock.rules
  udevadm control --reload && udevadm trigger --subsystem-match=misc --subsystem-match=ptp`

/** Diagnoses and prints it, or prints the udev rules; gives the exit code. */
export function doctor(path: string | undefined, options: DoctorOptions): number {
  if (options.udevRule === true) {
    const rules = native().udevRules()
    if (options.json) line(json(rules))
    else process.stdout.write(rules.text)
    return EXIT.OK
  }
  const diagnosis = diagnose({ path })
  line(options.json ? json(diagnosis) : inWords(diagnosis))
  return diagnosis.verdict === 'wrong' ? EXIT.FAILED : EXIT.OK
}

/** A diagnosis as lines for people. */
export function inWords({ verdict, firstProblem, checks }: Diagnosis): string {
  const rows = checks.map(({ name, state, finding }) => [state, name, finding] as const)
  const { red, yellow, green, dim } = coloursFor(process.stdout)
  const paint: Readonly<Record<CheckState, (text: string) => string>> = {
    ok: green,
    warning: yellow,
    wrong: red,
    unknown: dim,
    skipped: dim,
  }
  const stateWidth = Math.max(...rows.map(([state]) => state.length)) + 2
  const nameWidth = Math.max(...rows.map(([, name]) => name.length)) + 2
  const shown = rows.map(
    ([state, name, finding]) =>
      `${paint[state](state.padEnd(stateWidth))}${name.padEnd(nameWidth)}${printable(finding)}`,
  )
  const end =
    firstProblem === undefined
      ? 'Nothing is wrong.'
      : table([
          [verdict === 'wrong' ? 'first wrong' : 'first warning', firstProblem.name],
          ['remedy', firstProblem.remedy ?? firstProblem.finding],
        ])
  return [...shown, '', end].join('\n')
}
