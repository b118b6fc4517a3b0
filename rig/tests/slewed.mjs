// The package's own publisher in a guest whose clock is stepped and slewed while it publishes: by frequency,
// by tick, by adjtime, and by steps; by hand, and under a chronyd that has to follow. No reading's interval
// may miss the host's clock, which is known at the reading's own counter. While the publisher distrusts the
// clock, no reading may have an interval.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import {
  askChronyd,
  chronyInGuest,
  clockPrograms,
  endChronyd,
  networkCommands,
  startChronyd,
  stepClockBy,
  withTimeServer,
} from '../chrony.mjs'
import { withGuest } from '../guest.mjs'
import { hostNowNs } from '../page.mjs'
import { Truth } from '../truth.mjs'

const INTERVAL_MS = 100
const NS_PER_S = 1_000_000_000n
const SCALED_PER_PPM = 65_536
const MOVE_US = 2_000

// The kernel counts 500 ppm of drift. The clock may drift by the rest without a slew.
const COUNTED_PPM = 450n

// How long each change lasts, how often all of them come, and how much longer a reported error holds, or a
// recovery may take: far longer than it does, so that a busy machine fails nothing.
const FORMS = {
  short: { holdMs: 500, rounds: 1 },
  long: { holdMs: 10_000, rounds: Number(process.env.VMCLOCK_SLEW_ROUNDS ?? 2) },
}
const SPARE_MS = 60_000
const RECOVERY_MS = 600_000
const TALK_MS = 14_400_000
const ATTEMPTS = 20

// chronyd that steps a clock that is far off whenever it finds one, and chronyd as Debian's package has it,
// which does so at its first measurements only and slews the clock by its tick after that.
const MANNERS = { 'that steps': ['makestep 0.1 -1'], 'that slews': ['makestep 1 3'] }
// The offset that the latter finds first, and has to slew.
const OFF_MS = 700

// chronyd that slews the clock by less than the kernel counts, so that only the error that it reports to the
// kernel says how far there is to go; and the offset that it finds each time that it begins, of which it has
// slewed little when it ends.
const SLOWLY = ['maxslewrate 100']
const SLOWLY_OFF_MS = [900, -900]

