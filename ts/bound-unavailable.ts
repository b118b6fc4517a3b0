/** Explains why the time of a page has no bound, and until when. */

import type { BoundUnavailable, BoundUnavailableReason } from './snapshot'

interface Explanation {
  readonly why: string
  readonly remedy: string
}

const WAIT = 'wait for these updates'
const ONE_PROGRAM =
  'find the program that adjusts the clock besides its daemon, and stop it; then wait'

const EXPLANATIONS: ReadonlyMap<BoundUnavailableReason, Explanation> = new Map([
  [
    'unsynchronized',
    {
      why: "no daemon synchronizes this machine's clock, so the time is relative to that clock",
      remedy:
        'start a time daemon such as chrony (see system-clock of `vmclock doctor`), or publish a page and state its error (`vmclock publish --max-error`)',
    },
  ],
  [
    'never-updated',
    {
      why: 'no time daemon has reported an error of the clock',
      remedy:
        "wait for the first update of the time daemon (see system-clock). If it is chrony on a PTP clock, state the host's error (--host-error)",
    },
  ],
  [
    'off-nominal',
    {
      why: 'the clock runs more than 500 ppm off its nominal rate, as while its daemon corrects it fast',
      remedy: 'wait until the time daemon has corrected the clock',
    },
  ],
  [
    'change-pending',
    {
      why: 'the clock was changed just now, and the publisher does not know yet by which program',
      remedy: 'wait for the next update of the page',
    },
  ],
  ['stepped', { why: 'the clock was stepped by another process', remedy: ONE_PROGRAM }],
  ['slewed', { why: 'the clock was slewed by another process', remedy: ONE_PROGRAM }],
  [
    'frequency-changed',
    { why: "the clock's frequency was changed by another process", remedy: ONE_PROGRAM },
  ],
  ['suspended', { why: 'the machine was suspended', remedy: WAIT }],
  [
    'disrupted',
    { why: 'the machine was migrated or restored, or its counter jumped', remedy: WAIT },
  ],
  ['taken-over', { why: 'the publisher took over a page without a bound', remedy: WAIT }],
  [
    'started',
    {
      why: 'the machine may have been migrated or restored before the publisher started',
      remedy: WAIT,
    },
  ],
  [
    'zero-error',
    {
      why: 'the time daemon reported a maximum error of 0, which is not a bound',
      remedy:
        "use chrony with an NTP server, here or on the container's host. If it is chrony on a PTP clock, state the host's error (--host-error)",
    },
  ],
  [
    'stated-error-voided',
    {
      why: 'the machine was disrupted after the operator had stated the error of its clock',
      remedy:
        'check the clock; if the stated error holds all the same, publish with --max-error-after-migration too',
    },
  ],
  [
    'source-unavailable',
    {
      why: 'the chosen source of time gives no bound now, so the time is that of the kernel',
      remedy:
        'see in the output of the publisher why, or let it choose the source (`from: auto`, --from auto)',
    },
  ],
  [
    'unguarded',
    {
      why: 'the machine has a vmclock device that this process or the publisher cannot look at, so nobody here would notice a migration',
      remedy:
        'let both read the device (`vmclock doctor --udev-rule`; in a container, pass it), or accept that with --allow-unguarded',
    },
  ],
  [
    'not-followed',
    {
      why: 'the machine was migrated or restored, and the page was not updated since',
      remedy: 'wait for the next update of the page, or restart its publisher',
    },
  ],
  [
    'device-stuck',
    {
      why: "the hypervisor's page is stuck in an update, so nobody here would notice a migration",
      remedy: 'wait, or ask the operator of the hypervisor',
    },
  ],
  [
    'void',
    {
      why: 'the page was not updated for so long that its bound no longer holds',
      remedy: 'start the publisher again (`vmclock publish`)',
    },
  ],
])

// These reasons say nothing about the clock that the page is made from.
const NOT_OF_THE_CLOCK: ReadonlySet<BoundUnavailableReason> = new Set([
  'stated-error-voided',
  'unguarded',
  'not-followed',
  'device-stuck',
  'void',
])

/** Returns whether a reason is about the clock that the page is made from, and not about its guard or its age. */
export function isOfSourceClock({ reason }: BoundUnavailable): boolean {
  return !NOT_OF_THE_CLOCK.has(reason)
}

/** Returns why a time has no bound, and until when if the publisher counts the daemon's updates. */
export function boundUnavailableText({ reason, updatesLeft }: BoundUnavailable): string {
  const why = EXPLANATIONS.get(reason)?.why ?? `the publisher's reason is ${reason}`
  if (updatesLeft === undefined) return why
  const updates = updatesLeft === 1 ? '1 more update' : `${updatesLeft} more updates`
  return `${why}; the bound returns after ${updates} of the time daemon`
}

/** Returns what to do about a bound that is missing. */
export function boundRemedy({ reason }: BoundUnavailable): string {
  return EXPLANATIONS.get(reason)?.remedy ?? 'wait, or update this package to understand the reason'
}
