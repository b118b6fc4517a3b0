// Spans at a high rate: the counter is captured where it is hot, and converted by the thousand where it is
// not. A span across a migration is dropped, because its two ends were counted by two machines.

import { VmClock, VmClockError } from 'vmclock'

const SPANS = 1000

const clock = VmClock.open()

// Before the first capture: conversions are refused once it no longer holds.
let token = clock.continuityToken()
const captured = new BigUint64Array(2 * SPANS)

for (let span = 0; span < SPANS; span += 1) {
  captured[2 * span] = clock.counter()
  // … the work that is measured …
  captured[2 * span + 1] = clock.counter()
}

const epochsNs = new BigInt64Array(captured.length)
try {
  clock.convertInto(captured, epochsNs, token)
  const longest = Array.from({ length: SPANS }, (_, span) => {
    const [start, end] = [epochsNs[2 * span] ?? 0n, epochsNs[2 * span + 1] ?? 0n]
    return end - start
  }).reduce((a, b) => (a > b ? a : b))
  console.log(`${SPANS} spans, the longest ${longest} ns`)
} catch (error) {
  if (!VmClockError.isVmClockError(error) || error.code !== 'ERR_VMCLOCK_DISRUPTED') throw error
  token = clock.continuityToken() // migrated: the captures are worthless, the next ones are not
}
clock.close()
