// Which of two events on two machines came first? With intervals that hold the truth there are three
// answers, and the third, "nobody can tell", can be waited out.

import { setTimeout as delay } from 'node:timers/promises'
import { VmClock } from 'vmclock'

/** When something happened, as one machine saw it; sent along with the event, as decimal strings. */
interface Stamp {
  readonly earliestNs: bigint
  readonly latestNs: bigint
}

const clock = VmClock.open({ requireSynchronized: true })

function stamp(): Stamp {
  const { earliestNs, latestNs } = clock.read()
  if (earliestNs === undefined || latestNs === undefined) {
    throw new Error('this machine does not know how wrong its clock is, so it cannot take part')
  }
  return { earliestNs, latestNs }
}

function order(a: Stamp, b: Stamp): 'before' | 'after' | 'unknown' {
  if (a.latestNs < b.earliestNs) return 'before'
  if (b.latestNs < a.earliestNs) return 'after'
  return 'unknown'
}

/**
 * Commit wait: when this resolves, `latestNs` has passed. Whatever is stamped from then on, on any machine
 * with a true bound, has a later `latestNs`, so stamps by that follow the order of events.
 */
async function isPast(written: Stamp): Promise<void> {
  while (stamp().earliestNs <= written.latestNs) await delay(1)
}

const first = stamp()
console.log(order(first, stamp())) // unknown: their intervals overlap
await isPast(first)
const second = stamp()
console.log(order(first, second)) // before: it is the same machine, whose bound did not widen
if (second.latestNs <= first.latestNs) throw new Error('the order of stamps is not that of events')
clock.close()
