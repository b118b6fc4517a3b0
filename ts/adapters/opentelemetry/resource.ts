/** The attributes of a resource that say where the time of its telemetry comes from. */

import type { Attributes } from '@opentelemetry/api'
import type { Clock } from '../../clock-interface'
import { VmClockError } from '../../errors'
import { utcClock } from '../adapter'

/**
 * Returns attributes for the SDK's resource, which say where the time comes from and which machine this is, as known
 * now. A resource never changes, so after a restore its generation is that of before.
 *
 * | attribute | value |
 * |---|---|
 * | `vmclock.source.kind`, `vmclock.source.from` | `kind` and `from` of `clock.timeSource` |
 * | `vmclock.guard` | what notices migrations and restores: `timeSource.guard.state` |
 * | `vmclock.assumed` | the parts that somebody vouches for, such as `time-error by operator`; absent if there are none |
 * | `vmclock.generation` | the generation in decimal; absent if the page has none, or cannot be read now |
 *
 * @param clock - the clock of the spans
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_TIMESCALE`, `ERR_VMCLOCK_CLOSED`
 */
export function vmclockResourceAttributes(clock: Clock): Attributes {
  const { kind, from, guard, assumed } = utcClock(clock, 'clock').timeSource
  const generation = generationOf(clock)
  return {
    'vmclock.source.kind': kind,
    'vmclock.source.from': from,
    'vmclock.guard': guard.state,
    ...(assumed.length > 0 && {
      'vmclock.assumed': assumed.map(({ part, by }) => `${part} by ${by}`),
    }),
    ...(generation !== undefined && { 'vmclock.generation': String(generation) }),
  }
}

function generationOf(clock: Clock): bigint | undefined {
  try {
    return clock.continuityToken().vmGeneration
  } catch (error) {
    if (VmClockError.isVmClockError(error) && error.code === 'ERR_VMCLOCK_CLOSED') throw error
    return undefined
  }
}
