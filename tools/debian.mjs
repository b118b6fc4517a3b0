// Unpacks Debian or Ubuntu packages into the cache. It installs nothing and needs no root: apt-get uses a
// state directory of its own, and dpkg-deb only unpacks.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { basename, extname, join, relative } from 'node:path'
import { cached, readDirectory, writeLauncher } from './cache.mjs'
import { capture, succeeds, Unavailable } from './command.mjs'

// The directories of an unpacked amd64 package that contain libraries and their loader.
const libraryDirectories = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'].concat(
  // The programs of systemd share a private library.
  'usr/lib/x86_64-linux-gnu/systemd',
)
const loaderName = 'ld-linux-x86-64.so.2'

/**
 * Unpacks packages with their dependencies and returns the directory. A second call does nothing.
 *
 * - `packages`: names as apt-get takes them (`name`, `name:arm64`, `name=version`).
 * - `without`: a pattern of `name_version_architecture.deb` files to omit.
 * - `suites`: replaces the machine's own suites, on the same mirror (`['trixie']`; the last one is
 *   preferred). The programs then use that release's C library.
 * - `finish`: adds files before the directory is complete. Like `fill` of the cache, it gets the directory
 *   to write into and the final one.
 *
 * `packages.txt` in the directory lists the unpacked versions. Delete the directory to get newer ones.
 */
