// actionlint over .github/workflows, and what it does not ask for: that every action is pinned to a
// commit, no workflow has more rights than it names, and CI runs every suite.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { cached } from './cache.mjs'
import { asProgram, capture, rootFolder, run } from './command.mjs'

const actionlint = 'github.com/rhysd/actionlint/cmd/actionlint@v1.7.12'

/** Checks every workflow, and that CI's runs the suites of these names. */
export async function checkWorkflows(suiteNames = []) {
  const folder = await cached('actionlint', { actionlint }, (unfinished) =>
    capture('go', ['install', actionlint], { env: { GOBIN: unfinished } }),
  )
  const workflows = join(rootFolder, '.github/workflows')
  const files = readdirSync(workflows).map((name) => join(workflows, name))
  // Without shellcheck, which not every machine has: what is here is to say the same everywhere.
  await run(join(folder, 'actionlint'), ['-shellcheck=', '-pyflakes=', ...files])
  const complaints = files.flatMap((file) => complaintsAbout(file, readFileSync(file, 'utf8')))
  const commands = readFileSync(join(workflows, 'ci.yml'), 'utf8')
    .match(/\brun: .*/g)
    .join('\n')
  const forgotten = suiteNames.filter((name) => !RegExp(`[ :]${name}\\b`).test(commands))
  complaints.push(...forgotten.map((name) => `ci.yml: no job runs the suite ${name}`))
  if (complaints.length > 0) throw new Error(complaints.join('\n'))
}

function complaintsAbout(file, text) {
  const actions = [...text.matchAll(/\buses:\s*(.*)$/gm)].map(([, action]) => action)
  return [
    ...actions
      .filter((action) => !/^[\w./-]+@[0-9a-f]{40} # v[\d.]+$/.test(action))
      .map((action) => `${file}: ${action} is pinned to no commit, or does not say its version`),
    ...(/^permissions:/m.test(text) ? [] : [`${file}: no permissions are set for all of it`]),
  ]
}

await asProgram(import.meta.url, checkWorkflows)
