// What the tests need and npm and cargo do not bring lives in one cache folder outside the tree, so
// that every clone and worktree on a machine shares it. Deleting it is always safe.

import { createHash } from 'node:crypto'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { capture, succeeds, timed, Unavailable } from './command.mjs'

/** The project's cache folder. */
export function cacheFolder() {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'vmclock')
}

/**
 * The folder of the cache that `recipe` describes; made by `fill` if it is not there yet.
 *
 * `fill` gets the folder to write into, which is then renamed to the final one: a run that is
 * interrupted leaves nothing that a later one would take for whole. It gets the final one as well,
 * for what must hold its own address.
 */
export async function cached(name, recipe, fill) {
  const key = createHash('sha256').update(JSON.stringify(recipe)).digest('hex').slice(0, 12)
  const folder = join(cacheFolder(), `${name}-${key}`)
  if (statSync(folder, { throwIfNoEntry: false }) !== undefined) return folder
  removeAbandoned()
  const unfinished = `${folder}.${process.pid}.unfinished`
  mkdirSync(unfinished, { recursive: true })
  try {
    await timed(`${basename(folder)} into ${dirname(folder)}`, () => fill(unfinished, folder))
    renameOrKeepTheOther(unfinished, folder)
  } finally {
    rmSync(unfinished, { recursive: true, force: true })
  }
  return folder
}

/**
 * One exact version of an npm package, whatever machine it is meant for: the folder in which it lies
 * under its name, as in a node_modules.
 */
export function npmPackage(name, version) {
  const specifier = `${name}@${version}`
  return cached(specifier.replace('/', '-'), { specifier }, async (folder) => {
    // `npm pack` fetches through npm's own cache and checks the registry's integrity.
    const packed = await capture('npm', ['pack', '--json', '--silent', specifier], { cwd: folder })
    const [{ filename }] = JSON.parse(packed)
    mkdirSync(join(folder, name), { recursive: true })
    await capture('tar', ['-xzf', filename, '--strip-components=1', '-C', name], { cwd: folder })
    rmSync(join(folder, filename))
  })
}

/**
 * Python packages, as a file of requirements names them with their digests: the folder in which they
 * lie. For this machine, or for a platform by Python's name for it.
 */
export function pythonPackages(name, requirementsFile, platform) {
  const requirements = readFileSync(requirementsFile, 'utf8')
  return cached(name, { requirements, platform }, async (folder) => {
    if (!(await succeeds('python3', ['-m', 'pip', '--version']))) {
      throw new Unavailable('no pip: install python3-pip')
    }
    await capture('python3', [
      ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-compile'],
      ...['--no-deps', '--require-hashes', '--only-binary=:all:'],
      ...(platform === undefined ? [] : ['--platform', platform]),
      ...['--target', folder, '--requirement', requirementsFile],
    ])
  })
}

/** Writes a small shell script that may be run as a program of its own. */
export function writeLauncher(path, lines) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, ['#!/bin/sh', ...lines, ''].join('\n'), { mode: 0o755 })
}

// A run that was killed cannot tidy up after itself.
function removeAbandoned() {
  for (const folder of readFolder(cacheFolder())) {
    const pid = /\.(\d+)\.unfinished$/.exec(folder)?.[1]
    if (pid !== undefined && !isRunning(Number(pid))) rmSync(folder, { recursive: true })
  }
}

/** Whether there is a process of this number. */
export function isRunning(pid) {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // Anything but "no such process" says that there is one.
    return error.code !== 'ESRCH'
  }
}

/** The paths in a folder; none where there is no such folder. */
export function readFolder(path) {
  try {
    return readdirSync(path).map((file) => join(path, file))
  } catch (error) {
    if (error.code === 'ENOENT') return []
    throw error
  }
}

function renameOrKeepTheOther(from, to) {
  try {
    renameSync(from, to)
  } catch (error) {
    // Another run was quicker; what it made from the same recipe is as good.
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
  }
}
