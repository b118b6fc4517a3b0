// Makes Grafana's dashboard from deploy/grafana/dashboard.ts, which Grafana's own types check.
//
//   node tools/dashboard.mjs    writes deploy/grafana/dashboard.json

import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { npmPackage } from './cache.mjs'
import { asProgram, capture, rootDirectory } from './command.mjs'

const require = createRequire(import.meta.url)
const source = join(rootDirectory, 'deploy/grafana/dashboard.ts')
const made = join(rootDirectory, 'deploy/grafana/dashboard.json')

// Not a dependency of the tree: only this file needs it.
const SCHEMA_VERSION = '13.2.3'

/** Checks that the dashboard is the one of its source, and that promtool accepts its queries of known metrics. */
export async function checkDashboard({ promtool }) {
  const dashboard = await builtDashboard()
  if (!isDeepStrictEqual(JSON.parse(readFileSync(made, 'utf8')), dashboard)) {
    throw new Error('deploy/grafana/dashboard.json is old: run node tools/dashboard.mjs')
  }
  const queries = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  const { ClockMetrics } = require('../dist/metrics.cjs')
  const { SimulatedClock } = require('../dist/testing.cjs')
  const known = new ClockMetrics(new SimulatedClock()).collect().map(({ name }) => name)
  const unknown = queries
    .flatMap((query) => query.match(/vmclock_\w+/g))
    .filter((name) => !known.includes(name))
  if (unknown.length > 0) throw new Error(`no such metric: ${unknown.join(', ')}`)
  await checkQueries(promtool, queries)
  console.log(`  deploy/grafana/dashboard.json: ${queries.length} queries`)
}

async function builtDashboard() {
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-dashboard-'))
  try {
    copyFileSync(source, join(directory, 'dashboard.ts'))
    symlinkSync(
      await npmPackage('@grafana/schema', SCHEMA_VERSION),
      join(directory, 'node_modules'),
    )
    const compilerOptions = {
      ...{ strict: true, noEmit: true, skipLibCheck: true, types: [] },
      ...{ module: 'preserve', moduleResolution: 'bundler', target: 'es2022' },
    }
    const project = { compilerOptions, files: ['dashboard.ts'] }
    writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(project))
    await capture('tsc', ['-p', '.'], { cwd: directory })
    const bundle = join(directory, 'dashboard.cjs')
    await capture(
      'esbuild',
      ['dashboard.ts', '--bundle', '--platform=node', `--outfile=${bundle}`],
      {
        cwd: directory,
      },
    )
    // As JSON holds it.
    return JSON.parse(JSON.stringify(require(bundle).dashboard))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** Has promtool parse the queries, as recording rules. */
async function checkQueries(promtool, queries) {
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-queries-'))
  try {
    const rules = queries.map((query, index) => ({
      record: `panel:query${index}`,
      // The variables of the dashboard.
      expr: query.replaceAll('$instance', '.*'),
    }))
    const file = join(directory, 'queries.yml')
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }))
    await capture(promtool, ['check', 'rules', file])
  } finally {
    rmSync(directory, { recursive: true })
  }
}

await asProgram(import.meta.url, async () => {
  writeFileSync(made, JSON.stringify(await builtDashboard()))
  await capture('biome', ['format', '--write', made])
})
