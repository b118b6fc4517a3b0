/**
 * Finds the addon for this machine and loads it, or says what is in the way.
 *
 * The addon comes as a package of its own for each kind of machine, of which npm installs the one that
 * fits; in the repository it lies in `native/`. `VMCLOCK_ADDON`, the path of one, goes before both: for
 * bundles, and for executables that hold their own code.
 */

import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { version } from '../package.json'

const KINDS = ['linux-x64-gnu', 'linux-x64-musl', 'linux-arm64-gnu', 'linux-arm64-musl'] as const

type Kind = (typeof KINDS)[number]

/**
 * Loads it. Throws an error whose message says which package was expected, what was found, and what to
 * do, and whose cause is what Node said.
 *
 * @param machine - platform and architecture
 */
export function loadAddon(machine: 'linux-x64' | 'linux-arm64'): unknown {
  const named = process.env['VMCLOCK_ADDON']
  if (named) {
    const path = resolve(named)
    try {
      requireWhole(path)
      // Not this module's own `require`: bundlers replace it, and a single executable has none for files.
      return createRequire(path)(path)
    } catch (cause) {
      throw trouble(`VMCLOCK_ADDON names ${path}, which ${failed(cause)}`, cause)
    }
  }
  const kind: Kind = `${machine}-${cLibrary()}`
  // Each written out, and inside of `try`, so that bundlers see them and forgive those that are absent.
  try {
    const path = packaged(kind)
    if (path !== undefined) requireWhole(path)
    switch (kind) {
      case 'linux-x64-gnu':
        return require('vmclock-linux-x64-gnu')
      case 'linux-x64-musl':
        return require('vmclock-linux-x64-musl')
      case 'linux-arm64-gnu':
        return require('vmclock-linux-arm64-gnu')
      case 'linux-arm64-musl':
        return require('vmclock-linux-arm64-musl')
    }
  } catch (cause) {
    if (isThere(kind)) {
      const found = `vmclock-${kind} ${versionOf(kind)} is installed, but it ${failed(cause)}`
      throw trouble(
        `${found}${versionOf(kind) === version ? '' : `, and ${version} is wanted`}`,
        cause,
      )
    }
    const path = inTree(kind)
    if (path === undefined) throw trouble(absent(kind), cause)
    try {
      requireWhole(path)
      return require(path)
    } catch (cause) {
      throw trouble(`${path} ${failed(cause)}`, cause)
    }
  }
}

/**
 * The C library that this process runs on, by what it has mapped: what the machine has besides does not
 * matter, and a process report, which says it too, takes milliseconds.
 */
function cLibrary(): 'gnu' | 'musl' {
  try {
    const mapped = readFileSync('/proc/self/maps', 'utf8')
    return /\/(?:ld-musl-[^/\n]*|libc\.so)$/m.test(mapped) ? 'musl' : 'gnu'
  } catch {
    // Node's permission model hides it.
    const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
    return header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'
  }
}

// The folder of this file; none in a bundle of ES modules.
const folder = typeof __dirname === 'string' ? __dirname : undefined

function inTree(kind: Kind): string | undefined {
  const path = folder === undefined ? undefined : join(folder, `../native/vmclock.${kind}.node`)
  return path !== undefined && existsSync(path) ? path : undefined
}

// Where Node finds it; a bundle that holds the addon knows better.
function packaged(kind: Kind): string | undefined {
  try {
    return require.resolve(`vmclock-${kind}`)
  } catch {
    return undefined
  }
}

/**
 * Throws where the file is shorter than its ELF header says. The dynamic loader would map it all the same,
 * and the first touch of what is missing ends the process with SIGBUS, which nothing can catch.
 */
function requireWhole(path: string): void {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch {
    // Node says it better.
    return
  }
  const header = Buffer.alloc(64)
  let sizeBytes: number
  try {
    readSync(file, header, 0, header.length, 0)
    sizeBytes = fstatSync(file).size
  } finally {
    closeSync(file)
  }
  if (header.toString('latin1', 0, 4) !== '\x7fELF') return
  // The table of sections is the last thing in a file.
  const [size, count] = [header.readUInt16LE(58), header.readUInt16LE(60)]
  const wanted = header.readBigUInt64LE(40) + BigInt(size * count)
  if (sizeBytes < wanted) throw new Error(`it has ${sizeBytes} bytes of ${wanted}`)
}

function isThere(kind: Kind): boolean {
  return manifestOf(kind) !== undefined
}

function versionOf(kind: Kind): string {
  return manifestOf(kind)?.version ?? ''
}

function manifestOf(kind: Kind): { readonly version?: string } | undefined {
  try {
    return JSON.parse(readFileSync(require.resolve(`vmclock-${kind}/package.json`), 'utf8'))
  } catch {
    return undefined
  }
}

function absent(kind: Kind): string {
  const expected = `its package, vmclock-${kind} ${version}, is not installed`
  if (isBundled()) {
    return `${expected} where this bundle looks: keep vmclock out of the bundle (esbuild: --external:vmclock), or put the addon beside it and its path into VMCLOCK_ADDON before vmclock is loaded`
  }
  const others = KINDS.filter((other) => isThere(other) || inTree(other) !== undefined)
  if (others.length > 0) {
    return `${expected}, but ${others.map((other) => `vmclock-${other}`).join(' and ')} is: node_modules was made for another CPU or C library (as when it is copied into a container); install again where it is to run (npm ci)`
  }
  return `${expected}, nor is that of any other machine: optional dependencies were left out (--omit=optional, or a lock file that lacks them); run \`npm install --include=optional vmclock\` on this machine`
}

// Unbundled, this file lies one folder below the manifest of its package.
function isBundled(): boolean {
  try {
    const manifest = join(folder ?? '', '../package.json')
    return folder === undefined || JSON.parse(readFileSync(manifest, 'utf8')).name !== 'vmclock'
  } catch {
    return true
  }
}

function failed(cause: unknown): string {
  const { code, message } = cause as NodeJS.ErrnoException
  if (code === 'ERR_DLOPEN_DISABLED') {
    return 'may not be loaded: start Node without --no-addons, and with --allow-addons where it has --permission'
  }
  const said = String(message).split('\n', 1)[0]
  return `does not load (${said}): it is damaged, or was made for another machine or C library; remove it and install again on this machine`
}

function trouble(message: string, cause: unknown): Error {
  return new Error(message, { cause })
}
