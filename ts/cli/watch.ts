/** `vmclock watch`: shows the time and reports events until it is stopped. */

import { setTimeout as delay } from 'node:timers/promises'
import type { SystemOffset, VmClock } from '../clock'
import { VmClockError } from '../errors'
import type { Reading } from '../reading'
import type { VmClockEvent, VmClockWatcher } from '../watcher'
import { type Bound, boundOf } from './bound'
import { json, printable } from './escape'
import { distance, timestamp } from './figures'
import { type Figure, LiveView, offsetText } from './live-view'
import { EXIT, errorJson, errorText, line, reportError } from './output'
import { openClock, type ReadingOptions } from './page-options'
import { Reaction } from './reactions'
import { onStopSignal } from './signals'
import { pageName } from './source'
import { whenOutputIsLost } from './streams'

/** Options of `vmclock watch`. */
export interface WatchOptions extends ReadingOptions {
  readonly json?: boolean
  readonly interval?: number
  readonly onDisruption?: string
  readonly onRestore?: string
  readonly stamps: boolean
}

/** The end of `vmclock watch --help`. */
export const WATCH_HELP = `
Events:
  disruption   the counter was disrupted, as by a live migration
  generation   the machine was restored from a snapshot or cloned
  maintenance  a disruption was announced, or the announcement was withdrawn
  status       the state of the page's clock changed
  leap         the leap indicator changed
  replaced     another file is at the page's path; the old file is still watched
  freshness    nobody updates the page any more, or somebody updates it again
  error        the page cannot be read

--on-disruption and --on-restore run a command by /bin/sh after the event, one at a time, with
VMCLOCK_EVENT, VMCLOCK_PREVIOUS and VMCLOCK_CURRENT in its environment and its output on standard
error. Nobody steps a restored guest's clock by itself: with chrony,
  vmclock watch --no-stamps --on-restore 'chronyc burst 4/4 && sleep 10 && chronyc makestep'

A terminal shows the time live; other output gets it once per second.
SIGTERM, SIGINT and SIGHUP end the command with exit code 0.`

const LOOK_MS = 100

const EVENTS = [
  'disruption',
  'generation',
  'maintenance',
  'status',
  'leap',
  'replaced',
  'freshness',
] as const

/** Watches a page until it is stopped, and returns the exit code. */
export async function watch(path: string | undefined, options: WatchOptions): Promise<number> {
  const stop = new AbortController()
  const asJson = options.json === true
  let exitCode: number = EXIT.OK
  onStopSignal(() => stop.abort())
  whenOutputIsLost((error) => {
    if (error !== undefined && !stop.signal.aborted) exitCode = reportError(error, asJson)
    stop.abort()
  })
  const clock = openClock(path, options)
  const view = new LiveView(asJson)
  try {
    const watcher = clock.watch({ intervalMs: options.interval, signal: stop.signal })
    for (const name of EVENTS) {
      watcher.on(name as 'replaced', (event: VmClockEvent) => report(view, asJson, event))
    }
    watcher.on('error', (error) => {
      if (asJson) line(json({ event: 'error', ...errorJson(error), seenMs: Date.now() }))
      else view.event('error', errorText(error))
    })
    const { path: page, timeSource } = clock
    const reactions = reactionsTo(watcher, options)
    if (asJson) line(json({ event: 'begin', path: page, timeSource, seenMs: Date.now() }))
    else line(printable(`Watching ${pageName(timeSource)}.`))
    while (!stop.signal.aborted) {
      if (options.stamps && view.isDue()) show(view, asJson, look(clock))
      await delay(LOOK_MS, undefined, { signal: stop.signal }).catch(() => {})
    }
    await Promise.all(reactions.map((reaction) => reaction.idle()))
    return exitCode
  } finally {
    view.leave()
    clock.close()
  }
}

// Adds the listeners that run the user's commands.
function reactionsTo(watcher: VmClockWatcher, options: WatchOptions): readonly Reaction[] {
  const commands = [
    ['disruption', options.onDisruption],
    ['generation', options.onRestore],
  ] as const
  return commands.flatMap(([name, command]) => {
    if (command === undefined) return []
    const reaction = new Reaction(command, (text) => {
      process.stderr.write(`${printable(text)}\n`)
    })
    watcher.on(name as 'disruption', ({ previous, current }) =>
      reaction.run({
        VMCLOCK_EVENT: name,
        VMCLOCK_PREVIOUS: String(previous ?? ''),
        VMCLOCK_CURRENT: String(current ?? ''),
      }),
    )
    return [reaction]
  })
}

/** A reading with its bound and the system clock's offset, or why there is none. */
type Look =
  | { readonly reading: Reading; readonly bound: Bound; readonly offset: SystemOffset }
  | VmClockError

function look(clock: VmClock): Look {
  try {
    const reading = clock.read()
    return { reading, bound: boundOf(reading, clock), offset: clock.systemOffset() }
  } catch (error) {
    // Watching works without time.
    if (error instanceof VmClockError) return error
    throw error
  }
}

function show(view: LiveView, asJson: boolean, seen: Look): void {
  if (seen instanceof VmClockError) {
    if (asJson) line(json({ event: 'stamp', noTime: errorJson(seen), seenMs: Date.now() }))
    else view.show(refusalFigures(seen))
    return
  }
  const { reading, bound, offset } = seen
  if (asJson) {
    line(
      json({
        event: 'stamp',
        seenMs: Date.now(),
        reading: reading.toJSON(),
        boundUnavailable: bound.boundUnavailable,
        systemOffsetNs: offset.offsetNs,
        systemOffsetMaxErrorNs: offset.maxErrorNs,
      }),
    )
    return
  }
  view.show([
    ['time', timestamp(reading.epochNs, reading.timescale, reading.leapSecond)],
    ['bound', bound.text],
    ['system clock', offsetText(offset)],
  ])
}

function refusalFigures({ message, remedy }: VmClockError): Figure[] {
  const time: Figure = ['time', `none: ${message}`]
  return remedy === undefined ? [time] : [time, ['remedy', remedy]]
}

function report(view: LiveView, asJson: boolean, event: VmClockEvent): void {
  if (asJson) {
    const { type, ...details } = event
    const { seenMs } = event
    const reading = 'reading' in event ? event.reading?.toJSON() : undefined
    line(json({ event: type, ...details, seenMs, reading }))
    return
  }
  view.event(event.type, eventText(event))
}

function eventText(event: VmClockEvent): string {
  if (event.type === 'replaced') {
    return "another file is at this page's path; the old file is still watched"
  }
  if (event.type === 'freshness') {
    return event.ageNs === undefined
      ? 'the page is updated again'
      : `nobody has updated the page for ${distance(event.ageNs)}`
  }
  const change = `${event.previous ?? 'none'} → ${event.current ?? 'none'}`
  return event.updates === 1 ? change : `${change} (${event.updates} updates)`
}
