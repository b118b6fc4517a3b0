/** What the commands print, and how they end. */

import picocolors from 'picocolors'
import { VmClockError } from '../errors'
import { json, printable } from './escape'

/** How a command ended. */
export const EXIT = {
  OK: 0,
  /** What was asked for failed; the error says why. */
  FAILED: 1,
  /** The command line could not be understood. */
  USAGE: 2,
  /** A mistake in vmclock itself. */
  INTERNAL: 3,
} as const

/** Said in every `--help`. */
export const EXIT_HELP = `
Exit codes:
  0  done
  1  what was asked for failed; standard error says why, and what to do
  2  the command line could not be understood
  3  a mistake in vmclock itself; please report it

With --json every line of standard output is a JSON value, and an error is one line of JSON on
standard error. 64-bit figures are decimal strings; what is unknown is left out.`

/** Colours for a stream: none but on a terminal, and none where NO_COLOR or a dumb terminal say so. */
export function coloursFor(stream: NodeJS.WriteStream): ReturnType<typeof picocolors.createColors> {
  const wanted = stream.isTTY === true && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb'
  return picocolors.createColors(wanted)
}

/** Writes a line to standard output. */
export function line(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** A block of `label  value` lines, the labels in one column. Values are escaped here. */
export function table(rows: ReadonlyArray<readonly [label: string, value: string]>): string {
  const colours = coloursFor(process.stdout)
  const width = Math.max(...rows.map(([label]) => label.length)) + 2
  return rows
    .map(([label, value]) => `${colours.dim(label.padEnd(width))}${printable(value)}`)
    .join('\n')
}

/** Prints an error: what happened, its code, what is underneath. Never a stack. */
export function reportError(error: unknown, asJson: boolean): number {
  const known = VmClockError.isVmClockError(error)
  const message = error instanceof Error ? error.message : String(error)
  if (asJson) {
    const underneath = causeOf(error)
    process.stderr.write(
      `${json({
        error: {
          code: known ? error.code : 'ERR_VMCLOCK_INTERNAL',
          message,
          ...(known && { path: error.path, errno: error.errno, syscall: error.syscall }),
          ...(underneath !== undefined && { cause: underneath }),
        },
      })}\n`,
    )
  } else {
    const colours = coloursFor(process.stderr)
    const code = known ? error.code : 'a mistake in vmclock itself; please report it'
    const underneath = causeOf(error)
    process.stderr.write(
      [
        `${colours.red('error:')} ${printable(message)}`,
        `${colours.dim('code:')}  ${code}`,
        ...(underneath === undefined ? [] : [`${colours.dim('cause:')} ${printable(underneath)}`]),
        '',
      ].join('\n'),
    )
  }
  return known ? EXIT.FAILED : EXIT.INTERNAL
}

function causeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.cause === undefined) return undefined
  return error.cause instanceof Error ? error.cause.message : String(error.cause)
}

/** Prints that the command line could not be understood. */
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

/** Ends quietly where nobody reads on; `atEnd` may have to tidy up first. */
export function endQuietlyOnBrokenPipe(atEnd: () => void): void {
  const broken = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE') throw error
    atEnd()
  }
  process.stdout.on('error', broken)
  // With nobody to tell, there is nothing left to say.
  process.stderr.on('error', () => {})
}
