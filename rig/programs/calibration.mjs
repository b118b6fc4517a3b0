// Prints the guest's counter each time the host asks.

import { VmClock } from 'vmclock'
import { VmClockPage } from 'vmclock/testing'
import { answerEach } from './answering.mjs'

// A page of its own, because the driver may not be loaded yet.
const path = '/tmp/calibration'
VmClockPage.create(path, {}).close()
const clock = VmClock.open(path)
answerEach(() => clock.counter())
clock.close()
