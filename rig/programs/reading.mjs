// Says the interval that holds the time by the page whenever the host asks. The argument names the
// document by which the page is read.

import { VmClock } from 'vmclock'
import { answerEach } from './answering.mjs'

const [abi] = process.argv.slice(2)
const clock = VmClock.open('/dev/vmclock0', { abi })
answerEach(() => {
  const { earliestNs, latestNs, maxErrorNs } = clock.read()
  return `${earliestNs} ${latestNs} ${maxErrorNs}`
})
clock.close()
