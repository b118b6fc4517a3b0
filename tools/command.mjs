// Starts programs from the root of the repository. Node core only: this runs before `npm ci` has.

import { spawn } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The root of the repository, without a slash at its end. */
export const rootFolder = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '')

/** A program that could not be started, or that ended with other than 0. */
export class CommandFailed extends Error {
  constructor(command, args, outcome, output = '') {
    const shown = [command, ...args].join(' ')
    super(
      `${shown.length > 300 ? `${shown.slice(0, 300)} …` : shown}: ${outcome}${output && `\n${output}`}`,
    )
    this.name = 'CommandFailed'
  }
}

/** Where this machine cannot run something: the reason, in words for whoever runs it. */
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

/** Runs `work` if the module of this address is the program, and not imported by another. */
export async function asProgram(moduleUrl, work) {
  // `node -e` has no program.
  if (process.argv[1] === undefined) return
  // Through links, as Node gives a module's address: a linked tree would else do nothing, in silence.
  if (realpathSync(process.argv[1]) !== fileURLToPath(moduleUrl)) return
  try {
    await work(process.argv.slice(2))
  } catch (error) {
    console.error(explain(error))
    process.exitCode = 1
  }
}

/** Runs a program with this process's own streams. */
export function run(command, args, options = {}) {
  return start(command, args, { ...options, stdio: 'inherit' })
}

/** Runs a program in silence and gives its standard output; a failure carries both of its streams. */
export function capture(command, args, options = {}) {
  return start(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Whether a program starts and ends with 0: for asking what a machine has. */
export function succeeds(command, args, options = {}) {
  return capture(command, args, options).then(
    () => true,
    (error) => {
      if (error instanceof CommandFailed) return false
      throw error
    },
  )
}

/** Runs `work` and prints what it was and how long it took. */
export async function timed(label, work) {
  const startMs = performance.now()
  console.log(`vmclock: ${label} …`)
  const result = await work()
  console.log(`vmclock: ${label}: ${((performance.now() - startMs) / 1000).toFixed(1)} s`)
  return result
}

function start(command, args, { cwd = rootFolder, env = {}, stdio }) {
  return new Promise((resolve, reject) => {
    const path = [join(rootFolder, 'node_modules/.bin'), process.env.PATH].join(delimiter)
    const child = spawn(command, args, { cwd, stdio, env: { ...process.env, PATH: path, ...env } })
    const chunks = { stdout: [], stderr: [] }
    child.stdout?.on('data', (chunk) => chunks.stdout.push(chunk))
    child.stderr?.on('data', (chunk) => chunks.stderr.push(chunk))
    child.on('error', (cause) => reject(new CommandFailed(command, args, cause.message)))
    child.on('close', (exitCode, signal) => {
      const stdout = Buffer.concat(chunks.stdout).toString()
      if (exitCode === 0) return resolve(stdout)
      const outcome = signal === null ? `exit code ${exitCode}` : `ended by ${signal}`
      reject(new CommandFailed(command, args, outcome, stdout + Buffer.concat(chunks.stderr)))
    })
  })
}
