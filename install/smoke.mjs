// `node install/smoke.mjs FOLDER`: installs the packages whose tarballs are in the folder on this machine,
// by this Node, and stamps. For the machines that they are made for; it needs nothing but Node and npm.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { publish } from '../tools/publish.mjs'
import { startRegistry } from '../tools/registry.mjs'
import { newProject, npmInstall, stampPrograms, stamps } from './project.mjs'

const [folder] = process.argv.slice(2)

test(`the packages in ${folder} stamp here`, async (t) => {
  const registry = await startRegistry()
  t.after(() => registry.close())
  await publish([folder, ...registry.publishOptions])
  assert.equal(registry.published.length, 5)
  const project = newProject(t, registry, stampPrograms)
  await npmInstall(project)
  await stamps(project, [process.execPath])
})
