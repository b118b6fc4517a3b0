// The writing process: rewrites a page without end. A worker of it reads the page.
//
// node writer.cjs PATH paused|open COUNT LEAST_STATES

const { Worker } = require('node:worker_threads')
const { VmClockPage } = require('vmclock/testing')
const { fieldsOf } = require('./page.cjs')

const [path, manner, count, leastStates] = process.argv.slice(2)
const page = VmClockPage.open(path)
const UPDATES_A_TURN = 200
let state = 1
let longestUpdateNs = 0n

/** Makes one update, then pauses for a microsecond. */
function paused(fields) {
  const startNs = process.hrtime.bigint()
  page.write(fields)
  const endNs = process.hrtime.bigint()
  if (endNs - startNs > longestUpdateNs) longestUpdateNs = endNs - startNs
  while (process.hrtime.bigint() - endNs < 1000n);
}

/** Makes an update in pieces, without a pause. So the page is nearly always in the middle of an update. */
function open(fields) {
  const { disruptionMarker, timeSec, ...others } = fields
  page.begin()
  page.writeUnguarded({ disruptionMarker })
  page.writeUnguarded(others)
  page.writeUnguarded({ timeSec })
  page.end()
}

const update = { paused, open }[manner]

function turn() {
  for (let index = 0; index < UPDATES_A_TURN; index++) {
    state = (state + 1) & 0x3fff_ffff
    update(fieldsOf(state))
  }
  setImmediate(turn)
}

turn()
const reader = new Worker(require.resolve('./reader.cjs'), {
  workerData: { path, count: Number(count), leastStates: Number(leastStates) },
})
reader.once('message', (result) => console.log(JSON.stringify(result)))
process.stdin
  .once('end', () => {
    console.log(String(longestUpdateNs))
    process.exit(0)
  })
  .resume()
// Not before: starting a worker blocks this thread, which makes the updates.
reader.once('online', () => console.log('writing'))
