// Checks the workflows: actionlint accepts them, they pin each action to a commit and set permissions, and CI
// runs each suite.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { cached } from './cache.mjs'
import { capture, rootDirectory, run } from './command.mjs'

const actionlint = 'github.com/rhysd/actionlint/cmd/actionlint@v1.7.12'

// CI's runners are too busy to measure a slewed clock.
const NOT_IN_CI = ['slew']

/** Checks all workflows, and that CI runs these suites. */
export async function checkWorkflows(suites) {
  const directory = await cached('actionlint', { actionlint }, (unfinished) =>
    capture('go', ['install', actionlint], { env: { GOBIN: unfinished } }),
  )
  const workflows = join(rootDirectory, '.github/workflows')
  const files = readdirSync(workflows).map((name) => join(workflows, name))
  // Without shellcheck, so that machines with it and machines without it agree.
  await run(join(directory, 'actionlint'), ['-shellcheck=', '-pyflakes=', ...files])
  const complaints = [
    ...files.flatMap((file) => complaintsAbout(file, readFileSync(file, 'utf8'))),
    ...suitesNotRun(suites, readFileSync(join(workflows, 'ci.yml'), 'utf8')),
  ]
  if (complaints.length > 0) throw new Error(complaints.join('\n'))
}

function suitesNotRun(suites, workflow) {
  const commands = [...workflow.matchAll(/\brun: .*tools\/test\.mjs (.*)$/gm)]
  const named = commands.flatMap(([, words]) => words.split(' '))
  return suites
    .filter(({ name, within }) => !named.includes(name) && !named.includes(within))
    .filter(({ name }) => !NOT_IN_CI.includes(name))
    .map(({ name }) => `ci.yml: no job runs the suite ${name}`)
}

function complaintsAbout(file, text) {
  const actions = [...text.matchAll(/\buses:\s*(.*)$/gm)].map(([, action]) => action)
  return [
    ...actions
      .filter((action) => !/^[\w./-]+@[0-9a-f]{40} # v[\d.]+$/.test(action))
      .map((action) => `${file}: ${action} names no commit, or no version in a comment`),
    ...(/^permissions:/m.test(text) ? [] : [`${file}: sets no permissions for the whole workflow`]),
  ]
}
