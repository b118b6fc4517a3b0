// The package's own publisher in a guest whose clock is turned while it publishes: by frequency, by tick, by
// adjtime, and by steps; by hand, and under a chronyd that has to follow. No reading's interval may miss the
// host's clock, which is known at the reading's own counter.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import {
  askChronyd,
  chronyInGuest,
  clockPrograms,
  endChronyd,
  networkCommands,
  setClockBy,
  startChronyd,
  withTimeServer,
} from '../chrony.mjs'
import { withGuest } from '../guest.mjs'
import { hostNowNs } from '../page.mjs'
import { Truth } from '../truth.mjs'

const INTERVAL_MS = 200
const NS_PER_S = 1_000_000_000n
const SCALED_PER_PPM = 65_536
const MOVE_US = 2_000

// What the kernel counts each second of what its clock may be off in rate, less what it may be off without
// being turned.
const COUNTED_PPM = 450n

// How long each way of turning lasts, how often all of them come, and how much longer what is vouched for it
// holds, or a recovery may take: far longer than it does, so that a machine that others keep busy fails
// nothing.
const FORMS = {
  short: { holdMs: 500, rounds: 1 },
  long: { holdMs: 10_000, rounds: Number(process.env.VMCLOCK_SLEW_ROUNDS ?? 8) },
}
const SPARE_MS = 30_000
const RECOVERY_MS = 120_000
const TALK_MS = 7_200_000

// chronyd that sets a clock that is far off whenever it finds one, and chronyd as Debian's package has it,
// which does so at its first measurements only and turns the clock back by its tick after that.
const MANNERS = { 'that steps': ['makestep 0.1 -1'], 'that slews': ['makestep 1 3'] }
// What the latter finds first, and has to turn back.
const OFF_MS = 700

// chronyd that turns the clock back by less than the kernel counts, so that only the error that it tells the
// kernel says how far there is to go; and what it finds each time that it begins, and is far from having turned back when it ends.
const SLOWLY = ['maxslewrate 100']
const SLOWLY_OFF_MS = [900, -900]

