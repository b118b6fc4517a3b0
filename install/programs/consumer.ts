// A program of a user's, which is checked and not run.

import {
  type ContinuityToken,
  type Reading,
  VmClock,
  VmClockError,
  VmClockPublisher,
  type VmClockWatcher,
} from 'vmclock'

const clock: VmClock = VmClock.open({ timescale: 'tai' })
export const nowNs: bigint = clock.nowNs()
export const reading: Reading = clock.read()
export const latestNs: bigint | undefined = reading.latestNs
export const token: ContinuityToken = clock.continuityToken()
export const isContinuous: boolean = clock.isContinuous(token)

const watcher: VmClockWatcher = clock.watch({ intervalMs: 10 })
watcher.on('disruption', ({ type, previous, current }) => console.log(type, current - previous))
watcher.close()

VmClockPublisher.create('/run/vmclock/page', { shape: 'marker' }).close()

// @ts-expect-error there is no such timescale
VmClock.open({ timescale: 'ut1' })

try {
  clock.nowMs()
} catch (error) {
  if (error instanceof VmClockError && error.code === 'ERR_VMCLOCK_TIMESCALE') clock.close()
}
