// A user whom no published package fits builds the package from a clone, with a Rust toolchain and a
// linker, and installs the directory.

import assert from 'node:assert/strict'
import { rootDirectory } from '../../tools/command.mjs'
import { inProject, newProject, npmInstall, stampResult } from '../project.mjs'

export function defineTests(defineTest, { registry }) {
  defineTest('a built clone installs without a further build', async (t) => {
    const project = newProject(t, registry, ['stamp.mjs', 'stamp-with.cjs'])
    await npmInstall(project, { what: [rootDirectory] })
    assert.ok(!registry.requests.some((request) => request.endsWith('tsup')))
    const output = await inProject(project, [process.execPath, 'stamp.mjs'])
    assert.deepEqual(JSON.parse(output), stampResult)
  })
}
