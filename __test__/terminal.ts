/** Runs programs on a pseudo-terminal, which util-linux's `script` makes. */

import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import type { ExecutionContext } from 'ava'
import { isEmulated, nodeCommand, rootDirectory } from './node-command'

/** A program on a terminal of its own. */
export interface Terminal {
  readonly child: ChildProcessWithoutNullStreams
  /** Types text, as a user does. */
  type(text: string): void
  /** Waits until the output since the last call contains a match, and returns the match. */
  shows(what: RegExp): Promise<RegExpExecArray>
  /** Everything that the terminal has shown. */
  output(): string
  /** Resolves to the exit code. */
  readonly ended: Promise<number | null>
}

/** Returns whether this machine can make terminals; passes the test if it cannot. */
export function hasTerminals(t: ExecutionContext<unknown>): boolean {
  if (!isEmulated && spawnSync('script', ['--version']).error === undefined) return true
  t.log('skipped: there is no `script` program for this Node')
  t.pass()
  return false
}

/** Starts a shell command on a terminal. It is killed at the end of the test. */
export function onTerminal(
  t: ExecutionContext<unknown>,
  command: string,
  env: NodeJS.ProcessEnv = {},
): Terminal {
  const child = spawn('script', ['-qfec', command, '/dev/null'], {
    cwd: rootDirectory,
    env: { ...process.env, TERM: 'xterm', NO_COLOR: '1', VMCLOCK_PATH: '', ...env },
  })
  t.teardown(() => child.kill('SIGKILL'))
  let all = ''
  let seen = 0
  let wake = (): void => {}
  child.stdin.on('error', () => {})
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    all += text
    wake()
  })
  let isOver = false
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', (code) => {
      isOver = true
      wake()
      resolve(code)
    })
  })
  return {
    child,
    ended,
    output: () => all,
    type: (text) => child.stdin.write(text),
    async shows(what) {
      for (;;) {
        const match = what.exec(all.slice(seen))
        if (match !== null) {
          seen += match.index + match[0].length
          return match
        }
        if (isOver) throw new Error(`ended without ${what}: ${JSON.stringify(all)}`)
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}

/** Returns the command line that starts a Node script, for a shell. */
export function shellCommand(...args: readonly string[]): string {
  return nodeCommand(...args)
    .map((word) => `'${word.replaceAll("'", "'\\''")}'`)
    .join(' ')
}
