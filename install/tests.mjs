// Tests the packages as users get them: it publishes the tarballs of a release to a registry on loopback
// and installs them into empty directories.
//
//   node install/tests.mjs [--long] [FILE…]
//
// runs the short form, or the long form, or only those files of `install/tests/`. It uses Node's own test
// runner.

import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, test } from 'node:test'
import { Unavailable } from '../tools/command.mjs'
import { pack } from '../tools/pack.mjs'
import { publish } from '../tools/publish.mjs'
import { startRegistry } from '../tools/registry.mjs'

const isShort = !process.argv.includes('--long')
const wanted = process.argv.slice(2).filter((word) => word !== '--long')
const directory = join(import.meta.dirname, 'tests')
const names = readdirSync(directory).map((file) => basename(file, '.mjs'))
const unknown = wanted.filter((name) => !names.includes(name))
if (unknown.length > 0) throw new Error(`no ${unknown.join(', ')}; there are: ${names.join(' ')}`)

// The short form uses the addon that is built for this machine. The four of a release take minutes.
const packages = await pack({ isOwn: isShort })
const registry = await startRegistry()
after(() => registry.close())
await publish([join(packages[0].directory, '..'), ...registry.publishOptions])

/**
 * Defines a test. The short form skips a test that only the long form runs, and says so. A test that this
 * machine cannot run is skipped, unless VMCLOCK_REQUIRE_ALL is 1.
 */
function defineTest(name, run, { isInShortForm = true } = {}) {
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
  const { defineTests } = await import(join(directory, `${name}.mjs`))
  defineTests(defineTest, { packages, registry })
}