export async function debianDirectory({ name, packages, without = /^$/, suites = [], finish }) {
  await requireDebian()
  const sources = machineSources(suites)
  const foreign = suites.length > 0
  const recipe = { layout: 1, packages, without: String(without), sources }
  return cached(name, recipe, async (unfinished, directory) => {
    const apt = aptOn(join(unfinished, '.apt'), sources, suites.at(-1))
    await apt(['update'])
    const closure = await apt(['install', '--print-uris', '--download-only', ...packages]).catch(
      (error) => {
        const [missing] = /Unable to locate package .*/.exec(error.message) ?? []
        throw missing === undefined ? error : new Unavailable(`${missing} in this system's release`)
      },
    )
    const files = [...closure.matchAll(/^'[^']*' (\S+\.deb) /gm)]
      .map(([, file]) => decodeURIComponent(file))
      .filter((file) => (foreign || !isMachinesOwn(file)) && !without.test(file))
    const archives = join(unfinished, '.archives')
    mkdirSync(archives)
    await apt(['download', ...files.map(aptName)], archives)
    for (const archive of readdirSync(archives).sort()) {
      await capture('dpkg-deb', ['-x', join(archives, archive), unfinished])
    }
    writeFileSync(join(unfinished, 'packages.txt'), `${files.sort().join('\n')}\n`)
    for (const part of ['.apt', '.archives']) rmSync(join(unfinished, part), { recursive: true })
    writeProgramLaunchers(unfinished, directory)
    finish?.(unfinished, directory)
  })
}

/** Returns the path of a launcher for a program of an unpacked directory. It sets the library path. */
export function debianProgram(directory, name) {
  return join(directory, 'launch', name)
}

async function requireDebian() {
  if (process.arch !== 'x64') throw new Unavailable('Debian packages are unpacked on x86-64 only')
  for (const tool of ['apt-get', 'dpkg-deb']) {
    if (!(await succeeds(tool, ['--version']))) {
      throw new Unavailable(`no ${tool}: this suite needs Debian or Ubuntu`)
    }
  }
}

// Takes the mirror from the machine's own apt sources, because that mirror is in reach. Omits archives of
// other vendors: they have none of these packages, and may be out of reach.
function machineSources(suites) {
  const files = [...readDirectory('/etc/apt'), ...readDirectory('/etc/apt/sources.list.d')]
  const deb822 = files
    .filter((file) => extname(file) === '.sources')
    .flatMap((file) => readText(file).split(/\n\s*\n/))
  const lines = files
    .filter((file) => extname(file) === '.list')
    .flatMap((file) => readText(file).split('\n'))
    .filter((line) => /^deb\s/.test(line))
    .map(lineToStanza)
  const stanzas = [...deb822, ...lines]
    .map((stanza) => stanza.replace(/^#.*\n?/gm, '').trim())
    .filter((stanza) => /^URIs:.*\/(debian|debian-security|ubuntu)\/?\s*$/m.test(stanza))
    .filter((stanza) => !/^Enabled:\s*no/im.test(stanza))
  const chosen = suites.length === 0 ? stanzas : withSuites(stanzas, suites)
  if (chosen.length === 0) throw new Unavailable('the apt sources name no Debian or Ubuntu archive')
  return chosen.join('\n\n')
}

// Uses the main archive, because the security archive may lack another release.
function withSuites(stanzas, suites) {
  return stanzas
    .filter((stanza) => !/^URIs:.*security/m.test(stanza))
    .slice(0, 1)
    .map((stanza) => stanza.replace(/^Suites:.*$/m, `Suites: ${suites.join(' ')}`))
}

function lineToStanza(line) {
  const [, options = '', rest] = /^deb\s+(?:\[([^\]]*)\]\s+)?(.*)$/.exec(line)
  const [uri, suite, ...components] = rest.trim().split(/\s+/)
  const keyring = /signed-by=(\S+)/.exec(options)?.[1]
  return [
    ...['Types: deb', `URIs: ${uri}`, `Suites: ${suite}`, `Components: ${components.join(' ')}`],
    ...(keyring === undefined ? [] : [`Signed-By: ${keyring}`]),
  ].join('\n')
}

// Returns a function that runs apt-get without the machine's own locks, lists and archives.
function aptOn(directory, sources, preferredSuite) {
  for (const part of [
    'state/lists/partial',
    'cache/archives/partial',
    'sources.d',
    'no-preferences',
  ]) {
    mkdirSync(join(directory, part), { recursive: true })
  }
  writeFileSync(join(directory, 'status'), '')
  writeFileSync(join(directory, 'sources.d/machine.sources'), `${sources}\n`)
  const settings = {
    'Dir::State': join(directory, 'state'),
    'Dir::State::status': join(directory, 'status'),
    'Dir::Cache': join(directory, 'cache'),
    'Dir::Etc::sourcelist': '/dev/null',
    'Dir::Etc::sourceparts': join(directory, 'sources.d'),
    'Dir::Etc::preferencesparts': join(directory, 'no-preferences'),
    'APT::Architecture': 'amd64',
    'APT::Architectures': 'amd64,arm64',
    'APT::Install-Recommends': '0',
    ...(preferredSuite === undefined ? {} : { 'APT::Default-Release': preferredSuite }),
    'APT::Sandbox::User': userInfo().username,
    'Acquire::Languages': 'none',
    'Acquire::Retries': '3',
    'Debug::NoLocking': '1',
  }
  const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`])
  return (args, cwd) =>
    capture('apt-get', ['-q', '-y', ...options, ...args], {
      ...(cwd === undefined ? {} : { cwd }),
      env: { LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    })
}

// Programs of the machine's own release use the machine's loader and C library, so that they can start the
// machine's programs. Two C libraries in one process would crash it.
function isMachinesOwn(file) {
  return /^(libc6|libc-bin)_.*_amd64\.deb$/.test(file)
}

// name_version_architecture.deb -> name:architecture=version
function aptName(file) {
  const [name, version, architecture] = basename(file, '.deb').split('_')
  return `${name}${architecture === 'all' ? '' : `:${architecture}`}=${version}`
}

function writeProgramLaunchers(unfinished, directory) {
  const libraries = libraryDirectories.map((path) => join(directory, path)).join(':')
  const loader = libraryDirectories
    .map((path) => join(path, loaderName))
    .find((path) => existsSync(join(unfinished, path)))
  for (const path of ['usr/bin', 'usr/sbin'].flatMap((part) =>
    readDirectory(join(unfinished, part)),
  )) {
    const program = join(directory, relative(unfinished, path))
    writeLauncher(
      join(unfinished, 'launch', basename(path)),
      loader === undefined
        ? [`export LD_LIBRARY_PATH="${libraries}"`, `exec "${program}" "$@"`]
        : [`exec "${join(directory, loader)}" --library-path "${libraries}" "${program}" "$@"`],
    )
  }
}

function readText(path) {
  return readFileSync(path, 'utf8')
}
