// Publishes a page from the kernel's clock with an operator's `hostErrorNs`, and compares it with the device's page.
// The time daemon follows the PTP clock of that device, so the device's time is the truth for it.
//
// Argument: `hostErrorNs`. Prints `ready`, and then one line for each line of the host. A line that is no command of
// the table is one for the shell.

import assert from 'node:assert/strict'
import { execSync } from 'node:child_process'
import { readSync, writeSync } from 'node:fs'
import { VmClock, VmClockPublisher } from 'vmclock'

const [hostErrorNs] = process.argv.slice(2).map(BigInt)
const PAGE = '/tmp/host-error-page'
const DEADLINE_MS = 120_000
// A second later the kernel has counted an error of 0 up.
const COUNTED_UP_MS = 1000
// So many readings come from one page state at most. Then the publisher gets time for another.
const AT_ONCE = 500
const APART_MS = 20
const nobody = new Int32Array(new SharedArrayBuffer(4))

const device = VmClock.open('/dev/vmclock0')
let publisher
let clock

const answers = {
  /** Publishes the page: `stated` with the error of the host's clock, and `unstated` without. */
  publish(how) {
    clock?.close()
    publisher?.close()
    publisher = VmClockPublisher.create(PAGE, {
      ...{ from: 'kernel', allowUntrustedCounter: true, intervalMs: 100 },
      ...(how === 'stated' && { hostErrorNs }),
    })
    clock = VmClock.open(PAGE)
    return 'published'
  },

  /** Waits for a bound. */
  bounded() {
    const endMs = performance.now() + DEADLINE_MS
    while (clock.read().maxErrorNs === undefined) {
      if (performance.now() > endMs) return `no bound: ${reason()}`
      wait(APART_MS)
    }
    return JSON.stringify(clock.timeSource.assumed)
  },

  /** Takes so many readings. Each has a bound and holds the device's time at its own counter. */
  compare(count) {
    const token = device.continuityToken()
    const figures = { largestNs: 0n, leastNs: 1n << 62n, farthestNs: 0n }
    read(Number(count), (reading) => {
      const { epochNs, maxErrorNs } = reading
      assert.ok(maxErrorNs !== undefined, `no bound: ${reason()}`)
      const trueNs = trueTimeIn(reading, token)
      const offNs = epochNs < trueNs ? trueNs - epochNs : epochNs - trueNs
      if (offNs > figures.farthestNs) figures.farthestNs = offNs
      if (maxErrorNs > figures.largestNs) figures.largestNs = maxErrorNs
      if (maxErrorNs < figures.leastNs) figures.leastNs = maxErrorNs
    })
    const { farthestNs, leastNs, largestNs } = figures
    return `${count} readings off by ${farthestNs} ns at most, within bounds of ${leastNs} to ${largestNs} ns`
  },

  /** Takes so many readings. Each that has a bound holds the device's time at its own counter. */
  noneFalse(count) {
    const token = device.continuityToken()
    let bounded = 0
    read(Number(count), (reading) => {
      if (reading.maxErrorNs === undefined) return
      trueTimeIn(reading, token)
      bounded += 1
    })
    return `${count} readings, ${bounded} with a bound`
  },

  /** Takes so many readings. None has a bound. */
  none(count) {
    read(Number(count), ({ maxErrorNs }) => assert.equal(maxErrorNs, undefined))
    return reason()
  },

  /** Sets the clock by a command that reports an error of 0, until the publisher has seen that. */
  zeros(...command) {
    const endMs = performance.now() + DEADLINE_MS
    while (performance.now() < endMs) {
      shell(command.join(' '))
      const countedMs = performance.now() + COUNTED_UP_MS
      while (performance.now() < countedMs) {
        if (publisher.boundUnavailable !== undefined) return reason()
        wait(APART_MS)
      }
    }
    return reason()
  },
}

// Without an event loop in between, which would only take time.
const bytes = Buffer.alloc(4096)
writeSync(1, 'ready\n')
for (;;) {
  const line = bytes.toString('latin1', 0, readSync(0, bytes)).trimEnd()
  if (line === 'end') break
  const [word, ...rest] = line.split(' ')
  writeSync(1, `${answers[word]?.(...rest) ?? shell(line)}\n`)
}
clock?.close()
publisher?.close()
device.close()

function read(count, look) {
  for (let taken = 0; taken < count; taken += 1) {
    if (taken % AT_ONCE === 0) wait(APART_MS)
    look(clock.read())
  }
}

/** Returns the device's time at the counter of a reading, which must lie within the reading's bound. */
function trueTimeIn({ counter, earliestNs, latestNs }, token) {
  const trueNs = device.convert(counter, token).epochNs
  assert.ok(
    earliestNs <= trueNs && trueNs <= latestNs,
    `the device says ${trueNs}, the page ${earliestNs} to ${latestNs}`,
  )
  return trueNs
}

function reason() {
  return publisher.boundUnavailable?.reason ?? 'a bound'
}

function wait(ms) {
  Atomics.wait(nobody, 0, 0, ms)
}

function shell(line) {
  const printed = execSync(line, { encoding: 'utf8' })
  return `done ${printed}`.trimEnd().replaceAll('\n', '; ')
}
