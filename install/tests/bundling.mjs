// What esbuild makes of a program runs in a folder that holds the bundle and the addon, and no more.

import assert from 'node:assert/strict'
import { copyFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { inProject, newProject, npmInstall } from '../project.mjs'
import { gnuX64 } from '../runtimes.mjs'

const here = 'linux-x64-gnu'

const modules = {
  entryPoints: ['open.cjs'],
  format: 'esm',
  // What esbuild wants for any CommonJS inside of ES modules.
  banner: {
    js: `import { createRequire as r } from 'node:module'; const require = r(import.meta.url)`,
  },
  external: ['vmclock-linux-*'],
}

export function promises(promise, { registry }) {
  async function bundled(t, { format = 'cjs', ...options }) {
    const project = newProject(t, registry, ['stamp.cjs', 'stamp-with.cjs', 'open.cjs'])
    await npmInstall(project)
    await build({
      absWorkingDir: project,
      bundle: true,
      platform: 'node',
      logLevel: 'error',
      outdir: 'out',
      format,
      ...options,
    })
    const alone = newProject(t, registry)
    for (const file of readdirSync(join(project, 'out'))) {
      const name = format === 'esm' ? file.replace(/\.js$/, '.mjs') : file
      copyFileSync(join(project, 'out', file), join(alone, name))
    }
    return { project, alone }
  }

  promise('a bundle with --loader:.node=copy runs by itself', async (t) => {
    const { alone } = await bundled(t, { entryPoints: ['stamp.cjs'], loader: { '.node': 'copy' } })
    assert.ok(readdirSync(alone).some((file) => file.endsWith('.node')))
    const told = JSON.parse(await inProject(alone, [process.execPath, 'stamp.js']))
    assert.deepEqual(told, { isOneClass: true, holdsTheTime: true })
  })

  promise('a bundle of ES modules runs with the addon that VMCLOCK_ADDON names', async (t) => {
    const { project, alone } = await bundled(t, modules)
    const told = await look(alone, { VMCLOCK_ADDON: addonFrom(project, alone) })
    assert.equal(told.code, 'ERR_VMCLOCK_NOT_FOUND')
  })

  promise(
    'a single executable runs with the addon that VMCLOCK_ADDON names',
    async (t) => {
      const [node] = await gnuX64.at(-1).words()
      const { project, alone } = await bundled(t, { ...modules, format: 'cjs', banner: {} })
      const settings = { main: 'open.js', output: 'open', disableExperimentalSEAWarning: true }
      writeFileSync(join(alone, 'sea.json'), JSON.stringify(settings))
      await inProject(alone, [node, '--build-sea', 'sea.json'])
      const addon = addonFrom(project, alone)
      const said = await inProject(alone, ['./open'], { VMCLOCK_ADDON: addon })
      assert.equal(JSON.parse(said).code, 'ERR_VMCLOCK_NOT_FOUND')
    },
    { isInShortForm: false },
  )

  promise('a bundle without its addon loads, and open says what is missing', async (t) => {
    for (const options of [modules, { ...modules, format: 'cjs', banner: {} }]) {
      const { alone } = await bundled(t, options)
      const told = await look(alone)
      assert.equal(told.code, 'ERR_VMCLOCK_NATIVE')
      assert.match(told.message, /where this bundle looks$/)
      assert.match(told.remedy, /keep vmclock out.*VMCLOCK_ADDON/)
    }
  })
}

function addonFrom(project, folder) {
  const addon = `vmclock.${here}.node`
  copyFileSync(join(project, `node_modules/vmclock-${here}`, addon), join(folder, addon))
  return addon
}

async function look(folder, env) {
  const [file] = readdirSync(folder).filter((name) => name.startsWith('open.'))
  return JSON.parse(await inProject(folder, [process.execPath, file], env))
}
