// Measures the host's time at a counter of the guest, to some microseconds. The guest's counter must be the
// host's counter with another origin. A question over the console takes milliseconds. A field of the page is
// faster, because host and guest see a change at once.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { pairWithHost, timeFields } from './page.mjs'

const MEETINGS = 30
// Gives the guest time to finish all else before the field changes.
const HEAD_START_MS = 10
const LOOKS = 20
// The host's counter and its clock go at one rate, but for what its daemon slews and a busy machine delays.
const RATE_PPM = 1000n
const DELAY_NS = 5_000_000n

export class Truth {
  #guest
  // The guest's counter minus the host's is between these two.
  #least = -(1n << 64n)
  #most = 1n << 64n
  #first
  #last

  /**
   * Measures with a program in the guest. At the line `meet` the program prints a line and polls the page's
   * marker. When the marker changes, it prints two counters: before it last saw the old marker, and after it
   * saw the new one.
   */
  static async of(guest, talk) {
    const truth = new Truth()
    truth.#guest = guest
    truth.#first = await truth.#look()
    let marker = 1n
    for (let meeting = 0; meeting < MEETINGS; meeting++) {
      await talk.ask('meet')
      await setTimeout(HEAD_START_MS)
      marker += 1n
      const begun = guest.ticksNow()
      guest.page.write({ disruptionMarker: marker })
      const done = guest.ticksNow()
      const [before, after] = (await talk.next()).split(' ').map(BigInt)
      if (before - done > truth.#least) truth.#least = before - done
      if (after - begun < truth.#most) truth.#most = after - begun
    }
    assert.ok(truth.#least <= truth.#most, 'the guest’s counter is not the host’s')
    await truth.look()
    return truth
  }

  /** Returns the earliest and the latest time of the host at which the guest's counter was `counter`. */
  at(counter) {
    const { answer, epochNs, widthNs } = this.#last
    const ns = (ticks) => epochNs + (ticks * this.#rate.ns) / this.#rate.ticks
    const errorNs = widthNs / 2n + 1n
    return [
      ns(counter - this.#most - answer) - errorNs,
      ns(counter - this.#least - answer) + errorNs,
    ]
  }

  /** Reads the host's clock again. `at` is most precise for counters near the last reading. */
  async look() {
    const now = await this.#look()
    if (this.#last !== undefined) this.#requireOneRate(now)
    this.#last = now
  }

  /**
   * Fails if the host's counter and its clock went apart since the last look. They do if the host itself was
   * suspended or migrated, and then there is no truth to compare with.
   */
  #requireOneRate(now) {
    const elapsedNs = now.epochNs - this.#last.epochNs
    const byCounterNs = ((now.answer - this.#last.answer) * this.#rate.ns) / this.#rate.ticks
    const apartNs = byCounterNs - elapsedNs
    const withinNs = (elapsedNs * RATE_PPM) / 1_000_000n + now.widthNs + DELAY_NS
    assert.ok(
      -withinNs <= apartNs && apartNs <= withinNs,
      `the host’s counter went ${byCounterNs} ns and its clock ${elapsedNs} ns: the host was suspended or migrated, so this run shows nothing`,
    )
  }

  /** Writes the host's time to the guest's page. */
  async tell() {
    await this.look()
    const { answer, epochNs, widthNs } = this.#last
    const apart = (this.#least + this.#most) / 2n
    const pair = { answer: answer + apart, epochNs, widthNs: widthNs + this.widthNs }
    this.#guest.page.write(timeFields(pair, this.#rate))
  }

  /** The width of the interval of `at`, without the error of the reading of the host's clock. */
  get widthNs() {
    return ((this.#most - this.#least) * this.#rate.ns) / this.#rate.ticks
  }

  get #rate() {
    const ticks = this.#last.answer - this.#first.answer
    return { ticks, ns: this.#last.epochNs - this.#first.epochNs }
  }

  async #look() {
    return await pairWithHost(this.#guest.ticksNow, LOOKS)
  }
}
