// `node install/smoke.mjs DIRECTORY` installs the packages whose tarballs are in the directory, with this
// Node and on this machine, and stamps. A release runs it on each kind of machine. It needs only Node and
// npm.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { publish } from '../tools/publish.mjs'
import { startRegistry } from '../tools/registry.mjs'
import { newProject, npmInstall, stampPrograms, stamps } from './project.mjs'

const [directory] = process.argv.slice(2)

test(`the packages in ${directory} stamp on this machine`, async (t) => {
  const registry = await startRegistry()
  t.after(() => registry.close())
  await publish([directory, ...registry.publishOptions])
  assert.equal(registry.published.length, 5)
  const project = newProject(t, registry, stampPrograms)
  await npmInstall(project)
  await stamps(project, [process.execPath])
})
