/** What the demo shows: a live view on a terminal, lines elsewhere, JSON where it was asked for. */

import type { SystemOffset } from '../clock'
import type { Reading } from '../reading'
import { json, printable } from './escape'
import { distance, timestamp } from './figures'
import { coloursFor, line } from './output'

/** One look at the clock. */
export interface Stamp {
  readonly reading: Reading
  readonly offset: SystemOffset
  /** Stamps taken for this look, and how many a second that makes. */
  readonly stamps: number
  readonly stampsPerSecond: number
}

const PLAIN_INTERVAL_NS = 1_000_000_000n
const NO_BOUND =
  "unknown: this machine's clock is not synchronized, so the time is relative to this machine's own clock"

/** Shows the course of the demo. */
export class DemoView {
  readonly #asJson: boolean
  readonly #live: boolean
  readonly #colours: ReturnType<typeof coloursFor> = coloursFor(process.stdout)
  #liveLines = 0
  #stamps = 0
  #lastPlainNs: bigint | undefined

  constructor(asJson: boolean) {
    this.#asJson = asJson
    this.#live = !asJson && process.stdout.isTTY === true
  }

  /** The page stands. */
  begin(path: string, publisherPid: number | undefined): void {
    if (this.#asJson) {
      line(json({ event: 'begin', path, publisherPid }))
      return
    }
    line(
      printable(
        `Process ${publisherPid} publishes ${path}; process ${process.pid} reads it, without a system call.`,
      ),
    )
  }

  /** A look at the clock: shown at once on a terminal, once a second elsewhere. */
  stamp(stamp: Stamp): void {
    this.#stamps += stamp.stamps
    const nowNs = process.hrtime.bigint()
    if (!this.#live) {
      if (this.#lastPlainNs !== undefined && nowNs - this.#lastPlainNs < PLAIN_INTERVAL_NS) return
      this.#lastPlainNs = nowNs
    }
    if (this.#asJson) {
      line(json({ event: 'stamp', ...flat(stamp) }))
      return
    }
    const { reading, offset } = stamp
    const figures: Array<[string, string]> = [
      ['time', timestamp(reading.epochNs, reading.timescale, reading.leapSecond)],
      ['bound', reading.maxErrorNs === undefined ? NO_BOUND : `± ${distance(reading.maxErrorNs)}`],
      ['system clock', `${signed(offset.offsetNs)} from the page${bracket(offset)}`],
      ['stamps', `${grouped(stamp.stampsPerSecond)} a second`],
    ]
    const shown = this.#live
      ? figures.map(([label, value]) => `${this.#colours.dim(label.padEnd(14))}${value}`)
      : [figures.map(([label, value]) => `${label} ${value}`).join(' | ')]
    this.#replace(shown)
  }

  /** Something happened to the machine, and the reader noticed. */
  event(name: string, words: string): void {
    if (this.#asJson) {
      line(json({ event: name, noticed: true, words }))
      return
    }
    this.#leaveLive()
    line(`${this.#colours.yellow(`noticed ${name}:`)} ${words}`)
  }

  /** All went well. */
  summary(): void {
    if (this.#asJson) {
      line(json({ event: 'end', stamps: this.#stamps }))
      return
    }
    this.#leaveLive()
    line(
      this.#colours.green(
        `${grouped(this.#stamps)} stamps; the disruption and the warning were both noticed.`,
      ),
    )
  }

  /** Leaves the terminal as it was. */
  end(): void {
    this.#leaveLive()
  }

  // On a terminal the same lines are written over again, each cut to the terminal's width: one that
  // wraps would be two.
  #replace(lines: readonly string[]): void {
    if (!this.#live) {
      lines.forEach(line)
      return
    }
    const up = this.#liveLines === 0 ? '' : `\x1b[${this.#liveLines}A`
    process.stdout.write(`\x1b[?7l${up}${lines.map((text) => `\x1b[2K${text}\n`).join('')}\x1b[?7h`)
    this.#liveLines = lines.length
  }

  #leaveLive(): void {
    this.#liveLines = 0
  }
}

function flat({ reading, offset, stampsPerSecond }: Stamp): Record<string, unknown> {
  return {
    reading: reading.toJSON(),
    ...(reading.maxErrorNs === undefined && { boundUnknown: NO_BOUND }),
    systemOffsetNs: offset.offsetNs,
    systemOffsetMaxErrorNs: offset.maxErrorNs,
    stampsPerSecond,
  }
}

function bracket({ maxErrorNs }: SystemOffset): string {
  return maxErrorNs === undefined ? '' : ` ± ${distance(maxErrorNs)}`
}

function signed(ns: bigint): string {
  return ns < 0n ? distance(ns) : `+${distance(ns)}`
}

function grouped(count: number): string {
  return count.toLocaleString('en-US')
}
