/**
 * `vmclock demo`: a child process publishes a page from this machine's counter and clock. This process
 * takes timestamps from the page and notices two events.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { VmClock } from '../clock'
import { VmClockError } from '../errors'
import { boundOf } from './bound'
import { DemoPublisher } from './demo-publisher'
import { DemoView, type Stamp } from './demo-view'
import { EXIT, reportError } from './output'
import { onStopSignal } from './signals'
import { whenOutputIsLost } from './streams'

/** Options of `vmclock demo`. */
export interface DemoOptions {
  readonly json?: boolean
  readonly seconds: number
}

const TICK_MS = 100
// Timestamps are taken for this part of a tick only: the publisher may share a CPU with this process.
const BURST_NS = 20_000_000n
const STAMPS_A_LOOK = 1000
// The demo runs this much longer if an event has not been noticed: on a busy machine the publishing
// process may have to wait for a CPU.
const GRACE_SECONDS = 30

/** Runs the demo and returns the exit code. */
export async function demo(options: DemoOptions): Promise<number> {
  const stop = new AbortController()
  let lost: VmClockError | undefined
  onStopSignal(() => stop.abort())
  whenOutputIsLost((error) => {
    lost ??= error
    stop.abort()
  })
  const directory = newDirectory()
  // `finally` does not run if the process exits, for example after an error in a stream.
  const removeDirectory = (): void => rmSync(directory, { recursive: true, force: true })
  process.once('exit', removeDirectory)
  const view = new DemoView(options.json === true)
  const publisher = new DemoPublisher(join(directory, 'page'))
  try {
    await Promise.race([publisher.ready, aborted(stop.signal)])
    if (!stop.signal.aborted) await watch(publisher, view, options.seconds, stop.signal)
  } finally {
    view.end()
    await publisher.end()
    removeDirectory()
  }
  return lost === undefined ? EXIT.OK : reportError(lost, options.json === true)
}

function newDirectory(): string {
  const base = tmpdir()
  try {
    return mkdtempSync(join(base, 'vmclock-demo-'))
  } catch (cause) {
    const { message, code, errno, syscall } = cause as NodeJS.ErrnoException
    // Node's permission model has a remedy of its own.
    if (code === 'ERR_ACCESS_DENIED') throw cause
    throw new VmClockError(
      'ERR_VMCLOCK_SYSTEM',
      `the demo needs a temporary directory: ${message}`,
      {
        remedy: 'set TMPDIR to a directory that this process can write to',
        path: base,
        errno: errno === undefined ? undefined : Math.abs(errno),
        syscall,
      },
    )
  }
}

/** A command for the publisher, when to send it, and the event that the reader then gets. */
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
      words: 'the counter was disrupted; counter values from before can no longer be converted',
      sent: false,
      noticed: false,
    },
    {
      name: 'maintenance',
      command: 'maintenance imminent',
      atShare: 0.7,
      words: 'a disruption is announced for the next hour or so',
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
): Promise<void> {
  const clock = VmClock.open(publisher.path, { calls: 'node-api' })
  const watcher = clock.watch()
  const script = events()
  try {
    for (const event of script) {
      watcher.once(event.name as 'disruption', () => {
        event.noticed = true
        view.event(event.name, event.words)
      })
    }
    view.begin(publisher.path, publisher.pid)
    const startNs = process.hrtime.bigint()
    const isNoticed = (): boolean => script.every(({ noticed }) => noticed)
    for (let elapsed = 0; elapsed < seconds || !isNoticed(); elapsed = secondsSince(startNs)) {
      if (signal.aborted || elapsed >= seconds + GRACE_SECONDS) break
      publisher.requireAlive()
      view.stamp(stamp(clock))
      sendDue(script, publisher, secondsSince(startNs) / seconds)
      await delay(TICK_MS, undefined, { signal }).catch(() => {})
    }
    if (signal.aborted) return
    requireNoticed(script, publisher.path)
    view.summary()
  } finally {
    watcher.close()
    clock.close()
  }
}

function sendDue(script: readonly Event[], publisher: DemoPublisher, share: number): void {
  for (const event of script) {
    if (event.sent || share < event.atShare) continue
    publisher.command(event.command)
    event.sent = true
  }
}

function requireNoticed(script: readonly Event[], path: string): void {
  const missed = script.filter(({ noticed }) => !noticed).map(({ name }) => name)
  if (missed.length === 0) return
  throw new VmClockError(
    'ERR_VMCLOCK_TIMEOUT',
    `${path}: the reader did not notice these events: ${missed.join(', ')}`,
    { remedy: 'run the demo again with more --seconds, and report it if that does not help' },
  )
}

function secondsSince(startNs: bigint): number {
  return Number(process.hrtime.bigint() - startNs) / 1e9
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
  const reading = clock.read()
  const bound = boundOf(reading, clock)
  return { reading, bound, offset: clock.systemOffset(), stamps, stampsPerSecond }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
