// A publisher of this package's in a guest whose clock the host adjusts. It prints what a reader of its
// page gets whenever the host asks. Any other line is a command for the shell.

import { execSync } from 'node:child_process'
import { readSync, writeSync } from 'node:fs'
import { VmClock, VmClockPublisher } from 'vmclock'

const [intervalMs] = process.argv.slice(2).map(Number)
const READINGS = 20
const APART_MS = 1
const LOOK_MS = 5
// A report of the daemon's is seen, and then its interval and the next one are over.
const QUIET_INTERVALS = 2.5
const QUIET_MS = 5_000
// A change is seen, its interval ends, and then the next one.
const VERDICT_INTERVALS = 6
const MOST_REPORTS = 400
const nobody = new Int32Array(new SharedArrayBuffer(4))

const device = VmClock.open('/dev/vmclock0')
let publisher
let clock

const answers = {
  /** The counter before the last look that saw the page's marker as it was, and after the next look. */
  meet() {
    let before
    let next = device.counter()
    const token = device.continuityToken()
    writeSync(1, 'looking\n')
    do {
      before = next
      next = device.counter()
    } while (device.isContinuous(token))
    return `${before} ${device.counter()}`
  },

  /** Begins to publish; again: from what the page says and no more. */
  publish() {
    clock?.close()
    publisher?.close()
    publisher = VmClockPublisher.create('/tmp/slewed-page', {
      allowUntrustedCounter: true,
      intervalMs,
    })
    clock = VmClock.open('/tmp/slewed-page')
    return 'done'
  },

  /** Some readings, each its counter and what it states of the time. */
  readings() {
    const readings = []
    while (readings.length < READINGS) {
      const { counter, earliestNs, latestNs } = clock.read()
      readings.push(
        earliestNs === undefined ? `${counter}` : `${counter} ${earliestNs} ${latestNs}`,
      )
      wait(APART_MS)
    }
    return readings.join(',')
  },

  /** How far the kernel's clock is ahead of the device's page, and how far that may be off. */
  ahead() {
    const { offsetNs, maxErrorNs } = device.systemOffset()
    return `${offsetNs} ${maxErrorNs}`
  },

  /** Why there is no bound, and the updates that are missing; or that there is one. */
  trust() {
    const { reason, updatesLeft } = publisher.boundUnavailable ?? { reason: 'bound' }
    return updatesLeft === undefined ? reason : `${reason} ${updatesLeft}`
  },

  /** Waits until the daemon has just reported, and its report lies two intervals back. */
  quiet() {
    const errorNs = () => clock.snapshot().maxErrorNs ?? 0n
    const endMs = performance.now() + QUIET_MS
    for (let lastNs = errorNs(); ; ) {
      wait(LOOK_MS)
      const ns = errorNs()
      // The kernel adds half a millisecond each second, so that a report shows as less.
      if (lastNs - ns > 100_000n) break
      if (performance.now() > endMs) return 'no report'
      lastNs = ns
    }
    wait(QUIET_INTERVALS * intervalMs)
    return 'quiet'
  },

  /**
   * Waits until the clock is distrusted, as it soon is if a change was not taken for its daemon's. A clock that
   * nobody synchronizes any more, which the kernel says after a step, has no count until its daemon reports.
   */
  verdict() {
    const endMs = performance.now() + VERDICT_INTERVALS * intervalMs
    while (performance.now() < endMs) {
      if (publisher.boundUnavailable?.updatesLeft !== undefined) return 'distrusted'
      wait(LOOK_MS)
    }
    return publisher.boundUnavailable === undefined ? 'trusted' : 'distrusted'
  },

  /**
   * Reports errors above `us` to the kernel, each less than the one before, until the publisher trusts the
   * clock. A busy publisher may see two reports as one.
   */
  report(us) {
    let left = MOST_REPORTS
    while (publisher.boundUnavailable !== undefined && left > 0) {
      const answer = reported(Number(us) + left * 301)
      if (!answer.startsWith('done')) return answer
      wait(1.5 * intervalMs)
      left -= 1
    }
    return 'done'
  },

  /** Reports this error to the kernel. */
  reportOnce: (us) => reported(Number(us)),
}

// Without an event loop in between, which would only take time.
const bytes = Buffer.alloc(4096)
writeSync(1, 'ready\n')
for (;;) {
  const line = bytes.toString('latin1', 0, readSync(0, bytes)).trimEnd()
  if (line === 'end') break
  const [word, ...rest] = line.split(' ')
  writeSync(1, `${answers[word]?.(...rest) ?? command(line)}\n`)
}
clock.close()
publisher.close()
device.close()

function wait(ms) {
  Atomics.wait(nobody, 0, 0, ms)
}

/** Reports an error in microseconds. The kernel adds less than 301 of them from one report to the next. */
function reported(us) {
  // A multiple of 500 looks as if it were counted up from 0.
  const figure = us % 500 === 0 ? us + 1 : us
  return command(`./adjtimex --status 0 --maxerror ${figure} --esterror ${figure}`)
}

/** Runs a command of the shell, and returns its output in one line, or its failure. */
function command(line) {
  try {
    const printed = execSync(line, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' })
    return `done ${printed}`.trimEnd().replaceAll('\n', '; ')
  } catch (error) {
    return `failed: ${error.message} ${error.stdout} ${error.stderr}`.replaceAll('\n', ' ')
  }
}
