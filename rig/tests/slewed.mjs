// The package's own publisher in a guest whose clock is turned while it publishes: by frequency, by tick, by
// adjtime, and by steps. No reading's interval may miss the host's clock. Each question is a round trip, and
// the time somewhere within it: a bound that is too small is seen by what it is too small beyond that.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { debianFolder } from '../../tools/debian.mjs'
import { withGuest } from '../guest.mjs'
import { hostNowNs } from '../page.mjs'

const INTERVAL_MS = 200
const PAUSE_MS = 5
const NS_PER_MS = 1_000_000n
const NS_PER_S = 1_000_000_000n
const SCALED_PER_PPM = 65_536

// What the guest's clock may be off in rate without being turned: the kernel counts 500 ppm of it, for a clock
// that is turned by as much as well.
const SPARE_PPM = 500n

// How long each way of turning lasts, how far the clock is moved by it, and what a recovery may take at most:
// far longer than it does, so that a machine that others keep busy fails nothing.
const ROUNDS = 20
const HOLD_MS = 10_000
const RECOVERY_MS = 60_000
const TALK_MS = 7_200_000
const MOVE_US = 2_000

// How near to the host's the clock is set if that can be had, and how often to try.
const NEAR_MS = 5
const SET_ATTEMPTS = 4
let lagMs = 20

export const ownGuests = {
  async 'a publisher under a clock that is turned never states a bound that misses the time'(
    prepared,
    { isShort },
  ) {
    if (prepared.machine.name !== 'x86-64') return 'the clock is turned on x86-64'
    if (isShort)
      return 'half an hour in its own form, `npm run test:slew`, on a machine that is not busy'
    return await withGuest(prepared, { programs: await clockPrograms() }, async (guest) => {
      const talk = await guest.talk('slewed.mjs', [`${INTERVAL_MS}`], { timeoutMs: TALK_MS })
      const seen = new Readings(talk)
      await seen.unbounded('before anybody vouches for the clock')
      for (let round = 0; round < ROUNDS; round++) {
        await seen.recovered(() => set(talk), HOLD_MS)
        for (const turning of turnings()) {
          await vouch(talk, turning.moveNs, HOLD_MS)
          await command(talk, `./adjtimex ${turning.begin}`)
          await seen.during(HOLD_MS, turning.name)
          await command(talk, `./adjtimex ${turning.end}`)
          await seen.recovered(() => set(talk), HOLD_MS)
        }
        for (const seconds of [2n, -2n]) {
          const there = hostNowNs() / NS_PER_S + seconds
          await command(talk, `date -s @${there}`)
          await seen.unbounded(`after a step of ${seconds} s`)
          await seen.recovered(() => set(talk), HOLD_MS)
        }
      }
      await talk.end()
      for (const line of seen.summary()) console.log(`    ${line}`)
    })
  },
}

// The program alone: what it links to is the guest's already.
async function clockPrograms() {
  const folder = await debianFolder({
    name: 'rig-clock-amd64',
    packages: ['adjtimex:amd64'],
    without: /^(?!adjtimex_)/,
    suites: ['trixie', 'trixie-backports'],
  })
  return [['adjtimex', join(folder, 'usr/sbin/adjtimex')]]
}

/** The ways of turning, in the words of adjtimex(8), and how far each moves the clock away at most. */
function turnings() {
  const bySlew = [500, -500].map((ppm) => ({
    name: `frequency ${ppm} ppm`,
    begin: `--frequency ${ppm * SCALED_PER_PPM}`,
    end: '--frequency 0',
    ppm: Math.abs(ppm),
  }))
  // One microsecond of it is 100 ppm.
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
  }))
  return [...bySlew, ...byTick, ...byAdjtime].map((turning) => ({
    ...turning,
    moveNs: (ms) => BigInt(ms) * BigInt(turning.ppm),
  }))
}

/** Sets the clock to the host's and says how far off it may be, as an honest daemon does. */
async function set(talk) {
  let offMs = 0
  for (let attempt = 0; attempt < SET_ATTEMPTS; attempt++) {
    // `date` knows whole seconds only, and takes its time to be started: as long as it did the last time.
    const wantedNs = (hostNowNs() / NS_PER_S + 1n) * NS_PER_S
    await setTimeout(Math.max(0, Number(wantedNs - hostNowNs()) / 1e6 - lagMs))
    await command(talk, `date -s @${wantedNs / NS_PER_S}`)
    const [leastNs, mostNs] = await systemAheadNs(talk)
    offMs = Number((leastNs + mostNs) / 2n) / 1e6
    if (Math.abs(offMs) < NEAR_MS) break
    lagMs = Math.min(500, Math.max(0, lagMs - offMs))
  }
  await vouch(talk, () => 0n, 0)
}

