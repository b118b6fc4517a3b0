// Lists the core's Rust tests without the model. The `model` suite runs the model: it explores the same
// executions on each architecture, and takes minutes without optimization.

import { capture } from './command.mjs'

/** Returns arguments for `cargo test -p vmclock` that select the tests, except those in `without`. */
export async function rustTestTargets({ without = [] } = {}) {
  const metadata = await capture('cargo', ['metadata', '--no-deps', '--format-version', '1'])
  const core = JSON.parse(metadata).packages.find(({ name }) => name === 'vmclock')
  const all = core.targets.filter(({ kind }) => kind.includes('test')).map(({ name }) => name)
  const unknown = without.filter((name) => !all.includes(name))
  if (unknown.length > 0) throw new Error(`no Rust test is named ${unknown.join(', ')}`)
  const chosen = all.filter((name) => ![...without, 'model'].includes(name))
  return ['--lib', ...chosen.flatMap((name) => ['--test', name])]
}
