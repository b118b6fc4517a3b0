// Part of `npm version`: sets the version of the crates to the version in package.json.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { asProgram, rootDirectory, run } from './command.mjs'

const cargoManifest = join(rootDirectory, 'Cargo.toml')
const line = /^(\[workspace\.package\]\nversion = )"([^"]+)"/m

/** Returns the version of the package. Throws if the crates have another version. */
export function packageVersion() {
  const { version } = JSON.parse(readFileSync(join(rootDirectory, 'package.json'), 'utf8'))
  const crates = line.exec(readFileSync(cargoManifest, 'utf8'))?.[2]
  if (crates !== version) {
    throw new Error(
      `package.json has version ${version} and Cargo.toml ${crates}; fix it with node tools/version.mjs`,
    )
  }
  return version
}

async function setVersion() {
  const { version } = JSON.parse(readFileSync(join(rootDirectory, 'package.json'), 'utf8'))
  const manifest = readFileSync(cargoManifest, 'utf8')
  writeFileSync(cargoManifest, manifest.replace(line, `$1"${version}"`))
  await run('cargo', ['update', '--workspace', '--quiet'])
}

await asProgram(import.meta.url, setVersion)
