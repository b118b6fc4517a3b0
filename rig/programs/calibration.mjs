// Says this machine's counter once for each line that comes in, until a line is `end`.

import { readSync, writeSync } from 'node:fs'
import { VmClock, VmClockPage } from 'vmclock'

// Any page will do to read the counter: the driver may not be there yet.
const path = '/tmp/calibration'
VmClockPage.create(path, {}).close()
const clock = VmClock.open(path)

// No event loop in between: it would only widen the host's bracket.
writeSync(1, 'ready\n')
const line = Buffer.alloc(64)
while (line.toString('latin1', 0, readSync(0, line)) !== 'end\n') {
  writeSync(1, `${clock.counter()}\n`)
}
clock.close()
