// Tests the adapters with the libraries of install/adapters/, in two majors each.

import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { allNodes } from '../benchmark/nodes.mjs'
import { capture, rootDirectory, timed } from './command.mjs'
import { digest, isStamped, stamp } from './stamp.mjs'

const directory = join(rootDirectory, 'install/adapters')

/**
 * The runs: a test file, the library that it loads, and where that is installed. The third SDK of OpenTelemetry needs
 * Node 22, and an API that the others refuse.
 */
const runs = [
  { file: 'opentelemetry.test.mjs', env: { VMCLOCK_OTEL: 'otel-1' } },
  { file: 'opentelemetry.test.mjs', env: { VMCLOCK_OTEL: 'otel-2' } },
  {
    file: 'opentelemetry.test.mjs',
    env: { VMCLOCK_OTEL: 'otel-3' },
    within: 'next',
    leastNode: 22,
  },
  { file: 'effect.test.mjs', env: { VMCLOCK_EFFECT: 'effect-3' } },
  { file: 'effect.test.mjs', env: { VMCLOCK_EFFECT: 'effect-4' } },
  { file: 'pino.test.mjs', env: { VMCLOCK_PINO: 'pino-9' } },
  { file: 'pino.test.mjs', env: { VMCLOCK_PINO: 'pino-10' } },
  { file: 'temporal.test.mjs', env: { VMCLOCK_TEMPORAL: 'temporal-polyfill' } },
]

/** Installs the libraries, and runs the tests of each adapter with each major. Throws at the first that fails. */
export async function checkAdapters() {
  for (const within of ['', 'next']) {
    await installLibraries(within)
    copyPackage(within)
  }
  const addon = readdirSync(join(rootDirectory, 'native')).find(
    (file) => file.endsWith('.node') && file.includes(`${process.platform}-${process.arch}`),
  )
  for (const { file, env, within = '', leastNode = 0 } of runs) {
    const node = await nodeOf(leastNode)
    await timed(`${file} with ${Object.values(env).join()}`, () =>
      capture(node, ['--test', join(directory, file)], {
        cwd: join(directory, within),
        env: { ...env, VMCLOCK_ADDON: join(rootDirectory, 'native', addon) },
      }),
    )
  }
}

/** Installs the libraries of `install/adapters/`, or of a directory in it. */
export async function installLibraries(within = '') {
  const from = join('install/adapters', within)
  const modules = join(from, 'node_modules')
  const inputs = digest(
    ['package.json', 'package-lock.json', '.npmrc'].map((file) => join(from, file)),
  )
  if (isStamped(modules, inputs, [])) return
  await timed(`npm ci in ${from}`, () =>
    capture('npm', ['ci', '--no-audit', '--no-fund'], { cwd: join(directory, within) }),
  )
  stamp(modules, inputs)
}

// A copy and no link: the package has to find its peers there, and not those of this repository.
function copyPackage(within) {
  const copy = join(directory, within, 'node_modules/vmclock')
  rmSync(copy, { recursive: true, force: true })
  mkdirSync(copy)
  for (const name of ['package.json', 'dist']) {
    cpSync(join(rootDirectory, name), join(copy, name), { recursive: true })
  }
}

/** Returns this Node, or the oldest supported one that is new enough. */
async function nodeOf(leastMajor) {
  if (Number.parseInt(process.versions.node, 10) >= leastMajor) return process.execPath
  const nodes = await allNodes()
  return nodes.find(({ version }) => Number.parseInt(version, 10) >= leastMajor).path
}
