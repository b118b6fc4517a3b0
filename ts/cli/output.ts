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
  /** `wait`: the time ran out. */
  TIMED_OUT: 4,
} as const

/** The end of every `--help`. */
export const EXIT_HELP = `
Exit codes:
  0  success
  1  the command failed; standard error says why, and what to do
  2  the command line is invalid
  3  internal error of vmclock; please report it
  4  wait: the time ran out

With --json every line of standard output is a JSON value, and an error is one line of JSON on
standard error. 64-bit numbers are decimal strings; unknown values are left out.`

/**
 * The colours for a stream: by default only on a terminal that has them. NO_COLOR, FORCE_COLOR,
 * CLICOLOR_FORCE and CLICOLOR decide in this order, each by its own convention.
 */
export function coloursFor(stream: NodeJS.WriteStream): ReturnType<typeof picocolors.createColors> {
  return picocolors.createColors(wantsColours(process.env) ?? isCapable(stream))
}

// Returns undefined if the user states no wish. An empty variable counts as absent.
function wantsColours(env: NodeJS.ProcessEnv): boolean | undefined {
  const [forced, clicolor] = [env['FORCE_COLOR'], env['CLICOLOR']]
  if (env['NO_COLOR'] || forced === '0' || forced === 'false') return false
  if (forced || (env['CLICOLOR_FORCE'] || '0') !== '0') return true
  return clicolor === '0' ? false : undefined
}

/** Returns whether a stream is a terminal that understands control sequences. */
export function isCapable(stream: NodeJS.WriteStream): boolean {
  const kind = process.env['TERM']
  return stream.isTTY === true && kind !== undefined && kind !== '' && kind !== 'dumb'
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
export function reportError(thrown: unknown, asJson: boolean): number {
  const error = ofNode(thrown) ?? thrown
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

// The flags of Node's permission model, by the names that its errors carry.
const PERMISSION_FLAGS: ReadonlyMap<string, string> = new Map([
  ['FileSystemRead', '--allow-fs-read'],
  ['FileSystemWrite', '--allow-fs-write'],
  ['ChildProcess', '--allow-child-process'],
  ['Net', '--allow-net'],
])

/** Makes the error for a failed call of Node's own; undefined if it is none. */
function ofNode(error: unknown): VmClockError | undefined {
  if (!(error instanceof Error) || VmClockError.isVmClockError(error)) return undefined
  const { code, syscall, errno, path, permission, resource, message } = error as NodeError
  if (code === 'ERR_ACCESS_DENIED') {
    const flag = PERMISSION_FLAGS.get(permission ?? '') ?? 'the right that the message names'
    const what = resource === undefined || resource === '' ? '' : ` (${resource})`
    return new VmClockError(
      'ERR_VMCLOCK_ACCESS',
      `Node's permission model refuses this: ${message}${what}`,
      { remedy: `start Node with ${flag}, or without --permission`, path: resource || undefined },
    )
  }
  if (typeof syscall !== 'string') return undefined
  return new VmClockError('ERR_VMCLOCK_SYSTEM', `a system call failed: ${message}`, {
    remedy: SYSTEM_REMEDIES.get(code ?? '') ?? `see what ${syscall} needs on this machine`,
    errno: typeof errno === 'number' ? Math.abs(errno) : undefined,
    syscall,
    path,
  })
}

interface NodeError extends NodeJS.ErrnoException {
  readonly permission?: string
  readonly resource?: string
}

const SYSTEM_REMEDIES: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'make that file or directory, or name another'],
  ['EACCES', 'give this process the right to it, or name another'],
  ['EPERM', 'give this process the right to it, or name another'],
  ['EROFS', 'name a directory on a file system that can be written'],
  ['ENOSPC', 'free space on that file system, or name another directory'],
  ['EMFILE', 'raise the limit of open files (`ulimit -n`)'],
  ['ENFILE', "raise the system's limit of open files (fs.file-max)"],
  ['EAGAIN', 'raise the limit of processes (`ulimit -u`), or try again later'],
  ['EADDRINUSE', 'name another port, or end the program that listens there'],
  ['EADDRNOTAVAIL', 'name an address that this machine has'],
  ['ENOMEM', 'free memory, or raise the limit of this process'],
])

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
