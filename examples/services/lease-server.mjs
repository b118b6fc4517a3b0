// A service that grants one lease. Two owners at one instant are impossible, whatever is killed, stopped or
// restarted, as long as every machine's bound is true.
//
// A lease ends at `expiresNs`. Its owner acts only while that is certainly in the future on the owner's clock.
// The service grants it anew only once that is certainly past on its own clock. Both are certain, so no instant
// is both. Without a bound nothing is certain, and the service grants nothing.
//
// argv: the machine's page, the file of the state, the socket

import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { VmClock, VmClockError } from '../../dist/index.mjs'
import { isPast } from '../../dist/ordering.mjs'

const DURATION_NS = 200_000_000n

const [path, stateFile, socket] = process.argv.slice(2)
const clock = VmClock.open(path)
let lease = load()

/** The last lease that was granted, also by an earlier process. */
function load() {
  if (!existsSync(stateFile)) return { token: 0, owner: '', expiresNs: -(2n ** 62n) }
  const { token, owner, expiresNs } = JSON.parse(readFileSync(stateFile, 'utf8'))
  return { token, owner, expiresNs: BigInt(expiresNs) }
}

/** Makes a lease durable before anybody hears of it. */
function save(granted) {
  const next = `${stateFile}.next`
  const file = openSync(next, 'w')
  writeSync(file, JSON.stringify({ ...granted, expiresNs: String(granted.expiresNs) }))
  fsyncSync(file)
  closeSync(file)
  renameSync(next, stateFile)
  lease = granted
}

function expiry() {
  const { latestNs } = clock.read()
  if (latestNs === undefined) throw new Error('no bound')
  return latestNs + DURATION_NS
}

/** Grants or renews; undefined while somebody else may be the owner. */
function grant(owner, token) {
  if (token === lease.token && owner === lease.owner) save({ ...lease, expiresNs: expiry() })
  else if (isPast(clock, lease.expiresNs)) {
    // The token grows with each owner, so that a store can refuse the writes of earlier ones.
    save({ token: lease.token + 1, owner, expiresNs: expiry() })
  } else return undefined
  return { token: lease.token, expiresNs: String(lease.expiresNs) }
}

rmSync(socket, { force: true })
createServer((request, response) => {
  let body = ''
  request.setEncoding('utf8').on('data', (chunk) => {
    body += chunk
  })
  request.on('end', () => {
    try {
      const { owner, token } = JSON.parse(body)
      const granted = grant(owner, token)
      response.writeHead(granted === undefined ? 409 : 200).end(JSON.stringify(granted ?? {}))
    } catch (error) {
      const code = VmClockError.isVmClockError(error) ? error.code : String(error)
      response.writeHead(503).end(JSON.stringify({ code }))
    }
  })
}).listen(socket, () => process.send?.('ready'))
