// A program that acts only while it owns the lease, and notes each act with the counter.
//
// argv: the machine's page, its name, the socket of the service, the file of its acts

import { appendFileSync } from 'node:fs'
import { request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { VmClock } from '../../dist/index.mjs'
import { isFuture } from '../../dist/ordering.mjs'

const RENEW_EVERY = 20

const [path, owner, socketPath, acts] = process.argv.slice(2)
const clock = VmClock.open(path)

/** Asks for the lease; undefined if it was not granted. */
async function ask(token) {
  try {
    const { status, text } = await post(JSON.stringify({ owner, token }))
    if (status !== 200) return undefined
    const granted = JSON.parse(text)
    return { token: granted.token, expiresNs: BigInt(granted.expiresNs) }
  } catch {
    // The service is down, or stopped. Whoever owns the lease keeps it until it ends.
    return undefined
  }
}

function post(body) {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method: 'POST', timeout: 500 }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode, text }))
      response.on('error', reject)
    })
    sent.on('timeout', () => sent.destroy(new Error('timeout')))
    sent.on('error', reject)
    sent.end(body)
  })
}

/** Acts once if this is certainly the owner at an instant that the act then carries. */
function act({ token, expiresNs }) {
  // First the instant, then the check: a process that is stopped in between fails the check.
  const counter = clock.counter()
  try {
    if (!isFuture(clock, expiresNs)) return false
  } catch {
    // No bound, no certainty.
    return false
  }
  appendFileSync(acts, `${counter} ${token}\n`)
  return true
}

for (;;) {
  let lease = await ask(0)
  for (let count = 1; lease !== undefined && act(lease); count++) {
    await delay(1)
    if (count % RENEW_EVERY === 0) lease = (await ask(lease.token)) ?? lease
  }
  await delay(5)
}
