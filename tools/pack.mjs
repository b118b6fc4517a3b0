// `npm run pack` makes the five packages that are published, as tarballs in target/packages/, and
// checks them: what is in them, how large they are, what the addons need of a machine, and that they
// tell nothing of this one.
//
// What is published are not the repository's own manifests: those are private, so that `npm publish` by
// itself refuses, and the root's lacks the packages of the addons, which npm could not install before
// they are published. Versions, licence and the like stand in the root manifest alone.

import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, hostname } from 'node:os'
import { join } from 'node:path'
import { buildAddons, glibcFloor, kinds, ownAddon } from './addons.mjs'
import { cacheFolder } from './cache.mjs'
import { asProgram, CommandFailed, capture, rootFolder, timed } from './command.mjs'
import { describeElf } from './elf.mjs'
import { setUp } from './setup.mjs'
import { packageVersion } from './version.mjs'

const addonLimitBytes = 600_000
const rootLimitBytes = 150_000

// glibc's loader and the parts that it was cut into before 2.34; musl is one library.
const librariesOf = {
  gnu: /^(libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|libm\.so\.6|librt\.so\.1|ld-linux-.*\.so\.\d)$/,
  musl: /^libc\.so$/,
}

// Of the root manifest: what all five have, and what only the repository needs.
const shared = ['version', 'license', 'repository', 'engines']
const repositorysOwn = ['private', 'scripts', 'devDependencies', 'overrides', 'napi']

// A package that a maintainer's machine made would have no provenance: only the release's workflow can.
const publishConfig = { access: 'public', provenance: true }

/**
 * Makes the packages, the root package last, and gives of each its name, version, folder and tarball.
 * If `isOwn`, two: the addon is that of this machine's build, which nobody could publish, and goes
 * unchecked.
 */
export async function pack({ isOwn = false } = {}) {
  packageVersion()
  await setUp()
  const addons = isOwn ? [ownAddon()] : await buildAddons()
  const folder = join(rootFolder, isOwn ? 'target/own-packages' : 'target/packages')
  rmSync(folder, { recursive: true, force: true })
  const root = readJson('package.json')
  const staged = addons.map(({ kind, file }) => stageAddon(folder, root, kind, file))
  staged.push(stageRoot(folder, root, staged))
  const packages = await timed('tarballs', async () => {
    const made = []
    for (const name of staged) made.push(await tarball(folder, name))
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

function stageAddon(folder, root, { name }, addon) {
  const { private: _, ...own } = readJson(`npm/${name}/package.json`)
  const staged = join(folder, own.name)
  cpSync(join(rootFolder, 'npm', name), staged, { recursive: true })
  copyFileSync(addon, join(staged, own.main))
  copyFileSync(join(rootFolder, 'LICENSE'), join(staged, 'LICENSE'))
  const common = Object.fromEntries(shared.map((field) => [field, root[field]]))
  writeJson(join(staged, 'package.json'), { ...own, ...common, publishConfig })
  return own.name
}

function stageRoot(folder, root, addonPackages) {
  const staged = join(folder, root.name)
  for (const file of ['dist', 'README.md', 'LICENSE', 'CHANGELOG.md']) {
    cpSync(join(rootFolder, file), join(staged, file), { recursive: true })
  }
  const manifest = Object.fromEntries(
    Object.entries(root).filter(([field]) => !repositorysOwn.includes(field)),
  )
  // Exactly this version: the two halves of a release know nothing of other releases.
  const optionalDependencies = Object.fromEntries(addonPackages.map((name) => [name, root.version]))
  writeJson(join(staged, 'package.json'), { ...manifest, optionalDependencies, publishConfig })
  return root.name
}

async function tarball(folder, name) {
  const printed = await capture('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: join(folder, name),
  })
  const [{ filename, version, size, files }] = JSON.parse(printed)
  return {
    name,
    version,
    folder: join(folder, name),
    file: join(folder, filename),
    sizeBytes: size,
    paths: files.map(({ path }) => path).sort(),
  }
}

function check(packages, isOwn) {
  const complaints = [...checkContents(packages)]
  for (const { name, folder, file, sizeBytes, paths } of packages) {
    console.log(`  ${file.slice(rootFolder.length + 1)}  ${kilobytes(sizeBytes)}`)
    if (name === 'vmclock' && sizeBytes > rootLimitBytes) {
      complaints.push(`${file} has ${sizeBytes} bytes, more than ${rootLimitBytes}`)
    }
    for (const path of paths.filter((each) => !(isOwn && each.endsWith('.node')))) {
      const bytes = readFileSync(join(folder, path))
      for (const place of namedPlaces(bytes)) complaints.push(`${name}/${path} holds ${place}`)
      if (path.endsWith('.node')) complaints.push(...checkAddon(name, bytes))
    }
  }
  return complaints
}

function checkContents(packages) {
  const wanted = readFileSync(join(rootFolder, 'npm/contents.txt'), 'utf8').trim().split('\n')
  const packed = packages.flatMap(({ name, paths }) => paths.map((path) => `${name}/${path}`))
  const names = packages.map(({ name }) => name)
  return [
    ...packed.filter((path) => !wanted.includes(path)).map((path) => `${path} is not wanted`),
    ...wanted
      .filter((path) => names.includes(path.split('/')[0]) && !packed.includes(path))
      .map((path) => `${path} is missing`),
  ].map((words) => `${words}: npm/contents.txt`)
}

function checkAddon(name, bytes) {
  const kind = kinds.find((each) => name.endsWith(each.name))
  const { machine, libraries, versions, isStripped } = describeElf(bytes)
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
    foreign.length > 0 && `needs ${foreign.join(' ')}`,
    !kind.isMusl && newest === undefined && 'names no version of glibc',
    newest !== undefined && byNumbers(newest, glibcFloor) > 0 && `needs glibc ${newest}`,
  ]
    .filter(Boolean)
    .map((words) => `the addon of ${name} ${words}`)
}

// What only this machine has, as it would stand in a file.
function namedPlaces(bytes) {
  const places = [rootFolder, `${homedir()}/`, cacheFolder(), hostname(), 'registry/src']
  // A machine may be called by a word that any file may hold.
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
  return JSON.parse(readFileSync(join(rootFolder, path), 'utf8'))
}

function writeJson(path, value) {
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, `${JSON.stringify(value, undefined, 2)}\n`)
}

await asProgram(import.meta.url, () => timed('five packages', pack))
