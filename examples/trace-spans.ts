// Measures spans at a high rate. The measured code only captures the counter, and the conversion to time
// happens later, in batches. The program drops spans across a migration: two machines counted their ends.

import { VmClock, VmClockError } from 'vmclock'

const SPANS = 1000

const clock = VmClock.open()

// Take the token before the first capture. Conversions fail once the token is no longer valid.
let token = clock.continuityToken()
const captured = new BigUint64Array(2 * SPANS)

for (let span = 0; span < SPANS; span += 1) {
  captured[2 * span] = clock.counter()
  // … the measured work …
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
  token = clock.continuityToken() // migrated: drop these captures; later ones are valid again
}
clock.close()
