/** Tells the service manager what a command does, as `sd_notify` does (`Type=notify` of a unit). */

import { checked, VmClockError } from '../errors'
import { native } from '../native'
import { reportError } from './output'

/** Sends a state such as `READY=1`, if a service manager wants it. A failure is reported, and ends nothing. */
export function notifySupervisor(state: string, asJson: boolean): void {
  const socket = process.env['NOTIFY_SOCKET']
  if (!socket) return
  try {
    checked(native().notifySupervisor(socket, state))
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
    reportError(error, asJson)
  }
}
