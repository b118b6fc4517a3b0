// `npm run pack` makes the five packages of a release, as tarballs in target/packages/. It checks their
// files, their sizes, the libraries that the addons need, and that they name no path of this machine.
//
//   npm run pack             the five packages, in target/packages/
//   npm run pack -- --own    two packages for machines like this one, in target/own-packages/
//
// The last lines name the tarballs.
//
// The published manifests differ from the repository's. The repository's are private, so that `npm publish`
// refuses them. Its root manifest does not name the addons' packages, as npm could not install them before
// they are published. Only the root manifest states the version, the licence and the like.

import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, hostname } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { buildAddons, glibcFloor, kinds, ownAddon } from './addons.mjs'
import { cacheDirectory } from './cache.mjs'
import { asProgram, CommandFailed, capture, rootDirectory, timed } from './command.mjs'
import { describeElf } from './elf.mjs'
import { packedReadme } from './readme.mjs'
import { setUp } from './setup.mjs'
import { packageVersion } from './version.mjs'

// A tenth of it are the stamps' callbacks: one for each of sixteen clocks, call and order (`hot/callbacks.rs`).
const addonLimitBytes = 1_000_000
const rootLimitBytes = 190_000

// glibc's loader and the libraries that glibc was split into before 2.34; musl is one library.
const librariesOf = {
  gnu: /^(libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|libm\.so\.6|librt\.so\.1|ld-linux-.*\.so\.\d)$/,
  musl: /^libc\.so$/,
}

// Fields of the root manifest: those that all five packages get, and those that none gets.
const shared = ['version', 'license', 'repository', 'engines']
const repositoryOnly = ['private', 'scripts', 'devDependencies', 'overrides', 'napi']

// Only the release's workflow can prove provenance, so npm refuses to publish from a maintainer's machine.
const publishConfig = { access: 'public', provenance: true }

/**
 * Makes the packages and returns the name, version, directory and tarball of each, the root package last.
 * With `isOwn` it makes two, the root and one with the addon that is built for this machine. That addon
 * needs this machine's libraries, so nobody could publish it, and its checks are left out.
 */
export async function pack({ isOwn = false } = {}) {
  packageVersion()
  await setUp()
  const addons = isOwn ? [ownAddon()] : await buildAddons()
  const directory = join(rootDirectory, isOwn ? 'target/own-packages' : 'target/packages')
  rmSync(directory, { recursive: true, force: true })
  const root = readJson('package.json')
  const staged = addons.map(({ kind, file }) => stageAddon(directory, root, kind, file))
  staged.push(stageRoot(directory, root, staged))
  const packages = await timed('tarballs', async () => {
    const made = []
    for (const name of staged) made.push(await tarball(directory, name))
    return made
  })
  const complaints = check(packages, isOwn)
  if (complaints.length > 0) {
    throw new CommandFailed(
      'npm',
      ['run', 'pack'],
      'not fit to be published',
      complaints.join('\n'),
    )
  }
  return packages
}

function stageAddon(directory, root, { name }, addon) {
  const { private: _, ...own } = readJson(`npm/${name}/package.json`)
  const staged = join(directory, own.name)
  cpSync(join(rootDirectory, 'npm', name), staged, { recursive: true })
  copyFileSync(addon, join(staged, own.main))
  copyFileSync(join(rootDirectory, 'LICENSE'), join(staged, 'LICENSE'))
  const common = Object.fromEntries(shared.map((field) => [field, root[field]]))
  writeJson(join(staged, 'package.json'), { ...own, ...common, publishConfig })
  return own.name
}

function stageRoot(directory, root, addonPackages) {
  const staged = join(directory, root.name)
  for (const file of ['dist', 'LICENSE', 'CHANGELOG.md']) {
    cpSync(join(rootDirectory, file), join(staged, file), { recursive: true })
  }
  const readme = readFileSync(join(rootDirectory, 'README.md'), 'utf8')
  writeFileSync(join(staged, 'README.md'), packedReadme(readme, root))
  const manifest = Object.fromEntries(
    Object.entries(root).filter(([field]) => !repositoryOnly.includes(field)),
  )
  // Exactly this version: the root and the addon of two releases do not work together.
  const optionalDependencies = Object.fromEntries(addonPackages.map((name) => [name, root.version]))
  writeJson(join(staged, 'package.json'), { ...manifest, optionalDependencies, publishConfig })
  return root.name
}

