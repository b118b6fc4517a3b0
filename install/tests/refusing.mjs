// The package loads even if its native part is unusable. Then `open` says which package it expected, what it
// found, and what to do.

import assert from 'node:assert/strict'
import { copyFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inProject, newProject, npmInstall } from '../project.mjs'
import { deno, others } from '../runtimes.mjs'

const here = 'linux-x64-gnu'
const musl = 'linux-x64-musl'

export function defineTests(defineTest, { registry, packages }) {
  const addonOf = (project, kind) =>
    join(project, `node_modules/vmclock-${kind}/vmclock.${kind}.node`)

  const cases = {
    'optional dependencies were left out': {
      flags: ['--omit=optional'],
      says: [
        /its package, vmclock-linux-x64-gnu [\d.]+, is not installed, nor is that of any other/,
        /--omit=optional.*\nrun `npm install --include=optional vmclock`/,
      ],
      cause: 'MODULE_NOT_FOUND',
    },
    'node_modules was made for another C library': {
      isInShortForm: false,
      flags: ['--libc=musl'],
      says: [
        /vmclock-linux-x64-gnu [\d.]+, is not installed, but vmclock-linux-x64-musl is:/,
        /npm ci/,
      ],
      cause: 'MODULE_NOT_FOUND',
    },
    'node_modules was made for another CPU': {
      isInShortForm: false,
      flags: ['--cpu=arm64'],
      says: [/vmclock-linux-x64-gnu [\d.]+, is not installed, but vmclock-linux-arm64-gnu is:/],
      cause: 'MODULE_NOT_FOUND',
    },
    'the addon is damaged': {
      spoil: (project) => writeFileSync(addonOf(project, here), 'damaged'),
      says: [
        /vmclock-linux-x64-gnu [\d.]+ is installed, but it does not load \(.+\): it is damaged/,
      ],
      cause: 'ERR_DLOPEN_FAILED',
    },
    'the addon is cut off': {
      spoil: (project) => {
        const addon = addonOf(project, here)
        truncateSync(addon, statSync(addon).size / 2)
      },
      says: [/is installed, but it does not load \(it has \d+ bytes of \d+\): it is damaged/],
    },
    "the addon is another CPU's": {
      isInShortForm: false,
      spoil: (project) => {
        const arm64 = packages.find(({ name }) => name === 'vmclock-linux-arm64-gnu')
        copyFileSync(join(arm64.directory, 'vmclock.linux-arm64-gnu.node'), addonOf(project, here))
      },
      says: [/is installed, but it does not load \(.+\): it is damaged, or was made for another/],
      cause: 'ERR_DLOPEN_FAILED',
    },
    'the file of the addon is gone': {
      spoil: (project) => rmSync(addonOf(project, here)),
      says: [/vmclock-linux-x64-gnu [\d.]+ is installed, but it does not load/],
      cause: 'MODULE_NOT_FOUND',
    },
    'Node may not load addons': {
      nodeOptions: ['--no-addons'],
      says: [/may not be loaded.*\nstart Node without --no-addons/],
      cause: 'ERR_DLOPEN_DISABLED',
    },
    'VMCLOCK_ADDON leads nowhere': {
      env: { VMCLOCK_ADDON: 'nowhere.node' },
      says: [/VMCLOCK_ADDON names \/.*\/nowhere\.node, which does not load/],
      cause: 'MODULE_NOT_FOUND',
    },
  }
  for (const [name, { isInShortForm, ...of }] of Object.entries(cases)) {
    const { flags, spoil, nodeOptions = [], env, says, cause } = of
    defineTest(
      `open says that ${name}`,
      async (t) => {
        const project = newProject(t, registry, ['open.cjs'])
        await npmInstall(project, { flags })
        spoil?.(project)
        assertRefusal(await runOpen(project, [process.execPath, ...nodeOptions], env), says, cause)
      },
      { isInShortForm },
    )
  }

  defineTest(
    'open says that on musl only the package for glibc is installed',
    async (t) => {
      const runtime = await others.find(({ kind }) => kind === musl).command()
      const project = newProject(t, registry, ['open.cjs'])
      await npmInstall(project)
      assertRefusal(
        await runOpen(project, runtime),
        [/vmclock-linux-x64-musl [\d.]+, is not installed, but vmclock-linux-x64-gnu is:/],
        'MODULE_NOT_FOUND',
      )
    },
    { isInShortForm: false },
  )

  defineTest('open says which permissions Deno must give', async (t) => {
    const project = newProject(t, registry, ['open.cjs'])
    await npmInstall(project)
    const needed = ['read', 'env', 'sys', 'ffi']
    const command = async (names) => {
      const all = await deno.command()
      const allowed = names.map((name) => `--allow-${name}`)
      return [...all.filter((word) => word !== '--allow-all'), '--no-prompt', ...allowed]
    }
    const whole = await runOpen(project, await command(needed))
    assert.equal(whole.isSupported, true)
    // Without the right to read, Deno does not load the package either.
    for (const missing of needed.filter((name) => name !== 'read')) {
      const rest = needed.filter((name) => name !== missing)
      const result = await runOpen(project, await command(rest))
      const says = [new RegExp(`Requires ${missing} access`), /\nstart Deno with .*--allow-ffi/]
      assertRefusal(result, says)
      assert.doesNotMatch(result.message, /damaged/)
    }
  })

  defineTest('the package uses the addon whose path is in VMCLOCK_ADDON', async (t) => {
    const project = newProject(t, registry, ['open.cjs'])
    await npmInstall(project)
    renameSync(addonOf(project, here), join(project, 'elsewhere.node'))
    const env = { VMCLOCK_ADDON: 'elsewhere.node' }
    const result = await runOpen(project, [process.execPath], env)
    assert.equal(result.isSupported, true)
    assert.equal(result.code, 'ERR_VMCLOCK_NOT_FOUND')
  })
}

async function runOpen(project, command, env) {
  return JSON.parse(await inProject(project, [...command, 'open.cjs'], env))
}

function assertRefusal(result, says, cause) {
  assert.equal(result.code, 'ERR_VMCLOCK_NATIVE')
  assert.equal(result.isSupported, false)
  for (const pattern of says) assert.match(`${result.message}\n${result.remedy}`, pattern)
  assert.equal(result.cause, cause, result.message)
}
