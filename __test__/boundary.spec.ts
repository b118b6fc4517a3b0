// Whatever a program hands over, the answer is the right one or an error with a documented code: never a
// crash, never somebody else's exception, never a wrong time. The values are random, and may do something
// when they are looked at.
//
// VMCLOCK_BOUNDARY_CASES=N makes so many, VMCLOCK_BOUNDARY_SEED=N those of a seed once more. Of a seed that
// crashed, VMCLOCK_BOUNDARY_TRACE=1 shows each call before it is made.

import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import test from 'ava'
import type { VmClockErrorCode } from 'vmclock'
import { isEmulated, rootFolder, start } from './node-command'

const CASES = Number(process.env['VMCLOCK_BOUNDARY_CASES'] ?? (isEmulated ? 100 : 2000))
const SEED = Number(process.env['VMCLOCK_BOUNDARY_SEED'] ?? randomInt(2 ** 31))
// Those that publish or look at the whole machine.
const SLOW_CASES = Math.ceil(CASES / 100)

interface Seen {
  readonly cases: number
  readonly right: number
  readonly refused: number
  readonly theirs: number
  readonly codes: Readonly<Record<string, number>>
  readonly left: { readonly threads: number; readonly mappings: number }
}

test('whatever a call is given, it gives the right answer or a documented error', async (t) => {
  t.timeout(3_600_000)
  t.log(`VMCLOCK_BOUNDARY_SEED=${SEED} npx ava __test__/boundary.spec.ts`)
  const program = `${rootFolder}__test__/boundary/program.cjs`
  const running = start(['--expose-gc', program, `${SEED}`, `${CASES}`, `${SLOW_CASES}`])
  t.teardown(() => running.child.kill('SIGKILL'))
  running.child.stdin.end()
  const { exitCode, signal, stdout, stderr } = await running.outcome
  // A crash says nothing by itself: the seed above makes it again.
  t.deepEqual({ exitCode, signal, stderr }, { exitCode: 0, signal: null, stderr: '' }, stdout)
  const seen = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Seen
  t.log(JSON.stringify(seen))
  t.is(seen.cases, CASES + SLOW_CASES)
  t.deepEqual(seen.left, { threads: 0, mappings: 0 })
  // As good as nothing would be shown by calls that were all refused, or none.
  t.true(seen.right > CASES / 10 && seen.refused > CASES / 10)
  const documented = readFileSync(`${rootFolder}docs/troubleshooting.md`, 'utf8')
  for (const code of Object.keys(seen.codes) as VmClockErrorCode[]) {
    t.true(documented.includes(code), code)
  }
})
