// Unbinds the device from its driver under an open clock and a watcher, and prints `disruption` when the watcher
// reports one. The page must not have the notification flag.

import { readdirSync, writeFileSync } from 'node:fs'
import { VmClock } from 'vmclock'

const DRIVER = '/sys/bus/platform/drivers/vmclock'

const clock = VmClock.open('/dev/vmclock0')
const token = clock.continuityToken()
const watcher = clock.watch()
const disrupted = new Promise((resolve, reject) => {
  watcher.once('disruption', resolve).once('error', reject)
})
const [device] = readdirSync(DRIVER).filter((name) => !/^(bind|unbind|uevent|module)$/.test(name))
writeFileSync(`${DRIVER}/unbind`, device)
console.log(VmClock.list().length === 0 ? 'gone' : 'still there')
// Keeps the process alive, which a watcher does not.
const alive = setInterval(() => {}, 1000)
await disrupted
clearInterval(alive)
console.log(clock.isContinuous(token) ? 'continuous' : 'disruption')
watcher.close()
clock.close()
writeFileSync(`${DRIVER}/bind`, device)
