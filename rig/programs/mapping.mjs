// Prints how many bytes of the device are mapped, and the size that the page states.

import { readFileSync } from 'node:fs'
import { VmClock } from 'vmclock'

const clock = VmClock.open('/dev/vmclock0')
const [, start, end] = /^(\w+)-(\w+) .*\/dev\/vmclock0$/m.exec(
  readFileSync('/proc/self/maps', 'utf8'),
)
const bytes = Number.parseInt(end, 16) - Number.parseInt(start, 16)
console.log(`mapped ${bytes} bytes, size ${clock.snapshot().raw.size}`)
clock.close()
