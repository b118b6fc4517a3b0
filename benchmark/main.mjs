// Measures what a stamp costs beside its peers, on every supported Node, and how that scales.
//
//   npm run bench -- OPTION…
//
//   --quick        a few rounds on this Node only: checks that the benchmark works
//   --json FILE    writes the results to FILE
//   --runs N       makes N separate runs and reports the worst; default 3
//   --no-core      omits the Rust core, whose peers take a minute to build
//   --write-docs   measures nothing, and writes docs/performance.json into docs/performance.md
//   --check-docs   measures nothing, and fails if docs/performance.md differs from docs/performance.json

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { asProgram, capture, rootDirectory, timed } from '../tools/command.mjs'
import { setUp } from '../tools/setup.mjs'
import { checkDocs, writeDocs } from './docs.mjs'
import { countInstructions } from './instructions.mjs'
import { describeMachine, pinned } from './machine.mjs'
import { allNodes, ownNode } from './nodes.mjs'
import { buildCore, buildPeers, installClocks } from './peers.mjs'
import { corePeerRows, coreRows, nodeRows, scaleRows } from './rows.mjs'
import { median, quartiles } from './statistics.mjs'
import { printTable } from './table.mjs'

const FULL = {
  rounds: 400,
  stampProcesses: 5,
  readIntoCalls: 1e8,
  churnRounds: 40,
  stamps: 1_000_000,
  workerRounds: 90,
  waitRounds: 20,
  startUps: 15,
  workers: 4,
}
const QUICK = {
  rounds: 3,
  stampProcesses: 1,
  readIntoCalls: 1e5,
  churnRounds: 1,
  stamps: 10_000,
  workerRounds: 1,
  waitRounds: 1,
  startUps: 1,
  workers: 4,
}

const MEASURED = 'measured'

async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: 'boolean', default: false },
      'no-core': { type: 'boolean', default: false },
      json: { type: 'string' },
      runs: { type: 'string' },
      'write-docs': { type: 'boolean', default: false },
      'check-docs': { type: 'boolean', default: false },
    },
  })
  if (values['write-docs']) return writeDocs()
  if (values['check-docs']) return checkDocs()
  const size = values.quick ? QUICK : FULL
  const runs = Number(values.runs ?? (values.quick ? 1 : 3))
  if (!(Number.isInteger(runs) && runs > 0))
    throw new Error('--runs takes a whole number of 1 or more')
  await setUp()
  const result = await measureAll(size, runs, values)
  printTable(result)
  const { rows, peers } = result
  const missing = rows.filter(({ columns, needsFfi }) => !needsFfi && columns.includes(undefined))
  if (peers === MEASURED && missing.length > 0) {
    throw new Error(`no figure for ${missing.map(({ title }) => title).join(', ')}`)
  }
  if (values.json !== undefined) {
    writeFileSync(values.json, `${JSON.stringify(result, undefined, 1)}\n`)
  }
}

