// Nobody can install half a release, in whatever state its publication ends.

import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { kinds } from '../../tools/addons.mjs'
import { CommandFailed, capture } from '../../tools/command.mjs'
import { publish } from '../../tools/publish.mjs'
import { startRegistry } from '../../tools/registry.mjs'
import { newProject } from '../project.mjs'

export function defineTests(defineTest, { packages, registry }) {
  const directory = join(packages[0].directory, '..')
  const specifiers = packages.map(({ name, version }) => `${name}@${version}`)

  async function otherRegistry(t, options) {
    const other = await startRegistry(options)
    t.after(() => other.close())
    return other
  }

  defineTest('the root package is published last', () => {
    assert.deepEqual([...registry.published].sort(), [...specifiers].sort())
    assert.equal(
      registry.published.at(-1),
      specifiers.find((each) => each.startsWith('vmclock@')),
    )
  })

  defineTest(
    'a refused addon keeps the root unpublished, and the next run completes the release',
    async (t) => {
      let isRefusing = true
      const refuse = (name) => (isRefusing && name === 'vmclock-linux-arm64-musl' ? 403 : undefined)
      const other = await otherRegistry(t, { refuse })
      await assert.rejects(publish([directory, ...other.publishOptions]), CommandFailed)
      assert.ok(!other.published.some((each) => each.startsWith('vmclock@')))
      isRefusing = false
      await publish([directory, ...other.publishOptions])
      assert.deepEqual([...other.published].sort(), [...specifiers].sort())
      assert.ok(other.published.at(-1).startsWith('vmclock@'))
    },
    { isInShortForm: false },
  )

  defineTest('an addon that the registry does not serve keeps the root unpublished', async (t) => {
    const other = await otherRegistry(t, { hide: (name) => name === packages[0].name })
    const retries = { attempts: 2, pauseMs: 0 }
    await assert.rejects(publish([directory, ...other.publishOptions], retries), /does not serve/)
    assert.ok(!other.published.some((each) => each.startsWith('vmclock@')))
  })

  defineTest('a release that lacks an addon is not published', async (t) => {
    const other = await otherRegistry(t)
    const part = join(newProject(t, other), 'part')
    mkdirSync(part)
    for (const { file } of packages.slice(1)) copyFileSync(file, join(part, basename(file)))
    await assert.rejects(publish([part, ...other.publishOptions]), /is missing/)
    assert.deepEqual(other.published, [])
  })

  defineTest('a dry run publishes nothing', async (t) => {
    const other = await otherRegistry(t)
    await publish([directory, ...other.publishOptions, '--dry-run'])
    assert.deepEqual(other.published, [])
    assert.deepEqual(
      other.requests.filter((request) => !request.startsWith('GET')),
      [],
    )
  })

  defineTest(
    'packages have no scripts and no required dependencies, and prove their origin',
    () => {
      for (const { directory: staged } of packages) {
        const manifest = JSON.parse(readFileSync(join(staged, 'package.json'), 'utf8'))
        assert.equal(manifest.scripts, undefined)
        assert.equal(manifest.dependencies, undefined)
        assert.deepEqual(manifest.publishConfig, { access: 'public', provenance: true })
      }
    },
  )

  defineTest('npm publish refuses the repository and its directories of addons', async (t) => {
    const other = await otherRegistry(t)
    const npmPublish = (what) => capture('npm', ['publish', what, ...other.publishOptions])
    for (const what of ['.', ...kinds.map(({ name }) => `./npm/${name}`)]) {
      await assert.rejects(npmPublish(what), /EPRIVATE/)
    }
    assert.deepEqual(other.published, [])
  })
}
