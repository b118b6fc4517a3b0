/** Shows values that change: updated in place on a terminal, one line at a time elsewhere. */

import type { SystemOffset } from '../clock'
import { printable } from './escape'
import { distance } from './figures'
import { coloursFor, isCapable, line } from './output'

const PLAIN_INTERVAL_NS = 1_000_000_000n

/** A label and its present value. */
export type Figure = readonly [label: string, value: string]

/** Shows labelled values, and lines for events between them. */
export class LiveView {
  /** The colours of standard output. */
  readonly colours: ReturnType<typeof coloursFor> = coloursFor(process.stdout)
  readonly #isCapable: boolean
  #liveLines = 0
  #mostLines = 0
  #lastPlainNs: bigint | undefined

  constructor(asJson: boolean) {
    this.#isCapable = !asJson && isCapable(process.stdout)
  }

  /**
   * True if the values are updated in place. A terminal that is lower than the values cannot do that: the
   * cursor cannot return to the first of them.
   */
  get isLive(): boolean {
    // A terminal without a size has 0 rows.
    const rows = process.stdout.rows || Number.POSITIVE_INFINITY
    return this.#isCapable && this.#mostLines < rows
  }

  /** Returns true if it is time to show values: always on a terminal, once per second elsewhere. */
  isDue(): boolean {
    if (this.isLive) return true
    const nowNs = process.hrtime.bigint()
    if (this.#lastPlainNs !== undefined && nowNs - this.#lastPlainNs < PLAIN_INTERVAL_NS) {
      return false
    }
    this.#lastPlainNs = nowNs
    return true
  }

  /** Shows values. */
  show(figures: readonly Figure[]): void {
    this.#mostLines = Math.max(this.#mostLines, figures.length)
    if (!this.isLive) {
      this.leave()
      line(printable(figures.map(([label, value]) => `${label} ${value}`).join(' | ')))
      return
    }
    // Line wrap is off meanwhile: a line that wraps would take two rows.
    const up = this.#liveLines === 0 ? '' : `\x1b[${this.#liveLines}A`
    const shown = figures.map(
      ([label, value]) => `\x1b[2K${this.colours.dim(label.padEnd(14))}${printable(value)}\n`,
    )
    // Erases the rest of what was shown before, if that had more lines.
    const below = figures.length < this.#liveLines ? '\x1b[J' : ''
    process.stdout.write(`\x1b[?7l${up}${shown.join('')}${below}\x1b[?7h`)
    this.#liveLines = figures.length
  }

  /** Shows an event on a line of its own, which stays. */
  event(name: string, words: string): void {
    this.leave()
    line(`${this.colours.yellow(`${name}:`)} ${printable(words)}`)
  }

  /** Ends the update in place: the next values get new lines. */
  leave(): void {
    this.#liveLines = 0
  }
}

/** Formats the system clock's offset. */
export function offsetText({ offsetNs, maxErrorNs }: SystemOffset): string {
  const sign = offsetNs < 0n ? '' : '+'
  const bracket = maxErrorNs === undefined ? '' : ` ± ${distance(maxErrorNs)}`
  return `${sign}${distance(offsetNs)} from the page${bracket}`
}
