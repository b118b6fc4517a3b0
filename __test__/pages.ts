/** Makes pages and clocks for tests, and finds facts of this machine. */

import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { VmClock, VmClockError, type VmClockErrorCode } from 'vmclock'
import { type PageFields, VmClockPage } from 'vmclock/testing'

/** The page's name for this machine's counter. */
export const COUNTER_ID: number = process.arch === 'arm64' ? 0 : 1

/** The page's name for the other architecture's counter. */
export const OTHER_COUNTER_ID: number = 1 - COUNTER_ID

/** Bits of the page's flags. */
export const FLAG = {
  TAI_OFFSET_VALID: 0x1n,
  DISRUPTION_SOON: 0x2n,
  DISRUPTION_IMMINENT: 0x4n,
  PERIOD_ESTERROR_VALID: 0x8n,
  PERIOD_MAXERROR_VALID: 0x10n,
  TIME_ESTERROR_VALID: 0x20n,
  TIME_MAXERROR_VALID: 0x40n,
  TIME_MONOTONIC: 0x80n,
  VM_GEN_COUNTER_PRESENT: 0x100n,
  NOTIFICATION_PRESENT: 0x200n,
} as const

/** Makes a directory that is removed when the test ends. */
export function newDirectory(t: ExecutionContext<unknown>): string {
  const made = mkdtempSync(join(tmpdir(), 'vmclock-test-'))
  t.teardown(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** Returns the path of a page that does not exist yet, in a directory of its own. */
export function newPath(t: ExecutionContext<unknown>): string {
  return join(newDirectory(t), 'page')
}

/** Makes a page with these fields. It is closed when the test ends. */
export function page(t: ExecutionContext<unknown>, fields: PageFields): VmClockPage {
  const made = VmClockPage.create(newPath(t), fields)
  t.teardown(() => made.close())
  return made
}

/** Opens a clock. It is closed when the test ends. */
export function open(
  t: ExecutionContext<unknown>,
  ...[path, options]: Parameters<typeof VmClock.open>
): VmClock {
  const clock = VmClock.open(path as string, options)
  t.teardown(() => clock.close())
  return clock
}

/** Reads this machine's counter. */
export function counterNow(t: ExecutionContext<unknown>): bigint {
  const marker = page(t, {})
  const clock = VmClock.open(marker.path)
  try {
    return clock.counter()
  } finally {
    clock.close()
    marker.close()
  }
}

/** Fields of a page with time. */
export interface LivePageFields extends PageFields {
  readonly flags: bigint
  readonly counterValue: bigint
}

/**
 * Returns the fields of a synchronized page in UTC with a bound. Its counter's frequency is stated as 1 GHz,
 * and `counterValue` belongs to a whole second.
 */
export function timeFields(counterValue: bigint): LivePageFields {
  return {
    counterId: COUNTER_ID,
    timeType: 0,
    clockStatus: 2,
    flags: FLAG.PERIOD_MAXERROR_VALID | FLAG.TIME_MAXERROR_VALID,
    counterValue,
    counterPeriodShift: 29,
    counterPeriodFracSec: 9903520314283042199n,
    counterPeriodMaxerrorRateFracSec: 0n,
    timeSec: 1767225600n,
    timeFracSec: 0n,
    timeMaxerrorNanosec: 1000n,
  }
}

/**
 * Returns {@link timeFields} whose time stands still: 2^64 ticks are less than 2^-127 s. So a test decides every
 * figure of a reading.
 */
export function frozenFields(): LivePageFields {
  return { ...timeFields(0n), counterPeriodShift: 127, counterPeriodFracSec: 1n }
}

/** Returns {@link timeFields} whose reference is this machine's counter now. */
export function liveFields(t: ExecutionContext<unknown>): LivePageFields {
  return timeFields(counterNow(t))
}

/**
 * Asserts that a call throws the package's error with this code. `says` is matched against the message and
 * the remedy, with a space between them.
 */
export function refuses(
  t: ExecutionContext<unknown>,
  call: () => unknown,
  code: VmClockErrorCode,
  says: RegExp,
): VmClockError {
  const error = t.throws(call, { instanceOf: VmClockError, code })
  if (error === undefined) throw new Error('t.throws has failed')
  t.regex(`${error.message} ${error.remedy ?? ''}`, says)
  return error
}

/** Asserts that a call throws the package's error with this code, and that its remedy says how to fix it. */
export function refusesWithRemedy(
  t: ExecutionContext<unknown>,
  call: () => unknown,
  code: VmClockErrorCode,
  remedy: RegExp,
): VmClockError {
  const error = refuses(t, call, code, /./)
  t.regex(error.remedy ?? '', remedy)
  t.notRegex(error.message, remedy)
  return error
}

/** Lists this process's descriptors and mappings of files whose paths contain `path`. */
export function held(path: string): string[] {
  const descriptors = readdirSync('/proc/self/fd').flatMap((number) => {
    try {
      return [readlinkSync(`/proc/self/fd/${number}`)]
    } catch {
      // This was the listing's own descriptor, or another thread has closed it.
      return []
    }
  })
  const mappings = readFileSync('/proc/self/maps', 'utf8').split('\n')
  return [...descriptors, ...mappings].filter((entry) => entry.includes(path))
}

/** Lists the names in a directory, sorted. */
export function contents(path: string): string[] {
  return readdirSync(path).sort()
}
