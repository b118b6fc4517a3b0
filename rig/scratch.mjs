// What a guest leaves behind: one folder in memory that holds its RAM and all else, and one process.
// Both are gone when this process is, however it ends.

import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { isRunning, readFolder } from '../tools/cache.mjs'

const PREFIX = 'vmclock-rig-'

const disposals = new Set()
let watching = false

/** Calls `dispose` when it is asked to, or when this process ends first. It must not wait. */
export function disposedAtTheLatestAtExit(dispose) {
  watchForTheEnd()
  const disposeOnce = () => {
    if (disposals.delete(disposeOnce)) dispose()
  }
  disposals.add(disposeOnce)
  return disposeOnce
}

/** A new folder in memory, and `remove`. */
export function scratchFolder() {
  const memory = '/dev/shm'
  const parent = statSync(memory, { throwIfNoEntry: false })?.isDirectory() ? memory : tmpdir()
  removeAbandoned(parent)
  const folder = mkdtempSync(join(parent, `${PREFIX}${process.pid}-`))
  const remove = disposedAtTheLatestAtExit(() => rmSync(folder, { recursive: true, force: true }))
  return { folder, remove }
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

// A process that was killed could not tidy up after itself.
function removeAbandoned(parent) {
  for (const path of readFolder(parent)) {
    const pid =
      basename(path).startsWith(PREFIX) && /^\d+/.exec(basename(path).slice(PREFIX.length))
    if (pid && !isRunning(Number(pid[0]))) rmSync(path, { recursive: true, force: true })
  }
}
