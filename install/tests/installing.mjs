// The package installs from a registry without a compiler, and stamps at once.

import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { barePath, inProject, newProject, npmInstall, stampPrograms, stamps } from '../project.mjs'
import { bun, deno, gnuX64, others, pnpmProgram } from '../runtimes.mjs'

// For tests that need the other machines' addons or a large download.
const longOnly = { isInShortForm: false }

export function defineTests(defineTest, { registry }) {
  for (const { name, kind, command, isInShortForm } of gnuX64) {
    defineTest(
      `npm in ${name} installs a package that stamps, as one class for both loaders`,
      async (t) => {
        const [node] = await command()
        const project = newProject(t, registry, [...stampPrograms, 'protect.cjs'])
        await npmInstall(project, { node })
        assert.deepEqual(installed(project), ['vmclock', `vmclock-${kind}`])
        await stamps(project, [node])
        assert.equal(await inProject(project, [node, 'protect.cjs']), 'active\n')
      },
      { isInShortForm },
    )
  }

  for (const { name, kind, command } of others) {
    defineTest(
      `${name} stamps with the package that npm installs for it`,
      async (t) => {
        const runtime = await command()
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

  defineTest('the installed command runs', async (t) => {
    const project = newProject(t, registry)
    await npmInstall(project)
    const PATH = await barePath(project)
    const output = await inProject(project, ['node_modules/.bin/vmclock', '--version'], { PATH })
    assert.match(output, /^\d+\.\d+\.\d+\n$/)
  })

  defineTest(
    'the package recognizes musl under the permission model',
    async (t) => {
      const { command } = others.find(({ kind }) => kind === 'linux-x64-musl')
      const project = newProject(t, registry, ['open.cjs'])
      await npmInstall(project, { flags: ['--libc=musl'] })
      const flags = ['--permission', '--allow-addons', `--allow-fs-read=${project}`]
      const output = await inProject(project, [...(await command()), ...flags, 'open.cjs'])
      assert.equal(JSON.parse(output).code, 'ERR_VMCLOCK_NOT_FOUND')
    },
    longOnly,
  )

  defineTest('pnpm installs a package that stamps', async (t) => {
    const pnpm = await pnpmProgram()
    const project = newProject(t, registry, stampPrograms)
    const PATH = await barePath(project)
    await inProject(project, ['node', pnpm, 'add', 'vmclock'], { PATH })
    assert.ok(existsSync(join(project, 'node_modules/.pnpm')))
    await stamps(project, [process.execPath])
  })

  defineTest(
    'Bun installs a package that stamps, and refuses to protect clones',
    async (t) => {
      const command = await bun.command()
      const project = newProject(t, registry, [...stampPrograms, 'protect.cjs'])
      const env = { BUN_INSTALL_CACHE_DIR: join(project, '.cache'), PATH: await barePath(project) }
      await inProject(project, [...command, 'add', 'vmclock', `--registry=${registry.url}`], env)
      await stamps(project, command)
      await refusesToProtect(project, command)
    },
    longOnly,
  )

  defineTest(
    'Deno stamps with the package that npm installs, and refuses to protect clones',
    async (t) => {
      const command = await deno.command()
      const project = newProject(t, registry, [...stampPrograms, 'protect.cjs'])
      await npmInstall(project)
      await stamps(project, command)
      await refusesToProtect(project, command)
    },
    longOnly,
  )
}

async function refusesToProtect(project, command) {
  const outcome = await inProject(project, [...command, 'protect.cjs'])
  assert.equal(outcome, 'ERR_VMCLOCK_UNSUPPORTED\n')
}

function installed(project) {
  return readdirSync(join(project, 'node_modules'))
    .filter((name) => !name.startsWith('.'))
    .sort()
}
