// Gives a worker a new identity after its machine is cloned, as when a microVM is restored from a snapshot.
// The identity must not exist twice. It is tied to a continuity token, and renewed before its next use.

import { closeSync, openSync, readSync } from 'node:fs'
import { type ContinuityToken, VmClock } from 'vmclock'

const clock = VmClock.open()

/**
 * Returns random bytes from the kernel. Random numbers of this process would be the same in every clone.
 * The kernel reseeds itself after a clone if the hypervisor provides VMGenID. On other machines, let the
 * service that grants leases assign the worker's id.
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

/** Identifies this worker until its machine is cloned or migrated. */
class Identity {
  readonly workerId: string = freshBytes(8).toString('hex')
  readonly token: ContinuityToken
  #next = 0

  // The token is older than the id. So a clone that happens between the two invalidates the identity.
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
 * Returns an id that no other worker uses. If the machine is cloned between this check and the use of the
 * id, both clones use it. So the receiver of ids must refuse an id that it has seen before.
 */
function uniqueId(): string {
  if (!clock.isContinuous(identity.token)) {
    identity = new Identity(clock.continuityToken())
    // A service also closes its connections here, gives up its leases and asks for new ones.
  }
  return identity.id()
}

console.log(uniqueId(), uniqueId())

// An idle worker checks no token, so the watcher reports the clone to it.
const watcher = clock.watch()
watcher.on('generation', () => console.log('cloned: the next id is', uniqueId()))
watcher.on('error', (error) => console.error(error.message))

// A service would keep both open. The example ends here.
watcher.close()
clock.close()
