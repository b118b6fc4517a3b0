/**
 * `vmclock demo`: one process publishes a page from this machine's counter and clock, this one stamps
 * from it and notices what happens to it.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { VmClock } from '../clock'
import { VmClockError } from '../errors'
import { DemoPublisher } from './demo-publisher'
import { DemoView, type Stamp } from './demo-view'
import { EXIT, endQuietlyOnBrokenPipe } from './output'

/** What `vmclock demo` was told. */
export interface DemoOptions {
  readonly json?: boolean
  readonly seconds: number
}

const TICK_MS = 100
// Stamps are counted over this much of a tick: the rest is left to the publisher, which may have to
// share a CPU with this process.
const BURST_NS = 20_000_000n
const STAMPS_A_LOOK = 1000
// How much longer than asked for the demo waits for an event to be noticed: on a machine that is busy
// with other things, the publishing process may have to wait for a CPU.
const GRACE_SECONDS = 30

/** Runs the demo; gives the exit code. */
export async function demo(options: DemoOptions): Promise<number> {
  const stop = new AbortController()
  const stopNow = (): void => stop.abort()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stopNow)
  endQuietlyOnBrokenPipe(stopNow)
  const folder = mkdtempSync(join(tmpdir(), 'vmclock-demo-'))
  // For ends that no code of ours sees, such as an error in a stream.
  const removeFolder = (): void => rmSync(folder, { recursive: true, force: true })
  process.once('exit', removeFolder)
  const view = new DemoView(options.json === true)
  const publisher = new DemoPublisher(join(folder, 'page'))
  try {
    await Promise.race([publisher.stands, aborted(stop.signal)])
    return stop.signal.aborted
      ? EXIT.OK
      : await watch(publisher, view, options.seconds, stop.signal)
  } finally {
    view.end()
    await publisher.end()
    removeFolder()
  }
}

/** What the publisher is made to do, when, and what the reader's watcher tells then. */
interface Event {
  readonly name: 'disruption' | 'maintenance'
  readonly command: string
  readonly atShare: number
  readonly words: string
  sent: boolean
  noticed: boolean
}

function events(): Event[] {
  return [
    {
      name: 'disruption',
      command: 'disrupt',
      atShare: 0.4,
      words: 'the machine was disrupted: a counter from before can no longer be converted',
      sent: false,
      noticed: false,
    },
    {
      name: 'maintenance',
      command: 'maintenance imminent',
      atShare: 0.7,
      words: 'a disruption is announced within about an hour',
      sent: false,
      noticed: false,
    },
  ]
}

async function watch(
  publisher: DemoPublisher,
  view: DemoView,
  seconds: number,
  signal: AbortSignal,
): Promise<number> {
  const clock = VmClock.open(publisher.path)
  const watcher = clock.watch()
  try {
    const script = events()
    for (const event of script) {
      watcher.once(event.name as 'disruption', () => {
        event.noticed = true
        view.event(event.name, event.words)
      })
    }
    const startNs = process.hrtime.bigint()
    const elapsedSeconds = (): number => Number(process.hrtime.bigint() - startNs) / 1e9
    const open = (): boolean => script.some(({ noticed }) => !noticed)
    view.begin(clock.path, publisher.pid)
    while (elapsedSeconds() < seconds || (open() && elapsedSeconds() < seconds + GRACE_SECONDS)) {
      if (signal.aborted) return EXIT.OK
      publisher.requireAlive()
      view.stamp(stamp(clock))
      for (const event of script) {
        if (!event.sent && elapsedSeconds() >= seconds * event.atShare) {
          publisher.command(event.command)
          event.sent = true
        }
      }
      await delay(TICK_MS, undefined, { signal }).catch(() => {})
    }
    if (signal.aborted) return EXIT.OK
    const missed = script.filter(({ noticed }) => !noticed).map(({ name }) => name)
    if (missed.length > 0) {
      throw new VmClockError(
        'ERR_VMCLOCK_TIMEOUT',
        `${clock.path}: the reader did not notice: ${missed.join(', ')}; run the demo again with more --seconds, and report it if that does not help`,
      )
    }
    view.summary()
    return EXIT.OK
  } finally {
    watcher.close()
    clock.close()
  }
}

function stamp(clock: VmClock): Stamp {
  const startNs = process.hrtime.bigint()
  let stamps = 0
  let tookNs = 0n
  while (tookNs < BURST_NS) {
    for (let count = 0; count < STAMPS_A_LOOK; count++) clock.nowNs()
    stamps += STAMPS_A_LOOK
    tookNs = process.hrtime.bigint() - startNs
  }
  const stampsPerSecond = Math.round(stamps / (Number(tookNs) / 1e9))
  return { reading: clock.read(), offset: clock.systemOffset(), stamps, stampsPerSecond }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
