// One class for both loaders: the ES module holds no code of its own, it re-exports the CommonJS
// build by name. The names come from that build itself, so none can be forgotten.

import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

/** Writes index.mjs, what it imports, and index.d.mts beside index.cjs in `distFolder`. */
export function writeEsmWrapper(distFolder) {
  const require = createRequire(import.meta.url)
  const names = Object.keys(require(join(distFolder, 'index.cjs'))).sort()
  if (names.length === 0) throw new Error(`${distFolder}/index.cjs exports nothing`)
  if (names.includes('default'))
    throw new Error('a default export would differ between the two loaders')
  // Whoever imports CommonJS has Node read it through once more, for the names that it exports, which
  // takes Node 20 and 22 longer than all of the rest. Where the whole is assigned by another name than
  // `require(…)` itself, they do not look for more.
  writeFileSync(
    join(distFolder, 'whole.cjs'),
    "const vmclock = require('./index.cjs')\nmodule.exports = vmclock\n",
  )
  writeFileSync(
    join(distFolder, 'index.mjs'),
    `import vmclock from './whole.cjs'\n\nexport const {\n${names.map((name) => `  ${name},\n`).join('')}} = vmclock\n`,
  )
  writeFileSync(join(distFolder, 'index.d.mts'), `export * from './index.cjs'\n`)
}