/** Tells the kernel how far its clock is off at most, from a look at it, and how far it will be moved. */
async function vouch(talk, moveNs, holdMs) {
  const [leastNs, mostNs] = await systemAheadNs(talk)
  const offNs = -leastNs > mostNs ? -leastNs : mostNs
  // What follows takes as long again, at most, on a busy machine: it is checked.
  const spareNs = BigInt(2 * holdMs) * SPARE_PPM
  const us = (offNs + moveNs(2 * holdMs) + spareNs) / 1000n
  // A multiple of 500 looks as if it were counted up from 0.
  const odd = us - (us % 500n) + 623n
  await command(talk, `./adjtimex --status 0 --maxerror ${odd} --esterror ${odd}`)
}

/** How far the guest's clock is ahead of the host's: the least and the most that the round trips allow. */
async function systemAheadNs(talk) {
  let [least, most] = [-(1n << 62n), 1n << 62n]
  for (let question = 0; question < 10; question++) {
    const before = hostNowNs()
    // Cut off to the millisecond.
    const system = BigInt(await talk.ask('system')) * NS_PER_MS
    const after = hostNowNs()
    if (system - after > least) least = system - after
    if (system + NS_PER_MS - before < most) most = system + NS_PER_MS - before
  }
  return [least, most]
}

async function command(talk, line) {
  assert.equal(await talk.ask(line), 'done', line)
}

class Readings {
  #talk
  #bounded = 0
  #unbounded = 0
  #recoveriesMs = []
  #widest = { share: 0 }
  #roundTripsNs = []

  constructor(talk) {
    this.#talk = talk
  }

  /** One reading, held against the host's clock: whether it stated a bound. */
  async one(when) {
    const before = hostNowNs()
    const answer = await this.#talk.ask('reading')
    const after = hostNowNs()
    const [, earliest, latest] = answer.split(' ')
    if (latest === undefined) {
      assert.equal(earliest, 'unbounded', answer)
      this.#unbounded += 1
      return false
    }
    const [earliestNs, latestNs] = [earliest, latest].map(BigInt)
    assert.ok(
      earliestNs <= after && before <= latestNs,
      `${when}: the guest says ${earliestNs} to ${latestNs}, the host ${before} to ${after}`,
    )
    this.#bounded += 1
    this.#roundTripsNs.push(Number(after - before))
    const middle = (earliestNs + latestNs) / 2n
    // How far off it surely was, as a share of what was stated.
    const off = middle > after ? middle - after : middle < before ? before - middle : 0n
    const share = Number(off) / Number((latestNs - earliestNs) / 2n)
    if (share > this.#widest.share) this.#widest = { share, when, off }
    return true
  }

  async during(ms, when) {
    const endMs = performance.now() + ms
    do {
      await this.one(when)
      await setTimeout(PAUSE_MS)
    } while (performance.now() < endMs)
    assert.ok(
      performance.now() < endMs + ms,
      `${when}: the machine is too busy for what was vouched for`,
    )
  }

  /** Waits until no bound is stated, as it may not be for long. */
  async unbounded(when) {
    const endMs = performance.now() + RECOVERY_MS
    while (await this.one(when)) assert.ok(performance.now() < endMs, `${when}: still a bound`)
  }

  /** Waits for the bound that follows `vouched`, and reads on for a while. */
  async recovered(vouched, ms) {
    await vouched()
    const startMs = performance.now()
    let lacked = false
    while (!(await this.one('recovering'))) {
      lacked = true
      assert.ok(performance.now() < startMs + RECOVERY_MS, 'no bound again')
    }
    if (lacked) this.#recoveriesMs.push(performance.now() - startMs)
    await this.during(ms / 5, 'set right')
  }

  summary() {
    assert.ok(this.#bounded > 0 && this.#unbounded > 0)
    const trips = this.#roundTripsNs.toSorted((a, b) => a - b)
    const ms = (ns) => (ns / 1e6).toFixed(2)
    const { share, when, off } = this.#widest
    const longest = Math.max(0, ...this.#recoveriesMs).toFixed(0)
    return [
      `${this.#bounded} readings with a bound held the host’s time, ${this.#unbounded} stated none`,
      `a bound again at most ${longest} ms after the clock was vouched for, ${this.#recoveriesMs.length} times`,
      `round trips ${ms(trips[trips.length >> 1])} ms in the middle, ${ms(trips.at(-1))} ms at most`,
      `off by up to ${(100 * share).toFixed(0)} % of the bound: ${ms(Number(off ?? 0n))} ms, ${when}`,
    ]
  }
}
