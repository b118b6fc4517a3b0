// What esbuild makes of a program runs in a folder that holds the bundle and the addon, and no more.

import assert from 'node:assert/strict'
import { copyFileSync, cpSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { inProject, newProject, npmInstall } from '../project.mjs'

const here = 'linux-x64-gnu'

export function promises(promise, { registry }) {
  async function bundled(t, options) {
    const project = newProject(t, registry, ['stamp.cjs', 'stamp-with.cjs', 'open.cjs'])
    await npmInstall(project)
    await build({
      absWorkingDir: project,
      bundle: true,
      platform: 'node',
      logLevel: 'error',
      outdir: 'out',
      ...options,
    })
    const alone = newProject(t, registry)
    cpSync(join(project, 'out'), alone, { recursive: true })
    return { project, alone }
  }

  promise('a bundle with --loader:.node=copy runs by itself', async (t) => {
    const { alone } = await bundled(t, { entryPoints: ['stamp.cjs'], loader: { '.node': 'copy' } })
    assert.ok(readdirSync(alone).some((file) => file.endsWith('.node')))
    const told = JSON.parse(await inProject(alone, [process.execPath, 'stamp.js']))
    assert.deepEqual(told, { isOneClass: true, holdsTheTime: true })
  })

  promise('a bundle of ES modules runs with the addon that VMCLOCK_ADDON names', async (t) => {
    const { project, alone } = await bundled(t, {
      entryPoints: ['open.cjs'],
      format: 'esm',
      outExtension: { '.js': '.mjs' },
      external: ['vmclock-linux-*'],
    })
    mkdirSync(join(alone, 'native'))
    const addon = `vmclock.${here}.node`
    copyFileSync(join(project, `node_modules/vmclock-${here}`, addon), join(alone, 'native', addon))
    const env = { VMCLOCK_ADDON: `native/${addon}` }
    const told = JSON.parse(await inProject(alone, [process.execPath, 'open.mjs'], env))
    assert.equal(told.code, 'ERR_VMCLOCK_NOT_FOUND')
  })

  promise('a bundle without its addon loads, and open says what is missing', async (t) => {
    for (const format of ['cjs', 'esm']) {
      const { alone } = await bundled(t, {
        entryPoints: ['open.cjs'],
        format,
        outExtension: { '.js': format === 'esm' ? '.mjs' : '.cjs' },
        external: ['vmclock-linux-*'],
      })
      const [file] = readdirSync(alone).filter((name) => name.startsWith('open.'))
      const told = JSON.parse(await inProject(alone, [process.execPath, file]))
      assert.equal(told.code, 'ERR_VMCLOCK_NATIVE', format)
      assert.match(told.message, /where this bundle looks: keep vmclock out.*VMCLOCK_ADDON/)
    }
  })
}
