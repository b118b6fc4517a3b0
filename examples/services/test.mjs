// Runs the services, and checks what they promise. VMCLOCK_EXAMPLES=long runs them for longer.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { tableFromIPC } from 'apache-arrow'
import { VmClock } from '../../dist/index.mjs'
import { VmClockPage } from '../../dist/testing.mjs'
import { Capture } from './capture.mjs'
import { RUNS as CONSISTENCY_RUNS, countInversions } from './external-consistency.mjs'
import { RUNS as LEASE_RUNS, runLeases } from './lease.mjs'
import { exactFields, machinePage, setBound } from './machines.mjs'
import { startPostgres } from './postgresql.mjs'

const isLong = process.env.VMCLOCK_EXAMPLES === 'long'
const TRANSACTIONS = isLong ? 10_000 : 2000
const LEASE_SECONDS = isLong ? 120 : 10

const directory = mkdtempSync(join(tmpdir(), 'vmclock-examples-'))
after(() => rmSync(directory, { recursive: true, force: true }))

test(`commit wait over PostgreSQL: no inversions, and some without it or with false bounds`, async (t) => {
  const server = await startPostgres()
  try {
    const found = []
    for (const { name, ...run } of CONSISTENCY_RUNS) {
      found.push(await countInversions({ server, transactions: TRANSACTIONS, ...run }))
      t.diagnostic(`${TRANSACTIONS} transactions ${name}: ${found.at(-1)} inversions`)
    }
    const [waited, hurried, lied] = found
    assert.equal(waited, 0)
    assert.ok(hurried > 0)
    assert.ok(lied > 0)
  } finally {
    await server.stop()
  }
})

for (const { name, ...run } of LEASE_RUNS) {
  const isTrue = name === 'true bounds'
  const promise = isTrue ? 'a lease never has two owners' : 'a lease with false bounds has two'
  test(`${promise}, whatever is killed, stopped or restarted`, async (t) => {
    const { owners, acts, overlaps } = await runLeases({ seconds: LEASE_SECONDS, ...run })
    t.diagnostic(`${owners} owners, ${acts} acts, ${overlaps} overlaps`)
    assert.ok(owners > 2 && acts > owners)
    if (isTrue) assert.equal(overlaps, 0)
    else assert.ok(overlaps > 0)
  })
}

test('a capture holds the times of its events, and Arrow reads them back', async () => {
  const path = join(directory, 'page')
  const page = machinePage(path, exactFields(directory), 0n, 1000n)
  const clock = VmClock.open(path)
  const capture = new Capture(clock, 100)
  const before = clock.nowNs()
  for (let event = 0; event < 250; event++) capture.event(event / 4)
  capture.flush()
  const after = clock.nowNs()
  // A disruption in the middle of a batch: the batch is dropped, and the next ones are right again.
  for (let event = 0; event < 50; event++) capture.event(-1)
  page.write({ disruptionMarker: 1n })
  for (let event = 0; event < 50; event++) capture.event(-1)
  setBound(page, false)
  for (let event = 0; event < 10; event++) capture.event(500)
  const table = tableFromIPC(await capture.toFile())
  assert.equal(capture.dropped, 100)
  assert.equal(table.numRows, 260)
  const times = table.getChild('time').data.flatMap(({ values }) => [...values])
  const prices = [...table.getChild('price')]
  const errors = [...table.getChild('max_error_ns')]
  assert.ok(before <= times[0] && times[249] <= after)
  assert.ok(times.every((time, index) => index === 0 || times[index - 1] <= time))
  assert.deepEqual(
    prices.slice(0, 250),
    Array.from({ length: 250 }, (_, event) => event / 4),
  )
  assert.ok(errors.slice(0, 250).every((error) => error === 1001n))
  assert.ok(errors.slice(250).every((error) => error === null))
  clock.close()
  page.close()
})

test('the pages of the examples are pages that a reader accepts', () => {
  const path = join(directory, 'accepted')
  const page = machinePage(path, exactFields(directory), -400_000_000n, 5n)
  assert.ok(page instanceof VmClockPage)
  const clock = VmClock.open(path)
  assert.equal(clock.read().maxErrorNs, 6n)
  clock.close()
  page.close()
})
