// Says this machine's counter whenever the host asks.

import { VmClock } from 'vmclock'
import { VmClockPage } from 'vmclock/testing'
import { answerEach } from './answering.mjs'

// Any page will do to read the counter: the driver may not be there yet.
const path = '/tmp/calibration'
VmClockPage.create(path, {}).close()
const clock = VmClock.open(path)
answerEach(() => clock.counter())
clock.close()