export const ownGuests = {
  async 'a publisher whose clock is stepped and slewed states no bound that misses the time'(
    prepared,
    { isShort },
  ) {
    const reason = notShown(prepared)
    if (reason !== undefined) return reason
    const { holdMs, rounds } = isShort ? FORMS.short : FORMS.long
    const adjtimex = join(await clockPrograms(), 'usr/sbin/adjtimex')
    return await withGuest(prepared, { programs: [['adjtimex', adjtimex]] }, async (guest) => {
      const seen = await Readings.begin(guest)
      await seen.unbounded('before anybody reports an error')
      await seen.set()
      await seen.recovered()
      for (let round = 0; round < rounds; round++) {
        for (const { name, begin, end, ppm, isFar } of slews()) {
          const isStated = await seen.reported(ppm, holdMs, begin)
          assert.ok(isStated || isFar, `${name}: no bound for a change with its report`)
          await seen.during(holdMs, `${name}, reported`)
          await seen.command(`./adjtimex ${end}`)
          await seen.again()
          await seen.interfere(`./adjtimex ${begin}`)
          await seen.none(holdMs, `${name}, by another program`)
          await seen.command(`./adjtimex ${end}`)
          await seen.again()
        }
        for (const aheadMs of [2000, -2000]) {
          await seen.step(aheadMs)
          await seen.none(holdMs, `stepped by ${aheadMs} ms`)
          await seen.set()
          await seen.again()
          await seen.during(holdMs, 'set right')
        }
      }
      await seen.end()
    })
  },

  async 'a publisher under chronyd states no bound that misses the time, whoever changes the clock'(
    prepared,
    { isShort },
  ) {
    const reason = notShown(prepared)
    if (reason !== undefined) return reason
    const { holdMs, rounds } = isShort ? FORMS.short : FORMS.long
    const folder = await clockPrograms()
    const options = chronyInGuest(folder, prepared.parts)
    options.programs.push(['adjtimex', join(folder, 'usr/sbin/adjtimex')])
    const run = (port) =>
      withGuest(prepared, options, async (guest) => {
        const seen = await Readings.begin(guest)
        for (const line of networkCommands) await seen.command(line)
        await seen.unbounded('before anybody reports an error')
        for (const [manner, lines] of Object.entries(MANNERS)) {
          await seen.step(OFF_MS)
          await seen.unbounded(`before chronyd ${manner}`)
          await seen.command(startChronyd(port, lines))
          await seen.recovered()
          await seen.during(3 * holdMs, `chronyd ${manner}, begun`)
          await seen.chronyd(manner)
          for (let round = 0; round < rounds; round++) {
            for (const { name, command } of interferences(isShort)) {
              await seen.interfere(command)
              await seen.none(holdMs, `chronyd ${manner}, ${name}`)
              await seen.chronyd(manner)
              await seen.recovered()
              await seen.during(3 * holdMs, `chronyd ${manner}, after ${name}`)
              await seen.chronyd(manner)
            }
          }
          await seen.command(endChronyd)
        }
        for (let round = 0; round < rounds; round++) {
          for (const aheadMs of SLOWLY_OFF_MS) {
            const manner = `that slews slowly from ${aheadMs} ms`
            await seen.step(aheadMs)
            await seen.unbounded(`before chronyd ${manner}`)
            // A publisher that takes over a page without a bound waits for 8 updates only.
            await seen.command('publish')
            await seen.unbounded(`published again, before chronyd ${manner}`)
            await seen.command(startChronyd(port, SLOWLY))
            await seen.recovered()
            await seen.during(3 * holdMs, `chronyd ${manner}`)
            await seen.chronyd(manner)
            await seen.command(endChronyd)
            await seen.during(holdMs, `after chronyd ${manner}`)
          }
        }
        await seen.end()
      })
    return await withTimeServer(folder, run)
  },
}

function notShown({ machine }) {
  if (machine.name !== 'x86-64') return 'the clock is turned on x86-64'
  if (process.env.VMCLOCK_SLEW === undefined)
    return 'only in the `slew` suite: it takes minutes, on a machine with no other load'
  return undefined
}

/** The ways to slew a clock, as options of adjtimex(8), and the most that they change of its rate. */
function slews() {
  const byFrequency = [500, -500].map((ppm) => ({
    name: `frequency ${ppm} ppm`,
    begin: `--frequency ${ppm * SCALED_PER_PPM}`,
    end: '--frequency 0',
    ppm: Math.abs(ppm),
    isChronyd: true,
  }))
  // One microsecond is 100 ppm. The publisher states no bound for a rate so far off nominal.
  const byTick = [10_050, 9_950].map((us) => ({
    name: `tick ${us} us`,
    begin: `--tick ${us}`,
    end: '--tick 10000',
    ppm: Math.abs(us - 10_000) * 100,
    isFar: true,
  }))
  const byAdjtime = [MOVE_US, -MOVE_US].map((us) => ({
    name: `adjtime ${us} us`,
    begin: `--singleshot ${us}`,
    end: '--singleshot 0',
    ppm: 500,
    isChronyd: true,
  }))
  return [...byFrequency, ...byTick, ...byAdjtime]
}

/** The changes that another program makes to chronyd's clock, which chronyd may not notice at once. */
function interferences(isShort) {
  const slewed = slews().filter(({ isChronyd }) => isChronyd)
  const all = [
    ...slewed.map(({ name, begin }) => ({ name, command: `./adjtimex ${begin}` })),
    ...[MOVE_US, -MOVE_US].flatMap((us) => [
      // Only a kernel that is told to use its loop takes an offset.
      { name: `offset ${us} us`, command: `./adjtimex --status 1 --offset ${us}` },
      { name: `a step of ${us} us`, command: stepClockBy(us / 1000) },
    ]),
    ...[1000, -1000].map((ms) => ({ name: `a step of ${ms} ms`, command: stepClockBy(ms) })),
  ]
  const inShort = [`adjtime ${MOVE_US} us`, `a step of ${MOVE_US} us`, 'a step of 1000 ms']
  return isShort ? all.filter(({ name }) => inShort.includes(name)) : all
}

