// What is promised of the packages as their users get them: the tarballs that a release publishes, in a
// registry on loopback, installed into empty folders.
//
//   node install/tests.mjs [--long] [FILE…]
//
// runs the short form, or the long form, or only those files of `install/tests/`. What runs is
// Node's own test runner.

import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, test } from 'node:test'
import { Unavailable } from '../tools/command.mjs'
import { pack } from '../tools/pack.mjs'
import { publish } from '../tools/publish.mjs'
import { startRegistry } from '../tools/registry.mjs'

const isShort = !process.argv.includes('--long')
const wanted = process.argv.slice(2).filter((word) => word !== '--long')
const folder = join(import.meta.dirname, 'tests')
const names = readdirSync(folder).map((file) => basename(file, '.mjs'))
const unknown = wanted.filter((name) => !names.includes(name))
if (unknown.length > 0) throw new Error(`no ${unknown.join(', ')}; there are: ${names.join(' ')}`)

// What every change waits for is this machine's build of the addon: the four of a release take minutes.
const packages = await pack({ isOwn: isShort })
const registry = await startRegistry()
after(() => registry.close())
await publish([join(packages[0].folder, '..'), ...registry.publishOptions])

/**
 * Declares a test; one that this machine cannot run is skipped, unless all are required. The short form
 * names those that only the long one runs.
 */
function promise(name, run, { isInShortForm = true } = {}) {
  if (isShort && !isInShortForm) {
    test(name, { skip: 'only in the long form: node tools/test.mjs packages --long' })
    return
  }
  test(name, async (t) => {
    try {
      await run(t)
    } catch (error) {
      if (!(error instanceof Unavailable) || process.env.VMCLOCK_REQUIRE_ALL === '1') throw error
      t.skip(error.message)
    }
  })
}

for (const name of wanted.length > 0 ? wanted : names) {
  const { promises } = await import(join(folder, `${name}.mjs`))
  promises(promise, { packages, registry })
}
