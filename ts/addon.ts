/**
 * Finds and loads the addon for this machine, or says why that is impossible.
 *
 * Each kind of machine has an addon package of its own, and npm installs the one that fits. In the
 * repository the addon is in `native/`. The path in `VMCLOCK_ADDON` takes precedence over both: bundles
 * need it, and executables that hold their own code.
 */

import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { version } from '../package.json'

const KINDS = ['linux-x64-gnu', 'linux-x64-musl', 'linux-arm64-gnu', 'linux-arm64-musl'] as const

type Kind = (typeof KINDS)[number]

/** The fault of an addon, and its remedy. */
interface Trouble {
  readonly message: string
  readonly remedy: string
}

/** The name of Deno's errors of operations that its permissions forbid. */
const DENIED_BY_DENO = 'NotCapable'

/** Returns the remedy for missing permissions of Deno; undefined if `cause` is another error. */
export function denoRemedy(cause: unknown): string | undefined {
  return (cause as Error).name === DENIED_BY_DENO
    ? 'start Deno with --allow-read, --allow-env, --allow-sys and --allow-ffi'
    : undefined
}

/** The reason why the addon cannot be used. Its cause is the error that Node threw. */
export class AddonError extends Error {
  /** The remedy, in the imperative. */
  readonly remedy: string

  constructor({ message, remedy }: Trouble, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.remedy = remedy
  }
}

/**
 * Loads the addon.
 *
 * @param machine - platform and architecture
 * @throws AddonError whose message says which package was expected and what was found
 */
export function loadAddon(machine: 'linux-x64' | 'linux-arm64'): unknown {
  const named = process.env['VMCLOCK_ADDON']
  if (named) {
    // A relative path is one of the current directory's, which may be gone.
    let path = named
    try {
      path = resolve(named)
      // Node would read a device or a FIFO for ever.
      if (statSync(path, { throwIfNoEntry: false })?.isFile() === false) throw new Error(NO_FILE)
      requireWhole(path)
      // Bundlers replace this module's own `require`, and a single executable has none for files.
      return createRequire(path)(path)
    } catch (cause) {
      throw new AddonError(unloadable(`VMCLOCK_ADDON names ${path}, which`, path, cause), cause)
    }
  }
  const kind: Kind = `${machine}-${cLibrary()}`
  // Each name is written out inside of `try`, so that bundlers find the packages and accept absent ones.
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
      const found = versionOf(kind)
      const wanted = found === version ? '' : ` where ${version} is wanted`
      const what = `vmclock-${kind} ${found} is installed${wanted}, but it`
      throw new AddonError(unloadable(what, packaged(kind), cause), cause)
    }
    const path = inTree(kind)
    if (path === undefined) throw new AddonError(absent(kind), cause)
    try {
      requireWhole(path)
      return require(path)
    } catch (cause) {
      throw new AddonError(unloadable(path, path, cause), cause)
    }
  }
}

/**
 * Finds the C library of this process in its list of mapped files. Node's process report names the library
 * too, but takes milliseconds.
 */
function cLibrary(): 'gnu' | 'musl' {
  try {
    const mapped = readFileSync('/proc/self/maps', 'utf8')
    return /\/(?:ld-musl-[^/\n]*|libc\.so)$/m.test(mapped) ? 'musl' : 'gnu'
  } catch {
    // Node's permission model hides the list.
    return glibcOfReport() === undefined ? 'musl' : 'gnu'
  }
}

/** Returns the version of glibc from Node's process report; undefined with another C library. */
function glibcOfReport(): string | undefined {
  const report = process.report as typeof process.report & { excludeNetwork: boolean }
  const before = report.excludeNetwork
  // The report else asks the DNS for the name of every peer, which can take seconds.
  report.excludeNetwork = true
  try {
    return (report.getReport() as { header: { glibcVersionRuntime?: string } }).header
      .glibcVersionRuntime
  } finally {
    report.excludeNetwork = before
  }
}

// The directory of this file; a bundle of ES modules has none.
const directory = typeof __dirname === 'string' ? __dirname : undefined

function inTree(kind: Kind): string | undefined {
  const path =
    directory === undefined ? undefined : join(directory, `../native/vmclock.${kind}.node`)
  return path !== undefined && existsSync(path) ? path : undefined
}

// Returns the addon's path if Node finds its package. A bundle that holds the addon has another path.
function packaged(kind: Kind): string | undefined {
  try {
    return require.resolve(`vmclock-${kind}`)
  } catch {
    return undefined
  }
}

/**
 * Throws if the file is shorter than its ELF header says. The dynamic loader would map such a file, and
 * the first access to the missing part would end the process with SIGBUS, which nothing can catch.
 */
