// Prints the disruption marker. With a marker as argument, prints whether time was continuous since then.

import { VmClock } from 'vmclock'

const [marker] = process.argv.slice(2)
const clock = VmClock.open('/dev/vmclock0')
const now = clock.continuityToken()
if (marker === undefined) {
  console.log(String(now.disruptionMarker))
} else {
  const token = { ...now, disruptionMarker: BigInt(marker) }
  console.log(clock.isContinuous(token) ? 'continuous' : 'disrupted')
}
clock.close()
