// A stamp says what a folder was made from: a digest over the contents of its inputs, kept inside
// the folder that it vouches for, so that whoever deletes the folder deletes the claim with it.

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootFolder } from './command.mjs'

// Contents, not times: a fresh clone, a checkout and a merge all touch files without changing them.
const ignoredFolders = new Set(['target', 'node_modules', 'tests', 'benches', 'examples', 'fuzz'])

/** Digest over files and whole folders (relative to the root; absent ones count as absent) and words. */
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

/** Whether `folder` was made from inputs of this digest and still holds `outputs`. */
export function isStamped(folder, value, outputs) {
  return readIfPresent(stampPath(folder)) === value && outputs.every(exists)
}

/** Records the inputs of `folder`; to be called last, when all of it is written. */
export function stamp(folder, value) {
  writeFileSync(stampPath(folder), value)
}

/** Whether a path, relative to the root, is there. */
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
