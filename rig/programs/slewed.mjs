// A publisher of this package's in a guest whose clock the host turns: it says what a reader of its page is
// told, and what the kernel's clock shows, whenever the host asks. Any other line is a command of the shell.

import { execSync } from 'node:child_process'
import { readSync, writeSync } from 'node:fs'
import { VmClock, VmClockPublisher } from 'vmclock'

const [intervalMs] = process.argv.slice(2).map(Number)
const publisher = VmClockPublisher.create('/tmp/slewed-page', { acceptCounter: true, intervalMs })
const clock = VmClock.open('/tmp/slewed-page')

const answers = {
  reading() {
    const { status, earliestNs, latestNs } = clock.read()
    return earliestNs === undefined ? `${status} unbounded` : `${status} ${earliestNs} ${latestNs}`
  },
  system: () => `${Date.now()}`,
}

// Without an event loop in between, which would only widen the host's bracket around the answer.
const bytes = Buffer.alloc(1024)
writeSync(1, 'ready\n')
for (;;) {
  const line = bytes.toString('latin1', 0, readSync(0, bytes)).trimEnd()
  if (line === 'end') break
  writeSync(1, `${answers[line]?.() ?? command(line)}\n`)
}
clock.close()
publisher.close()

function command(line) {
  try {
    execSync(line, { stdio: ['ignore', 'pipe', 'pipe'] })
    return 'done'
  } catch (error) {
    return `failed: ${error.message} ${error.stdout} ${error.stderr}`.replaceAll('\n', ' ')
  }
}
