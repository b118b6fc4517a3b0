// A worker whose machine may be cloned, as when a microVM is restored from a snapshot. Each clone gets an identity
// and ids of its own, before it uses them for the first time.

import 'vmclock/clones/protect' // first: also `node --import vmclock/clones/protect`
import { randomUUID } from 'node:crypto'
import { onRestore, perMachine, restoreSignal, uuidV7Source } from 'vmclock/clones'

// Made once for each machine. Every access looks whether this is still the same one.
const workerId = perMachine(() => randomUUID())

// Ids in the order of their making, which no clone makes too.
const nextId = uuidV7Source()

onRestore(() => {
  // A service also closes its connections here, gives up its leases, asks for new ones, and renews its TLS ticket keys.
  console.log('cloned: this worker is now', workerId())
})

/** Does one task. It ends early if the machine is cloned meanwhile: two workers would do it. */
function work(signal: AbortSignal): string {
  signal.throwIfAborted()
  return `${workerId()} made ${nextId()}`
}

// No check can rule out a snapshot between the check and the act that follows. So the receiver of ids must refuse an
// id that it has seen before.
console.log(work(restoreSignal()))
console.log(work(restoreSignal()))
