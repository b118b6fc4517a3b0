// External consistency over PostgreSQL: two services on two machines write to one table, and the order of the
// stamps is the order in which things happened. With commit wait there are no inversions.

import { fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { exactFields, machinePage } from './machines.mjs'
import { startPostgres } from './postgresql.mjs'

const writerProgram = fileURLToPath(new URL('writer.mjs', import.meta.url))
const CHAINS = 40

/**
 * Runs transactions in chains: each one begins after the answer to the one before it, on the other machine.
 * Returns how many stamps are not after the stamp before them.
 */
export async function countInversions({ server, transactions, mode, maxErrorNs, skewsNs }) {
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-consistency-'))
  const database = new pg.Client(server.connection)
  await database.connect()
  try {
    await database.query('DROP TABLE IF EXISTS events')
    await database.query('CREATE TABLE events (chain int, step int, stamp bytea)')
    const fields = exactFields(directory)
    const writers = skewsNs.map((skewNs, machine) => {
      const path = join(directory, `machine-${machine}`)
      machinePage(path, fields, skewNs, maxErrorNs).close()
      return startWriter(path, mode, server.connection)
    })
    try {
      const steps = transactions / CHAINS
      await Promise.all(
        Array.from({ length: CHAINS }, async (_, chain) => {
          for (let step = 0; step < steps; step++) {
            await writers[(chain + step) % writers.length].transact(chain, step)
          }
        }),
      )
    } finally {
      await Promise.all(writers.map((writer) => writer.close()))
    }
    // The database compares the bytes: a key of this column would sort the same way.
    const { rows } = await database.query(`
      SELECT count(*)::int AS transactions, (count(*) FILTER (WHERE stamp <= earlier))::int AS inversions
      FROM (SELECT stamp, lag(stamp) OVER (PARTITION BY chain ORDER BY step) AS earlier FROM events) AS pairs`)
    if (rows[0].transactions !== transactions) throw new Error('transactions are missing')
    return rows[0].inversions
  } finally {
    await database.end()
    rmSync(directory, { recursive: true, force: true })
  }
}

function startWriter(path, mode, connection) {
  const child = fork(writerProgram, [path, mode, JSON.stringify(connection)])
  const waiting = new Map()
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.on('message', ({ chain, error }) => {
    const { resolve, reject } = waiting.get(chain)
    waiting.delete(chain)
    if (error === undefined) resolve()
    else reject(new Error(error))
  })
  child.once('exit', (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`a writer ended with ${code}`))
  })
  return {
    transact: (chain, step) =>
      new Promise((resolve, reject) => {
        waiting.set(chain, { resolve, reject })
        child.send({ chain, step })
      }),
    async close() {
      if (child.connected) child.disconnect()
      await ended
    },
  }
}

/** The three runs: with the wait, without it, and with the wait and a bound that is false. */
export const RUNS = [
  {
    name: 'with commit wait',
    mode: 'wait',
    maxErrorNs: 2_000_000n,
    skewsNs: [1_900_000n, -1_900_000n],
  },
  {
    name: 'without it',
    mode: 'hurry',
    maxErrorNs: 20_000_000n,
    skewsNs: [19_000_000n, -19_000_000n],
  },
  {
    name: 'with it, and a false bound',
    mode: 'wait',
    maxErrorNs: 100_000n,
    skewsNs: [19_000_000n, -19_000_000n],
  },
]

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const transactions = Number(process.argv[2] ?? 10_000)
  const server = await startPostgres()
  try {
    for (const { name, ...run } of RUNS) {
      const inversions = await countInversions({ server, transactions, ...run })
      console.log(`${transactions} transactions ${name}: ${inversions} inversions`)
    }
  } finally {
    await server.stop()
  }
}
