// Checks a page that this process makes from the PTP clock of a network card. The page's interval must hold the
// clock's own time, and the bound must return after a change of the device's marker. The card is presented to this
// process as EC2's: `rig/tests/phc-source.mjs` has staged its part of sysfs, with an error bound of 1 ns.
//
// Arguments: the PTP clock's path, and the number of readings. Prints `ready`, and then one line with figures for each
// line of the host. A line that is no command of the table is one for the shell.

import assert from 'node:assert/strict'
import { execSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { VmClock, VmClockPublisher } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'

const [path, readings] = process.argv.slice(2)
const DEADLINE_MS = 300_000
// The card is read in a bracket, so the readings of a page with a bound of microseconds may not be enough.
const COMPARED_AFTER = 100
const ALLOWED = { allowUntrustedCounter: true }

const card = PtpClock.open(path)
const device = VmClock.open('/dev/vmclock0')
const own = VmClock.open({ source: 'process', from: 'phc', ...ALLOWED })
assert.equal(own.timeSource.from, 'phc')
assert.equal(own.timeSource.guard.state, 'guarded')
const clocks = { phc: own }
let publisher

const answers = {
  /** Compares the readings with the card. */
  compare: () => `${compare(own, Number(readings))}`,

  /**
   * Publishes a page from the kernel's clock, which chronyd synchronizes with the same card, beside the page from the
   * card itself. Waits until it has a bound.
   */
  chrony() {
    const made = { from: 'kernel', hostErrorNs: 1_000n, intervalMs: 100, ...ALLOWED }
    publisher = VmClockPublisher.create('/tmp/chrony-page', made)
    clocks.chrony = VmClock.open(publisher.path)
    const endMs = performance.now() + DEADLINE_MS
    while (clocks.chrony.read().maxErrorNs === undefined) {
      if (performance.now() > endMs) return `no bound: ${publisher.boundUnavailable?.reason}`
    }
    return 'bounded'
  },

  /**
   * Waits for the host to change the device's marker, and then for the bound of each page. Prints how long each took,
   * in milliseconds since this process saw the other marker.
   */
  migrated() {
    const token = device.continuityToken()
    console.log('waiting')
    while (device.isContinuous(token));
    const startMs = performance.now()
    const waiting = new Map(Object.entries(clocks))
    const took = {}
    // For some 10 ms a page has no time at all, until the counter's rate is measured again.
    while (waiting.size > 0) {
      const ms = performance.now() - startMs
      assert.ok(ms < DEADLINE_MS, `no bound returns: ${[...waiting.keys()]}`)
      for (const [name, clock] of waiting) {
        if (clock.tryRead().maxErrorNs === undefined) continue
        took[name] = Math.ceil(ms)
        waiting.delete(name)
        compare(clock, COMPARED_AFTER)
      }
    }
    assert.equal(own.timeSource.from, 'phc')
    return JSON.stringify(took)
  },
}

console.log('ready')
for await (const line of createInterface(process.stdin)) {
  if (line === 'end') break
  console.log(answers[line]?.() ?? shell(line))
}
for (const clock of Object.values(clocks)) clock.close()
publisher?.close()
device.close()
card.close()
process.exit()

/** Compares so many readings of a page with readings of the card in between, and returns the largest bound. */
function compare(clock, count) {
  let largestNs = 0n
  let compared = 0
  while (compared < count) {
    const before = clock.tryRead()
    const cardNs = card.nowNs()
    const after = clock.tryRead()
    if (before.maxErrorNs === undefined || after.maxErrorNs === undefined) continue
    assert.ok(
      before.earliestNs <= cardNs && cardNs <= after.latestNs,
      `the card says ${cardNs}, the page ${before.earliestNs} to ${after.latestNs}`,
    )
    if (after.maxErrorNs > largestNs) largestNs = after.maxErrorNs
    compared += 1
  }
  return largestNs
}

function shell(line) {
  const printed = execSync(line, { encoding: 'utf8' })
  return `done ${printed}`.trimEnd().replaceAll('\n', '; ')
}
