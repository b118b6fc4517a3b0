// Prints the timescales of two PTP clocks each time the host asks: of the page's clock, and of a virtual clock
// of the kernel with a time of its own. The virtual clock starts in 1970, free-running. After the first
// question it is set to the system's CLOCK_REALTIME.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { VmClock } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'
import { answerEach } from './answering.mjs'

const VIRTUAL_CLOCKS = '/sys/class/ptp/ptp0/n_vclocks'

writeFileSync(VIRTUAL_CLOCKS, '1')
try {
  const page = VmClock.open('/dev/vmclock0', { timescale: 'tai' })
  const [own, other] = ['vmclock0', 'ptp0_virt'].map((name) => PtpClock.find(name))
  let isSet = false
  answerEach(() => {
    const answer = [own, other].map((clock) => timescale(clock, page)).join(' ')
    if (!isSet) isSet = spawnSync('phc_ctl', [other.path, 'set']).status === 0
    return answer
  })
  own.close()
  other.close()
  page.close()
} finally {
  writeFileSync(VIRTUAL_CLOCKS, '0')
}

function timescale(clock, page) {
  try {
    return clock.timescale(page) ?? 'undefined'
  } catch (error) {
    return error.code
  }
}
