// Finds out which of two events on two machines came first. Each event has an interval that contains its
// true time. If the intervals overlap the order is unknown, and waiting avoids that.

import { VmClock } from 'vmclock'
import { compareIntervals, decodeInterval, encodeInterval, waitUntilPast } from 'vmclock/ordering'

const clock = VmClock.open({ requireSynchronized: true })

const first = clock.read()
console.log(compareIntervals(first, clock.read())) // concurrent: their intervals overlap

// Send the interval with the event. Its bytes sort by latestNs.
const sent = decodeInterval(encodeInterval(first))

// Commit wait. Every later stamp, on any machine with a true bound, has a later latestNs. So sorting stamps
// by latestNs gives the order of events.
await waitUntilPast(clock, sent.latestNs)

const second = clock.read()
console.log(compareIntervals(first, second)) // before
if (second.latestNs === undefined || second.latestNs <= sent.latestNs) {
  throw new Error('the stamps are not in the order of the events')
}
clock.close()
