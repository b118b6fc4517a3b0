// Prints the kernel, the Node version, the PTP clocks and the time of each vmclock page.

import { readdirSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { VmClock } from 'vmclock'

console.log(`Linux ${release()}, Node ${process.version} on ${process.arch}`)
for (const ptp of readdirSync('/sys/class/ptp')) {
  console.log(`/dev/${ptp}: ${readFileSync(`/sys/class/ptp/${ptp}/clock_name`, 'utf8').trim()}`)
}
for (const path of VmClock.list()) {
  const clock = VmClock.open(path)
  const { epochNs, maxErrorNs, status } = clock.read()
  console.log(`${path}: ${epochNs} ns, within ${maxErrorNs} ns, ${status}`)
  clock.close()
}
