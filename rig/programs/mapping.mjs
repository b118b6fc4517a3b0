// How much of the device is mapped, and how large the page says that it is.

import { readFileSync } from 'node:fs'
import { VmClock } from 'vmclock'

const clock = VmClock.open('/dev/vmclock0')
const [, start, end] = /^(\w+)-(\w+) .*\/dev\/vmclock0$/m.exec(
  readFileSync('/proc/self/maps', 'utf8'),
)
const bytes = Number.parseInt(end, 16) - Number.parseInt(start, 16)
console.log(`mapped ${bytes} bytes, size ${clock.snapshot().raw.size}`)
clock.close()
