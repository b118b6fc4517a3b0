/** Starts Node processes: scripts and the command line. */

import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'

/** The root of the repository, with a slash at its end. */
export const rootDirectory: string = fileURLToPath(new URL('..', import.meta.url))

/** The command line's file. */
export const commandLine: string = `${rootDirectory}dist/cli.cjs`

// Under an emulator several words start Node, and VMCLOCK_NODE holds them.
const [program, ...firstWords] = JSON.parse(
  process.env['VMCLOCK_NODE'] ?? JSON.stringify([process.execPath]),
) as [string, ...string[]]

/** True if this Node is emulated. Its children are slow, and nothing can trace them. */
export const isEmulated: boolean = firstWords.length > 0

/** The words that start Node with these arguments. */
export function nodeWords(...words: readonly string[]): [string, ...string[]] {
  return [program, ...firstWords, ...words]
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
export function start(words: readonly string[], { env, cwd, by = [] }: Start = {}): Running {
  const [first, ...rest] = [...by, ...nodeWords(...words)] as [string, ...string[]]
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
    throw new Error(`${name} of ${words.join(' ')} ended: ${JSON.stringify(await outcome)}`)
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
export function run(words: readonly string[], options?: Start): Promise<Outcome> {
  const running = start(words, options)
  running.child.stdin.end()
  return running.outcome
}

/** Runs a CommonJS script to its end and gives the JSON value that it printed. */
export async function evaluate<Value>(
  script: string,
  words: readonly string[] = [],
  options?: Start,
): Promise<Value> {
  const { exitCode, signal, stdout, stderr } = await run(
    [...words, '--input-type=commonjs', '-e', script],
    options,
  )
  if (exitCode !== 0) throw new Error(`ended with ${exitCode ?? signal}: ${stderr}`)
  return JSON.parse(stdout) as Value
}

/**
 * Returns words that run a command in its own mount namespace after the shell script `setUp`. They go
 * before the command's. Returns undefined, and passes the test, if this machine allows no such namespace.
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
