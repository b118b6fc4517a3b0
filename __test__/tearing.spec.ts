// No reading mixes two states of the page. Readers run in the writer's process, in another process, and in
// workers.

import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import { isEmulated, rootDirectory, start } from './node-command'
import { page } from './pages'

interface Result {
  readonly readings: number
  readonly timeouts: number
  readonly torn: readonly string[][]
  readonly states: number
}

const require = createRequire(import.meta.url)
const { fieldsOf } = require('./tearing/page.cjs') as { fieldsOf(state: number): object }
const { read } = require('./tearing/reader.cjs') as {
  read(job: { path: string; count: number; leastStates: number }): Result
}

const READERS = 4
// How long a reader waits for an update to end.
const TIMEOUT_NS = 100_000_000
// Each reader reads on until it has seen this many changes of the page.
const LEAST_STATES = 300
const READS = isEmulated ? 100_000 : 10_000_000

async function readAll(
  t: ExecutionContext,
  manner: 'paused' | 'open',
  reads: number,
): Promise<{ timeouts: number; longestUpdateNs: number }> {
  t.timeout(600_000)
  const { path } = page(t, fieldsOf(1))
  const count = reads / READERS
  const tearing = `${rootDirectory}__test__/tearing`
  const writer = start([`${tearing}/writer.cjs`, path, manner, String(count), String(LEAST_STATES)])
  t.teardown(() => writer.child.kill('SIGKILL'))
  t.is(await writer.line(), 'writing')
  const workers = [true, false].map(
    (ordered) =>
      new Promise<Result>((resolve, reject) => {
        new Worker(`${tearing}/reader.cjs`, {
          workerData: { path, count, leastStates: LEAST_STATES, ordered },
        })
          .once('message', resolve)
          .once('error', reject)
      }),
  )
  const inThisThread = read({ path, count, leastStates: LEAST_STATES })
  const inTheWriter = JSON.parse(await writer.line()) as Result
  const results = [inThisThread, inTheWriter, ...(await Promise.all(workers))]
  writer.child.stdin.end()
  const longestUpdateNs = Number(await writer.line())
  t.is((await writer.outcome).exitCode, 0)
  const readings = results.reduce((sum, result) => sum + result.readings, 0)
  t.true(readings >= reads)
  t.deepEqual(
    results.flatMap(({ torn }) => torn),
    [],
  )
  t.log(
    `${readings} readings of ${results.map(({ states }) => states).join(', ')} states, ` +
      `timeouts: ${results.map(({ timeouts }) => timeouts).join(', ')}`,
  )
  const timeouts = results.reduce((sum, result) => sum + result.timeouts, 0)
  return { timeouts, longestUpdateNs }
}

test.serial('every read succeeds beside a writer that pauses for a microsecond', async (t) => {
  const { timeouts, longestUpdateNs } = await readAll(t, 'paused', READS)
  // A writer that waits for a CPU in the middle of an update blocks its readers. On a busy machine that
  // can last, and can happen again before a reader has run. So a timeout is right if the writer had to
  // wait at all.
  if (longestUpdateNs < TIMEOUT_NS / 10) t.is(timeouts, 0)
  else t.log(`the writer paused within an update for ${longestUpdateNs} ns`)
})

test.serial('every read is whole or times out beside a writer that never pauses', async (t) => {
  await readAll(t, 'open', READS / 10)
})
