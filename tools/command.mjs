// Starts programs from the root of the repository. Uses only Node's own modules, because it runs before
// `npm ci`.

import { spawn } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** The root of the repository, without a trailing slash. */
export const rootDirectory = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '')

/** A program did not start, or ended with an exit code other than 0. */
export class CommandFailed extends Error {
  constructor(command, args, outcome, output = '') {
    const shown = [command, ...args].join(' ')
    super(
      `${shown.length > 300 ? `${shown.slice(0, 300)} …` : shown}: ${outcome}${output && `\n${output}`}`,
    )
    this.name = 'CommandFailed'
  }
}

/** This machine cannot run something. The message is the reason, for the user. */
export class Unavailable extends Error {
  name = 'Unavailable'
}

/** Returns what to print for an error: the message if it was expected, the error with its stack if not. */
export function explain(error) {
  const expected =
    error instanceof CommandFailed ||
    error instanceof Unavailable ||
    error.code?.startsWith?.('ERR_PARSE_ARGS')
  return expected ? error.message : error
}

/** Runs `work` with the command line's arguments if the module at this URL is the main program. */
export async function asProgram(moduleUrl, work) {
  // `node -e` has no program.
  if (process.argv[1] === undefined) return
  // Node resolves links in a module's URL, but not in argv.
  if (realpathSync(process.argv[1]) !== fileURLToPath(moduleUrl)) return
  try {
    await work(process.argv.slice(2))
  } catch (error) {
    console.error(explain(error))
    process.exitCode = 1
  }
}

/** Runs a program that inherits this process's streams. */
export function run(command, args, options = {}) {
  return start(command, args, { ...options, stdio: 'inherit' })
}

/** Runs a program silently and returns its standard output. An error contains both streams. */
export function capture(command, args, options = {}) {
  return start(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
}

/**
 * Runs programs at the same time, each an object { label, command, args, options }. Each line of their output begins
 * with the label. All end before the first error is thrown.
 */
export async function runTogether(programs) {
  const outcomes = await Promise.allSettled(
    programs.map(({ label, command, args, options = {} }) =>
      start(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'], label }),
    ),
  )
  const failed = outcomes.find(({ status }) => status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

/** Returns true if a program starts and ends with exit code 0. */
export function succeeds(command, args, options = {}) {
  return capture(command, args, options).then(
    () => true,
    (error) => {
      if (error instanceof CommandFailed) return false
      throw error
    },
  )
}

/** Runs `work`, and prints its label and how long it took. */
export async function timed(label, work) {
  const startMs = performance.now()
  console.log(`vmclock: ${label} …`)
  const result = await work()
  console.log(`vmclock: ${label}: ${((performance.now() - startMs) / 1000).toFixed(1)} s`)
  return result
}

function start(command, args, { cwd = rootDirectory, env = {}, stdio, label }) {
  return new Promise((resolve, reject) => {
    const path = [join(rootDirectory, 'node_modules/.bin'), process.env.PATH].join(delimiter)
    const child = spawn(command, args, { cwd, stdio, env: { ...process.env, PATH: path, ...env } })
    const chunks = { stdout: [], stderr: [] }
    for (const [name, kept] of Object.entries(chunks)) {
      if (label === undefined) child[name]?.on('data', (chunk) => kept.push(chunk))
      else printLines(child[name], label)
    }
    child.on('error', (cause) => reject(new CommandFailed(command, args, cause.message)))
    child.on('close', (exitCode, signal) => {
      const stdout = Buffer.concat(chunks.stdout).toString()
      if (exitCode === 0) return resolve(stdout)
      const outcome = signal === null ? `exit code ${exitCode}` : `ended by ${signal}`
      reject(new CommandFailed(command, args, outcome, stdout + Buffer.concat(chunks.stderr)))
    })
  })
}

function printLines(stream, label) {
  createInterface({ input: stream }).on('line', (line) => console.log(`${label}: ${line}`))
}
