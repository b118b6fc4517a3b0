// Every call returns the right answer or throws an error with a documented code, for any arguments. It never
// crashes, never throws another exception, and never returns a wrong time. The arguments are random, and
// some run code when the package looks at them.
//
// VMCLOCK_BOUNDARY_CASES=N sets the number of calls, and VMCLOCK_BOUNDARY_SEED=N repeats those of a seed.
// VMCLOCK_BOUNDARY_TRACE=1 shows each call before it is made, which finds the one that crashes.

import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import test from 'ava'
import type { VmClockErrorCode } from 'vmclock'
import { isEmulated, rootDirectory, start } from './node-command'

const CASES = Number(process.env['VMCLOCK_BOUNDARY_CASES'] ?? (isEmulated ? 100 : 2000))
const SEED = Number(process.env['VMCLOCK_BOUNDARY_SEED'] ?? randomInt(2 ** 31))
// Calls that publish a page or examine the whole machine take longer, so there are fewer.
const SLOW_CASES = Math.ceil(CASES / 100)

interface Seen {
  readonly cases: number
  readonly right: number
  readonly refused: number
  readonly theirs: number
  readonly codes: Readonly<Record<string, number>>
  readonly left: { readonly threads: number; readonly mappings: number }
}

test('every call returns the right answer or a documented error, for any arguments', async (t) => {
  t.timeout(3_600_000)
  t.log(`VMCLOCK_BOUNDARY_SEED=${SEED} npx ava __test__/boundary.spec.ts`)
  const program = `${rootDirectory}__test__/boundary/program.cjs`
  const running = start(['--expose-gc', program, `${SEED}`, `${CASES}`, `${SLOW_CASES}`])
  t.teardown(() => running.child.kill('SIGKILL'))
  running.child.stdin.end()
  const { exitCode, signal, stdout, stderr } = await running.outcome
  // A crash explains nothing by itself, but the seed above repeats it.
  t.deepEqual({ exitCode, signal, stderr }, { exitCode: 0, signal: null, stderr: '' }, stdout)
  const seen = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Seen
  t.log(JSON.stringify(seen))
  t.is(seen.cases, CASES + SLOW_CASES)
  t.deepEqual(seen.left, { threads: 0, mappings: 0 })
  // The test shows something only if many calls succeed and many are refused.
  t.true(seen.right > CASES / 10 && seen.refused > CASES / 10)
  const documented = readFileSync(`${rootDirectory}docs/troubleshooting.md`, 'utf8')
  for (const code of Object.keys(seen.codes) as VmClockErrorCode[]) {
    t.true(documented.includes(code), code)
  }
})
