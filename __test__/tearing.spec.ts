// No reading mixes two states of the page, wherever its reader is: in another process than the
// writer, in the same, in workers.

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
// Each reader goes on until it has seen the page change under it this often.
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
  const workers = [1, 2].map(
    () =>
      new Promise<Result>((resolve, reject) => {
        new Worker(`${tearing}/reader.cjs`, {
          workerData: { path, count, leastStates: LEAST_STATES },
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

test.serial(
  'with a writer that pauses a microsecond, every read is whole and none fails',
  async (t) => {
    const { timeouts, longestUpdateNs } = await readAll(t, 'paused', READS)
    // A writer that waits for a CPU in the middle of an update keeps the page from its readers. On a busy
    // machine that can last, and come again before a reader has run: where it has to wait at all, a
    // timeout is the right answer.
    if (longestUpdateNs < TIMEOUT_NS / 10) t.is(timeouts, 0)
    else t.log(`the writer stood still in an update for ${longestUpdateNs} ns`)
  },
)

test.serial('with a writer that never pauses, every read is whole or times out', async (t) => {
  await readAll(t, 'open', READS / 10)
})
