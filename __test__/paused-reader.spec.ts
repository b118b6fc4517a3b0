// A reader may be stopped at any point and continue after the page has changed. It then gives the new state.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import test, { type ExecutionContext } from 'ava'
import type { VmClockPage } from 'vmclock/testing'
import { type Running, start } from './node-command'
import { FLAG, liveFields, page } from './pages'

const require = createRequire(import.meta.url)
const { fieldsOf } = require('./tearing/page.cjs') as { fieldsOf(state: number): object }

/** Stops the reader, changes the page, and continues the reader. */
function whileStopped(reader: Running, change: () => void): void {
  const { child } = reader
  child.kill('SIGSTOP')
  // The state is T once all of its threads have stopped.
  const state = (): string => {
    const stat = readFileSync(`/proc/${child.pid}/stat`, 'latin1')
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3)
  }
  while (state() !== 'T');
  change()
  child.kill('SIGCONT')
}

function reading(t: ExecutionContext, made: VmClockPage, body: string): Running {
  const running = start([
    '--input-type=commonjs',
    '-e',
    `const { VmClock } = require('vmclock')
    const say = (text) => require('node:fs').writeSync(1, text + '\\n')
    const clock = VmClock.open(${JSON.stringify(made.path)})
    // If the test run was aborted, nobody else ends this process.
    const parent = process.ppid
    const goesOn = () => process.ppid === parent
    ${body}`,
  ])
  t.teardown(() => running.child.kill('SIGKILL'))
  return running
}

test('a reader paused across updates reads each state whole', async (t) => {
  const made = page(t, fieldsOf(1))
  const reader = reading(
    t,
    made,
    `const { isWhole } = require('./__test__/tearing/page.cjs')
    const slots = new BigInt64Array(13)
    let last = 1n
    while (goesOn()) {
      clock.readInto(slots)
      if (!isWhole(slots)) { say('torn: ' + slots.join(' ')); process.exit(1) }
      if (slots[6] === last) continue
      last = slots[6]
      say(String(last))
    }`,
  )
  for (let state = 2; state < 40; state += 2) {
    whileStopped(reader, () => {
      made.write(fieldsOf(state))
      made.write(fieldsOf(state + 1))
    })
    t.is(await reader.line(), String(state + 1))
  }
})

test('a reader paused across a migration refuses its old token and its old counter', async (t) => {
  const made = page(t, liveFields(t))
  const reader = reading(
    t,
    made,
    `while (goesOn()) {
      const token = clock.continuityToken()
      const counter = clock.counter()
      say('continuous')
      while (goesOn() && clock.isContinuous(token)) clock.nowNs()
      let code
      try { clock.convert(counter, token) } catch (error) { code = error.code }
      say(code + ' ' + clock.continuityToken().disruptionMarker)
    }`,
  )
  for (let marker = 1n; marker <= 10n; marker++) {
    t.is(await reader.line(), 'continuous')
    // As on another host: the page has another marker and another reference.
    whileStopped(reader, () => {
      made.write({ disruptionMarker: marker, timeSec: 1767225600n + marker })
    })
    t.is(await reader.line(), `ERR_VMCLOCK_DISRUPTED ${marker}`)
  }
})

test('a reader paused across a leap second reads UTC with it, and continuous TAI', async (t) => {
  // 2016-12-31T23:59:50Z, before the leap second; then 2017-01-01T00:00:10Z.
  const before = {
    ...liveFields(t),
    flags: liveFields(t).flags | FLAG.TAI_OFFSET_VALID,
    counterPeriodFracSec: 1n,
    counterPeriodShift: 60,
    timeSec: 1_483_228_790n,
    taiOffsetSec: -36,
    leapIndicator: 1,
  }
  const made = page(t, before)
  const reader = reading(
    t,
    made,
    `const tai = VmClock.open(clock.path, { timescale: 'tai' })
    let last
    while (goesOn()) {
      const { epochNs, taiMinusUtcSec } = clock.read()
      const seen = [epochNs / 1000000000n, taiMinusUtcSec, tai.nowNs() / 1000000000n].join(' ')
      if (seen !== last) say(last = seen)
    }`,
  )
  t.is(await reader.line(), '1483228790 36 1483228826')
  whileStopped(reader, () => {
    made.write({ timeSec: 1_483_228_810n, taiOffsetSec: -37, leapIndicator: 3 })
  })
  // Twenty seconds of UTC labels are 21 seconds. The reader reads its two clocks one after the other.
  await reader.lineThat((line) => {
    t.regex(line, /^(1483228790 36|1483228810 37) (1483228826|1483228847)$/)
    return line === '1483228810 37 1483228847'
  })
})
