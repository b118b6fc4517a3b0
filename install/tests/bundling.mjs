// A bundle that esbuild makes runs in a directory that holds only the bundle and the addon.

import assert from 'node:assert/strict'
import { copyFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { inProject, newProject, npmInstall, stampResult } from '../project.mjs'
import { gnuX64 } from '../runtimes.mjs'

const here = 'linux-x64-gnu'

const modules = {
  entryPoints: ['open.cjs'],
  format: 'esm',
  // An ES module has no `require`, and esbuild defines none for the CommonJS code in it.
  banner: {
    js: `import { createRequire as r } from 'node:module'; const require = r(import.meta.url)`,
  },
  external: ['vmclock-linux-*'],
}

export function defineTests(defineTest, { registry }) {
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

  defineTest('a bundle with --loader:.node=copy runs by itself', async (t) => {
    const { alone } = await bundled(t, { entryPoints: ['stamp.cjs'], loader: { '.node': 'copy' } })
    assert.ok(readdirSync(alone).some((file) => file.endsWith('.node')))
    const output = await inProject(alone, [process.execPath, 'stamp.js'])
    assert.deepEqual(JSON.parse(output), stampResult)
  })

  defineTest('a bundle of ES modules runs with the addon that VMCLOCK_ADDON names', async (t) => {
    const { project, alone } = await bundled(t, modules)
    const { code } = await runOpen(alone, { VMCLOCK_ADDON: addonFrom(project, alone) })
    assert.equal(code, 'ERR_VMCLOCK_NOT_FOUND')
  })

  defineTest(
    'a single executable runs with the addon that VMCLOCK_ADDON names',
    async (t) => {
      const [node] = await gnuX64.at(-1).command()
      const { project, alone } = await bundled(t, { ...modules, format: 'cjs', banner: {} })
      const settings = { main: 'open.js', output: 'open', disableExperimentalSEAWarning: true }
      writeFileSync(join(alone, 'sea.json'), JSON.stringify(settings))
      await inProject(alone, [node, '--build-sea', 'sea.json'])
      const addon = addonFrom(project, alone)
      const output = await inProject(alone, ['./open'], { VMCLOCK_ADDON: addon })
      assert.equal(JSON.parse(output).code, 'ERR_VMCLOCK_NOT_FOUND')
    },
    { isInShortForm: false },
  )

  defineTest('a bundle without its addon loads, and open says what is missing', async (t) => {
    for (const options of [modules, { ...modules, format: 'cjs', banner: {} }]) {
      const { alone } = await bundled(t, options)
      const { code, message, remedy } = await runOpen(alone)
      assert.equal(code, 'ERR_VMCLOCK_NATIVE')
      assert.match(message, /where this bundle looks$/)
      assert.match(remedy, /keep vmclock out.*VMCLOCK_ADDON/)
    }
  })
}

// Copies the addon that npm installed into a directory, and returns its name there.
function addonFrom(project, directory) {
  const addon = `vmclock.${here}.node`
  copyFileSync(join(project, `node_modules/vmclock-${here}`, addon), join(directory, addon))
  return addon
}

async function runOpen(directory, env) {
  const [file] = readdirSync(directory).filter((name) => name.startsWith('open.'))
  return JSON.parse(await inProject(directory, [process.execPath, file], env))
}
