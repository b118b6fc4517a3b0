/** Who else can write the page that a publisher keeps, and replace it. */

import { type Stats, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { printable } from './escape'

/** Returns a warning if every user can put another file in the page's place. Readers refuse that file, and so lose the page. */
export function openDirectoryWarning(path: string): string | undefined {
  const directory = dirname(path)
  const mode = statsOf(directory)?.mode ?? 0
  // With the sticky bit, as /tmp has it, only the owner can remove a file.
  if ((mode & 0o1002) !== 0o0002) return undefined
  return `every user can write ${printable(directory)}, and remove the page; publish in a directory of your own, or take that right away (chmod o-w)`
}

/** Looks whether other users get the right to write a page after its publisher made it. */
export class PublisherAccess {
  readonly #path: string
  readonly #owner: number | undefined
  #isTold = false

  /** Notes the page's owner. */
  constructor(path: string) {
    this.#path = path
    this.#owner = statsOf(path)?.uid
  }

  /** Returns a warning at the first look at which others can write the page, and undefined at all others. */
  observe(): string | undefined {
    const stats = statsOf(this.#path)
    if (this.#isTold || stats === undefined) return undefined
    const path = printable(this.#path)
    const isGiven = this.#owner !== undefined && stats.uid !== this.#owner
    if (!isGiven && (stats.mode & 0o022) === 0) return undefined
    this.#isTold = true
    return isGiven
      ? `${path} belongs to user ${stats.uid} now, who can write false times into it; make user ${this.#owner} its owner again (chown)`
      : `other users can write false times into ${path} now, and programs refuse to open it; take that right away (chmod go-w)`
  }
}

// Undefined for a file that is gone: the publisher itself looks for that.
function statsOf(path: string): Stats | undefined {
  try {
    return statSync(path)
  } catch {
    return undefined
  }
}
