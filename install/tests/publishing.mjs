// A release is published in an order that leaves nobody with half of it.

import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { kinds } from '../../tools/addons.mjs'
import { CommandFailed, capture } from '../../tools/command.mjs'
import { publish } from '../../tools/publish.mjs'
import { startRegistry } from '../../tools/registry.mjs'
import { newProject } from '../project.mjs'

export function promises(promise, { packages, registry }) {
  const folder = join(packages[0].folder, '..')
  const specifiers = packages.map(({ name, version }) => `${name}@${version}`)

  async function otherRegistry(t, options) {
    const other = await startRegistry(options)
    t.after(() => other.close())
    return other
  }

  promise('the root package is published last', () => {
    assert.deepEqual([...registry.published].sort(), [...specifiers].sort())
    assert.equal(
      registry.published.at(-1),
      specifiers.find((each) => each.startsWith('vmclock@')),
    )
  })

  promise(
    'where one addon is refused the root is not published; the next run ends it',
    async (t) => {
      let isRefusing = true
      const refuse = (name) => (isRefusing && name === 'vmclock-linux-arm64-musl' ? 403 : undefined)
      const other = await otherRegistry(t, { refuse })
      await assert.rejects(publish([folder, ...other.publishOptions]), CommandFailed)
      assert.ok(!other.published.some((each) => each.startsWith('vmclock@')))
      isRefusing = false
      await publish([folder, ...other.publishOptions])
      assert.deepEqual([...other.published].sort(), [...specifiers].sort())
      assert.ok(other.published.at(-1).startsWith('vmclock@'))
    },
    { isInShortForm: false },
  )

  promise('where an addon is published but not served the root is not published', async (t) => {
    const other = await otherRegistry(t, { hide: (name) => name === packages[0].name })
    const patience = { attempts: 2, pauseMs: 0 }
    await assert.rejects(publish([folder, ...other.publishOptions], patience), /does not serve/)
    assert.ok(!other.published.some((each) => each.startsWith('vmclock@')))
  })

  promise('a release that lacks an addon is not published at all', async (t) => {
    const other = await otherRegistry(t)
    const part = join(newProject(t, other), 'part')
    mkdirSync(part)
    for (const { file } of packages.slice(1)) copyFileSync(file, join(part, basename(file)))
    await assert.rejects(publish([part, ...other.publishOptions]), /is missing/)
    assert.deepEqual(other.published, [])
  })

  promise('a dry run of all packages only prints', async (t) => {
    const other = await otherRegistry(t)
    await publish([folder, ...other.publishOptions, '--dry-run'])
    assert.deepEqual(other.published, [])
    assert.deepEqual(
      other.requests.filter((request) => !request.startsWith('GET')),
      [],
    )
  })

  promise('no package runs anything when it is packed, published or installed', () => {
    for (const { folder: staged } of packages) {
      const manifest = JSON.parse(readFileSync(join(staged, 'package.json'), 'utf8'))
      assert.equal(manifest.scripts, undefined)
      assert.equal(manifest.dependencies, undefined)
      assert.deepEqual(manifest.publishConfig, { access: 'public', provenance: true })
    }
  })

  promise('npm publish refuses the repository itself, and its folders of addons', async (t) => {
    const other = await otherRegistry(t)
    const npmPublish = (what) => capture('npm', ['publish', what, ...other.publishOptions])
    for (const what of ['.', ...kinds.map(({ name }) => `./npm/${name}`)]) {
      await assert.rejects(npmPublish(what), /EPRIVATE/)
    }
    assert.deepEqual(other.published, [])
  })
}
