/** What the adapters share: they load the libraries that they adapt to, and check the clock. */

import * as argument from '../arguments'
import type { Clock } from '../clock-interface'
import { invalidArgument, VmClockError } from '../errors'

/**
 * Loads a library, which is an optional peer dependency.
 *
 * @param name - its name on npm
 * @param load - requires it. The name stands in the caller's `require`, where bundlers see it
 * @throws VmClockError `ERR_VMCLOCK_NO_PEER`
 */
export function peer<Module>(name: string, load: () => unknown): Module {
  try {
    return load() as Module
  } catch (cause) {
    throw new VmClockError('ERR_VMCLOCK_NO_PEER', `${name} does not load: ${reason(cause)}`, {
      remedy: `install it beside vmclock: npm install ${name}`,
      cause,
    })
  }
}

// Node lists the requiring files behind the first line.
function reason(cause: unknown): string {
  const { message } = cause as { readonly message?: unknown }
  return String(message).split('\n')[0] ?? ''
}

/** Checks that a value is a clock whose timescale follows UTC, as the times of these libraries do. */
export function utcClock(value: unknown, name: string): Clock {
  const clock = value as Clock | null | undefined
  if (!argument.holds(() => typeof clock?.readInto === 'function')) {
    throw invalidArgument(`${name} must be a clock`, 'pass what VmClock.open() returned')
  }
  const { timescale } = clock as Clock
  if (timescale === 'tai' || timescale === 'monotonic') {
    throw new VmClockError(
      'ERR_VMCLOCK_TIMESCALE',
      `the times have to follow UTC, and the timescale of ${name} is ${timescale}`,
      { remedy: "open the page with timescale 'utc' as well" },
    )
  }
  return clock as Clock
}
