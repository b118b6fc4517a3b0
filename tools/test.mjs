// `npm test` runs every suite but those by name only, which it names; `node tools/test.mjs NAME…` those of
// the names. Each shows its runner's own output; a failure does not keep the later ones from running. The
// last line counts suites.
//
// With VMCLOCK_REQUIRE_ALL=1 a suite that this machine cannot run is a failure.

import { explain, Unavailable } from './command.mjs'
import { suites } from './suites.mjs'

const outcomes = { passed: [], failed: [], skipped: [] }

for (const suite of chosen(process.argv.slice(2))) {
  console.log(`\n=== ${suite.name}`)
  const startMs = performance.now()
  const outcome = await runSuite(suite)
  outcomes[outcome].push(suite.name)
  console.log(`=== ${suite.name}: ${outcome} in ${secondsSince(startMs)} s`)
}

console.log()
if (process.argv.length === 2) {
  const byName = suites.filter((suite) => suite.byNameOnly).map(({ name }) => name)
  console.log(`by name only: ${byName.join(' ')}`)
}
if (outcomes.failed.length > 0) console.log(`failed: ${outcomes.failed.join(' ')}`)
if (outcomes.skipped.length > 0) console.log(`skipped: ${outcomes.skipped.join(' ')}`)
console.log(
  Object.entries(outcomes)
    .map(([outcome, names]) => `${names.length} ${outcome}`)
    .join(', '),
)
process.exitCode = outcomes.failed.length === 0 ? 0 : 1

function chosen(names) {
  const unknown = names.filter((name) => !suites.some((suite) => suite.name === name))
  if (unknown.length > 0) {
    console.error(
      `no suite ${unknown.join(', ')}; there are: ${suites.map(({ name }) => name).join(' ')}`,
    )
    process.exit(2)
  }
  return suites.filter((suite) =>
    names.length === 0 ? suite.byNameOnly !== true : names.includes(suite.name),
  )
}

async function runSuite(suite) {
  try {
    const missing = await suite.needs?.()
    if (missing !== undefined) throw new Unavailable(missing)
    await suite.setUp()
    await suite.run()
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

function secondsSince(startMs) {
  return ((performance.now() - startMs) / 1000).toFixed(1)
}
