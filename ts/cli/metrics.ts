/** `vmclock metrics`: a clock's metrics for Prometheus, printed once, in a file, or served on loopback. */

import { setTimeout as delay } from 'node:timers/promises'
import type { VmClock } from '../clock'
import { VmClockError } from '../errors'
import { ClockMetrics } from '../metrics/index'
import type { VmClockWatcher } from '../watcher'
import { json, printable } from './escape'
import { removeMetrics, requireReplaceable, writeMetrics } from './metrics-file'
import { type ListenAddress, MetricsServer } from './metrics-server'
import { EXIT, line, reportError } from './output'
import { openClock, type ReadingOptions } from './page-options'
import { onStopSignal } from './signals'
import { whenOutputIsLost } from './streams'
import { notifySupervisor } from './supervisor'

/** Options of `vmclock metrics`. */
export interface MetricsOptions extends ReadingOptions {
  readonly json?: boolean
  readonly file?: string
  readonly interval?: number
  readonly listen?: ListenAddress
}

/** The end of `vmclock metrics --help`. */
export const METRICS_HELP = `
Without --file and --listen the metrics are printed once, in Prometheus' text format.

--file writes them to a file, for node_exporter's textfile collector: to a temporary file in the same
directory, which is then renamed. node_exporter reads names that end in .prom. With --interval the file
is written again and again, and removed at the end, so that no old figure remains.
--listen serves them at /metrics, on a loopback address only. Each scrape reads the page anew.

A page that is missing, or has no time or no bound, is no failure: the metrics say so (vmclock_up,
vmclock_has_time, vmclock_has_bound), and its figures are left out. Counters begin at 0 with the
command. Name the page to watch a publisher: without a name a new page is never chosen while the
old one is open.
SIGTERM, SIGINT and SIGHUP end the command with exit code 0.`

/** Prints, writes or serves the metrics of a page, and returns the exit code. */
export async function metrics(path: string | undefined, options: MetricsOptions): Promise<number> {
  const { file, interval, listen } = options
  if (file === undefined && interval !== undefined) throw misused('--interval needs --file')
  if (file !== undefined && listen !== undefined) {
    throw misused('--file and --listen exclude each other')
  }
  if (file !== undefined) requireReplaceable(file)
  const page = new OpenPage(path, options, interval !== undefined || listen !== undefined)
  try {
    page.requirePossible()
    const collected = new ClockMetrics(() => page.clock())
    if (listen !== undefined) return await serve(collected, listen, options)
    if (file === undefined) print(collected, options)
    else if (interval === undefined) write(collected, file, options)
    else return await keepWriting(collected, file, interval, options)
    return EXIT.OK
  } finally {
    page.close()
  }
}

/** The page of the command. It is opened when it is needed, and again after it was replaced. */
class OpenPage {
  readonly #path: string | undefined
  readonly #options: MetricsOptions
  readonly #isKept: boolean
  #clock: VmClock | undefined
  #watcher: VmClockWatcher | undefined

  /** With `isKept` it is watched for a replacement. */
  constructor(path: string | undefined, options: MetricsOptions, isKept: boolean) {
    this.#path = path
    this.#options = options
    this.#isKept = isKept
  }

  /** Throws if no page could ever be read: the command line is wrong, or the package does not work here. */
  requirePossible(): void {
    try {
      this.clock()
    } catch (error) {
      if (!VmClockError.isVmClockError(error) || IMPOSSIBLE.has(error.code)) throw error
    }
  }

  /** Returns the clock, or throws why the page cannot be opened now. */
  clock(): VmClock {
    if (this.#clock !== undefined) return this.#clock
    const clock = openClock(this.#path, this.#options)
    try {
      if (this.#isKept) this.#watch(clock)
    } catch (error) {
      clock.close()
      throw error
    }
    this.#clock = clock
    return clock
  }

  close(): void {
    this.#watcher?.close()
    this.#clock?.close()
    this.#clock = undefined
  }

  #watch(clock: VmClock): void {
    this.#watcher = clock.watch({ intervalMs: LOOK_MS })
    this.#watcher.on('replaced', () => this.close())
    // The metrics show what cannot be read.
    this.#watcher.on('error', () => {})
  }
}

const LOOK_MS = 1000
const IMPOSSIBLE: ReadonlySet<string> = new Set([
  'ERR_VMCLOCK_INVALID_ARGUMENT',
  'ERR_VMCLOCK_NATIVE',
  'ERR_VMCLOCK_UNSUPPORTED',
])

function misused(message: string): VmClockError {
  return new VmClockError('ERR_VMCLOCK_INVALID_ARGUMENT', message, {
    remedy: 'see `vmclock metrics --help`',
  })
}

function print(collected: ClockMetrics, options: MetricsOptions): void {
  if (options.json) line(json({ metrics: collected.collect() }))
  else line(collected.text().trimEnd())
}

function write(collected: ClockMetrics, file: string, options: MetricsOptions): void {
  writeMetrics(file, collected.text())
  say(options, 'written', { file })
}

async function keepWriting(
  collected: ClockMetrics,
  file: string,
  intervalMs: number,
  options: MetricsOptions,
): Promise<number> {
  const { signal } = untilStopped(options)
  writeMetrics(file, collected.text())
  say(options, 'writing', { file })
  notifySupervisor('READY=1', options.json === true)
  for (;;) {
    await delay(intervalMs, undefined, { signal }).catch(() => {})
    if (signal.aborted) break
    writeMetrics(file, collected.text())
  }
  notifySupervisor('STOPPING=1', options.json === true)
  removeMetrics(file)
  return EXIT.OK
}

async function serve(
  collected: ClockMetrics,
  address: ListenAddress,
  options: MetricsOptions,
): Promise<number> {
  const { signal } = untilStopped(options)
  const server = await MetricsServer.listen(address, {
    contentType: ClockMetrics.contentType,
    text: () => collected.text(),
  })
  say(options, 'listening', { url: server.url })
  notifySupervisor('READY=1', options.json === true)
  await server.serve(signal)
  notifySupervisor('STOPPING=1', options.json === true)
  return EXIT.OK
}

/** Begins to run for long: until a signal, and also if nobody reads the output. */
function untilStopped(options: MetricsOptions): AbortController {
  const stop = new AbortController()
  onStopSignal(() => stop.abort())
  let isSaid = false
  whenOutputIsLost((error) => {
    if (error !== undefined && !isSaid) reportError(error, options.json === true)
    isSaid = true
  })
  return stop
}

function say(
  options: MetricsOptions,
  event: string,
  fields: Readonly<Record<string, string>>,
): void {
  if (options.json) line(json({ event, ...fields }))
  else line(printable([event, ...Object.values(fields)].join('  ')))
}
