// Checks the crates' dependencies with cargo-deny, by deny.toml.
//
//   node tools/licences.mjs               licences, bans and sources
//   node tools/licences.mjs advisories    known vulnerabilities, which needs the network

import { join } from 'node:path'
import { cached } from './cache.mjs'
import { asProgram, capture, run } from './command.mjs'

const version = '0.20.2'

/** Runs the named checks, or all that need no network. */
export async function checkLicences(checks = []) {
  const directory = await cached('cargo-deny', { version }, (unfinished) =>
    capture('cargo', [
      ...['install', '--quiet', '--locked', '--root', unfinished],
      ...['cargo-deny', '--version', version],
    ]),
  )
  const wanted = checks.length > 0 ? checks : ['licenses', 'bans', 'sources']
  await run(join(directory, 'bin/cargo-deny'), ['--workspace', 'check', ...wanted])
}

await asProgram(import.meta.url, checkLicences)
