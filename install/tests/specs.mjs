// The published addon differs from the one that the specs use otherwise. Another compiler builds it, for an
// older C library, with its dependencies optimized for size.

import { join } from 'node:path'
import { run } from '../../tools/command.mjs'

const here = 'linux-x64-gnu'

export function defineTests(defineTest, { packages }) {
  defineTest(
    'every spec passes with the published addon',
    async () => {
      const { directory } = packages.find(({ name }) => name === `vmclock-${here}`)
      const addon = join(directory, `vmclock.${here}.node`)
      await run('ava', [], { env: { VMCLOCK_ADDON: addon } })
    },
    { isInShortForm: false },
  )
}
