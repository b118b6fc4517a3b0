/** `vmclock watch`: what the clock says now, and what happens to it, until it is stopped. */

import { setTimeout as delay } from 'node:timers/promises'
import { type SystemOffset, VmClock } from '../clock'
import { VmClockError } from '../errors'
import type { Reading } from '../reading'
import type { VmClockEvent } from '../watcher'
import { json, printable } from './escape'
import { timestamp } from './figures'
import { LiveView, offsetWords } from './live-view'
import { bound } from './now'
import { EXIT, endQuietlyOnBrokenPipe, line } from './output'

/** What `vmclock watch` was told. */
export interface WatchOptions {
  readonly json?: boolean
  readonly abi: 'uapi' | 'rfc-v4'
  readonly interval?: number
}

/** Said in `vmclock watch --help`. */
export const WATCH_HELP = `
Events: disruption, generation, maintenance, status, leap, replaced (another file stands at the page's
path), error (the page cannot be read). On a terminal the time is shown live, elsewhere once a second.
SIGTERM, SIGINT and SIGHUP end with 0.`

const LOOK_MS = 100

const EVENTS = ['disruption', 'generation', 'maintenance', 'status', 'leap', 'replaced'] as const

const WORDS: Readonly<Record<VmClockEvent['type'], string>> = {
  disruption: 'the counter was disrupted, as by a live migration; the marker went',
  generation: 'the machine was restored or cloned; the generation went',
  maintenance: 'what is announced went',
  status: "the page's clock went",
  leap: 'the leap indicator went',
  replaced: 'another file stands at the path of this page, which goes on being watched',
}

/** Watches until it is stopped; gives the exit code. */
export async function watch(path: string | undefined, options: WatchOptions): Promise<number> {
  const stop = new AbortController()
  const stopNow = (): void => stop.abort()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stopNow)
  endQuietlyOnBrokenPipe(stopNow)
  const clock = VmClock.open(path, { abi: options.abi })
  const asJson = options.json === true
  const view = new LiveView(asJson)
  try {
    const watcher = clock.watch({ intervalMs: options.interval, signal: stop.signal })
    for (const name of EVENTS) {
      watcher.on(name as 'replaced', (event: VmClockEvent) => tell(view, asJson, event))
    }
    watcher.on('error', (error) => {
      const { code, message } = error
      if (asJson) line(json({ event: 'error', code, message }))
      else view.event('error', message)
    })
    if (asJson) line(json({ event: 'begin', path: clock.path }))
    else line(printable(`Watching ${clock.path}.`))
    while (!stop.signal.aborted) {
      if (view.isDue()) show(view, asJson, look(clock))
      await delay(LOOK_MS, undefined, { signal: stop.signal }).catch(() => {})
    }
    return EXIT.OK
  } finally {
    view.leave()
    clock.close()
  }
}

/** A stamp and the system clock's offset, or why there is none. */
type Look = { readonly reading: Reading; readonly offset: SystemOffset } | VmClockError

function look(clock: VmClock): Look {
  try {
    return { reading: clock.read(), offset: clock.systemOffset() }
  } catch (error) {
    // A page without time, or without time now, is watched all the same.
    if (error instanceof VmClockError) return error
    throw error
  }
}

function show(view: LiveView, asJson: boolean, seen: Look): void {
  if (seen instanceof VmClockError) {
    const { code, message } = seen
    if (asJson) line(json({ event: 'stamp', noTime: { code, message } }))
    else view.show([['time', `none: ${message}`]])
    return
  }
  const { reading, offset } = seen
  if (asJson) {
    line(
      json({
        event: 'stamp',
        reading: reading.toJSON(),
        systemOffsetNs: offset.offsetNs,
        systemOffsetMaxErrorNs: offset.maxErrorNs,
      }),
    )
    return
  }
  view.show([
    ['time', timestamp(reading.epochNs, reading.timescale, reading.leapSecond)],
    ['bound', bound(reading)],
    ['system clock', offsetWords(offset)],
  ])
}

function tell(view: LiveView, asJson: boolean, event: VmClockEvent): void {
  if (asJson) {
    const { type, ...details } = event
    line(json({ event: type, ...details }))
    return
  }
  const words = WORDS[event.type]
  if (event.type === 'replaced') {
    view.event(event.type, words)
    return
  }
  const updates = event.updates === 1 ? '1 update' : `${event.updates} updates`
  const [from, to] = [event.previous ?? 'none', event.current ?? 'none']
  view.event(event.type, `${words} from ${from} to ${to} (${updates})`)
}
