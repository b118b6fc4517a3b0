// Which of the core's Rust tests run outside the `model` suite: all but the model, which explores
// the same executions whatever the architecture and takes minutes without optimization.

import { capture } from './command.mjs'

/** Arguments for `cargo test -p vmclock` that name them, apart from those to leave out. */
export async function rustTestTargets({ without = [] } = {}) {
  const metadata = await capture('cargo', ['metadata', '--no-deps', '--format-version', '1'])
  const core = JSON.parse(metadata).packages.find(({ name }) => name === 'vmclock')
  const names = core.targets
    .filter(({ kind, name }) => kind.includes('test') && name !== 'model')
    .map(({ name }) => name)
    .filter((name) => !without.includes(name))
  return ['--lib', ...names.flatMap((name) => ['--test', name])]
}
