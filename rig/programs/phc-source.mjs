// Checks a page that this process makes from the PTP clock of a network card. The page's interval must hold the
// clock's own time, and the bound must return after a change of the device's marker. The card is presented to this
// process as EC2's: `rig/tests/phc-source.mjs` has staged its part of sysfs, with an error bound of 1 ns.
//
// Arguments: the PTP clock's path, and the number of readings. Prints `ready`, and then one line with figures for each
// line of the host: it has changed the marker before it sends `migrated`.

import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { VmClock } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'

const [path, readings] = process.argv.slice(2)
const DEADLINE_MS = 60_000

const card = PtpClock.open(path)
const clock = VmClock.open({ source: 'process', from: 'phc', allowUntrustedCounter: true })
assert.equal(clock.timeSource.from, 'phc')
assert.equal(clock.timeSource.guard.state, 'guarded')

/** Compares so many readings of the page with readings of the card in between, and returns the largest bound. */
function compare(count) {
  let largestNs = 0n
  let compared = 0
  while (compared < count) {
    const before = clock.read()
    const cardNs = card.nowNs()
    const after = clock.read()
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

console.log('ready')
for await (const line of createInterface(process.stdin)) {
  if (line === 'end') break
  if (line === 'compare') {
    console.log(`${compare(Number(readings))}`)
  } else {
    // The host has changed the marker, so the bound is gone until the page has followed.
    const startMs = performance.now()
    // For some 10 ms the page has no time at all, until the counter's rate is measured again.
    while (clock.tryRead().maxErrorNs === undefined) {
      assert.ok(performance.now() - startMs < DEADLINE_MS, 'the bound does not return')
    }
    const tookMs = performance.now() - startMs
    compare(100)
    console.log(`${tookMs.toFixed(0)} ${clock.timeSource.from}`)
  }
}
clock.close()
card.close()
process.exit()
