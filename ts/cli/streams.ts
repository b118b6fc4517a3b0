/** Handles errors of standard output and standard error, which may come at any time. */

import { closeSync } from 'node:fs'
import { isatty } from 'node:tty'
import { VmClockError } from '../errors'

/**
 * Learns that output was lost. `error` is undefined if its reader has gone (EPIPE), which is how a pipe such
 * as `| head` ends.
 */
export type OutputLost = (error: VmClockError | undefined) => void

let onOutputLost: OutputLost

/** Listens for errors of both streams. Call it once, before anything is printed. */
export function guardStreams(onLost: OutputLost): void {
  onOutputLost = onLost
  const terminals = [0, 1, 2].filter((file) => isatty(file))
  process.once('exit', () => closeAll(terminals))
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    onOutputLost(error.code === 'EPIPE' ? undefined : unwritable(error))
  })
  // If nobody reads standard error, there is no place to report that.
  process.stderr.on('error', () => {})
}

/** Says what a running command does when its output is lost, instead of ending the process. */
export function whenOutputIsLost(onLost: OutputLost): void {
  onOutputLost = onLost
}

// Node restores the mode of its terminals last of all, and aborts if one of them is gone by then. It skips a
// file that is closed. No command changes the mode, so nothing is lost.
function closeAll(terminals: readonly number[]): void {
  for (const file of terminals) closeSync(file)
}

function unwritable(cause: NodeJS.ErrnoException): VmClockError {
  return new VmClockError(
    'ERR_VMCLOCK_SYSTEM',
    `standard output cannot be written: ${cause.message}`,
    {
      remedy: 'direct it to a file, pipe or terminal that takes it',
      errno: cause.errno === undefined ? undefined : Math.abs(cause.errno),
      syscall: cause.syscall,
    },
  )
}
