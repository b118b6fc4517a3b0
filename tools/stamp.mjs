// A stamp records the inputs of a built directory, as a digest of their contents. The stamp is a file inside
// that directory, so deleting the directory deletes the stamp.

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootFolder } from './command.mjs'

// Directories that are no input of a build.
const ignoredFolders = new Set(['target', 'node_modules', 'tests', 'benches', 'examples', 'fuzz'])

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
        .update(readFileSync(join(rootFolder, path)))
        .digest(),
    )
  }
  return hash.digest('hex')
}

/** Returns true if `folder` was built from inputs with this digest and contains `outputs`. */
export function isStamped(folder, value, outputs) {
  return readIfPresent(stampPath(folder)) === value && outputs.every(exists)
}

/** Records the digest of a directory's inputs. Call it last, when the directory is complete. */
export function stamp(folder, value) {
  writeFileSync(stampPath(folder), value)
}

/** Returns true if a path, relative to the root, exists. */
export function exists(path) {
  return statSync(join(rootFolder, path), { throwIfNoEntry: false }) !== undefined
}

function filesUnder(path) {
  const stats = statSync(join(rootFolder, path), { throwIfNoEntry: false })
  if (stats === undefined) return []
  if (!stats.isDirectory()) return [path]
  return readdirSync(join(rootFolder, path), { withFileTypes: true })
    .filter((entry) => !(entry.isDirectory() && ignoredFolders.has(entry.name)))
    .flatMap((entry) => filesUnder(`${path}/${entry.name}`))
}

function stampPath(folder) {
  return join(rootFolder, folder, '.made-from')
}

function readIfPresent(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT') return undefined
    throw error
  }
}
