/**
 * Signals that end a command, and signals that were ignored when it started.
 *
 * Unix programs leave an ignored signal ignored: `nohup` and shells rely on it. Node resets all
 * dispositions when it starts, so the launcher at the top of `dist/cli.cjs` reads them first. Without it, as
 * in `node dist/cli.cjs`, they are unknown, and no signal counts as ignored.
 */

import { constants } from 'node:os'

/** The signals that end a long-running command. */
const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const

// The launcher writes its process ID, which `exec` keeps, and the kernel's mask in hexadecimal digits.
const VARIABLE = 'VMCLOCK_IGNORED_SIGNALS'

// Signals that a handler without an effect ignores as well as the kernel does. It would not do so for
// terminal input and output: the kernel repeats the call, and the signal with it.
const IGNORABLE = [
  ...STOP_SIGNALS,
  ...(['SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGTSTP'] as const),
] as const

let ignored: ReadonlySet<string> = new Set()

/** Goes on to ignore the signals that were ignored when this process started. */
export function keepIgnoredSignals(): void {
  const [pid, mask] = (process.env[VARIABLE] ?? '').split(' ')
  // Children have other dispositions.
  delete process.env[VARIABLE]
  if (pid !== String(process.pid) || mask === undefined || !/^[0-9a-f]{1,32}$/.test(mask)) return
  const bits = BigInt(`0x${mask}`)
  const isIgnored = (name: NodeJS.Signals): boolean =>
    ((bits >> BigInt(constants.signals[name] - 1)) & 1n) === 1n
  ignored = new Set(IGNORABLE.filter(isIgnored))
  for (const name of ignored) process.on(name as NodeJS.Signals, () => {})
}

/** Calls `stop` for each signal that ends a command, unless the signal was ignored at the start. */
export function onStopSignal(stop: () => void): void {
  for (const name of STOP_SIGNALS) if (!ignored.has(name)) process.on(name, stop)
}
