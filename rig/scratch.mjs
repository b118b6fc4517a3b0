// Disposes of a guest's directory in memory, which contains its RAM, and of its process when this process
// ends. A later run removes the directory of a process that was killed.

import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { isRunning, readDirectory } from '../tools/cache.mjs'

const PREFIX = 'vmclock-rig-'

const disposals = new Set()
let watching = false

/**
 * Returns a function that calls `dispose` once. The end of this process calls it at the latest. `dispose` must
 * be synchronous.
 */
export function disposedAtTheLatestAtExit(dispose) {
  watchForTheEnd()
  const disposeOnce = () => {
    if (disposals.delete(disposeOnce)) dispose()
  }
  disposals.add(disposeOnce)
  return disposeOnce
}

/** Returns a new directory in memory, and a function that removes it. */
export function scratchDirectory() {
  const memory = '/dev/shm'
  const parent = statSync(memory, { throwIfNoEntry: false })?.isDirectory() ? memory : tmpdir()
  removeAbandoned(parent)
  const directory = mkdtempSync(join(parent, `${PREFIX}${process.pid}-`))
  const remove = disposedAtTheLatestAtExit(() =>
    rmSync(directory, { recursive: true, force: true }),
  )
  return { directory, remove }
}

function watchForTheEnd() {
  if (watching) return
  watching = true
  process.on('exit', () => {
    for (const dispose of [...disposals].reverse()) dispose()
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => process.exit(128 + constants.signals[signal]))
  }
}

// Removes the directories of processes that were killed.
function removeAbandoned(parent) {
  for (const path of readDirectory(parent)) {
    const pid =
      basename(path).startsWith(PREFIX) && /^\d+/.exec(basename(path).slice(PREFIX.length))
    if (pid && !isRunning(Number(pid[0]))) rmSync(path, { recursive: true, force: true })
  }
}
