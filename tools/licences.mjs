// What the crates depend on: licences, bans and sources, as deny.toml allows them. `node
// tools/licences.mjs advisories` asks for known vulnerabilities instead, which needs the network.

import { join } from 'node:path'
import { cached } from './cache.mjs'
import { asProgram, capture, run } from './command.mjs'

const version = '0.20.2'

/** Checks what is named, or all that needs no network. */
export async function checkLicences(checks = []) {
  const folder = await cached('cargo-deny', { version }, (unfinished) =>
    capture('cargo', [
      ...['install', '--quiet', '--locked', '--root', unfinished],
      ...['cargo-deny', '--version', version],
    ]),
  )
  const wanted = checks.length > 0 ? checks : ['licenses', 'bans', 'sources']
  await run(join(folder, 'bin/cargo-deny'), ['--workspace', 'check', ...wanted])
}

await asProgram(import.meta.url, checkLicences)
