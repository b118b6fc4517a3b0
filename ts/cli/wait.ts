/** `vmclock wait`: until the time can be used, for starts of services. */

import { setTimeout as delay } from 'node:timers/promises'
import type { VmClock } from '../clock'
import { VmClockError } from '../errors'
import { waitUntilSynchronized } from '../ordering/index'
import { boundOf } from './bound'
import { printUsable } from './check'
import { distance } from './figures'
import { EXIT, reportError } from './output'
import { openClock, type ReadingOptions } from './page-options'

/** Options of `vmclock wait`. */
export interface WaitOptions extends ReadingOptions {
  readonly timeout?: number
  readonly json?: boolean
}

/** The end of `vmclock wait --help`. */
export const WAIT_HELP: string = `
It waits for the page as well, if there is none yet. Exit code 0 means: the page gives time with a
bound, of at most --error-limit. Exit code ${EXIT.TIMED_OUT} means that --timeout has passed; standard error says what
was missing.`

const RETRY_MS = 100

/** Waits until the time has a bound that is small enough. Returns the exit code. */
export async function wait(path: string | undefined, options: WaitOptions): Promise<number> {
  const { timeout, errorLimit, ...reading } = options
  const signal = timeout === undefined ? undefined : AbortSignal.timeout(timeout)
  let clock: VmClock | undefined
  try {
    // Opened without the limit, which is what the command waits for.
    clock = await opened(path, reading, signal)
    const ready = await waitUntilSynchronized(clock, { errorLimitNs: errorLimit, signal })
    printUsable(clock, ready, options.json)
    return EXIT.OK
  } catch (error) {
    if (signal?.aborted !== true || error !== signal.reason) throw error
    reportError(missing(clock, errorLimit, timeout ?? 0), options.json ?? false)
    return EXIT.TIMED_OUT
  } finally {
    clock?.close()
  }
}

/** Opens the page, once there is one. */
async function opened(
  path: string | undefined,
  options: ReadingOptions,
  signal: AbortSignal | undefined,
): Promise<VmClock> {
  for (;;) {
    try {
      return openClock(path, options)
    } catch (error) {
      if (!VmClockError.isVmClockError(error) || error.code !== 'ERR_VMCLOCK_NOT_FOUND') throw error
    }
    if (signal?.aborted) throw signal.reason
    await delay(RETRY_MS)
  }
}

/** Returns the error that says what was still missing when the time ran out. */
function missing(
  clock: VmClock | undefined,
  limitNs: bigint | undefined,
  timeoutMs: number,
): VmClockError {
  const after = `after ${distance(BigInt(timeoutMs) * 1_000_000n)}`
  if (clock === undefined) {
    return new VmClockError('ERR_VMCLOCK_NOT_FOUND', `${after} there is no page`, {
      remedy: 'start what publishes the page, or wait longer',
    })
  }
  const reading = clock.tryRead()
  if (reading instanceof VmClockError) {
    const { code, message, remedy } = reading
    return new VmClockError(code, `${after}: ${message}`, { remedy, path: clock.path })
  }
  const { text, remedy } = boundOf(reading, clock)
  const wanted = limitNs === undefined ? '' : `, and ± ${distance(limitNs)} was wanted`
  return new VmClockError('ERR_VMCLOCK_TOO_UNCERTAIN', `${after} the bound is ${text}${wanted}`, {
    remedy: remedy ?? 'wait longer, or allow a greater bound with --error-limit',
    path: clock.path,
  })
}
