/** The output of the demo: a live view on a terminal, lines elsewhere, or JSON. */

import type { SystemOffset } from '../clock'
import type { Reading } from '../reading'
import type { Bound } from './bound'
import { json, printable } from './escape'
import { timestamp } from './figures'
import { LiveView, offsetText } from './live-view'
import { line } from './output'

/** The measurements of one look at the clock. */
export interface Stamp {
  readonly reading: Reading
  readonly bound: Bound
  readonly offset: SystemOffset
  /** The number of timestamps taken, and the rate at which they were taken. */
  readonly stamps: number
  readonly stampsPerSecond: number
}

/** Shows the course of the demo. */
export class DemoView {
  readonly #asJson: boolean
  readonly #view: LiveView
  #stamps = 0

  constructor(asJson: boolean) {
    this.#asJson = asJson
    this.#view = new LiveView(asJson)
  }

  /** Reports that the page is published and open. */
  begin(path: string, publisherPid: number | undefined): void {
    if (this.#asJson) {
      line(json({ event: 'begin', path, publisherPid }))
      return
    }
    line(
      printable(
        `Process ${publisherPid} publishes ${path}. Process ${process.pid} reads it without system calls.`,
      ),
    )
  }

  /** Shows a stamp: each one on a terminal, one per second elsewhere. */
  stamp(stamp: Stamp): void {
    this.#stamps += stamp.stamps
    if (!this.#view.isDue()) return
    if (this.#asJson) {
      line(json({ event: 'stamp', ...jsonOf(stamp) }))
      return
    }
    const { reading, bound, offset } = stamp
    this.#view.show([
      ['time', timestamp(reading.epochNs, reading.timescale, reading.leapSecond)],
      ['bound', bound.text],
      ['system clock', offsetText(offset)],
      ['stamps', `${grouped(stamp.stampsPerSecond)} per second`],
    ])
  }

  /** Reports an event that the reader noticed. */
  event(name: string, words: string): void {
    if (this.#asJson) {
      line(json({ event: name, noticed: true, words }))
      return
    }
    this.#view.event(name, words)
  }

  /** Reports success. */
  summary(): void {
    if (this.#asJson) {
      line(json({ event: 'end', stamps: this.#stamps }))
      return
    }
    this.#view.leave()
    line(
      this.#view.colours.green(
        `${grouped(this.#stamps)} stamps. The reader noticed the disruption and the warning.`,
      ),
    )
  }

  /** Ends the live view. */
  end(): void {
    this.#view.leave()
  }
}

function jsonOf({ reading, bound, offset, stampsPerSecond }: Stamp): Record<string, unknown> {
  return {
    reading: reading.toJSON(),
    boundUnavailable: bound.boundUnavailable,
    systemOffsetNs: offset.offsetNs,
    systemOffsetMaxErrorNs: offset.maxErrorNs,
    stampsPerSecond,
  }
}

function grouped(count: number): string {
  return count.toLocaleString('en-US')
}
