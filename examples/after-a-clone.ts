// A worker that may be cloned at any time, as in a microVM that is restored from a snapshot: what must not
// exist twice is tied to a token, and renewed before it is used again.

import { closeSync, openSync, readSync } from 'node:fs'
import { type ContinuityToken, VmClock } from 'vmclock'

const clock = VmClock.open()

/**
 * From the kernel, which reseeds itself after a clone where the hypervisor provides VMGenID; elsewhere let
 * the service that grants leases give out the number. The process's own generator was cloned with it.
 */
function freshBytes(count: number): Buffer {
  const bytes = Buffer.alloc(count)
  const device = openSync('/dev/urandom', 'r')
  try {
    readSync(device, bytes)
  } finally {
    closeSync(device)
  }
  return bytes
}

/** What this worker is to others, until it is cloned or moved. */
class Identity {
  readonly workerId: string = freshBytes(8).toString('hex')
  readonly token: ContinuityToken
  #next = 0

  // The token is from before the identity: a clone in between makes it void, never the other way round.
  constructor(token: ContinuityToken) {
    this.token = token
  }

  id(): string {
    this.#next += 1
    return `${this.workerId}-${this.#next}`
  }
}

let identity = new Identity(clock.continuityToken())

/**
 * An id of this worker's alone, as far as a check can make it so: a clone that is made between check and
 * use has it too, so whoever receives ids refuses one that it has seen.
 */
function uniqueId(): string {
  if (!clock.isContinuous(identity.token)) {
    identity = new Identity(clock.continuityToken())
    // Here a service closes its connections, gives up its leases and asks for new ones.
  }
  return identity.id()
}

console.log(uniqueId(), uniqueId())

// Idle workers learn of it too, without a request that asks.
const watcher = clock.watch()
watcher.on('generation', () => console.log('cloned: the next id is', uniqueId()))
watcher.on('error', (error) => console.error(error.message))

// A service would go on; an example ends.
watcher.close()
clock.close()
