// A user's program. The tests type-check it and do not run it.

import {
  type ContinuityToken,
  type Reading,
  VmClock,
  VmClockError,
  VmClockPublisher,
  type VmClockWatcher,
} from 'vmclock'
import { type Diagnosis, diagnose } from 'vmclock/doctor'
import { ClockMetrics, type MetricFamily } from 'vmclock/metrics'
import { vmclockTime } from 'vmclock/pino'
import { PtpClock, type PtpSample } from 'vmclock/ptp'
import { type PageFields, VmClockPage } from 'vmclock/testing'

const clock: VmClock = VmClock.open({ timescale: 'tai' })
export const nowNs: bigint = clock.nowNs()
export const reading: Reading = clock.read()
export const latestNs: bigint | undefined = reading.latestNs
export const token: ContinuityToken = clock.continuityToken()
export const isContinuous: boolean = clock.isContinuous(token)

const watcher: VmClockWatcher = clock.watch({ intervalMs: 10 })
export const seen: string[] = []
watcher.on('disruption', ({ type, previous, current }) => {
  seen.push(`${type} by ${current - previous}`)
})
// @ts-expect-error there is no such event
watcher.on('migration', () => {})
watcher.close()

VmClockPublisher.create('/run/vmclock/page', { shape: 'marker' }).close()

// The clock's type is the same in every entry point.
const ptp = PtpClock.find('vmclock0')
export const timescale: 'tai' | 'utc' | undefined = ptp.timescale(clock)
export const sample: PtpSample | undefined = ptp.samples(1)[0]

export const families: readonly MetricFamily[] = new ClockMetrics(() => clock).collect()

// This adapter needs no types of its library. adapters-consumer.ts has the others.
export const timestamp: () => string = vmclockTime({ clock, format: 'epochNs', bound: true })

export const diagnosis: Diagnosis = diagnose({ path: '/run/vmclock/page' })

const fields: PageFields = { disruptionMarker: 1n }
VmClockPage.create('/tmp/page', fields).close()
export const counterValue: bigint | undefined = clock.snapshot().raw.counterValue

// @ts-expect-error there is no such field
VmClockPage.create('/tmp/page', { disruption_marker: 1n })

// @ts-expect-error there is no such format
vmclockTime({ clock, format: 'ms' })

// @ts-expect-error there is no such timescale
VmClock.open({ timescale: 'ut1' })

try {
  clock.nowMs()
} catch (error) {
  if (error instanceof VmClockError && error.code === 'ERR_VMCLOCK_TIMESCALE') clock.close()
}
