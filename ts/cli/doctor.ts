/** `vmclock doctor`: checks this machine, and says what is missing and how to fix it. */

import type { CheckState, Diagnosis } from '../doctor'
import { diagnose } from '../doctor'
import { native } from '../native'
import { json, printable } from './escape'
import { coloursFor, EXIT, line, table } from './output'

/** Options of `vmclock doctor`. */
export interface DoctorOptions {
  readonly json?: boolean
  readonly udevRule?: boolean
}

/** The end of `vmclock doctor --help`. */
export const DOCTOR_HELP = `
States of a check:
  ok       as it should be
  warning  it works, but could be better
  wrong    it prevents the use of the page or of its time
  unknown  this machine does not say
  skipped  meaningless because of the state of another check

The exit code is 1 if a check is wrong, else 0. --json prints the result of diagnose() of vmclock/doctor.

To install the udev rules, as root:
  vmclock doctor --udev-rule > /etc/udev/rules.d/60-vmclock.rules
  udevadm control --reload && udevadm trigger --subsystem-match=misc --subsystem-match=ptp`

/** Prints a diagnosis or the udev rules, and returns the exit code. */
export function doctor(path: string | undefined, options: DoctorOptions): number {
  if (options.udevRule === true) {
    const rules = native().udevRules()
    if (options.json) line(json(rules))
    else process.stdout.write(rules.text)
    return EXIT.OK
  }
  const diagnosis = diagnose({ path })
  line(options.json ? json(diagnosis) : diagnosisText(diagnosis))
  return diagnosis.verdict === 'wrong' ? EXIT.FAILED : EXIT.OK
}

/** Formats a diagnosis as lines of text. */
export function diagnosisText({ verdict, firstProblem, checks }: Diagnosis): string {
  const { red, yellow, green, dim } = coloursFor(process.stdout)
  const paint: Readonly<Record<CheckState, (text: string) => string>> = {
    ok: green,
    warning: yellow,
    wrong: red,
    unknown: dim,
    skipped: dim,
  }
  const stateWidth = Math.max(...checks.map(({ state }) => state.length)) + 2
  const nameWidth = Math.max(...checks.map(({ name }) => name.length)) + 2
  const rows = checks.map(
    ({ name, state, finding }) =>
      `${paint[state](state.padEnd(stateWidth))}${name.padEnd(nameWidth)}${printable(finding)}`,
  )
  const end =
    firstProblem === undefined
      ? 'Nothing is wrong.'
      : table([
          [verdict === 'wrong' ? 'first wrong' : 'first warning', firstProblem.name],
          ['remedy', firstProblem.remedy ?? firstProblem.finding],
        ])
  return [...rows, '', end].join('\n')
}
