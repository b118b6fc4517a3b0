/** Output and exit codes of all commands. */

import picocolors from 'picocolors'
import { VmClockError } from '../errors'
import { json, printable } from './escape'

/** Exit codes. */
export const EXIT = {
  OK: 0,
  /** The command failed; the error says why. */
  FAILED: 1,
  /** The command line is invalid. */
  USAGE: 2,
  /** An internal error of vmclock. */
  INTERNAL: 3,
} as const

/** The end of every `--help`. */
export const EXIT_HELP = `
Exit codes:
  0  success
  1  the command failed; standard error says why, and what to do
  2  the command line is invalid
  3  internal error of vmclock; please report it

With --json every line of standard output is a JSON value, and an error is one line of JSON on
standard error. 64-bit numbers are decimal strings; unknown values are left out.`

/** The colours for a stream: only on a terminal that is not dumb, and without NO_COLOR. */
export function coloursFor(stream: NodeJS.WriteStream): ReturnType<typeof picocolors.createColors> {
  const wanted = stream.isTTY === true && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb'
  return picocolors.createColors(wanted)
}

/** Writes a line to standard output. */
export function line(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Formats `label  value` lines with the labels in one column, and escapes the values. */
export function table(rows: ReadonlyArray<readonly [label: string, value: string]>): string {
  const colours = coloursFor(process.stdout)
  const width = Math.max(...rows.map(([label]) => label.length)) + 2
  return rows
    .map(([label, value]) => `${colours.dim(label.padEnd(width))}${printable(value)}`)
    .join('\n')
}

/** An error's code, message and remedy, as the JSON output has them. */
export function reason({ code, message, remedy }: VmClockError): Readonly<Record<string, unknown>> {
  return { code, message, remedy }
}

/** An error's message and remedy in one line. */
export function inOneLine({ message, remedy }: VmClockError): string {
  return remedy === undefined ? message : `${message}; ${remedy}`
}

/** Prints an error with its remedy, code and cause, never with a stack, and returns the exit code. */
export function reportError(error: unknown, asJson: boolean): number {
  const known = VmClockError.isVmClockError(error) ? error : undefined
  const message = error instanceof Error ? error.message : String(error)
  const cause = causeOf(error)
  if (asJson) {
    const { code = 'ERR_VMCLOCK_INTERNAL', remedy, path, errno, syscall } = known ?? {}
    process.stderr.write(
      `${json({ error: { code, message, remedy, path, errno, syscall, cause } })}\n`,
    )
  } else {
    const colours = coloursFor(process.stderr)
    const remedy = known?.remedy
    const code = known?.code ?? 'internal error of vmclock; please report it'
    process.stderr.write(
      [
        `${colours.red('error:')}  ${printable(message)}`,
        ...(remedy === undefined ? [] : [`${colours.dim('remedy:')} ${printable(remedy)}`]),
        `${colours.dim('code:')}   ${code}`,
        ...(cause === undefined ? [] : [`${colours.dim('cause:')}  ${printable(cause)}`]),
        '',
      ].join('\n'),
    )
  }
  return known === undefined ? EXIT.INTERNAL : EXIT.FAILED
}

function causeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.cause === undefined) return undefined
  return error.cause instanceof Error ? error.cause.message : String(error.cause)
}

/** Prints that the command line is invalid, and returns the exit code. */
export function reportUsage(message: string, asJson: boolean): number {
  if (asJson) {
    process.stderr.write(`${json({ error: { code: 'ERR_VMCLOCK_USAGE', message } })}\n`)
  } else {
    const colours = coloursFor(process.stderr)
    process.stderr.write(
      `${colours.red('error:')} ${printable(message)}\n${colours.dim('help:')}  vmclock --help\n`,
    )
  }
  return EXIT.USAGE
}

/** Calls `atEnd` when the reader of standard output is gone. Other errors are thrown. */
export function endQuietlyOnBrokenPipe(atEnd: () => void): void {
  const broken = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE') throw error
    atEnd()
  }
  process.stdout.on('error', broken)
  // If nobody reads standard error, there is no place to report that.
  process.stderr.on('error', () => {})
}
