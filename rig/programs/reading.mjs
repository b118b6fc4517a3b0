// Prints the interval that contains the page's time, each time the host asks. The argument is the ABI version.

import { VmClock } from 'vmclock'
import { answerEach } from './answering.mjs'

const [abi] = process.argv.slice(2)
const clock = VmClock.open('/dev/vmclock0', { abi })
answerEach(() => {
  const { earliestNs, latestNs, maxErrorNs } = clock.read()
  return `${earliestNs} ${latestNs} ${maxErrorNs}`
})
clock.close()
