// The scenario that every framework runs: simulated clocks beside the framework's fake timers.

const assert = require('node:assert/strict')
const { mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
// Loaded before any fake is installed, as the imports at the top of a test file are.
const { VmClock } = require('../../dist/index.cjs')
const { waitUntilPast } = require('../../dist/ordering.cjs')
const { SimulatedClock, VmClockPage } = require('../../dist/testing.cjs')

const MS = 1_000_000n
const START_MS = Date.UTC(2026, 0, 1)

/**
 * The tests, by their names. Each gets the framework's fake: `advance(ms)` lets fake time pass, and `timers()`
 * counts the pending fake timers. The fakes are installed around each test, at START_MS.
 */
const tests = {
  async 'a wait ends by simulated time, and fake time stands still'({ timers }) {
    const clock = new SimulatedClock()
    let fired = false
    setTimeout(() => {
      fired = true
    }, 1)
    const before = timers()
    const wait = waitUntilPast(clock, clock.read().latestNs)
    assert.equal(timers(), before)
    clock.advance(5n * MS)
    const { epochNs } = await wait
    assert.equal(epochNs, clock.trueNs - 3n * MS + 1n)
    assert.equal(fired, false)
    assert.equal(Date.now(), START_MS)
  },

  async 'a clock that follows Date, and its waits, move with the fake timers'({ advance, timers }) {
    const clock = new SimulatedClock({ followsDate: true, startNs: BigInt(START_MS) * MS })
    const before = timers()
    let ended = false
    const wait = waitUntilPast(clock, clock.read().latestNs).then(() => {
      ended = true
    })
    assert.equal(timers(), before + 1)
    await advance(1)
    assert.equal(ended, false)
    assert.equal(clock.nowMs(), START_MS + 1)
    await advance(2)
    await wait
    assert.equal(clock.nowMs(), START_MS + 3)
    assert.equal(clock.nowMs(), Date.now())
    assert.equal(timers(), before)
  },

  async 'an aborted wait leaves no fake timer'({ timers }) {
    const clock = new SimulatedClock({ followsDate: true })
    const before = timers()
    const controller = new AbortController()
    const wait = waitUntilPast(clock, clock.read().latestNs, { signal: controller.signal })
    assert.equal(timers(), before + 1)
    controller.abort(new Error('enough'))
    await assert.rejects(wait, /enough/)
    assert.equal(timers(), before)
  },

  async 'events and advanceAsync need no fake timer to fire'() {
    const clock = new SimulatedClock()
    const watcher = clock.watch()
    const disrupted = new Promise((resolve) => watcher.once('disruption', resolve))
    clock.migrate()
    assert.equal((await disrupted).current, 2n)
    watcher.close()
    clock.synchronize()
    let rounds = 0
    const program = (async () => {
      for (; rounds < 3; rounds++) await waitUntilPast(clock, clock.read().latestNs)
    })()
    await clock.advanceAsync(10n * MS)
    await program
    assert.equal(rounds, 3)
  },

  async 'a wait on a real clock ends although the timers are faked'() {
    const directory = mkdtempSync(join(tmpdir(), 'vmclock-frameworks-'))
    try {
      const path = join(directory, 'page')
      VmClockPage.create(path, {}).close()
      const reader = VmClock.open(path)
      const counterValue = reader.counter()
      reader.close()
      const page = VmClockPage.create(path, {
        counterId: process.arch === 'arm64' ? 0 : 1,
        clockStatus: 2,
        flags: 0x50n,
        counterValue,
        counterPeriodShift: 29,
        counterPeriodFracSec: 9903520314283042199n,
        timeSec: 1767225600n,
        timeMaxerrorNanosec: 2_000_000n,
      })
      const clock = VmClock.open(path)
      const { latestNs } = clock.read()
      assert.ok((await waitUntilPast(clock, latestNs)).earliestNs > latestNs)
      clock.close()
      page.close()
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  },
}

module.exports = { START_MS, tests }
