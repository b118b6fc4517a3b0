// The host's time at a counter of the guest's, to some microseconds, where the guest's counter is the
// host's with another origin. A question over the console takes milliseconds; a word of the page, which
// both see at once, does not.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { pairWithHost, timeFields } from './page.mjs'

const MEETINGS = 30
// So that the guest has nothing else to do any more when the word is written.
const HEAD_START_MS = 10
const LOOKS = 20

export class Truth {
  #guest
  // The guest's counter less the host's lies in between.
  #least = -(1n << 64n)
  #most = 1n << 64n
  #first
  #last

  /**
   * By a program of the guest's that at the line `meet` looks at the page's marker, says that it does, and
   * when the marker has moved its counter before it last saw the old one and after it saw the new one.
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

  /** From when to when it was, by the host's clock, as the guest's counter stood at `counter`. */
  at(counter) {
    const { answer, epochNs, widthNs } = this.#last
    const ns = (ticks) => epochNs + (ticks * this.#rate.ns) / this.#rate.ticks
    const errorNs = widthNs / 2n + 1n
    return [
      ns(counter - this.#most - answer) - errorNs,
      ns(counter - this.#least - answer) + errorNs,
    ]
  }

  /** Looks at the host's clock again: what `at` is asked about should lie near. */
  async look() {
    this.#last = await this.#look()
  }

  /** Writes this time on the guest's page. */
  async tell() {
    await this.look()
    const { answer, epochNs, widthNs } = this.#last
    const apart = (this.#least + this.#most) / 2n
    const pair = { answer: answer + apart, epochNs, widthNs: widthNs + this.widthNs }
    this.#guest.page.write(timeFields(pair, this.#rate))
  }

  /** How far the two ends of `at` are apart, but for the look at the host's clock. */
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
