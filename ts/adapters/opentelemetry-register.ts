/**
 * Gives the spans of the global tracer provider this machine's best time, when it is loaded:
 * `node --import vmclock/opentelemetry/register app.js`.
 *
 * It opens `VmClock.open({ unsupported: 'system-clock' })`, and calls `registerVmClock` of `vmclock/opentelemetry` with
 * that clock. If no clock opens, the spans keep the times of the SDK, and a process warning `VMCLOCK_NO_SPAN_TIME` says
 * why. `registerVmClock` takes a clock of yours, and has options.
 *
 * @module vmclock/opentelemetry/register
 */

import { VmClock } from '../clock'
import type { Clock } from '../clock-interface'
import { VmClockError } from '../errors'
import { registerVmClock } from './opentelemetry'

// It names `VmClock`, or the bundler of declarations would move shared types to a file of their own.
/** The clock of the spans. Undefined if none opened: a process warning `VMCLOCK_NO_SPAN_TIME` has said why. */
export const clock: Clock | VmClock | undefined = open()

function open(): Clock | undefined {
  try {
    const opened = VmClock.open({ unsupported: 'system-clock' })
    registerVmClock({ clock: opened })
    return opened
  } catch (error) {
    // Telemetry must not keep an application from starting.
    if (!VmClockError.isVmClockError(error)) throw error
    process.emitWarning(`vmclock gives spans no time: ${error.message}`, {
      type: 'VmClockWarning',
      code: 'VMCLOCK_NO_SPAN_TIME',
      ...(error.remedy !== undefined && { detail: error.remedy }),
    })
    return undefined
  }
}
