/**
 * Reading what the kernel and the system say in files: with limits, without waiting, and without an
 * error for what is not there or may not be read.
 */

import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs'
import { basename, isAbsolute, relative, resolve } from 'node:path'

// A line of sysfs has at most a page; a kernel's configuration or list of modules some 300 KiB.
const LINE_CHARACTERS = 200
const FILE_BYTES = 4 * 1024 * 1024
const FOLDER_ENTRIES = 16_384

// What is read stands here until it is copied: nothing comes in between.
const PART = Buffer.alloc(65_536)

/** The machine's files under a root, which is not `/` where a machine is staged. */
export class Files {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  /** Whether something is at a path. */
  has(path: string): boolean {
    try {
      return lstatSync(this.#at(path), { throwIfNoEntry: false }) !== undefined
    } catch {
      return false
    }
  }

  /** A file's first line, fit to be shown; undefined where it has none. */
  line(path: string): string | undefined {
    const [first = ''] = this.lines(path)
    return shown(first) || undefined
  }

  /** A file's lines, as they stand there. */
  lines(path: string): string[] {
    return this.#read(path)?.toString('latin1').split('\n') ?? []
  }

  /** The strings of a device tree's property, each ended by a NUL. */
  strings(path: string): string[] {
    const text = this.#read(path)?.toString('latin1') ?? ''
    return text
      .split('\0')
      .filter((part) => part !== '')
      .map(shown)
  }

  /** The lines of a file that is compressed with gzip. */
  unzippedLines(path: string): string[] {
    const packed = this.#read(path)
    if (packed === undefined) return []
    try {
      // Not imported: that would take a fifth of the time that the whole package takes to import.
      const { gunzipSync } = process.getBuiltinModule('node:zlib')
      return gunzipSync(packed, { maxOutputLength: FILE_BYTES }).toString('latin1').split('\n')
    } catch {
      return []
    }
  }

  /** A file's first bytes. */
  bytes(path: string, most: number): Buffer | undefined {
    return this.#read(path, most)
  }

  /** What a folder holds, sorted; nothing where there is none. */
  names(path: string): string[] {
    try {
      // Not by `opendirSync`: with a `signal` on Object.prototype that loses the folder it has opened.
      return readdirSync(this.#at(path)).slice(0, FOLDER_ENTRIES).sort()
    } catch {
      // It is not there, or it is no folder.
      return []
    }
  }

  /** The last part of what a symbolic link leads to. */
  linkName(path: string): string | undefined {
    try {
      return shown(basename(readlinkSync(this.#at(path))))
    } catch {
      return undefined
    }
  }

  /** Where a path leads to in the end; where nothing is there, the path without its detours. */
  real(path: string): string {
    try {
      return `/${relative(realpathSync(this.#root), realpathSync(this.#at(path)))}`
    } catch {
      return resolve(path)
    }
  }

  /** The number (`major:minor`) of the character device that a path leads to, if it does to one. */
  characterDevice(path: string): string | undefined {
    try {
      const stat = statSync(this.#at(path), { bigint: true })
      if (!stat.isCharacterDevice()) return undefined
      const major = (stat.rdev >> 8n) & 0xfffn
      const minor = (stat.rdev & 0xffn) | ((stat.rdev >> 12n) & 0xfff00n)
      return `${major}:${minor}`
    } catch {
      return undefined
    }
  }

  #at(path: string): string {
    // Not join: it would take `..` after a link for the link's own folder.
    return `${this.#root}/${isAbsolute(path) ? path : `${process.cwd()}/${path}`}`
  }

  #read(path: string, most = FILE_BYTES): Buffer | undefined {
    let file: number | undefined
    try {
      // O_NONBLOCK: a FIFO in the place of a file must not make this wait.
      file = openSync(
        this.#at(path),
        constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY,
      )
      if (!fstatSync(file).isFile()) return undefined
      const parts: Buffer[] = []
      for (let length = 0; length < most; ) {
        // sysfs and procfs give sizes that mean nothing, and at most a page at a time.
        const read = readSync(file, PART, 0, Math.min(PART.length, most - length), null)
        if (read === 0) break
        parts.push(Buffer.from(PART.subarray(0, read)))
        length += read
      }
      return Buffer.concat(parts)
    } catch {
      return undefined
    } finally {
      if (file !== undefined) closeSync(file)
    }
  }
}

/**
 * Text of the firmware's, the kernel's or a process's, fit to be shown: a line of printable ASCII,
 * which is all that they have to say. Anything else is escaped.
 */
export function shown(text: string): string {
  return text
    .slice(0, LINE_CHARACTERS)
    .trim()
    .replace(/[^ -~]/g, (other) => `\\u{${other.charCodeAt(0).toString(16)}}`)
}
