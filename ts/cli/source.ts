/** Explains a clock's time source: which page it is, what guards it, and whether its publisher is alive. */

import { native } from '../native'
import {
  cloneProtection,
  clonesAreNoticed,
  ENTROPY_TEXT,
  publisherState,
  signalText,
} from '../provenance'
import type { Snapshot } from '../snapshot'
import type { TimeGuard, TimeSource } from '../time-source'
import { distance, timestamp } from './figures'

type Row = readonly [label: string, value: string]

const KINDS: Readonly<Record<TimeSource['kind'], string>> = {
  device: "the hypervisor's page",
  published: "a publisher's page",
  process: 'a page that this process keeps',
  path: 'the page that was named',
  'system-clock': 'the system clock',
  simulated: 'a simulated clock',
}

const ORIGINS: Readonly<Record<TimeSource['from'], string | undefined>> = {
  hypervisor: 'the hypervisor',
  kernel: "the kernel's clock",
  phc: 'a PTP hardware clock',
  clockbound: "ClockBound's daemon",
  unknown: undefined,
}

/** Names the page of a time source. */
export function pageName({ path, kind }: Pick<TimeSource, 'path' | 'kind'>): string {
  return path ?? (kind === 'process' ? 'in the memory of this process' : KINDS[kind])
}

/** Returns the rows that say where the time comes from. */
export function sourceRows(source: TimeSource): Row[] {
  const { kind, from, assumed, sinceMs } = source
  const by = ORIGINS[from]
  const calibrated = by === undefined ? '' : `, calibrated by ${by}`
  const since =
    sinceMs === undefined ? '' : ` since ${timestamp(BigInt(sinceMs) * 1_000_000n, 'utc')}`
  return [
    ['source', `${KINDS[kind]}${calibrated}${since}`],
    ...assumed.map(({ part, by }): Row => ['assumed', `${PARTS[part]}: ${GUARANTORS[by]}`]),
  ]
}

const PARTS = {
  'time-error': 'the error of the time',
  'rate-error': "the error of the counter's rate",
  counter: 'that the counter is sound',
  guard: 'that the machine is not migrated unnoticed',
} as const

const GUARANTORS = {
  maker: "the page's maker, by its documentation",
  operator: 'the operator of the publisher',
  caller: 'you, by an option',
} as const

/** Returns the rows that say what notices migrations and clones. */
export function guardRows(source: TimeSource, snapshot: Snapshot): Row[] {
  const { guard } = source
  const protection = cloneProtection(source, native().cloneFacts())
  return [
    ['migrations', guardText(guard)],
    ...(guard.remedy === undefined ? [] : [['remedy', guard.remedy] satisfies Row]),
    ['clones', clonesText(source, snapshot)],
    ['protection', `${signalText(protection)}; ${ENTROPY_TEXT[protection.entropy]}`],
  ]
}

function clonesText(source: TimeSource, snapshot: Snapshot): string {
  if (clonesAreNoticed(source, snapshot))
    return 'are noticed: the generation changes when the machine is restored or cloned'
  return source.generation === 'asynchronous'
    ? 'are noticed late at best: the generation changes some time after the restored machine runs'
    : 'are not noticed here: the machine has no source of a generation'
}

function guardText({ state, path, reason }: TimeGuard): string {
  switch (state) {
    case 'device':
      return "are noticed: the page is the hypervisor's own"
    case 'guarded':
      return `are noticed: ${path ?? 'the device'} guards the page`
    case 'none':
      return 'are not noticed here: this machine shows no vmclock device'
    case 'unavailable':
      return `may not be noticed: ${reason ?? 'the device cannot be read'}`
  }
}

/** Returns a row about the publisher of a page; none for a page of another origin. */
export function publisherRows(source: TimeSource, snapshot: Snapshot): Row[] {
  const state = publisherState(source, snapshot)
  const age = distance(snapshot.ageNs ?? 0n)
  switch (state) {
    case undefined:
      return []
    case 'alive':
      return [['publisher', `alive: it updated the page ${age} ago`]]
    case 'dead':
      return [
        ['publisher', `dead: it has not updated the page for ${age}`],
        ['remedy', 'start it again (`vmclock publish`)'],
      ]
    case 'ended':
      return [
        ['publisher', `ended ${age} ago, and marked the page as unreliable`],
        ['remedy', 'start it again (`vmclock publish`)'],
      ]
  }
}
