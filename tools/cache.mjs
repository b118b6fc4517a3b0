// A cache outside the tree for downloads and builds that neither npm nor cargo manages. All clones and
// worktrees on a machine share it. It is always safe to delete.

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

/** Returns the project's cache directory. */
export function cacheDirectory() {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'vmclock')
}

/**
 * Returns the cached directory for `recipe`. Calls `fill` to make it if it does not exist.
 *
 * `fill` gets a directory to write into, which is then renamed to the final one, so an interrupted run
 * leaves no incomplete directory under the final name. `fill` also gets the final path, for files that
 * must contain it.
 */
export async function cached(name, recipe, fill) {
  const key = createHash('sha256').update(JSON.stringify(recipe)).digest('hex').slice(0, 12)
  const directory = join(cacheDirectory(), `${name}-${key}`)
  if (statSync(directory, { throwIfNoEntry: false }) !== undefined) return directory
  removeAbandoned()
  const unfinished = `${directory}.${process.pid}.unfinished`
  mkdirSync(unfinished, { recursive: true })
  try {
    await timed(`${basename(directory)} into ${dirname(directory)}`, () =>
      fill(unfinished, directory),
    )
    renameOrKeepTheOther(unfinished, directory)
  } finally {
    rmSync(unfinished, { recursive: true, force: true })
  }
  return directory
}

/**
 * Fetches one version of an npm package, for any machine. Returns the directory that contains it under its
 * name, like a node_modules.
 */
export function npmPackage(name, version) {
  const specifier = `${name}@${version}`
  return cached(specifier.replace('/', '-'), { specifier }, async (directory) => {
    // `npm pack` uses npm's cache and checks the integrity of the package.
    const packed = await capture('npm', ['pack', '--json', '--silent', specifier], {
      cwd: directory,
    })
    const [{ filename }] = JSON.parse(packed)
    mkdirSync(join(directory, name), { recursive: true })
    await capture('tar', ['-xzf', filename, '--strip-components=1', '-C', name], { cwd: directory })
    rmSync(join(directory, filename))
  })
}

/**
 * Installs the Python packages of a requirements file with digests, for this machine or for `platform`
 * (Python's name). Returns their directory.
 */
export function pythonPackages(name, requirementsFile, platform) {
  const requirements = readFileSync(requirementsFile, 'utf8')
  return cached(name, { requirements, platform }, async (directory) => {
    if (!(await succeeds('python3', ['-m', 'pip', '--version']))) {
      throw new Unavailable('no pip: install python3-pip')
    }
    await capture('python3', [
      ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-compile'],
      ...['--no-deps', '--require-hashes', '--only-binary=:all:'],
      ...(platform === undefined ? [] : ['--platform', platform]),
      ...['--target', directory, '--requirement', requirementsFile],
    ])
  })
}

/** Writes an executable shell script. */
export function writeLauncher(path, lines) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, ['#!/bin/sh', ...lines, ''].join('\n'), { mode: 0o755 })
}

// Removes the unfinished directories of runs that were killed.
function removeAbandoned() {
  for (const directory of readDirectory(cacheDirectory())) {
    const pid = /\.(\d+)\.unfinished$/.exec(directory)?.[1]
    if (pid !== undefined && !isRunning(Number(pid))) rmSync(directory, { recursive: true })
  }
}

/** Returns true if a process with this id exists. */
export function isRunning(pid) {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // Any other error means that the process exists.
    return error.code !== 'ESRCH'
  }
}

/** Returns the paths in a directory, or none if it does not exist. */
export function readDirectory(path) {
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
    // Another run made the same directory from the same recipe first.
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
  }
}
