// A stamp records the inputs of a built directory, as a digest of their contents. The stamp is a file inside
// that directory, so deleting the directory deletes the stamp.

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootDirectory } from './command.mjs'

// Directories that are no input of a build.
const ignoredDirectories = new Set([
  'target',
  'node_modules',
  'tests',
  'benches',
  'examples',
  'fuzz',
])

/**
 * Returns a digest of files, whole directories (relative to the root; a missing one counts as missing) and
 * words. It covers contents and not times, because a clone, a checkout and a merge change times only.
 */
export function digest(paths, words = []) {
  const hash = createHash('sha256')
  for (const word of words) hash.update(`${word}\0`)
  for (const path of paths.flatMap(filesUnder).sort()) {
    hash.update(`${path}\0`)
    hash.update(
      createHash('sha256')
        .update(readFileSync(join(rootDirectory, path)))
        .digest(),
    )
  }
  return hash.digest('hex')
}

/** Returns true if `directory` was built from inputs with this digest and contains `outputs`. */
export function isStamped(directory, value, outputs) {
  return readIfPresent(stampPath(directory)) === value && outputs.every(exists)
}

/** Records the digest of a directory's inputs. Call it last, when the directory is complete. */
export function stamp(directory, value) {
  writeFileSync(stampPath(directory), value)
}

/** Returns true if a path, relative to the root, exists. */
export function exists(path) {
  return statSync(join(rootDirectory, path), { throwIfNoEntry: false }) !== undefined
}

function filesUnder(path) {
  const stats = statSync(join(rootDirectory, path), { throwIfNoEntry: false })
  if (stats === undefined) return []
  if (!stats.isDirectory()) return [path]
  return readdirSync(join(rootDirectory, path), { withFileTypes: true })
    .filter((entry) => !(entry.isDirectory() && ignoredDirectories.has(entry.name)))
    .flatMap((entry) => filesUnder(`${path}/${entry.name}`))
}

function stampPath(directory) {
  return join(rootDirectory, directory, '.made-from')
}

function readIfPresent(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT') return undefined
    throw error
  }
}
