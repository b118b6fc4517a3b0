// Users' projects see the package's types, whichever way they resolve modules, and the types are sound
// by themselves: nothing is skipped.

import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { capture, rootFolder } from '../../tools/command.mjs'
import { inProject, newProject, npmInstall } from '../project.mjs'

const tsc = join(rootFolder, 'node_modules/typescript/bin/tsc')

// Module, resolution, and the projects that they are for: the manifest's `type`.
const settings = [
  { module: 'node16', moduleResolution: 'node16', types: ['module', 'commonjs'] },
  {
    ...{ module: 'nodenext', moduleResolution: 'nodenext', types: ['module', 'commonjs'] },
    isInShortForm: true,
  },
  { module: 'esnext', moduleResolution: 'bundler', types: ['module'] },
  { module: 'preserve', moduleResolution: 'bundler', types: ['commonjs'] },
]

export function promises(promise, { registry, packages }) {
  for (const { module, moduleResolution, types, isInShortForm = false } of settings) {
    for (const type of types) {
      promise(
        `TypeScript: ${module}, ${moduleResolution}, type ${type}`,
        (t) => typeCheck(t, { module, moduleResolution, type }),
        { isInShortForm },
      )
    }
  }

  async function typeCheck(t, { module, moduleResolution, type }) {
    const project = newProject(t, registry, ['consumer.ts'])
    await npmInstall(project)
    writeJson(join(project, 'package.json'), { private: true, type })
    // The one thing that the types lean on, which every such project has.
    mkdirSync(join(project, 'node_modules/@types'))
    for (const name of ['@types/node', 'undici-types']) {
      symlinkSync(join(rootFolder, 'node_modules', name), join(project, 'node_modules', name))
    }
    writeJson(join(project, 'tsconfig.json'), {
      compilerOptions: {
        ...{ module, moduleResolution, noEmit: true, strict: true, skipLibCheck: false },
        ...{ target: 'es2022', lib: ['es2022'], types: ['node'], preserveSymlinks: true },
      },
      files: ['consumer.ts'],
    })
    await inProject(project, [process.execPath, tsc, '-p', '.'])
  }

  promise('publint finds nothing in any package', async () => {
    for (const { name, folder } of packages) {
      // Nothing is packed anew: what is in the folder is what was packed.
      const { messages, pkg } = await publint({ pkgDir: folder, pack: false, strict: true })
      const found = messages.map((message) => formatMessage(message, pkg))
      assert.deepEqual(found, [], name)
    }
  })

  promise('@arethetypeswrong finds nothing', async () => {
    const { file } = packages.find(({ name }) => name === 'vmclock')
    await capture('attw', [file, '--no-emoji', '--no-color'])
  })
}

function writeJson(path, value) {
  writeFileSync(path, JSON.stringify(value))
}
