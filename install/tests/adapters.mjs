// The adapters load with the library that they adapt to, and say which one to install without it.

import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { rootDirectory } from '../../tools/command.mjs'
import { inProject, newProject, npmInstall } from '../project.mjs'

const libraries = {
  opentelemetry: '@opentelemetry/api',
  'opentelemetry/register': '@opentelemetry/api',
  effect: 'effect',
}

/** Programs that load an adapter and print the names that it exports. */
const loaders = {
  import: (name) => [
    '--input-type=module',
    '--eval',
    `console.log(Object.keys(await import('vmclock/${name}')).join())`,
  ],
  require: (name) => ['--eval', `console.log(Object.keys(require('vmclock/${name}')).join())`],
}

export function defineTests(defineTest, { registry }) {
  for (const [loader, program] of Object.entries(loaders)) {
    defineTest(
      `an adapter without its library says which one to install, by ${loader}`,
      async (t) => {
        const project = newProject(t, registry)
        await npmInstall(project)
        for (const [name, library] of Object.entries(libraries)) {
          const loading = inProject(project, [process.execPath, ...program(name)])
          await assert.rejects(loading, ({ message }) => {
            assert.match(message, /ERR_VMCLOCK_NO_PEER/)
            assert.ok(message.includes(`npm install ${library}`), message)
            return true
          })
        }
        const names = await inProject(project, [process.execPath, ...program('pino')])
        assert.match(names, /\bvmclockTime\b/)
      },
    )

    defineTest(`an adapter beside its library loads, by ${loader}`, async (t) => {
      const project = newProject(t, registry)
      await npmInstall(project)
      for (const library of new Set(Object.values(libraries))) {
        const link = join(project, 'node_modules', library)
        mkdirSync(dirname(link), { recursive: true })
        symlinkSync(join(rootDirectory, 'node_modules', library), link)
      }
      const namesOf = (name) => inProject(project, [process.execPath, ...program(name)])
      assert.match(await namesOf('opentelemetry'), /\bvmclockTracerProvider\b/)
      assert.match(await namesOf('opentelemetry/register'), /\bclock\b/)
      assert.match(await namesOf('effect'), /\bvmclockLayer\b/)
    })
  }
}
