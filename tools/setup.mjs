// Brings the tree to where the package runs from it: npm packages, the addon for this machine, and
// dist/. Each step is skipped while its inputs are what they were when it last succeeded.

import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { asProgram, rootFolder, run, timed } from './command.mjs'
import { distFiles, writeEsmWrapper } from './esm-wrapper.mjs'
import { digest, exists, isStamped, stamp } from './stamp.mjs'

/** Installs what package-lock.json names. */
export async function setUpPackages() {
  const inputs = digest(['package-lock.json', '.npmrc'], thisMachine)
  if (isStamped('node_modules', inputs, ['node_modules/.bin/napi'])) return
  await timed('npm ci', () => run('npm', ['ci', '--no-audit', '--no-fund']))
  stamp('node_modules', inputs)
}

/** Builds the addon for this machine into native/. */
export async function setUpAddon() {
  await setUpPackages()
  const inputs = digest(addonInputs, [...thisMachine, ...addonBuild])
  if (isStamped('native', inputs, []) && hasAddon()) return
  mkdirSync(join(rootFolder, 'native'), { recursive: true })
  await timed('addon (release)', () => run('napi', addonBuild))
  stamp('native', inputs)
}

/** Builds dist/ from ts/: CommonJS, its declarations, and the ES modules that re-export it. */
export async function setUp() {
  await setUpAddon()
  const inputs = digest(distInputs, thisMachine)
  if (isStamped('dist', inputs, distOutputs)) return
  await timed('dist', async () => {
    rmSync(join(rootFolder, 'dist'), { recursive: true, force: true })
    await run('tsup', ['--silent'])
    writeEsmWrapper(join(rootFolder, 'dist'))
  })
  stamp('dist', inputs)
}

const addonInputs = [
  ...['Cargo.toml', 'Cargo.lock', 'crate/core', 'crate/napi', 'rust-toolchain.toml', '.cargo'],
]

// A tree can be carried from one machine to another with its node_modules/ and native/.
const thisMachine = [
  process.platform,
  process.arch,
  String(process.report.getReport().header.glibcVersionRuntime),
]

const addonBuild = [
  ...['build', '--manifest-path', 'crate/napi/Cargo.toml', '--platform', '--release'],
  ...['--output-dir', 'native', '--no-js'],
]

const distInputs = [
  ...['ts', 'tsup.config.ts', 'tsconfig.json', 'package.json', 'package-lock.json'],
  'tools/esm-wrapper.mjs',
]

const distOutputs = distFiles.map((file) => `dist/${file}`)

function hasAddon() {
  return (
    exists('native') &&
    readdirSync(join(rootFolder, 'native')).some(
      (file) => file.endsWith('.node') && file.includes(`${process.platform}-${process.arch}`),
    )
  )
}

await asProgram(import.meta.url, setUp)
