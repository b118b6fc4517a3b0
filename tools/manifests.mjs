// Checks the guide's files for Compose and Kubernetes by these programs' own code, which manifests/ builds.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cached } from './cache.mjs'
import { CommandFailed, capture, rootDirectory } from './command.mjs'

const source = join(rootDirectory, 'tools/manifests')

/** A field that neither program has: the check can fail. */
const WRONG = { compose: 'services: { one: { imag: x } }', pod: 'spec: { container: [] }' }

/** Checks all blocks of YAML in the guide. Throws if one is refused, or if a wrong one is not. */
export async function checkManifests() {
  const recipe = Object.fromEntries(
    readdirSync(source).map((name) => [name, readFileSync(join(source, name), 'utf8')]),
  )
  const directory = await cached('manifests', recipe, (unfinished) =>
    capture('go', ['build', '-o', join(unfinished, 'manifests'), '.'], { cwd: source }),
  )
  const files = mkdtempSync(join(tmpdir(), 'vmclock-manifests-'))
  const check = async (kind, text) => {
    const file = join(files, 'file.yaml')
    writeFileSync(file, text)
    await capture(join(directory, 'manifests'), [kind, file])
  }
  try {
    const blocks = guideBlocks()
    for (const { place, text } of blocks) {
      const kind = /^services:/m.test(text) ? 'compose' : 'pod'
      await check(kind, text)
      console.log(`  ${place}: ${kind}`)
    }
    for (const [kind, text] of Object.entries(WRONG)) await refuses(() => check(kind, text))
  } finally {
    rmSync(files, { recursive: true })
  }
}

function guideBlocks() {
  const docs = join(rootDirectory, 'docs')
  return readdirSync(docs)
    .filter((name) => name.endsWith('.md'))
    .flatMap((name) => {
      const text = readFileSync(join(docs, name), 'utf8')
      return [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, block], index) => ({
        place: `docs/${name}, block ${index + 1}`,
        text: block,
      }))
    })
}

async function refuses(check) {
  try {
    await check()
  } catch (error) {
    if (error instanceof CommandFailed) return
    throw error
  }
  throw new Error('a wrong file was not refused')
}
