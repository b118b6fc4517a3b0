// Judges the stamps of `programs/guarded.mjs` by the host's clock, across migrations of the guest.
//
// An emulated counter stops while its machine is stopped, so a migration puts it behind by the length of the
// stop. A line of time over the counter therefore holds up to the stop, and another one after it. Each is
// measured over the console, to some milliseconds.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { hostNowNs, pairWithHost } from './page.mjs'

const NS_PER_S = 1_000_000_000n
// Beyond the bracket around the counter: the rates of both clocks over the seconds of a test.
const SPARE_NS = 1_000_000n
const STOPPED_MS = 2_000
// How long a guest stamps before it is stopped, and in all.
const BEFORE_MS = 300
const STAMPING_MS = 1_500
const TALK_MS = 7_200_000

/**
 * Returns the command that publishes a page with the command line, and waits until it says so. An emulated CPU
 * does not call its counter invariant.
 */
export function startPublisher(page, options) {
  const publish = `node ../../node_modules/vmclock/dist/cli.cjs publish ${page} --allow-untrusted-counter ${options}`
  const published = '[ -s /tmp/published ] || ! kill -0 $(cat /tmp/publisher)'
  return `rm -f /tmp/published; ${publish} > /tmp/published 2>&1 < /dev/null & echo $! > /tmp/publisher; until ${published}; do sleep 0.1; done; cat /tmp/published; kill -0 $(cat /tmp/publisher)`
}

export class Stamps {
  #guest
  #talk
  #rate
  #line
  #marker
  #generation
  /** Stamps with a bound, without one, and those after a stop. */
  bounded = 0
  unbounded = 0
  after = 0

  static async begin(guest, fields = {}) {
    const stamps = new Stamps()
    stamps.#guest = guest
    guest.removeTime()
    stamps.#marker = 100n
    stamps.#generation = 7n
    guest.page.write({
      disruptionMarker: stamps.#marker,
      vmGenerationCounter: stamps.#generation,
      ...fields,
    })
    stamps.#rate = await guest.counterRate()
    stamps.#talk = await guest.talk('guarded.mjs', [], { timeoutMs: TALK_MS })
    return stamps
  }

  /** Goes on with the program in a clone. */
  static resume(clone, original) {
    const stamps = new Stamps()
    stamps.#guest = clone
    stamps.#rate = original.#rate
    stamps.#line = original.#line
    stamps.#marker = original.#marker
    stamps.#generation = original.#generation
    stamps.#talk = clone.resumeTalk()
    return stamps
  }

  ask(line) {
    return this.#talk.ask(line)
  }

  next() {
    return this.#talk.next()
  }

  /** A command of the guest's shell, which must succeed. */
  async shell(line) {
    const answer = await this.#talk.ask(line)
    assert.match(answer, /^done/, line)
    return answer.slice('done '.length)
  }

  async open(options) {
    const answer = await this.#talk.ask(`open ${JSON.stringify(options)}`)
    return JSON.parse(answer)
  }

  async end() {
    await this.#talk.end()
  }

  /** Measures the line of the host's time over the guest's counter, and gives it to the guest. */
  async align() {
    this.#line = await this.#measured()
    const { answer, epochNs } = this.#line
    const { ticks, ns } = this.#rate
    assert.equal(await this.#talk.ask(`line ${answer} ${epochNs} ${ticks} ${ns}`), 'done')
  }

  /** Sets the guest's clock to the host's, and has its kernel told errors until there is a bound. */
  async synchronize() {
    await this.setClock()
    return await this.report()
  }

  async setClock() {
    const second = hostNowNs() / NS_PER_S + 1n
    await setTimeout(Number(second * NS_PER_S - hostNowNs()) / 1e6)
    await this.shell(`date -s @${second}`)
  }

  /** Reports true errors of the guest's clock until there is a bound; returns how many it took. */
  async report() {
    const count = await this.#talk.ask(`report ${await this.errorUs()}`)
    assert.match(count, /^\d+$/)
    return Number(count)
  }

  /** How far the guest's clock is off at most, in microseconds. */
  async errorUs() {
    const { answer, epochNs, widthNs } = await pairWithHost(async () =>
      BigInt(await this.#talk.ask('realtime')),
    )
    const offNs = answer > epochNs ? answer - epochNs : epochNs - answer
    return (offNs + widthNs + 2n * SPARE_NS) / 1000n + 1n
  }

  /** Stamps for a while, and demands that each bound holds. */
  async stamp(ms, when) {
    await this.align()
    assert.equal(await this.#talk.ask(`stamp ${ms}`), 'stamping')
    this.#judge(JSON.parse(await this.#talk.next()), undefined, when)
  }

  /**
   * Stamps while the guest is stopped for seconds and its device tells of it before it runs again. Each bound
   * must hold, and the first stamp after the stop must have another marker. Returns the runs after the stop.
   */
  async migrate(when, { isNotified = false, isClone = false, ms = STAMPING_MS } = {}) {
    await this.align()
    assert.equal(await this.#talk.ask(`stamp ${ms}`), 'stamping')
    await setTimeout(BEFORE_MS)
    const { page, control } = this.#guest
    const fromNs = hostNowNs()
    await control.execute('stop')
    const toNs = hostNowNs()
    await setTimeout(STOPPED_MS)
    this.#marker += 1n
    if (isClone) this.#generation += 1n
    page.write({ disruptionMarker: this.#marker, vmGenerationCounter: this.#generation })
    await control.execute('cont')
    if (isNotified) await this.#guest.interrupt()
    const runs = JSON.parse(await this.#talk.next())
    const after = await this.#measured()
    return this.#judge(runs, { fromNs, toNs, after }, when)
  }

  /** Judges runs. `stop` says when the guest was stopped, and what its counter is worth since. */
  #judge(runs, stop, when) {
    const { answer, epochNs, widthNs } = this.#line
    const { ticks, ns } = this.#rate
    const withinNs = widthNs / 2n + SPARE_NS
    const counterAt = (atNs) => answer + ((atNs - epochNs) * ticks) / ns
    const [leastStop, mostStop] =
      stop === undefined
        ? [1n << 64n, 1n << 64n]
        : [counterAt(stop.fromNs - withinNs), counterAt(stop.toNs + withinNs)]
    const afterStop = []
    for (const run of runs) {
      const [first, last] = [BigInt(run.first), BigInt(run.last)]
      const isAfter = last > mostStop
      if (isAfter) {
        afterStop.push(run)
        this.after += run.count
      }
      if (run.isBounded) this.bounded += run.count
      else this.unbounded += run.count
      if (!run.isBounded) continue
      assert.ok(
        !isAfter || first >= leastStop,
        `${when}: a bound from before the stop in ${run.count} stamps up to after it: ${JSON.stringify(run)}`,
      )
      // The truth, as a distance from the line.
      const [truthNs, errorNs] = isAfter
        ? [
            stop.after.epochNs - (epochNs + ((stop.after.answer - answer) * ns) / ticks),
            stop.after.widthNs / 2n + SPARE_NS,
          ]
        : [0n, withinNs]
      assert.ok(
        BigInt(run.mostEarliest) <= truthNs + errorNs &&
          BigInt(run.leastLatest) >= truthNs - errorNs,
        `${when}: a false bound: the truth is ${truthNs} ns from the line, the stamps say ${run.mostEarliest} to ${run.leastLatest}: ${JSON.stringify(run)}`,
      )
    }
    return afterStop
  }

  async #measured() {
    return await pairWithHost(async () => BigInt(await this.#talk.ask('counter')))
  }

  get marker() {
    return this.#marker
  }
}
