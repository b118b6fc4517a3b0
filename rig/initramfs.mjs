// The guest's whole file system as one archive for the kernel: cpio in the form "newc"
// (Documentation/driver-api/early-userspace/buffer-format.rst). Not compressed: to unpack it would
// cost an emulated machine more than to be given more bytes.

import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { dirname } from 'node:path/posix'

const FOLDER = 0o040755
const PROGRAM = 0o100755
const LINK = 0o120777

/**
 * Writes an archive. `entries` maps paths in the guest, without a slash before them, to what is
 * there: `{ file }` is a copy of a file of this machine, `{ text }` a file of this text, and
 * `{ link }` a symbolic link. The folders that they stand in are made. Every file may be run.
 */
export function writeInitramfs(path, entries) {
  const archive = openSync(path, 'w', 0o600)
  try {
    let inode = 0
    const append = (name, mode, content) => {
      inode += 1
      for (const part of record(name, mode, content, inode)) writeSync(archive, part)
    }
    for (const folder of foldersOf(entries.keys())) append(folder, FOLDER, Buffer.alloc(0))
    for (const [name, { file, text, link }] of entries) {
      if (link !== undefined) append(name, LINK, Buffer.from(link))
      else append(name, PROGRAM, file === undefined ? Buffer.from(text) : readFileSync(file))
    }
    append('TRAILER!!!', 0, Buffer.alloc(0))
  } finally {
    closeSync(archive)
  }
}

// Each before what stands in it.
function foldersOf(names) {
  const folders = new Set()
  for (const name of names) {
    const above = []
    for (let folder = dirname(name); folder !== '.'; folder = dirname(folder)) above.push(folder)
    for (const folder of above.reverse()) folders.add(folder)
  }
  return folders
}

function record(name, mode, content, inode) {
  const links = 1
  const nameBytes = Buffer.from(`${name}\0`)
  // Owner, group and times are 0: all of it is root's.
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

// Names and contents each end at a multiple of 4.
function padding(bytes) {
  return Buffer.alloc(-bytes & 3)
}
