// Makes a user's project: an empty directory into which npm installs the packages from a registry on
// loopback.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CommandFailed, capture } from '../tools/command.mjs'

/** Makes a project with copies of files of `programs/`. It is removed when the test ends. */
export function newProject(t, registry, programs = []) {
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-install-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(join(directory, 'package.json'), '{ "private": true }\n')
  // Each project has its own caches, so that no test finds what another one installed.
  const settings = [
    `registry=${registry.url}`,
    `cache=${directory}/.cache`,
    `store-dir=${directory}/.store`,
  ]
  writeFileSync(join(directory, '.npmrc'), `${settings.join('\n')}\n`)
  for (const program of programs) {
    cpSync(join(import.meta.dirname, 'programs', program), join(directory, program))
  }
  return directory
}

/**
 * Makes a PATH that holds only `node`, npm, `env` and a shell, so no compiler. `node` is a path; by default
 * it is that of this process.
 */
export async function barePath(project, node = process.execPath) {
  const directory = mkdtempSync(join(project, '.bin-'))
  const npm = realpathSync(await find('npm'))
  const programs = { node, npm, sh: '/bin/sh', env: await find('env') }
  for (const [name, program] of Object.entries(programs)) {
    symlinkSync(program, join(directory, name))
  }
  return directory
}

/** Installs the package with npm, which this Node or the one at `node` runs. */
export async function npmInstall(project, { node, flags = [], what = ['vmclock'] } = {}) {
  const path = await barePath(project, node)
  return inProject(project, ['npm', 'install', '--no-audit', '--no-fund', ...flags, ...what], {
    PATH: path,
  })
}

/** The programs that {@link stamps} needs. */
export const stampPrograms = ['stamp.mjs', 'stamp.cjs', 'stamp-with.cjs']

/** The result that a stamp program prints if the package works. */
export const stampResult = { isOneClass: true, isOneErrorClass: true, holdsTheTime: true }

/** Asserts that the package stamps in a runtime, with the same classes for both loaders. */
export async function stamps(project, command) {
  const PATH = await barePath(project)
  for (const program of ['stamp.mjs', 'stamp.cjs']) {
    const result = JSON.parse(await inProject(project, [...command, program], { PATH }))
    assert.deepEqual(result, stampResult, program)
  }
}

/** Runs a command in a project and returns its standard output. A failure carries both streams. */
export function inProject(project, [command, ...args], env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: project,
      env: { ...userEnvironment(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const output = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        output[name] += text
      })
    }
    const fail = (why) =>
      reject(new CommandFailed(command, args, why, output.stdout + output.stderr))
    child.on('error', (error) => fail(error.message))
    child.on('close', (exitCode, signal) => {
      if (exitCode === 0) resolve(output.stdout)
      else fail(`ended with ${exitCode ?? signal}`)
    })
  })
}

// npm sets variables for the scripts of this repository. A user's npm has neither these nor this machine's
// configuration.
function userEnvironment() {
  const { PATH, HOME, LANG, TMPDIR } = process.env
  return { PATH, HOME, LANG, TMPDIR, npm_config_userconfig: '/dev/null', NO_COLOR: '1' }
}

async function find(program) {
  return (await capture('sh', ['-c', `command -v ${program}`])).trim()
}
