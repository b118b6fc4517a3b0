// Finds out which of two events on two machines came first. Each event has an interval that contains its
// true time. If the intervals overlap the order is unknown, and waiting avoids that.

import { setTimeout as delay } from 'node:timers/promises'
import { VmClock } from 'vmclock'

/** The interval of an event's time. Send it with the event, as decimal strings. */
interface Stamp {
  readonly earliestNs: bigint
  readonly latestNs: bigint
}

const clock = VmClock.open({ requireSynchronized: true })

function stamp(): Stamp {
  const { earliestNs, latestNs } = clock.read()
  if (earliestNs === undefined || latestNs === undefined) {
    throw new Error('this clock states no error bound, so its events cannot be ordered')
  }
  return { earliestNs, latestNs }
}

function order(a: Stamp, b: Stamp): 'before' | 'after' | 'unknown' {
  if (a.latestNs < b.earliestNs) return 'before'
  if (b.latestNs < a.earliestNs) return 'after'
  return 'unknown'
}

/**
 * Waits until `latestNs` is in the past (commit wait). Every later stamp, on any machine with a true bound,
 * has a later `latestNs`. So sorting stamps by `latestNs` gives the order of events.
 */
async function isPast(written: Stamp): Promise<void> {
  while (stamp().earliestNs <= written.latestNs) await delay(1)
}

const first = stamp()
console.log(order(first, stamp())) // unknown: their intervals overlap
await isPast(first)
const second = stamp()
console.log(order(first, second)) // before: the same clock, and its bound did not grow meanwhile
if (second.latestNs <= first.latestNs)
  throw new Error('the stamps are not in the order of the events')
clock.close()
