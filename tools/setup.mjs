// Builds what the package needs to run from the tree: the npm packages, the addon for this machine in
// native/, and dist/. It skips each step whose inputs have not changed since the last build.
//
//   node tools/setup.mjs            the addon in the release profile, as the suites use it
//   node tools/setup.mjs --debug    the addon in the dev profile: quick to build, with overflow checks

import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { asProgram, rootDirectory, run, timed } from './command.mjs'
import { distFiles, writeEsmWrapper } from './esm-wrapper.mjs'
import { writeLauncher } from './launcher.mjs'
import { digest, exists, isStamped, stamp } from './stamp.mjs'

/** Installs the packages of package-lock.json. */
export async function setUpPackages() {
  const inputs = digest(['package-lock.json', '.npmrc'], thisMachine)
  if (isStamped('node_modules', inputs, ['node_modules/.bin/napi'])) return
  await timed('npm ci', () => run('npm', ['ci', '--no-audit', '--no-fund']))
  stamp('node_modules', inputs)
}

/** Builds the addon for this machine into native/, in one of the two profiles. */
export async function setUpAddon({ isDebug = false } = {}) {
  await setUpPackages()
  const build = [...addonBuild, ...(isDebug ? [] : ['--release'])]
  // The stamp covers the command, so native/ never keeps an addon of the other profile.
  const inputs = digest(addonInputs, [...thisMachine, ...build])
  if (isStamped('native', inputs, []) && hasAddon()) return
  mkdirSync(join(rootDirectory, 'native'), { recursive: true })
  await timed(`addon (${isDebug ? 'debug' : 'release'})`, () => run('napi', build))
  stamp('native', inputs)
}

/** Builds the addon, and dist/: CommonJS, its declarations, and the ES modules that re-export it. */
export async function setUp(profile) {
  await setUpAddon(profile)
  const inputs = digest(distInputs, thisMachine)
  if (isStamped('dist', inputs, distOutputs)) return
  await timed('dist', async () => {
    rmSync(join(rootDirectory, 'dist'), { recursive: true, force: true })
    await run('tsup', ['--silent'])
    writeEsmWrapper(join(rootDirectory, 'dist'))
    writeLauncher(join(rootDirectory, 'dist/cli.cjs'))
  })
  stamp('dist', inputs)
}

const addonInputs = [
  ...['Cargo.toml', 'Cargo.lock', 'crate/core', 'crate/napi', 'rust-toolchain.toml', '.cargo'],
]

// Part of each stamp, because a tree can move to another machine with its node_modules/ and native/.
const thisMachine = [
  process.platform,
  process.arch,
  String(process.report.getReport().header.glibcVersionRuntime),
]

const addonBuild = [
  ...['build', '--manifest-path', 'crate/napi/Cargo.toml', '--platform'],
  ...['--output-dir', 'native', '--no-js'],
]

const distInputs = [
  ...['ts', 'tsup.config.ts', 'tsconfig.json', 'package.json', 'package-lock.json'],
  ...['native/index.d.ts', 'tools/esm-wrapper.mjs', 'tools/launcher.mjs'],
]

const distOutputs = distFiles.map((file) => `dist/${file}`)

function hasAddon() {
  return (
    exists('native') &&
    readdirSync(join(rootDirectory, 'native')).some(
      (file) => file.endsWith('.node') && file.includes(`${process.platform}-${process.arch}`),
    )
  )
}

await asProgram(import.meta.url, (args) => {
  const { values } = parseArgs({ args, options: { debug: { type: 'boolean', default: false } } })
  return setUp({ isDebug: values.debug })
})
