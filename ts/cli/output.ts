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

/** Returns an error's code, message and remedy for the JSON output. */
export function errorJson({
  code,
  message,
  remedy,
}: VmClockError): Readonly<Record<string, unknown>> {
  return { code, message, remedy }
}

/** Returns an error's message and remedy as one line. */
export function errorText({ message, remedy }: VmClockError): string {
  return remedy === undefined ? message : `${message}; ${remedy}`
}

/** Prints an error with its remedy, code and cause, never with a stack, and returns the exit code. */
export function reportError(error: unknown, asJson: boolean): number {
  const known = VmClockError.isVmClockError(error)
  const { code, remedy, path, errno, syscall }: ErrorFields = known ? error : INTERNAL
  const message = error instanceof Error ? error.message : String(error)
  const cause = causeOf(error)
  if (asJson) {
    printErrorJson({ code, message, remedy, path, errno, syscall, cause })
  } else {
    printErrorText({ error: message, remedy, code, cause })
  }
  return known ? EXIT.FAILED : EXIT.INTERNAL
}

/** Prints that the command line is invalid, and returns the exit code. */
export function reportUsage(message: string, asJson: boolean): number {
  const remedy = 'run `vmclock --help`, or `--help` of the command'
  if (asJson) printErrorJson({ code: 'ERR_VMCLOCK_USAGE', message, remedy })
  else printErrorText({ error: message, remedy })
  return EXIT.USAGE
}

interface ErrorFields {
  readonly code: string
  readonly remedy?: string
  readonly path?: string
  readonly errno?: number
  readonly syscall?: string
}

const INTERNAL: ErrorFields = {
  code: 'ERR_VMCLOCK_INTERNAL',
  remedy: 'report this error of vmclock',
}

function printErrorJson(error: Readonly<Record<string, unknown>>): void {
  process.stderr.write(`${json({ error })}\n`)
}

function printErrorText(fields: Readonly<Record<string, string | undefined>>): void {
  const { red, dim } = coloursFor(process.stderr)
  const lines = Object.entries(fields).map(([label, value]) => {
    const paint = label === 'error' ? red : dim
    return value === undefined ? '' : `${paint(`${label}:`.padEnd(8))}${printable(value)}\n`
  })
  process.stderr.write(lines.join(''))
}

function causeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.cause === undefined) return undefined
  return error.cause instanceof Error ? error.cause.message : String(error.cause)
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
