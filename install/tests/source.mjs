// Whoever cannot use what is published builds it, with a Rust toolchain and a linker, and installs the
// folder.

import assert from 'node:assert/strict'
import { rootFolder } from '../../tools/command.mjs'
import { inProject, newProject, npmInstall } from '../project.mjs'

export function promises(promise, { registry }) {
  promise('a clone that is built installs as it is', async (t) => {
    const project = newProject(t, registry, ['stamp.mjs', 'stamp-with.cjs'])
    await npmInstall(project, { what: [rootFolder] })
    assert.ok(!registry.requests.some((request) => request.endsWith('tsup')))
    const told = JSON.parse(await inProject(project, [process.execPath, 'stamp.mjs']))
    assert.deepEqual(told, { isOneClass: true, holdsTheTime: true })
  })
}
