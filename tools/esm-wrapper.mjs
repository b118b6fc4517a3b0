// Writes the ES modules of the package's entry points. They hold no code: each exports by name what the
// CommonJS file beside it exports. So `import` and `require` give the same classes.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { rootDirectory } from './command.mjs'

const manifest = JSON.parse(readFileSync(join(rootDirectory, 'package.json'), 'utf8'))

/**
 * The entry points' names in dist/: `index`, and one for each subpath that package.json exports, with dashes for
 * slashes.
 */
export const entryPoints = Object.keys(manifest.exports)
  .filter((subpath) => subpath !== './package.json')
  .map((subpath) => (subpath === '.' ? 'index' : subpath.slice('./'.length).replaceAll('/', '-')))

/** The files of dist/ in a complete build. */
export const distFiles = [
  'adapter.cjs',
  'cli.cjs',
  'shared.cjs',
  ...entryPoints.flatMap((name) =>
    ['.cjs', '.d.cts', '.mjs', '.d.mts'].map((extension) => name + extension),
  ),
]

/** Writes each entry point's `.mjs` and `.d.mts` beside its `.cjs`, and checks the build. */
export function writeEsmWrapper(distDirectory) {
  const directory = resolve(distDirectory)
  for (const name of entryPoints) writeEntryPoint(directory, name)
  const files = readdirSync(directory)
  const missing = distFiles.filter((file) => !files.includes(file))
  if (missing.length > 0) throw new Error(`${directory} lacks ${missing.join(', ')}`)
  // tsup names a file of declarations after its content where two entry points share a type that
  // vmclock does not export.
  const unknown = files.filter((file) => file.endsWith('.d.cts') && !distFiles.includes(file))
  if (unknown.length > 0) {
    throw new Error(`${directory} holds ${unknown.join(', ')}: export its types from ts/index.ts`)
  }
}

function writeEntryPoint(directory, name) {
  const names = Object.keys(createRequire(import.meta.url)(join(directory, `${name}.cjs`))).sort()
  if (names.length === 0) throw new Error(`${directory}/${name}.cjs exports nothing`)
  if (names.includes('default'))
    throw new Error('a default export would differ between the two loaders')
  writeFileSync(
    join(directory, `${name}.mjs`),
    `import whole from './${name}.cjs'\n\nexport const {\n${names.map((each) => `  ${each},\n`).join('')}} = whole\n`,
  )
  writeFileSync(join(directory, `${name}.d.mts`), `export * from './${name}.cjs'\n`)
}
