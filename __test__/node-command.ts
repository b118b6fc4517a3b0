/** Starts Node processes: scripts and the command line. */

import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'

/** The root of the repository, with a slash at its end. */
export const rootDirectory: string = fileURLToPath(new URL('..', import.meta.url))

/** The command line's file. */
export const commandLine: string = `${rootDirectory}dist/cli.cjs`

// Under an emulator Node is started by a program and its arguments, which VMCLOCK_NODE holds.
const [program, ...firstArguments] = JSON.parse(
  process.env['VMCLOCK_NODE'] ?? JSON.stringify([process.execPath]),
) as [string, ...string[]]

/** True if this Node is emulated. Its children are slow, and nothing can trace them. */
export const isEmulated: boolean = firstArguments.length > 0

/** Returns the command that starts Node with these arguments. */
export function nodeCommand(...args: readonly string[]): [string, ...string[]] {
  return [program, ...firstArguments, ...args]
}

/** The end and the output of a process. */
export interface Outcome {
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A running process. */
export interface Running {
  readonly child: ChildProcessWithoutNullStreams
  /** Returns the next line of standard output; fails if the output ends first. */
  line(): Promise<string>
  /** Reads lines of standard output until one fits, and returns it. */
  lineThat(fits: (line: string) => boolean): Promise<string>
  /** Returns the next line of standard error; fails if the output ends first. */
  errorLine(): Promise<string>
  readonly outcome: Promise<Outcome>
}

/** Options to start a process. */
export interface Start {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** A program that starts Node, and its first arguments. */
  readonly by?: readonly string[]
}

/** Starts Node. */
export function start(args: readonly string[], { env, cwd, by = [] }: Start = {}): Running {
  const [first, ...rest] = [...by, ...nodeCommand(...args)] as [string, ...string[]]
  const child = spawn(first, rest, {
    cwd: cwd ?? rootDirectory,
    env: { ...process.env, NO_COLOR: '1', VMCLOCK_PATH: '', ...env },
  })
  const output = { stdout: '', stderr: '' }
  child.stdin.on('error', () => {})
  const nextLine = { stdout: lines(child.stdout), stderr: lines(child.stderr) }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  }
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (exitCode, signal) => resolve({ exitCode, signal, ...output }))
  })
  outcome.catch(() => {})
  const read = async (name: 'stdout' | 'stderr'): Promise<string> => {
    const text = await nextLine[name]()
    if (text !== undefined) return text
    throw new Error(`${name} of ${args.join(' ')} ended: ${JSON.stringify(await outcome)}`)
  }
  return {
    child,
    outcome,
    line: () => read('stdout'),
    errorLine: () => read('stderr'),
    async lineThat(fits) {
      for (;;) {
        const text = await read('stdout')
        if (fits(text)) return text
      }
    },
  }
}

/** Runs Node to its end. */
export function run(args: readonly string[], options?: Start): Promise<Outcome> {
  const running = start(args, options)
  running.child.stdin.end()
  return running.outcome
}

/** Runs a CommonJS script to its end and gives the JSON value that it printed. */
export async function evaluate<Value>(
  script: string,
  args: readonly string[] = [],
  options?: Start,
): Promise<Value> {
  const { exitCode, signal, stdout, stderr } = await run(
    [...args, '--input-type=commonjs', '-e', script],
    options,
  )
  if (exitCode !== 0) throw new Error(`ended with ${exitCode ?? signal}: ${stderr}`)
  return JSON.parse(stdout) as Value
}

/**
 * Returns a command that runs another one, given as its last arguments, in a mount namespace of its own
 * after the shell script `setUp`. If this machine allows no such namespace it passes the test and returns
 * undefined.
 */
export function inOwnMounts(t: ExecutionContext, setUp: string): readonly string[] | undefined {
  const by = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-euc']
  const tried = isEmulated ? undefined : spawnSync(by[0] ?? '', [...by.slice(1), setUp])
  if (tried?.status === 0) return [...by, `${setUp}; exec "$@"`, 'sh']
  t.log(`not shown: ${isEmulated ? 'emulated' : 'no mount namespace of its own'}`)
  t.pass()
  return undefined
}

function lines(stream: NodeJS.ReadableStream): () => Promise<string | undefined> {
  const read: string[] = []
  const waiting: Array<(line: string | undefined) => void> = []
  let ended = false
  createInterface({ input: stream })
    .on('line', (text) => {
      const next = waiting.shift()
      if (next === undefined) read.push(text)
      else next(text)
    })
    .on('close', () => {
      ended = true
      for (const next of waiting.splice(0)) next(undefined)
    })
  return () => {
    const text = read.shift()
    if (text !== undefined || ended) return Promise.resolve(text)
    return new Promise((resolve) => waiting.push(resolve))
  }
}
