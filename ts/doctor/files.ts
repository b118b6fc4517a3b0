/**
 * Reads files of the kernel and the system: limited in size, without blocking, and without errors. A
 * file that does not exist and a file that may not be read look the same.
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

// A line of sysfs has at most a memory page. A kernel's configuration or module list has some 300 KiB.
const LINE_CHARACTERS = 200
const FILE_BYTES = 4 * 1024 * 1024
const DIRECTORY_ENTRIES = 16_384

// Shared by all reads: each one copies its data before the next begins.
const BUFFER = Buffer.alloc(65_536)

/** The files below a root directory. The root is `/`, or the directory of a staged machine. */
export class Files {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  /** Returns true if a path exists, even as a dangling link. */
  has(path: string): boolean {
    try {
      return lstatSync(this.#at(path), { throwIfNoEntry: false }) !== undefined
    } catch {
      return false
    }
  }

  /** Returns a file's first line as text that is safe to show, or undefined if it is empty. */
  line(path: string): string | undefined {
    const [first = ''] = this.lines(path)
    return shown(first) || undefined
  }

  /** Returns a file's lines unchanged. */
  lines(path: string): string[] {
    return this.#read(path)?.toString('latin1').split('\n') ?? []
  }

  /** Returns the NUL-terminated strings of a device tree property, safe to show. */
  strings(path: string): string[] {
    const text = this.#read(path)?.toString('latin1') ?? ''
    return text
      .split('\0')
      .filter((part) => part !== '')
      .map(shown)
  }

  /** Returns the lines of a file that is compressed with gzip. */
  unzippedLines(path: string): string[] {
    const packed = this.#read(path)
    if (packed === undefined) return []
    try {
      // An import would take a fifth of the time that importing the whole package takes.
      const { gunzipSync } = process.getBuiltinModule('node:zlib')
      return gunzipSync(packed, { maxOutputLength: FILE_BYTES }).toString('latin1').split('\n')
    } catch {
      return []
    }
  }

  /** Returns a file's first bytes, `most` of them at most. */
  bytes(path: string, most: number): Buffer | undefined {
    return this.#read(path, most)
  }

  /** Returns the names in a directory, sorted; none if there is no such directory. */
  names(path: string): string[] {
    try {
      // `opendirSync` leaks the directory it opened if Object.prototype has a `signal`.
      return readdirSync(this.#at(path)).slice(0, DIRECTORY_ENTRIES).sort()
    } catch {
      return []
    }
  }

  /** Returns the last part of a symbolic link's target, safe to show. */
  linkName(path: string): string | undefined {
    try {
      return shown(basename(readlinkSync(this.#at(path))))
    } catch {
      return undefined
    }
  }

  /** Returns a path with all links resolved; if it does not exist, only normalized. */
  real(path: string): string {
    try {
      return `/${relative(realpathSync(this.#root), realpathSync(this.#at(path)))}`
    } catch {
      return resolve(path)
    }
  }

  /** Returns `major:minor` of the character device that a path leads to, if it leads to one. */
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
    // `join` would resolve `..` without following the link before it.
    return `${this.#root}/${isAbsolute(path) ? path : `${process.cwd()}/${path}`}`
  }

  #read(path: string, most = FILE_BYTES): Buffer | undefined {
    let file: number | undefined
    try {
      // O_NONBLOCK: to open a FIFO must not block.
      file = openSync(
        this.#at(path),
        constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY,
      )
      if (!fstatSync(file).isFile()) return undefined
      const parts: Buffer[] = []
      for (let length = 0; length < most; ) {
        // The sizes of files in sysfs and procfs mean nothing, and a read gives at most a memory page.
        const read = readSync(file, BUFFER, 0, Math.min(BUFFER.length, most - length), null)
        if (read === 0) break
        parts.push(Buffer.from(BUFFER.subarray(0, read)))
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

/** Makes text of firmware, kernel or a process safe to show: one short line of printable ASCII. */
export function shown(text: string): string {
  return text
    .slice(0, LINE_CHARACTERS)
    .trim()
    .replace(/[^ -~]/g, (other) => `\\u{${other.charCodeAt(0).toString(16)}}`)
}
