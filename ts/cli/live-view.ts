/** Figures that change: written over again on a terminal, a line at a time elsewhere. */

import type { SystemOffset } from '../clock'
import { printable } from './escape'
import { distance } from './figures'
import { coloursFor, line } from './output'

const PLAIN_INTERVAL_NS = 1_000_000_000n

/** A label and what it stands for now. */
export type Figure = readonly [label: string, value: string]

/** Shows figures, and lines between them. */
export class LiveView {
  /** Whether the same lines are written over again. */
  readonly isLive: boolean
  /** Colours for standard output. */
  readonly colours: ReturnType<typeof coloursFor> = coloursFor(process.stdout)
  #liveLines = 0
  #lastPlainNs: bigint | undefined

  constructor(asJson: boolean) {
    this.isLive = !asJson && process.stdout.isTTY === true
  }

  /** Whether figures are to be shown now: at every look on a terminal, once a second elsewhere. */
  isDue(): boolean {
    if (this.isLive) return true
    const nowNs = process.hrtime.bigint()
    if (this.#lastPlainNs !== undefined && nowNs - this.#lastPlainNs < PLAIN_INTERVAL_NS) {
      return false
    }
    this.#lastPlainNs = nowNs
    return true
  }

  /** Shows figures in words. */
  show(figures: readonly Figure[]): void {
    if (!this.isLive) {
      line(printable(figures.map(([label, value]) => `${label} ${value}`).join(' | ')))
      return
    }
    // Each line is cut to the terminal's width: one that wraps would be two.
    const up = this.#liveLines === 0 ? '' : `\x1b[${this.#liveLines}A`
    const shown = figures.map(
      ([label, value]) => `\x1b[2K${this.colours.dim(label.padEnd(14))}${printable(value)}\n`,
    )
    // What was shown before may have had more lines.
    const below = figures.length < this.#liveLines ? '\x1b[J' : ''
    process.stdout.write(`\x1b[?7l${up}${shown.join('')}${below}\x1b[?7h`)
    this.#liveLines = figures.length
  }

  /** Something happened: a line of its own, that is not written over. */
  event(name: string, words: string): void {
    this.leave()
    line(`${this.colours.yellow(`noticed ${name}:`)} ${printable(words)}`)
  }

  /** Leaves what was shown last where it is. */
  leave(): void {
    this.#liveLines = 0
  }
}

/** The system clock's offset, in words. */
export function offsetWords({ offsetNs, maxErrorNs }: SystemOffset): string {
  const sign = offsetNs < 0n ? '' : '+'
  const bracket = maxErrorNs === undefined ? '' : ` ± ${distance(maxErrorNs)}`
  return `${sign}${distance(offsetNs)} from the page${bracket}`
}
