// Writes the guest's file system as an archive for the kernel: cpio in the "newc" format
// (Documentation/driver-api/early-userspace/buffer-format.rst). It is not compressed, because an emulated
// machine loads more bytes faster than it decompresses fewer.

import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { dirname } from 'node:path/posix'

const DIRECTORY = 0o040755
const PROGRAM = 0o100755
const LINK = 0o120777

/**
 * Writes an archive. `entries` maps paths in the guest, without a leading slash, to `{ file }`, a copy of a
 * host's file, `{ text }`, a file with this text, or `{ link }`, a symbolic link. It adds their directories.
 * Every file is executable.
 */
export function writeInitramfs(path, entries) {
  const archive = openSync(path, 'w', 0o600)
  try {
    let inode = 0
    const append = (name, mode, content) => {
      inode += 1
      for (const part of record(name, mode, content, inode)) writeSync(archive, part)
    }
    for (const directory of directoriesOf(entries.keys()))
      append(directory, DIRECTORY, Buffer.alloc(0))
    for (const [name, { file, text, link }] of entries) {
      if (link !== undefined) append(name, LINK, Buffer.from(link))
      else append(name, PROGRAM, file === undefined ? Buffer.from(text) : readFileSync(file))
    }
    append('TRAILER!!!', 0, Buffer.alloc(0))
  } finally {
    closeSync(archive)
  }
}

// Returns all directories, each before its contents.
function directoriesOf(names) {
  const directories = new Set()
  for (const name of names) {
    const above = []
    for (let directory = dirname(name); directory !== '.'; directory = dirname(directory))
      above.push(directory)
    for (const directory of above.reverse()) directories.add(directory)
  }
  return directories
}

function record(name, mode, content, inode) {
  const links = 1
  const nameBytes = Buffer.from(`${name}\0`)
  // Owner, group and times are 0: root owns everything.
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, nameBytes.length, 0]
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`
  return [
    Buffer.from(header),
    nameBytes,
    padding(header.length + nameBytes.length),
    content,
    padding(content.length),
  ]
}

// Pads names and contents to a multiple of 4.
function padding(bytes) {
  return Buffer.alloc(-bytes & 3)
}
