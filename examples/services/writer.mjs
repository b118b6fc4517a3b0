// A service that writes transactions on one machine. Its stamps follow real order on all machines.
//
// argv: the machine's page; "wait" or "hurry"; then the connection as JSON

import pg from 'pg'
import { VmClock } from '../../dist/index.mjs'
import { encodeInterval, waitUntilPast } from '../../dist/ordering.mjs'

const [path, mode, connection] = process.argv.slice(2)
const clock = VmClock.open(path)
const pool = new pg.Pool({ ...JSON.parse(connection), max: 20 })

/** Writes one row and answers once its stamp is past everywhere. */
async function transact(chain, step) {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    // Taken within the transaction: the true time of the commit is no earlier.
    const stamp = clock.read()
    await client.query('INSERT INTO events (chain, step, stamp) VALUES ($1, $2, $3)', [
      chain,
      step,
      Buffer.from(encodeInterval(stamp)),
    ])
    await client.query('COMMIT')
    // Commit wait. Nobody has heard of the commit yet.
    if (mode === 'wait') await waitUntilPast(clock, stamp.latestNs)
  } finally {
    client.release()
  }
}

process.on('message', async ({ chain, step }) => {
  try {
    await transact(chain, step)
    process.send({ chain, step })
  } catch (error) {
    process.send({ chain, step, error: String(error) })
  }
})
process.on('disconnect', async () => {
  await pool.end()
  clock.close()
})
