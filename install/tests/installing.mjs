// Installed from a registry, with no compiler in reach, the package stamps at once.

import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { barePath, inProject, newProject, npmInstall, stampPrograms, stamps } from '../project.mjs'
import { bun, deno, gnuX64, others, pnpmProgram } from '../runtimes.mjs'

// For what needs the other machines' addons, or is long to fetch.
const longOnly = { isInShortForm: false }

export function promises(promise, { registry }) {
  for (const { name, kind, words, isInShortForm } of gnuX64) {
    promise(
      `npm in ${name} installs what stamps, as one class for both loaders`,
      async (t) => {
        const [node] = await words()
        const project = newProject(t, registry, stampPrograms)
        await npmInstall(project, { node })
        assert.deepEqual(installed(project), ['vmclock', `vmclock-${kind}`])
        await stamps(project, [node])
      },
      { isInShortForm },
    )
  }

  for (const { name, kind, words } of others) {
    promise(
      `${name}: what npm installs for it stamps, as one class for both loaders`,
      async (t) => {
        const runtime = await words()
        const project = newProject(t, registry, stampPrograms)
        const [os, cpu, libc] = kind.split('-')
        const flags = [`--os=${os}`, `--cpu=${cpu}`, `--libc=${libc === 'gnu' ? 'glibc' : libc}`]
        await npmInstall(project, { flags })
        assert.deepEqual(installed(project), ['vmclock', `vmclock-${kind}`])
        await stamps(project, runtime)
      },
      longOnly,
    )
  }

  promise('the command that is installed runs', async (t) => {
    const project = newProject(t, registry)
    await npmInstall(project)
    const PATH = await barePath(project)
    const said = await inProject(project, ['node_modules/.bin/vmclock', '--version'], { PATH })
    assert.match(said, /^\d+\.\d+\.\d+\n$/)
  })

  promise(
    'under the permission model musl is told from glibc',
    async (t) => {
      const { words } = others.find(({ kind }) => kind === 'linux-x64-musl')
      const project = newProject(t, registry, ['open.cjs'])
      await npmInstall(project, { flags: ['--libc=musl'] })
      const flags = ['--permission', '--allow-addons', `--allow-fs-read=${project}`]
      const told = JSON.parse(await inProject(project, [...(await words()), ...flags, 'open.cjs']))
      assert.equal(told.code, 'ERR_VMCLOCK_NOT_FOUND')
    },
    longOnly,
  )

  promise('pnpm installs what stamps', async (t) => {
    const pnpm = await pnpmProgram()
    const project = newProject(t, registry, stampPrograms)
    const PATH = await barePath(project)
    await inProject(project, ['node', pnpm, 'add', 'vmclock'], { PATH })
    assert.ok(existsSync(join(project, 'node_modules/.pnpm')))
    await stamps(project, [process.execPath])
  })

  promise(
    'Bun installs what stamps',
    async (t) => {
      const words = await bun.words()
      const project = newProject(t, registry, stampPrograms)
      const env = { BUN_INSTALL_CACHE_DIR: join(project, '.cache'), PATH: await barePath(project) }
      await inProject(project, [...words, 'add', 'vmclock', `--registry=${registry.url}`], env)
      await stamps(project, words)
    },
    longOnly,
  )

  promise(
    'Deno stamps with what npm installs',
    async (t) => {
      const words = await deno.words()
      const project = newProject(t, registry, stampPrograms)
      await npmInstall(project)
      await stamps(project, words)
    },
    longOnly,
  )
}

function installed(project) {
  return readdirSync(join(project, 'node_modules'))
    .filter((name) => !name.startsWith('.'))
    .sort()
}
