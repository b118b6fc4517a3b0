/** Follows the source of a publisher's time. */

import type { PublisherTimeSource } from '../publisher'

/** The source of a page's time, from looks at its publisher. */
export class PublisherSource {
  #source: PublisherTimeSource | undefined

  constructor(source: PublisherTimeSource | undefined) {
    this.#source = source
  }

  /** Takes the source now, and returns whether it is another one than before. */
  observe(source: PublisherTimeSource | undefined): boolean {
    const before = this.#source
    this.#source = source
    return source?.from !== before?.from
  }

  /** Returns the source as fields of an output line; none for a page without time. */
  fields(asJson: boolean): Record<string, unknown> {
    if (this.#source === undefined) return {}
    const { from, passedOver } = this.#source
    if (passedOver.length === 0) return { from }
    if (asJson) return { from, passedOver }
    return {
      from,
      'not from:': passedOver.map(({ from, reason }) => `${from}: ${reason}`).join('; '),
    }
  }
}
