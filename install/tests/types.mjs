// Users' projects find the package's types with every setting that resolves modules. The compiler checks
// the declarations themselves too: skipLibCheck is off.

import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { npmPackage } from '../../tools/cache.mjs'
import { capture, rootDirectory } from '../../tools/command.mjs'
import { inProject, newProject, npmInstall } from '../project.mjs'

const tsc = [process.execPath, join(rootDirectory, 'node_modules/typescript/bin/tsc')]

async function typescript5() {
  return [process.execPath, join(await npmPackage('typescript', '5.9.3'), 'typescript/bin/tsc')]
}

// Version 6 takes no package's types by itself, and version 7 is another program.
const compilers = [
  { name: 'TypeScript 5', command: typescript5 },
  { name: "this project's TypeScript", command: async () => tsc },
  {
    name: 'TypeScript 7',
    command: async () => {
      const name = `@typescript/typescript-linux-${process.arch}`
      return [join(await npmPackage(name, '7.0.2'), name, 'lib/tsc')]
    },
  },
]

// The compiler options, and the manifest's `type` of the projects that use them.
const settings = [
  { module: 'node16', moduleResolution: 'node16', types: ['module', 'commonjs'] },
  {
    ...{ module: 'nodenext', moduleResolution: 'nodenext', types: ['module', 'commonjs'] },
    isInShortForm: true,
  },
  { module: 'esnext', moduleResolution: 'bundler', types: ['module'] },
  { module: 'preserve', moduleResolution: 'bundler', types: ['commonjs'] },
  // TypeScript 5 still knows the way Node 10 resolved modules. It reads typesVersions, not exports.
  {
    ...{ module: 'commonjs', moduleResolution: 'node10', types: ['commonjs'] },
    command: typescript5,
  },
]

// The ways of resolving modules that every compiler knows.
const KINDS = [
  ['node16', 'node16'],
  ['nodenext', 'nodenext'],
  ['esnext', 'bundler'],
]

const NODE_TYPES = ['@types/node', 'undici-types']

export function defineTests(defineTest, { registry, packages }) {
  for (const { module, moduleResolution, types, command, isInShortForm = false } of settings) {
    for (const type of types) {
      defineTest(
        `TypeScript finds the types with ${module}, ${moduleResolution}, type ${type}`,
        (t) => typeCheck(t, { module, moduleResolution, type, command }),
        { isInShortForm },
      )
    }
  }

  for (const { name, command } of compilers) {
    for (const withNode of [false, true]) {
      for (const [module, moduleResolution] of KINDS) {
        defineTest(
          `${name} takes the types with ${moduleResolution}, ${withNode ? 'beside' : 'without'} @types/node`,
          (t) => typeCheck(t, { module, moduleResolution, type: 'module', command, withNode }),
          { isInShortForm: module === 'nodenext' },
        )
      }
    }
  }

  for (const { name, command } of compilers) {
    for (const [module, moduleResolution] of KINDS) {
      defineTest(
        `${name} takes the adapters' types with ${moduleResolution}, beside their libraries`,
        (t) =>
          typeCheck(t, {
            ...{ module, moduleResolution, type: 'module', command },
            libraries: [...NODE_TYPES, '@opentelemetry/api', 'effect'],
            files: ['adapters-consumer.ts'],
            // The types of effect name some of the DOM's.
            lib: ['es2022', 'dom'],
          }),
        // The compiler takes many seconds for the types of effect.
        { isInShortForm: module === 'nodenext' && name === 'TypeScript 7' },
      )
    }
  }

  async function typeCheck(
    t,
    {
      module,
      moduleResolution,
      type,
      command = async () => tsc,
      withNode = true,
      libraries = withNode ? NODE_TYPES : [],
      files = withNode ? ['consumer.ts', 'node-consumer.ts'] : ['consumer.ts'],
      lib = ['es2022'],
    },
  ) {
    const project = newProject(t, registry, files)
    await npmInstall(project)
    writeJson(join(project, 'package.json'), { private: true, type })
    for (const library of libraries) {
      const link = join(project, 'node_modules', library)
      mkdirSync(dirname(link), { recursive: true })
      symlinkSync(join(rootDirectory, 'node_modules', library), link)
    }
    writeJson(join(project, 'tsconfig.json'), {
      compilerOptions: {
        ...{ module, moduleResolution, noEmit: true, strict: true, skipLibCheck: false },
        ...{ target: 'es2022', lib, types: withNode ? ['node'] : [] },
        preserveSymlinks: true,
      },
      files,
    })
    await inProject(project, [...(await command()), '-p', '.'])
  }

  defineTest('publint finds nothing in any package', async () => {
    for (const { name, directory } of packages) {
      // The directory holds just the files of the tarball, so publint need not pack it.
      const { messages: all, pkg } = await publint({ pkgDir: directory, pack: false, strict: true })
      // The command begins with a shell, which knows the signals that its parent ignored.
      const messages = all.filter(({ code }) => code !== 'BIN_FILE_NOT_EXECUTABLE')
      const found = messages.map((message) => formatMessage(message, pkg))
      assert.deepEqual(found, [], name)
    }
  })

  defineTest('@arethetypeswrong finds nothing in any entry point', async () => {
    const { file } = packages.find(({ name }) => name === 'vmclock')
    await capture('attw', [file, '--no-emoji', '--no-color'])
  })
}

function writeJson(path, value) {
  writeFileSync(path, JSON.stringify(value))
}
