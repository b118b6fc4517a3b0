// Runs examples/services/: services over PostgreSQL, a lease service, and a capture into Apache Arrow.

import { join } from 'node:path'
import { capture, rootDirectory, run, timed } from './command.mjs'
import { digest, isStamped, stamp } from './stamp.mjs'

const directory = 'examples/services'
const modules = `${directory}/node_modules`

/** Installs what the examples need, and tests them. */
export async function checkExamples({ isLong }) {
  const cwd = join(rootDirectory, directory)
  const files = ['package.json', 'package-lock.json', '.npmrc']
  const inputs = digest(files.map((file) => `${directory}/${file}`))
  if (!isStamped(modules, inputs, [])) {
    await timed('npm ci of the examples', () =>
      capture('npm', ['ci', '--no-audit', '--no-fund'], { cwd }),
    )
    stamp(modules, inputs)
  }
  await run('node', ['--test', '--test-reporter=spec', 'test.mjs'], {
    cwd,
    env: { VMCLOCK_EXAMPLES: isLong ? 'long' : 'short' },
  })
}