/** The readings of a guest's program, compared with the truth, and the changes to the guest's clock meanwhile. */
class Readings {
  #talk
  #truth
  #bounded = 0
  #unbounded = 0
  #recoveriesMs = []
  #takenForDaemons = 0
  #widest = new Map()
  #states = new Map()

  static async begin(guest) {
    const seen = new Readings()
    const talk = await guest.talk('slewed.mjs', [`${INTERVAL_MS}`], { timeoutMs: TALK_MS })
    seen.#talk = talk
    seen.#truth = await Truth.of(guest, talk)
    await seen.command('publish')
    return seen
  }

  /** A command of the guest's, and what it printed. */
  async command(line) {
    const answer = await this.#talk.ask(line)
    assert.match(answer, /^done/, line)
    return answer.slice('done '.length)
  }

  /** Some readings: whether the last of them stated a bound. */
  async some(when) {
    const answer = await this.#talk.ask('readings')
    await this.#truth.look()
    let isBounded
    for (const reading of answer.split(',')) {
      const [counter, earliestNs, latestNs] = reading.split(' ').map(BigInt)
      isBounded = latestNs !== undefined
      if (isBounded) this.#judge(counter, earliestNs, latestNs, when)
      else this.#unbounded += 1
    }
    return isBounded
  }

  #judge(counter, earliestNs, latestNs, when) {
    const [fromNs, toNs] = this.#truth.at(counter)
    const middleNs = (earliestNs + latestNs) / 2n
    const boundNs = (latestNs - earliestNs) / 2n
    const offNs = middleNs - (fromNs + toNs) / 2n
    assert.ok(
      earliestNs <= toNs && fromNs <= latestNs,
      `${when}: off by ${offNs} ns where at most ${boundNs} were stated: the guest says ${earliestNs} to ${latestNs}, the host ${fromNs} to ${toNs}`,
    )
    this.#bounded += 1
    const share = Math.abs(Number(offNs)) / Number(boundNs)
    if (share > (this.#widest.get(when)?.share ?? 0)) {
      this.#widest.set(when, { share, offNs, boundNs })
    }
  }

  /** Reads for a while. Every bound has to hold. */
  async during(ms, when) {
    const endMs = performance.now() + ms
    do await this.some(when)
    while (performance.now() < endMs)
    assert.ok(
      performance.now() < endMs + SPARE_MS,
      `${when}: the machine is too busy for the error that was reported`,
    )
  }

  /** Reads for a while. No bound may be stated. */
  async none(ms, when) {
    await this.unbounded(when)
    const endMs = performance.now() + ms
    do assert.equal(await this.some(when), false, `${when}: a bound`)
    while (performance.now() < endMs)
  }

  /** Waits until no bound is stated, as it may not be for long. */
  async unbounded(when) {
    const endMs = performance.now() + RECOVERY_MS
    while (await this.some(when)) assert.ok(performance.now() < endMs, `${when}: still a bound`)
  }

  /** Waits for a bound. */
  async recovered() {
    const startMs = performance.now()
    let lacked = false
    while (!(await this.some('recovering'))) {
      lacked = true
      const trust = await this.#talk.ask('trust')
      assert.ok(performance.now() < startMs + RECOVERY_MS, `no bound again: ${trust}`)
    }
    if (lacked) this.#recoveriesMs.push(performance.now() - startMs)
  }

