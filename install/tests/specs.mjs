// What is published is not the build that the specs are run with otherwise: another compiler makes it,
// for an older C library, and to be small where no stamp runs.

import { join } from 'node:path'
import { run } from '../../tools/command.mjs'

const here = 'linux-x64-gnu'

export function promises(promise, { packages }) {
  promise(
    'every spec passes with the addon that is published',
    async () => {
      const { folder } = packages.find(({ name }) => name === `vmclock-${here}`)
      const addon = join(folder, `vmclock.${here}.node`)
      await run('ava', [], { env: { VMCLOCK_ADDON: addon } })
    },
    { isInShortForm: false },
  )
}
