// Prints the interval that holds the time by the page, read by the document that the argument names.

import { VmClock } from 'vmclock'

const [abi] = process.argv.slice(2)
const clock = VmClock.open('/dev/vmclock0', { abi })
const { earliestNs, latestNs, maxErrorNs } = clock.read()
clock.close()
console.log(`${earliestNs} ${latestNs} ${maxErrorNs}`)