  /** Has another program than the daemon change the clock, which the publisher has to notice. */
  async interfere(command) {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.#talk.ask('quiet')
      await this.command(command)
      if ((await this.#talk.ask('verdict')) === 'distrusted') return
      // Next to a report of the daemon's, a change is taken for the daemon's own. The readings after it
      // are compared with nothing, until such a change is noticed.
      this.#takenForDaemons += 1
    }
    assert.fail(`the publisher trusts its clock after ${command}`)
  }

  /** Sets the clock so far ahead of the time: to a whole second, when that is so far ahead. */
  async step(aheadMs) {
    const aheadNs = BigInt(aheadMs) * 1_000_000n
    const second = (hostNowNs() + aheadNs) / NS_PER_S + 1n
    await setTimeout(Number(second * NS_PER_S - aheadNs - hostNowNs()) / 1e6)
    await this.command(`date -s @${second}`)
  }

  /** Sets the clock to the host's. */
  async set() {
    await this.step(0)
    await this.#report()
  }

  /** Reports errors until the publisher trusts the clock again. */
  async again() {
    await this.#report()
    await this.recovered()
  }

  /** Reports an error, and changes the clock in the same moment. Returns whether a bound is stated then. */
  async reported(ppm, holdMs, change) {
    const us = await this.#errorUs(ppm, holdMs)
    const figure = us % 500n === 0n ? us + 1n : us
    await this.command(
      `./adjtimex --status 0 --maxerror ${figure} --esterror ${figure} && ./adjtimex ${change}`,
    )
    return (await this.#talk.ask('verdict')) === 'trusted' && (await this.some('reported'))
  }

  async #report() {
    for (const way of ['report', 'reportOnce']) {
      const answer = await this.#talk.ask(`${way} ${await this.#errorUs(0, 0)}`)
      assert.match(answer, /^done/)
    }
  }

  /**
   * How far the kernel's clock is off at most, from a look at it; and what the kernel does not count of a
   * rate that is off by `ppm` for so long.
   */
  async #errorUs(ppm, holdMs) {
    await this.#truth.tell()
    const [aheadNs, withinNs] = (await this.#talk.ask('ahead')).split(' ').map(BigInt)
    const offNs = (aheadNs < 0n ? -aheadNs : aheadNs) + withinNs
    const uncountedPpm = BigInt(ppm) > COUNTED_PPM ? BigInt(ppm) - COUNTED_PPM : 0n
    return (offNs + BigInt(holdMs + SPARE_MS) * uncountedPpm) / 1000n + 1n
  }

  /** Takes note of what chronyd says of the clock. */
  async chronyd(manner) {
    const said = await this.command(askChronyd)
    const [, state] = /Leap status\s*: ([^;]+)/.exec(said)
    const [, us] = /System time\s*: ([\d.]+)/.exec(said)
    const states = this.#states.get(`chronyd ${manner}: ${state}`) ?? []
    states.push(Number(us) * 1e6)
    this.#states.set(`chronyd ${manner}: ${state}`, states)
  }

  async end() {
    await this.#talk.end()
    assert.ok(this.#bounded > 0 && this.#unbounded > 0)
    const print = (line) => console.log(`    ${line}`)
    print(
      `${this.#bounded} readings with a bound held the host’s time, known to ${this.#truth.widthNs} ns; ${this.#unbounded} stated none`,
    )
    const sorted = this.#recoveriesMs.toSorted((a, b) => a - b).map((ms) => ms.toFixed(0))
    if (sorted.length > 0) {
      print(
        `a bound again after ${sorted[sorted.length >> 1]} ms in the middle, ${sorted.at(-1)} at most, ${sorted.length} times`,
      )
    }
    print(`${this.#takenForDaemons} changes next to a report were taken for the daemon’s`)
    for (const [state, us] of this.#states) {
      print(`${state} ${us.length} times, ${Math.max(...us).toFixed(0)} us to be corrected at most`)
    }
    for (const [when, { share, offNs, boundNs }] of this.#widest) {
      const us = (ns) => `${(Number(ns) / 1000).toFixed(0)} us`
      print(
        `off by up to ${(100 * share).toFixed(0)} % of the bound, ${us(offNs)} of ${us(boundNs)}: ${when}`,
      )
    }
  }
}