async function tarball(directory, name) {
  const printed = await capture('npm', ['pack', '--json', '--pack-destination', directory], {
    cwd: join(directory, name),
  })
  const [{ filename, version, size, files }] = JSON.parse(printed)
  return {
    name,
    version,
    directory: join(directory, name),
    file: join(directory, filename),
    sizeBytes: size,
    paths: files.map(({ path }) => path).sort(),
  }
}

function check(packages, isOwn) {
  const complaints = [...checkContents(packages)]
  for (const { name, directory, file, sizeBytes, paths } of packages) {
    console.log(`  ${file.slice(rootDirectory.length + 1)}  ${kilobytes(sizeBytes)}`)
    if (name === 'vmclock' && sizeBytes > rootLimitBytes) {
      complaints.push(`${file} has ${sizeBytes} bytes, more than ${rootLimitBytes}`)
    }
    for (const path of paths.filter((each) => !(isOwn && each.endsWith('.node')))) {
      const bytes = readFileSync(join(directory, path))
      for (const place of placesIn(bytes)) complaints.push(`${name}/${path} holds ${place}`)
      if (path.endsWith('.node')) complaints.push(...checkAddon(name, bytes))
    }
  }
  return complaints
}

function checkContents(packages) {
  const wanted = readFileSync(join(rootDirectory, 'npm/contents.txt'), 'utf8').trim().split('\n')
  const packed = packages.flatMap(({ name, paths }) => paths.map((path) => `${name}/${path}`))
  const names = packages.map(({ name }) => name)
  return [
    ...packed.filter((path) => !wanted.includes(path)).map((path) => `${path} is not wanted`),
    ...wanted
      .filter((path) => names.includes(path.split('/')[0]) && !packed.includes(path))
      .map((path) => `${path} is missing`),
  ].map((complaint) => `${complaint}: npm/contents.txt`)
}

function checkAddon(name, bytes) {
  const kind = kinds.find((each) => name.endsWith(each.name))
  const { machine, libraries, versions, isStripped, isNeverUnloaded } = describeElf(bytes)
  const newest = versions
    .filter((version) => version.startsWith('GLIBC_'))
    .map((version) => version.slice('GLIBC_'.length))
    .sort(byNumbers)
    .at(-1)
  const needs = newest === undefined ? libraries.join(' ') : `glibc ${newest}`
  console.log(`    addon ${kilobytes(bytes.length)}, needs ${needs}`)
  const library = kind.isMusl ? librariesOf.musl : librariesOf.gnu
  const foreign = libraries.filter((each) => !library.test(each))
  return [
    machine !== kind.machine && `is for ${machine}`,
    bytes.length > addonLimitBytes && `has ${bytes.length} bytes, more than ${addonLimitBytes}`,
    !isStripped && 'is not stripped',
    // OpenSSL keeps the address of a function in it.
    !isNeverUnloaded && 'can be unloaded: it is not linked with -z nodelete',
    foreign.length > 0 && `needs ${foreign.join(' ')}`,
    !kind.isMusl && newest === undefined && 'names no version of glibc',
    newest !== undefined && byNumbers(newest, glibcFloor) > 0 && `needs glibc ${newest}`,
  ]
    .filter(Boolean)
    .map((complaint) => `the addon of ${name} ${complaint}`)
}

// The paths and the name of this machine that a file holds.
function placesIn(bytes) {
  const places = [rootDirectory, `${homedir()}/`, cacheDirectory(), hostname(), 'registry/src']
  // A short host name can be a word that any file may hold.
  return places.filter((place) => place.length > 4 && bytes.includes(place))
}

function byNumbers(a, b) {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number))
  return left[0] - right[0] || (left[1] ?? 0) - (right[1] ?? 0)
}

function kilobytes(bytes) {
  return `${(bytes / 1000).toFixed(1)} kB`
}

function readJson(path) {
  return JSON.parse(readFileSync(join(rootDirectory, path), 'utf8'))
}

function writeJson(path, value) {
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, `${JSON.stringify(value, undefined, 2)}\n`)
}

async function main(args) {
  const { own } = parseArgs({ args, options: { own: { type: 'boolean', default: false } } }).values
  const packages = await timed(own ? 'two packages' : 'five packages', () => pack({ isOwn: own }))
  for (const { file } of packages) console.log(file)
}

await asProgram(import.meta.url, main)
