/** Writes metrics to a file, which is there as a whole or not at all. */

import { lstatSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { VmClockError } from '../errors'

/** Refuses a path at which something other than a regular file is: the metrics would take its place. */
export function requireReplaceable(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined || found.isFile()) return
  throw new VmClockError(
    'ERR_VMCLOCK_INVALID_ARGUMENT',
    `${path} is no regular file, and the metrics would take its place`,
    { remedy: 'name a regular file, or one that does not exist yet', path },
  )
}

/** Writes the file by another name in its directory, and renames it. If that fails, no file is left. */
export function writeMetrics(path: string, text: string): void {
  // No name that node_exporter reads. A process that was killed may have left the same.
  const unfinished = join(dirname(path), `.${basename(path)}.${process.pid}.unfinished`)
  try {
    rmSync(unfinished, { force: true })
    writeFileSync(unfinished, text, { flag: 'wx', mode: 0o644 })
    renameSync(unfinished, path)
  } catch (error) {
    // The old figures would look like those of now.
    removeIfPossible(unfinished)
    removeIfPossible(path)
    throw error
  }
}

/** Removes the file, so that nobody takes its figures for those of now. */
export function removeMetrics(path: string): void {
  rmSync(path, { force: true })
}

function removeIfPossible(path: string): void {
  try {
    rmSync(path, { force: true })
  } catch {
    // The error that is reported is the one of writing.
  }
}
