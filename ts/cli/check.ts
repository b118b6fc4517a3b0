/** `vmclock check`: whether the time can be used now, for probes. */

import type { VmClock } from '../clock'
import { VmClockError } from '../errors'
import type { Reading } from '../reading'
import { boundOf } from './bound'
import { json } from './escape'
import { distance } from './figures'
import { line } from './output'
import { openClock, type ReadingOptions } from './page-options'
import { pageName } from './source'

/** Options of `vmclock check`. */
export interface CheckOptions extends ReadingOptions {
  readonly json?: boolean
}

/** The end of `vmclock check --help`. */
export const CHECK_HELP = `
Exit code 0 means: the page gives time with a bound, within --error-limit and --max-age. Exit code 1
means that it does not; standard error says why, with a code. It suits a HEALTHCHECK of Docker, an exec
probe of Kubernetes, and ExecStartPre of a unit.`

/** Prints that the time can be used now, or throws the reason why not. */
export function check(path: string | undefined, options: CheckOptions): void {
  const clock = openClock(path, options)
  try {
    const reading = clock.read()
    if (reading.maxErrorNs === undefined) {
      const bound = boundOf(reading, clock)
      const where = pageName(clock.timeSource)
      throw new VmClockError('ERR_VMCLOCK_TOO_UNCERTAIN', `${where}: the bound is ${bound.text}`, {
        remedy: bound.remedy ?? 'run `vmclock doctor` to see what is missing',
        path: clock.path,
      })
    }
    printUsable(clock, reading, options.json)
  } finally {
    clock.close()
  }
}

/** Prints that the time can be used, with its bound and its age. */
export function printUsable(clock: VmClock, reading: Reading, asJson = false): void {
  if (asJson) {
    line(json({ ok: true, path: clock.path, reading: reading.toJSON() }))
    return
  }
  const { maxErrorNs = 0n, ageNs } = reading
  line(`ok  ${pageName(clock.timeSource)}  bound ± ${distance(maxErrorNs)}  age ${distance(ageNs)}`)
}
