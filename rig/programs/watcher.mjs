// Holds a token and watches one device: says each event as it comes, with what the token is worth at
// that moment. On `report` it says how things stand, and on `renew` it takes a new token first.
//
//   node watcher.mjs own|rigs INTERVAL_MS
//
// `own` is QEMU's own device, which has the marker only, and `rigs` the one whose page the host writes:
// it has a generation.

import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { VmClock } from 'vmclock'

const [whose, intervalMs] = process.argv.slice(2)

const clock = VmClock.list()
  .map((path) => VmClock.open(path))
  .find((one) => (one.continuityToken().vmGeneration === undefined) === (whose === 'own'))
let token = clock.continuityToken()
const watcher = clock.watch({ intervalMs: Number(intervalMs) })
for (const type of ['disruption', 'generation', 'maintenance', 'status', 'leap', 'replaced']) {
  watcher.on(type, (event) => say({ ...event, isContinuous: isContinuous() }))
}
watcher.on('error', ({ code }) => say({ type: 'error', code }))
const thread = readdirSync('/proc/self/task')
  .map((id) => `/proc/self/task/${id}`)
  .find((directory) => readFileSync(`${directory}/comm`, 'utf8') === 'vmclock-watch\n')

console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'end') break
  if (line === 'renew') token = clock.continuityToken()
  say({ token, isContinuous: isContinuous(), thread: threadFigures() })
}
watcher.close()
clock.close()
// A console's line is waited for even when nobody wants one any more.
process.exit()

// A page in the middle of an update does not say.
function isContinuous() {
  try {
    return clock.isContinuous(token)
  } catch ({ code }) {
    return code
  }
}

function say(what) {
  const words = JSON.stringify(what, (_, value) =>
    typeof value === 'bigint' ? value.toString() : value,
  )
  console.log(words)
}

// How often the watcher's thread has gone to sleep, and how many hundredths of a second it has run.
function threadFigures() {
  const [, waits] = /^voluntary_ctxt_switches:\s*(\d+)/m.exec(readFileSync(`${thread}/status`))
  // proc_pid_stat(5), after the name: utime and stime are the 12th and 13th.
  const [user, system] = readFileSync(`${thread}/stat`, 'utf8').split(') ')[1].split(' ').slice(11)
  return { waits: Number(waits), ticks: Number(user) + Number(system), atMs: performance.now() }
}
