// Runs the scenario of install/frameworks/ under each test framework, in two majors where both are maintained.

import { join } from 'node:path'
import { allNodes } from '../benchmark/nodes.mjs'
import { capture, rootDirectory, timed } from './command.mjs'
import { digest, isStamped, stamp } from './stamp.mjs'

const directory = 'install/frameworks'
const modules = `${directory}/node_modules`
const config = '--config=jest.config.cjs'

/** The frameworks, and how each one runs the scenario. Some need a newer Node than the oldest supported one. */
const frameworks = [
  ...['jest-29', 'jest-30'].map((name) => ({ name, args: [bin(name, 'bin/jest.js'), config] })),
  ...[
    { name: 'vitest-4', leastNode: 20 },
    { name: 'vitest-5', leastNode: 22 },
  ].map(({ name, leastNode }) => ({
    name,
    leastNode,
    args: [bin(name, 'vitest.mjs'), 'run', '--dir=.', '--config=vitest.config.mjs'],
    env: { VMCLOCK_VITEST: name },
  })),
  ...['sinon-21', 'sinon-22'].map((name) => ({
    name,
    args: ['scenario.sinon.cjs'],
    env: { VMCLOCK_SINON: name },
  })),
  { name: 'node:test', args: ['--test', 'scenario.node.cjs'] },
  { name: 'node:test of the next major', leastNode: 22, args: ['--test', 'scenario.node.cjs'] },
]

/** Installs the frameworks, and runs the scenario under each. Throws at the first that fails. */
export async function checkFrameworks() {
  await install()
  const cwd = join(rootDirectory, directory)
  for (const { name, leastNode = 0, args, env } of frameworks) {
    const node = await nodeOf(leastNode)
    await timed(name, () => capture(node, args, { cwd, env }))
  }
}

function bin(name, file) {
  return `node_modules/${name}/${file}`
}

async function install() {
  const inputs = digest(
    ['package.json', 'package-lock.json', '.npmrc'].map((file) => `${directory}/${file}`),
  )
  if (isStamped(modules, inputs, [])) return
  await timed('npm ci of the test frameworks', () =>
    capture('npm', ['ci', '--no-audit', '--no-fund'], { cwd: join(rootDirectory, directory) }),
  )
  stamp(modules, inputs)
}

/** Returns this Node, or the oldest supported one that is new enough. */
async function nodeOf(leastMajor) {
  if (Number.parseInt(process.versions.node, 10) >= leastMajor) return process.execPath
  const nodes = await allNodes()
  return nodes.find(({ version }) => Number.parseInt(version, 10) >= leastMajor).path
}