export const ownGuests = {
  async 'a publisher under a clock that is turned never states a bound that misses the time'(
    prepared,
    { isShort },
  ) {
    const reason = notShown(prepared)
    if (reason !== undefined) return reason
    const { holdMs, rounds } = isShort ? FORMS.short : FORMS.long
    const adjtimex = join(await clockPrograms(), 'usr/sbin/adjtimex')
    return await withGuest(prepared, { programs: [['adjtimex', adjtimex]] }, async (guest) => {
      const seen = await Readings.begin(guest)
      await seen.unbounded('before anybody vouches for the clock')
      for (let round = 0; round < rounds; round++) {
        await seen.recovered(() => seen.set())
        for (const { name, begin, end, ppm } of turnings()) {
          await seen.vouch(ppm, holdMs)
          await seen.command(`./adjtimex ${begin}`)
          await seen.during(holdMs, name)
          await seen.command(`./adjtimex ${end}`)
          await seen.recovered(() => seen.vouch(0, holdMs))
        }
        for (const aheadMs of [2000, -2000]) {
          await seen.step(aheadMs)
          await seen.unbounded(`after a step of ${aheadMs} ms`)
          await seen.recovered(() => seen.set())
          await seen.during(holdMs, 'set right')
        }
      }
      await seen.end()
    })
  },

  async 'a publisher under chronyd never states a bound that misses the time, turn or step the clock who may'(
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
        await seen.unbounded('before anybody vouches for the clock')
        for (const [manner, lines] of Object.entries(MANNERS)) {
          await seen.step(OFF_MS)
          await seen.unbounded(`before chronyd ${manner}`)
          await seen.recovered(() => seen.command(startChronyd(port, lines)))
          await seen.during(3 * holdMs, `chronyd ${manner}, begun`)
          await seen.chronyd(manner)
          for (let round = 0; round < rounds; round++) {
            for (const { name, command } of meddlings()) {
              await seen.command(command)
              await seen.during(holdMs, `chronyd ${manner}, ${name}`)
              await seen.chronyd(manner)
            }
            for (const aheadMs of [1000, -1000]) {
              await seen.step(aheadMs)
              await seen.unbounded(`chronyd ${manner}, after a step of ${aheadMs} ms`)
              await seen.recovered(() => {})
              await seen.during(3 * holdMs, `chronyd ${manner}, stepped by ${aheadMs} ms`)
              await seen.chronyd(manner)
            }
          }
          await seen.command(endChronyd)
        }
        for (let round = 0; round < rounds; round++) {
          for (const aheadMs of SLOWLY_OFF_MS) {
            const manner = `that slews slowly from ${aheadMs} ms`
            // Nothing that the page said before is to help it.
            await seen.step(aheadMs)
            await seen.unbounded(`before chronyd ${manner}`)
            await seen.command('publish')
            await seen.unbounded(`published anew, before chronyd ${manner}`)
            await seen.recovered(() => seen.command(startChronyd(port, SLOWLY)))
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

/** The ways of turning, in the words of adjtimex(8), and what they change of the clock's rate at most. */
function turnings() {
  const bySlew = [500, -500].map((ppm) => ({
    name: `frequency ${ppm} ppm`,
    begin: `--frequency ${ppm * SCALED_PER_PPM}`,
    end: '--frequency 0',
    ppm: Math.abs(ppm),
    isChronyd: true,
  }))
  // One microsecond of it is 100 ppm: more than a daemon can know of that somebody else turns the clock by.
  const byTick = [10_050, 9_950].map((us) => ({
    name: `tick ${us} us`,
    begin: `--tick ${us}`,
    end: '--tick 10000',
    ppm: Math.abs(us - 10_000) * 100,
  }))
  const byAdjtime = [MOVE_US, -MOVE_US].map((us) => ({
    name: `adjtime ${us} us`,
    begin: `--singleshot ${us}`,
    end: '--singleshot 0',
    ppm: 500,
    isChronyd: true,
  }))
  return [...bySlew, ...byTick, ...byAdjtime]
}

/** What another may do to chronyd's clock, and not be noticed at once. */
function meddlings() {
  const turned = turnings().filter(({ isChronyd }) => isChronyd)
  return [
    ...turned.map(({ name, begin }) => ({ name, command: `./adjtimex ${begin}` })),
    ...[MOVE_US, -MOVE_US].flatMap((us) => [
      // Only a kernel that is told to use its loop takes an offset.
      { name: `offset ${us} us`, command: `./adjtimex --status 1 --offset ${us}` },
      { name: `set by ${us} us`, command: setClockBy(us / 1000) },
    ]),
  ]
}

/** What a guest's program reads, held against the truth, and what is done to the guest's clock meanwhile. */
class Readings {
  #talk
  #truth
  #bounded = 0
  #unbounded = 0
  #recoveriesMs = []
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

  async during(ms, when) {
    const endMs = performance.now() + ms
    do await this.some(when)
    while (performance.now() < endMs)
    assert.ok(
      performance.now() < endMs + SPARE_MS,
      `${when}: the machine is too busy for what was vouched for`,
    )
  }

  /** Waits until no bound is stated, as it may not be for long. */
  async unbounded(when) {
    const endMs = performance.now() + RECOVERY_MS
    while (await this.some(when)) assert.ok(performance.now() < endMs, `${when}: still a bound`)
  }

  /** Waits for the bound that follows `vouched`. */
  async recovered(vouched) {
    await vouched()
    const startMs = performance.now()
    let lacked = false
    while (!(await this.some('recovering'))) {
      lacked = true
      assert.ok(performance.now() < startMs + RECOVERY_MS, 'no bound again')
    }
    if (lacked) this.#recoveriesMs.push(performance.now() - startMs)
  }

  /** Sets the clock so far ahead of the time: to a whole second, when that is so far ahead. */
  async step(aheadMs) {
    const aheadNs = BigInt(aheadMs) * 1_000_000n
    const second = (hostNowNs() + aheadNs) / NS_PER_S + 1n
    await setTimeout(Number(second * NS_PER_S - aheadNs - hostNowNs()) / 1e6)
    await this.command(`date -s @${second}`)
  }

  /** Sets the clock to the host's, and vouches for it. */
  async set() {
    await this.step(0)
    await this.vouch(0, 0)
  }

  /**
   * Tells the kernel how far its clock is off at most, as an honest daemon does, from a look at it; and what
   * of its being turned by `ppm` for so long the kernel will not count by itself.
   */
  async vouch(ppm, holdMs) {
    await this.#truth.tell()
    const [aheadNs, withinNs] = (await this.#talk.ask('ahead')).split(' ').map(BigInt)
    const offNs = (aheadNs < 0n ? -aheadNs : aheadNs) + withinNs
    const uncountedPpm = BigInt(ppm) > COUNTED_PPM ? BigInt(ppm) - COUNTED_PPM : 0n
    const us = (offNs + BigInt(holdMs + SPARE_MS) * uncountedPpm) / 1000n + 1n
    // A multiple of 500 looks as if it were counted up from 0.
    const told = us % 500n === 0n ? us + 1n : us
    await this.command(`./adjtimex --status 0 --maxerror ${told} --esterror ${told}`)
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
    print(
      `a bound again after ${sorted[sorted.length >> 1]} ms in the middle, ${sorted.at(-1)} at most, ${sorted.length} times`,
    )
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
