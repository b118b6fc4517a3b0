// Checks the files of deploy/ for Compose and Kubernetes by these programs' own code, which manifests/ builds.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { cached } from './cache.mjs'
import { CommandFailed, capture, rootDirectory } from './command.mjs'

const source = join(rootDirectory, 'tools/manifests')
const deploy = join(rootDirectory, 'deploy')

const KUSTOMIZATION = 'kustomization.yaml'

/** Checks all files. Throws if one is refused, or if a wrong one is not. */
export async function checkManifests() {
  const recipe = Object.fromEntries(
    readdirSync(source).map((name) => [name, readFileSync(join(source, name), 'utf8')]),
  )
  const directory = await cached('manifests', recipe, (unfinished) =>
    capture('go', ['build', '-o', join(unfinished, 'manifests'), '.'], { cwd: source }),
  )
  const check = (kind, path) => capture(join(directory, 'manifests'), [kind, path])
  const all = manifests()
  for (const kind of ['compose', 'kubernetes', 'kustomize']) {
    if (!all.some((one) => one.kind === kind)) throw new Error(`deploy/ has no file for ${kind}`)
  }
  for (const { kind, path } of all) {
    await check(kind, path)
    console.log(`  ${relative(rootDirectory, path)}: ${kind}`)
  }
  await checkRefusals(check)
}

/** Lists each file with the program that it is for; a directory that Kustomize builds is one. */
function manifests() {
  const names = readdirSync(join(deploy, 'kubernetes'), { recursive: true })
  const built = names
    .filter((name) => basename(name) === KUSTOMIZATION)
    .map((name) => ({ kind: 'kustomize', path: join(deploy, 'kubernetes', dirname(name)) }))
  const single = names
    .filter((name) => dirname(name) === '.' && name.endsWith('.yaml'))
    .map((name) => ({ kind: 'kubernetes', path: join(deploy, 'kubernetes', name) }))
  return [{ kind: 'compose', path: join(deploy, 'compose.yaml') }, ...built, ...single]
}

/** Checks that fields which these programs do not have are refused. */
async function checkRefusals(check) {
  const files = mkdtempSync(join(tmpdir(), 'vmclock-manifests-'))
  const write = (name, text) => {
    const path = join(files, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text)
    return path
  }
  try {
    const compose = write('compose.yaml', 'services: { one: { imag: x } }')
    const pod = write('pod.yaml', 'kind: Pod\nspec: { container: [] }')
    const set = 'apiVersion: apps/v1\nkind: DaemonSet\nmetadata: { name: one }\nspec: { pods: 1 }'
    write('built/set.yaml', set)
    const built = write(`built/${KUSTOMIZATION}`, 'resources: [set.yaml]')
    await refuses(() => check('compose', compose))
    await refuses(() => check('kubernetes', pod))
    await refuses(() => check('kustomize', dirname(built)))
  } finally {
    rmSync(files, { recursive: true })
  }
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
