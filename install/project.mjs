// A user's project: an empty folder into which the packages are installed from a registry on loopback.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CommandFailed, capture } from '../tools/command.mjs'

/** A new project, which is removed when the test ends, with copies of files of `programs/`. */
export function newProject(t, registry, programs = []) {
  const folder = mkdtempSync(join(tmpdir(), 'vmclock-install-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  // Caches of its own: what another test installed must not be found there.
  const settings = [
    `registry=${registry.url}`,
    `cache=${folder}/.cache`,
    `store-dir=${folder}/.store`,
  ]
  writeFileSync(join(folder, '.npmrc'), `${settings.join('\n')}\n`)
  for (const program of programs) {
    cpSync(join(import.meta.dirname, 'programs', program), join(folder, program))
  }
  return folder
}

/**
 * A PATH on which there is nothing but `node` (this one, if no other is given), npm and a shell: no
 * compiler.
 */
export async function barePath(project, node = process.execPath) {
  const folder = mkdtempSync(join(project, '.bin-'))
  const npm = realpathSync(await find('npm'))
  const programs = { node, npm, sh: '/bin/sh', env: await find('env') }
  for (const [name, program] of Object.entries(programs)) symlinkSync(program, join(folder, name))
  return folder
}

/** Installs the package with npm, by this Node or another. */
export async function npmInstall(project, { node, flags = [], what = ['vmclock'] } = {}) {
  const path = await barePath(project, node)
  return inProject(project, ['npm', 'install', '--no-audit', '--no-fund', ...flags, ...what], {
    PATH: path,
  })
}

/** What {@link stamps} runs. */
export const stampPrograms = ['stamp.mjs', 'stamp.cjs', 'stamp-with.cjs']

/** Asserts that the package stamps in a runtime, as one class for both loaders. */
export async function stamps(project, words) {
  const PATH = await barePath(project)
  for (const program of ['stamp.mjs', 'stamp.cjs']) {
    const told = JSON.parse(await inProject(project, [...words, program], { PATH }))
    assert.deepEqual(told, { isOneClass: true, holdsTheTime: true }, program)
  }
}

/** Runs a command in a project and gives what it printed; fails with what it said. */
export function inProject(project, [command, ...args], env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: project,
      env: { ...userEnvironment(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const said = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        said[name] += text
      })
    }
    const fail = (why) => reject(new CommandFailed(command, args, why, said.stdout + said.stderr))
    child.on('error', (error) => fail(error.message))
    child.on('close', (exitCode, signal) => {
      if (exitCode === 0) resolve(said.stdout)
      else fail(`ended with ${exitCode ?? signal}`)
    })
  })
}

// What npm tells a script of this repository is not for the npm that a user runs, and neither is what
// this machine is configured to.
function userEnvironment() {
  const { PATH, HOME, LANG, TMPDIR } = process.env
  return { PATH, HOME, LANG, TMPDIR, npm_config_userconfig: '/dev/null', NO_COLOR: '1' }
}

async function find(program) {
  return (await capture('sh', ['-c', `command -v ${program}`])).trim()
}