async function measureAll(size, runs, { quick, 'no-core': withoutCore }) {
  const nodes = quick ? [ownNode] : await allNodes()
  const peers = await buildPeers()
  const clocks = await installClocks()
  const core = withoutCore ? undefined : await buildCore()
  const machine = await describeMachine()
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-benchmark-'))
  try {
    const found = []
    for (let run = 1; run <= runs; run++) {
      const perNode = []
      for (const node of nodes) {
        const label = `run ${run} of ${runs}, Node ${node.version}`
        perNode.push(await timed(label, () => measureNode(node, size, peers, clocks, directory)))
      }
      const ofCore =
        core && (await timed(`run ${run} of ${runs}, the core`, () => measureCore(core, size)))
      found.push({ nodes: perNode, core: ofCore })
    }
    return {
      machine: { ...machine, loadAfter: (await describeMachine()).load },
      quick,
      runs,
      nodes: nodes.map(({ version }) => version),
      peers: peers === undefined ? 'skipped: no C compiler (cc)' : MEASURED,
      rows: [
        ...[...nodeRows, ...scaleRows].map((row) =>
          summary(
            row,
            nodes.map((_, index) => found.map(({ nodes }) => nodes[index][row.program])),
          ),
        ),
        ...(core ? [...coreRows, ...corePeerRows] : []).map((row) =>
          summary(row, [found.map(({ core }) => core)]),
        ),
      ],
      costs: costs(nodes, found),
      instructions: core && (await countInstructions(core)),
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** Returns the figures of each program on one Node. */
async function measureNode(node, size, peers, clocks, directory) {
  const one = await pinned(0)
  const other = await pinned(1)
  const page = (name) => join(directory, name)
  const run = async (command, program, ...args) => {
    const words = [...command, node.path, `benchmark/programs/${program}.mjs`, ...args]
    return JSON.parse(await capture(words[0], words.slice(1).map(String)))
  }
  const inC = peers ? [peers] : []
  const stamps = []
  for (let process = 0; process < size.stampProcesses; process++) {
    const rounds = Math.ceil(size.rounds / size.stampProcesses)
    stamps.push(await run(one, 'stamps', page(`stamps-${process}`), rounds, clocks, ...inC))
  }
  const variants = await run(one, 'variants', page('variants'), size.rounds, ...inC)
  const unordered = await run(one, 'unordered', page('unordered'), size.rounds, ...inC)
  const ffi = {
    ...(await run(one, 'ffi', page('ffi-ordered'), size.rounds, 'ordered')),
    ...(await run(one, 'ffi', page('ffi-unordered'), size.rounds, 'unordered')),
  }
  const convert = await run(one, 'convert', page('convert'), size.rounds, ...inC)
  const spans = await run(one, 'spans', page('spans'), size.rounds)
  const clones = await run(one, 'clones', page('clones'), size.rounds)
  // Not pinned: other work on the same CPU would delay the timers.
  const waits = await run([], 'waits', page('waits'), size.waitRounds)
  // Not pinned: a pinned process would compile and collect garbage on the same CPU.
  const workers = await run([], 'workers', page('workers'), size.workerRounds, size.workers)
  const churn = await run(one, 'churn', page('churn'), size.churnRounds, size.stamps, ...other)
  const garbage = await run(one, 'garbage', page('garbage'), size.readIntoCalls)
  const startUps = []
  for (let start = 0; start < size.startUps; start++) {
    startUps.push(await run([], 'start-up', page('garbage')))
  }
  return {
    ...{ variants, unordered, ffi, convert, spans, clones, waits, workers, churn, garbage },
    stamps: merged(stamps),
    'start-up': merged(startUps),
  }
}

async function measureCore(program, size) {
  const words = [...(await pinned(0)), program, size.rounds]
  return JSON.parse(await capture(words[0], words.slice(1).map(String), { cwd: rootDirectory }))
}

function summary(row, runsByNode) {
  const { title, goal, floor, more, costs, needsFfi } = row
  const columns = runsByNode.map((runs) => {
    const worst = row.worst(runs.map((found) => row.figures(found)))
    const reached = runs.map((found) => row.reached(found)).filter((hz) => hz !== undefined)
    const reachedHz = reached.length === 0 ? undefined : Math.min(...reached)
    if (worst === undefined) return undefined
    return {
      median: median(worst),
      quartiles: quartiles(worst),
      standing: row.standing(median(worst), reachedHz),
      reachedHz,
      runs: runs.map((found) => median(row.figures(found))),
    }
  })
  return { title, goal, floor, more, needsFfi, ofCore: row.program === 'core', costs, columns }
}

// Returns the medians of single figures over all runs, in nanoseconds.
function costs(nodes, found) {
  const programs = [
    'stamps',
    'variants',
    'unordered',
    'ffi',
    'convert',
    'spans',
    'waits',
    'workers',
    'churn',
    'start-up',
  ]
  const perNode = nodes.map((_, index) =>
    Object.assign(
      {},
      ...programs.map((program) => medians(found.map((run) => run.nodes[index][program]))),
    ),
  )
  return { nodes: perNode, core: medians(found.flatMap(({ core }) => core ?? [])) }
}

function medians(runs) {
  const all = merged(runs)
  return Object.fromEntries(Object.entries(all).map(([name, figures]) => [name, median(figures)]))
}

function merged(runs) {
  const all = {}
  for (const run of runs) {
    for (const [name, figures] of Object.entries(run))
      all[name] = [...(all[name] ?? []), ...figures]
  }
  return all
}

await asProgram(import.meta.url, main)
