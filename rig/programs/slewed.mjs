// A publisher of this package's in a guest whose clock the host turns: it says what readers of its page
// are told whenever the host asks. Any other line is a command of the shell.

import { execSync } from 'node:child_process'
import { readSync, writeSync } from 'node:fs'
import { VmClock, VmClockPublisher } from 'vmclock'

const [intervalMs] = process.argv.slice(2).map(Number)
const READINGS = 20
const APART_MS = 1
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
      Atomics.wait(nobody, 0, 0, APART_MS)
    }
    return readings.join(',')
  },

  /** How far the kernel's clock is ahead of the device's page, and how far that may be off. */
  ahead() {
    const { offsetNs, maxErrorNs } = device.systemOffset()
    return `${offsetNs} ${maxErrorNs}`
  },
}

// Without an event loop in between, which would only take time.
const bytes = Buffer.alloc(4096)
writeSync(1, 'ready\n')
for (;;) {
  const line = bytes.toString('latin1', 0, readSync(0, bytes)).trimEnd()
  if (line === 'end') break
  writeSync(1, `${answers[line]?.() ?? command(line)}\n`)
}
clock.close()
publisher.close()
device.close()

/** What it printed, in one line, or how it failed. */
function command(line) {
  try {
    const printed = execSync(line, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' })
    return `done ${printed}`.trimEnd().replaceAll('\n', '; ')
  } catch (error) {
    return `failed: ${error.message} ${error.stdout} ${error.stderr}`.replaceAll('\n', ' ')
  }
}