function requireWhole(path: string): void {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch {
    // Loading it fails next, with a better error from Node.
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
  // The table of sections is at the end of the file.
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

/** Describes a missing addon package: what was found instead, and what to do. */
function absent(kind: Kind): Trouble {
  const missing = `its package, vmclock-${kind} ${version}, is not installed`
  if (isBundled()) {
    return {
      message: `${missing} where this bundle looks`,
      remedy:
        'keep vmclock out of the bundle (esbuild: --external:vmclock), or put the addon beside it and its path into VMCLOCK_ADDON before the first call',
    }
  }
  const others = KINDS.filter((other) => isThere(other) || inTree(other) !== undefined)
  if (others.length > 0) {
    return {
      message: `${missing}, but ${others.map((other) => `vmclock-${other}`).join(' and ')} is: node_modules was made for another CPU or C library (as when it is copied into a container)`,
      remedy: 'install again where it is to run (npm ci)',
    }
  }
  if (ownManifest()?.optionalDependencies === undefined) {
    return {
      message: `${missing}, and this package does not ask for it: it was packed in a clone by \`npm pack\`, which leaves the addons out`,
      remedy:
        'pack with `npm run pack -- --own` there and install both tarballs, install the clone itself (`npm install ../vmclock`), or take the published package (`npm install --include=optional vmclock`)',
    }
  }
  return {
    message: `${missing}, nor is that of any other machine: optional dependencies were left out (--omit=optional, or a lock file that lacks them)`,
    remedy: 'run `npm install --include=optional vmclock` on this machine',
  }
}

// Unbundled, this file is one directory below the manifest of its package.
function isBundled(): boolean {
  return ownManifest()?.name !== 'vmclock'
}

function ownManifest():
  | { readonly name?: string; readonly optionalDependencies?: object }
  | undefined {
  try {
    return JSON.parse(readFileSync(join(directory ?? '', '../package.json'), 'utf8'))
  } catch {
    return undefined
  }
}

/** Describes an addon that exists and does not load, and what to do. `what` names it. */
function unloadable(what: string, path: string | undefined, cause: unknown): Trouble {
  const { code, message } = cause as NodeJS.ErrnoException
  const [said = ''] = String(message).split('\n', 1)
  if (code === 'ERR_DLOPEN_DISABLED') {
    return {
      message: `${what} may not be loaded: Node was started without the right to load addons`,
      remedy: 'start Node without --no-addons, and with --allow-addons where it has --permission',
    }
  }
  if (code === 'ERR_ACCESS_DENIED') {
    return {
      message: `${what} may not be read: Node's permission model hides it`,
      remedy: "start Node with --allow-fs-read for this package's directories",
    }
  }
  const ofDeno = denoRemedy(cause)
  if (ofDeno !== undefined) {
    return { message: `${what} may not be loaded: ${said}`, remedy: ofDeno }
  }
  const mount = path === undefined ? undefined : noexecMount(path)
  const { why, remedy } =
    mount !== undefined && NOT_MAPPED.test(said)
      ? {
          why: `the file system at ${mount} is mounted with noexec, so nothing on it can be run`,
          remedy:
            'mount it without noexec, or copy the addon to another file system and put its path into VMCLOCK_ADDON',
        }
      : (EXPLANATIONS.find(({ says }) => says.test(said)) ?? DAMAGED)
  return { message: `${what} does not load (${said}): ${why}`, remedy }
}

// The messages of glibc's loader and of musl's.
const NOT_MAPPED = /failed to map segment|Operation not permitted|Permission denied/

const DAMAGED = {
  why: 'it is damaged, or was made for another machine or C library',
  remedy: 'remove it and install again on this machine',
}

const NO_FILE = 'it is no regular file'

const EXPLANATIONS: ReadonlyArray<typeof DAMAGED & { readonly says: RegExp }> = [
  {
    says: new RegExp(`^(Cannot find module '/.*'|${NO_FILE})$`),
    why: 'no addon is there',
    remedy: 'put the path of the addon into VMCLOCK_ADDON, or remove the variable',
  },
  {
    says: /Cannot allocate memory|cannot allocate memory/,
    why: 'this process has no memory left for it',
    remedy: 'raise the memory limit of this process (`ulimit -v`, or that of its container)',
  },
  {
    says: /Too many open files/,
    why: 'this process has too many open files',
    remedy: 'close some, or raise the limit (`ulimit -n`)',
  },
  {
    says: /cannot open shared object file: Permission denied|EACCES|: Permission denied/,
    why: 'this user may not read it',
    remedy: 'make the file readable, and its directories accessible (`chmod -R a+rX`)',
  },
  {
    says: /failed to map segment|Operation not permitted/,
    why: 'a security policy of this machine (such as SELinux, IMA or a seccomp filter) forbids to run it',
    remedy: "allow it in that policy, whose log names the rule ('ausearch -m avc' for SELinux)",
  },
  {
    says: /version `GLIBC[^']*' not found/,
    why: "this machine's C library is older than the addon needs",
    remedy: 'use a system with glibc 2.17 or later, or build vmclock from source here',
  },
]

/** Returns the directory at which a file's file system is mounted, if it is mounted with `noexec`. */
function noexecMount(path: string): string | undefined {
  try {
    const real = realpathSync(path)
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .map(([, , , , at = '', options = '']) => ({
        at: unescaped(at),
        options: options.split(','),
      }))
      .filter(({ at }) => at !== '' && (real === at || real.startsWith(at.replace(/\/?$/, '/'))))
    // A later mount at the same directory hides the earlier ones.
    const longest = Math.max(...mounts.map(({ at }) => at.length))
    const holding = mounts.findLast(({ at }) => at.length === longest)
    return holding?.options.includes('noexec') ? holding.at : undefined
  } catch {
    return undefined
  }
}

// The kernel writes spaces and backslashes as octal numbers.
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  )
}
