// `node tools/publish.mjs DIRECTORY [OPTION…]` publishes the five tarballs in a directory. The options go
// to npm: `--dry-run` shows what would be published.
//
// It publishes the root package last, once the registry serves all addons, so that nobody can install a
// release without its addons. It skips packages that are already published, so running it again completes
// an interrupted release.

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { asProgram, capture, run } from './command.mjs'

const defaultRetries = { attempts: 30, pauseMs: 2000 }

/** Publishes the tarballs in a directory. `options` go to npm. */
export async function publish([directory, ...options], { attempts, pauseMs } = defaultRetries) {
  if (directory === undefined) throw new Error('give the directory that holds the tarballs')
  const packages = await readPackages(resolve(directory))
  const root = packages.find(({ manifest }) => manifest.optionalDependencies !== undefined)
  if (root === undefined) throw new Error(`no root package in ${directory}`)
  const addons = packages.filter((each) => each !== root)
  requireAllOf(root, addons)
  const isDryRun = options.includes('--dry-run')
  const registry = await registryOf(options)
  for (const addon of addons) await publishOne(addon, options, registry)
  for (const addon of isDryRun ? [] : addons) {
    for (let left = attempts; (await served(addon, registry)) !== addon.integrity; left -= 1) {
      if (left <= 1) throw new Error(`the registry does not serve ${addon.specifier}`)
      await setTimeout(pauseMs)
    }
  }
  await publishOne(root, options, registry)
}

function readPackages(directory) {
  const files = readdirSync(directory).filter((file) => file.endsWith('.tgz'))
  return Promise.all(
    files.map(async (entry) => {
      const file = join(directory, entry)
      const manifest = JSON.parse(await capture('tar', ['-xzOf', file, 'package/package.json']))
      const digest = createHash('sha512').update(readFileSync(file)).digest('base64')
      const { name, version } = manifest
      const integrity = `sha512-${digest}`
      return { file, name, version, manifest, integrity, specifier: `${name}@${version}` }
    }),
  )
}

function requireAllOf(root, addons) {
  const wanted = Object.entries(root.manifest.optionalDependencies).map((pair) => pair.join('@'))
  const present = addons.map(({ specifier }) => specifier)
  const wrong = [
    ...wanted.filter((each) => !present.includes(each)).map((each) => `${each} is missing`),
    ...present.filter((each) => !wanted.includes(each)).map((each) => `${each} is not wanted`),
  ]
  if (wrong.length > 0) throw new Error(wrong.join('\n'))
}

async function publishOne(each, options, registry) {
  const { file, specifier, integrity } = each
  const there = await served(each, registry)
  if (there === integrity) return console.log(`${specifier} is already published`)
  if (there !== undefined) throw new Error(`another ${specifier} is already published`)
  await run('npm', ['publish', file, ...options])
}

// Returns the integrity of the version that the registry serves; undefined if it serves none.
async function served({ name, version }, registry) {
  const response = await fetch(new URL(name, registry), { cache: 'no-store' })
  if (response.status === 404) return undefined
  if (!response.ok) throw new Error(`${response.url} answers ${response.status}`)
  return (await response.json()).versions[version]?.dist.integrity
}

async function registryOf(options) {
  const named = options.find((option) => option.startsWith('--registry='))
  return (
    named?.slice('--registry='.length) ??
    (await capture('npm', ['config', 'get', 'registry'])).trim()
  )
}

await asProgram(import.meta.url, publish)
