/** Follows why a publisher's page states no bound, and estimates when it states one again. */

import { boundUnavailableText } from '../bound-unavailable'
import type { BoundUnavailable } from '../snapshot'
import { distance } from './figures'

/** The state of a page's bound, from looks at its publisher. */
export class PublisherBound {
  #unavailable: BoundUnavailable | undefined
  #countedNs: bigint | undefined
  #intervalNs: bigint | undefined

  constructor(unavailable: BoundUnavailable | undefined) {
    this.#unavailable = unavailable
  }

  /** Takes the state at a time, and returns the name of the event if the reason has changed. */
  observe(
    unavailable: BoundUnavailable | undefined,
    nowNs: bigint,
  ): 'bound-available' | 'bound-unavailable' | undefined {
    const before = this.#unavailable
    this.#unavailable = unavailable
    if (unavailable?.reason !== before?.reason) {
      this.#countedNs = undefined
      this.#intervalNs = undefined
      return unavailable === undefined ? 'bound-available' : 'bound-unavailable'
    }
    const updates = (before?.updatesLeft ?? 0) - (unavailable?.updatesLeft ?? 0)
    if (updates > 0) this.#count(updates, nowNs)
    return undefined
  }

  /** Returns the reason for a missing bound as fields of an output line; none if there is a bound. */
  fields(asJson: boolean): Record<string, unknown> {
    if (this.#unavailable === undefined) return {}
    const returnsInNs = this.#returnsInNs()
    if (asJson) {
      return { boundUnavailable: this.#unavailable, boundReturnsInNs: returnsInNs }
    }
    const when = returnsInNs === undefined ? '' : `, in about ${distance(returnsInNs)}`
    return { 'no bound:': `${boundUnavailableText(this.#unavailable)}${when}` }
  }

  // The daemon's interval is known once two of its updates were seen.
  #count(updates: number, nowNs: bigint): void {
    if (this.#countedNs !== undefined) {
      this.#intervalNs = (nowNs - this.#countedNs) / BigInt(updates)
    }
    this.#countedNs = nowNs
  }

  #returnsInNs(): bigint | undefined {
    const updatesLeft = this.#unavailable?.updatesLeft
    if (updatesLeft === undefined || this.#intervalNs === undefined) return undefined
    return BigInt(updatesLeft) * this.#intervalNs
  }
}
