// Runs test suites. The last line counts them.
//
//   node tools/test.mjs                              the suites of `npm test`
//   node tools/test.mjs --all                        those and the suites of `npm run test:all`
//   node tools/test.mjs SUITE… [--long] [--seed N]   these suites
//   node tools/test.mjs --list                       prints all suites and their forms
//
// A failed suite does not stop the others. VMCLOCK_REQUIRE_ALL=1 makes a skipped suite a failure.

import { parseArgs } from 'node:util'
import { asProgram, explain, Unavailable } from './command.mjs'
import { groups, suites } from './suites.mjs'

const USAGE_ERROR = 2

function main(args) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      all: { type: 'boolean' },
      list: { type: 'boolean' },
      long: { type: 'boolean', default: false },
      seed: { type: 'string' },
    },
  })
  if (values.list) return list()
  const mistake = mistakeIn(values, positionals)
  if (mistake !== undefined) return refuse(mistake)
  return runAll(chosen(values, positionals), { isLong: values.long, seed: values.seed })
}

/** Returns what is wrong with the command line, or undefined. */
function mistakeIn({ all, long, seed }, names) {
  const unknown = names.filter((name) => !suites.some((suite) => suite.name === name))
  if (unknown.length > 0) return `no suite ${unknown.join(', ')}`
  if (all && names.length > 0) return '--all takes no suite'
  if ((long || seed !== undefined) && names.length === 0) return '--long and --seed need a suite'
  const named = suites.filter(({ name }) => names.includes(name))
  const noLong = named.find((suite) => suite.long === undefined)
  if (long && noLong !== undefined) return `${noLong.name} has no long form`
  const noSeed = named.find((suite) => !suite.takesSeed)
  if (seed !== undefined && noSeed !== undefined) return `${noSeed.name} takes no seed`
  if (seed !== undefined && !/^\d+$/.test(seed)) return '--seed takes a whole number'
  return undefined
}

function refuse(mistake) {
  console.error(`${mistake}\nnode tools/test.mjs --list shows the suites and their forms`)
  process.exitCode = USAGE_ERROR
}

function chosen({ all }, names) {
  if (names.length > 0) return suites.filter(({ name }) => names.includes(name))
  const [quick, slow] = groups
  return all ? [...quick.suites, ...slow.suites] : quick.suites
}

async function runAll(selected, form) {
  const outcomes = { passed: [], failed: [], skipped: [] }
  for (const suite of selected) {
    console.log(`\n=== ${suite.name}`)
    const startMs = performance.now()
    const outcome = await runSuite(suite, form)
    outcomes[outcome].push(suite.name)
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
    console.log(`=== ${suite.name}: ${outcome} in ${seconds} s`)
  }
  console.log()
  for (const outcome of ['failed', 'skipped']) {
    if (outcomes[outcome].length > 0) console.log(`${outcome}: ${outcomes[outcome].join(' ')}`)
  }
  const counts = Object.entries(outcomes).map(([outcome, names]) => `${names.length} ${outcome}`)
  console.log(counts.join(', '))
  process.exitCode = outcomes.failed.length === 0 ? 0 : 1
}

async function runSuite(suite, form) {
  try {
    const missing = await suite.missing?.()
    if (missing !== undefined) throw new Unavailable(missing)
    await suite.setUp()
    await suite.run(form)
    return 'passed'
  } catch (error) {
    if (error instanceof Unavailable) {
      console.log(`skipped: ${error.message}`)
      return process.env.VMCLOCK_REQUIRE_ALL === '1' ? 'failed' : 'skipped'
    }
    console.error(explain(error))
    return 'failed'
  }
}

function list() {
  const width = Math.max(...suites.map(({ name }) => name.length)) + 2
  for (const { command, suites } of groups) {
    console.log(command === 'npm run test:all' ? `\n${command} adds` : `\n${command}`)
    for (const suite of suites) {
      console.log(`  ${suite.name.padEnd(width)}${suite.shows}`)
      for (const detail of details(suite)) console.log(`${' '.repeat(width + 4)}${detail}`)
    }
  }
  console.log('\nAll suites need Node, npm, Rust and a C linker. --long and --seed need SUITE.')
}

function details({ long, within, takesSeed, needs }) {
  return [
    long && `--long: ${long}`,
    takesSeed && '--seed N: repeats a run',
    within && `the short form is part of \`${within}\``,
    needs && `needs ${needs}`,
  ].filter(Boolean)
}

await asProgram(import.meta.url, main)
