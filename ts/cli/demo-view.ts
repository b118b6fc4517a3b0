/** What the demo shows: a live view on a terminal, lines elsewhere, JSON where it was asked for. */

import type { SystemOffset } from '../clock'
import type { Reading } from '../reading'
import { json, printable } from './escape'
import { distance, timestamp } from './figures'
import { LiveView, offsetWords } from './live-view'
import { line } from './output'

/** One look at the clock. */
export interface Stamp {
  readonly reading: Reading
  readonly offset: SystemOffset
  /** Stamps taken for this look, and how many a second that makes. */
  readonly stamps: number
  readonly stampsPerSecond: number
}

const NO_BOUND =
  "unknown: this machine's clock is not synchronized, so the time is relative to this machine's own clock"

/** Shows the course of the demo. */
export class DemoView {
  readonly #asJson: boolean
  readonly #view: LiveView
  #stamps = 0

  constructor(asJson: boolean) {
    this.#asJson = asJson
    this.#view = new LiveView(asJson)
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
    if (!this.#view.isDue()) return
    if (this.#asJson) {
      line(json({ event: 'stamp', ...flat(stamp) }))
      return
    }
    const { reading, offset } = stamp
    this.#view.show([
      ['time', timestamp(reading.epochNs, reading.timescale, reading.leapSecond)],
      ['bound', reading.maxErrorNs === undefined ? NO_BOUND : `± ${distance(reading.maxErrorNs)}`],
      ['system clock', offsetWords(offset)],
      ['stamps', `${grouped(stamp.stampsPerSecond)} a second`],
    ])
  }

  /** Something happened to the machine, and the reader noticed. */
  event(name: string, words: string): void {
    if (this.#asJson) {
      line(json({ event: name, noticed: true, words }))
      return
    }
    this.#view.event(name, words)
  }

  /** All went well. */
  summary(): void {
    if (this.#asJson) {
      line(json({ event: 'end', stamps: this.#stamps }))
      return
    }
    this.#view.leave()
    line(
      this.#view.colours.green(
        `${grouped(this.#stamps)} stamps; the disruption and the warning were both noticed.`,
      ),
    )
  }

  /** Leaves the terminal as it was. */
  end(): void {
    this.#view.leave()
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

function grouped(count: number): string {
  return count.toLocaleString('en-US')
}
