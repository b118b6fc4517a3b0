// The time is the page's, it is within the page's bound, and reading it makes no system call.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { type Reading, type VmClock, VmClockPublisher } from 'vmclock'
import { isEmulated, run } from './node-command'
import { counterNow, newDirectory, newPath, open, page, timeFields } from './pages'

// An emulated processor is about sixty times slower.
const CHECKS = isEmulated ? 500 : 5000

/** Publishes this machine's clock, with a stated maximum error of 0 at the reference. */
function publish(t: ExecutionContext): VmClockPublisher {
  const publisher = VmClockPublisher.create(newPath(t), {
    maxErrorNs: 0n,
    intervalMs: 100,
    allowUntrustedCounter: true,
  })
  t.teardown(() => publisher.close())
  return publisher
}

function boundOf(reading: Reading): bigint {
  if (reading.maxErrorNs === undefined) throw new Error('this reading has no bound')
  return reading.maxErrorNs
}

/** Runs `check` at least `times` times, and until the page was updated `updates` times. */
async function throughout(
  publisher: VmClockPublisher,
  times: number,
  updates: bigint,
  check: () => void,
): Promise<void> {
  const until = publisher.updates + updates
  for (let time = 0; time < times || publisher.updates < until; time++) {
    check()
    if (time % 50 === 0) await turn()
  }
}

test('the system clock is within the bound of the page that was made from it', async (t) => {
  const publisher = publish(t)
  const clock = open(t, publisher.path)
  const outside: string[] = []
  let largestBoundNs = 0n
  await throughout(publisher, CHECKS, 5n, () => {
    const { offsetNs, maxErrorNs } = clock.systemOffset()
    const bound = maxErrorNs ?? -1n
    if (offsetNs > bound || -offsetNs > bound) outside.push(`${offsetNs} ± ${bound}`)
    if (bound > largestBoundNs) largestBoundNs = bound
  })
  t.deepEqual(outside.slice(0, 5), [])
  t.log(`largest bound, with half the bracket: ${largestBoundNs} ns`)
})

test('Date.now() brackets the time to the millisecond', async (t) => {
  const publisher = publish(t)
  const clock = open(t, publisher.path)
  const outside: string[] = []
  await throughout(publisher, CHECKS, 3n, () => {
    const beforeMs = Date.now()
    const reading = clock.read()
    const nowMs = clock.nowMs()
    const date = clock.nowDate()
    const afterMs = Date.now()
    const slackMs = Number(boundOf(reading)) / 1e6 + 0.001
    const least = beforeMs - slackMs
    const most = afterMs + 1 + slackMs
    const ms = Number(reading.epochNs / 1_000_000n)
    for (const seen of [nowMs, ms, date.getTime()]) {
      // Whole milliseconds are floored.
      if (seen < least - 1 || seen > most) outside.push(`${least} ${seen} ${most}`)
    }
  })
  t.deepEqual(outside.slice(0, 5), [])
})

test('the difference of two readings is the time between them', async (t) => {
  const publisher = publish(t)
  const clock = open(t, publisher.path)
  const h0 = process.hrtime.bigint()
  const first = clock.read()
  const h1 = process.hrtime.bigint()
  await throughout(publisher, 1, 3n, () => {})
  const h2 = process.hrtime.bigint()
  const last = clock.read()
  const h3 = process.hrtime.bigint()
  const apartNs = last.epochNs - first.epochNs
  const slackNs = boundOf(first) + boundOf(last)
  t.true(apartNs >= h2 - h1 - slackNs, `${apartNs} in ${h2 - h1} - ${slackNs}`)
  t.true(apartNs <= h3 - h0 + slackNs, `${apartNs} in ${h3 - h0} + ${slackNs}`)
})

test('a page that is a year off gives a time that is a year off', (t) => {
  const yearSec = 31_536_000n
  const nowSec = BigInt(Math.floor(Date.now() / 1000))
  const fields = { ...timeFields(counterNow(t)), timeSec: nowSec - yearSec }
  const clock = open(t, page(t, fields).path)
  const { offsetNs } = clock.systemOffset()
  // The page states a wrong rate for the counter, which makes an error of a few seconds in this test.
  const offsetSec = offsetNs / 1_000_000_000n
  t.true(offsetSec > yearSec - 60n && offsetSec < yearSec + 60n, `${offsetSec} s`)
  t.is(clock.nowDate().getUTCFullYear(), new Date(Number(nowSec - yearSec) * 1000).getUTCFullYear())
})

test('a time before 1970 is floored to milliseconds, not truncated', (t) => {
  // The reference is 0 s, and the page's counter hardly advances.
  const fields = { ...timeFields(counterNow(t)), timeSec: 0n, counterPeriodFracSec: 1n }
  const clock = open(t, page(t, fields).path)
  t.is(clock.nowNs(), 0n)
  // `time_sec` is unsigned. A UTC before 1970 therefore comes from a TAI page.
  const tai = { ...fields, timeType: 1, flags: fields.flags | 1n, taiOffsetSec: -37, timeSec: 36n }
  const before = open(t, page(t, { ...tai, timeFracSec: 2n ** 63n + 2n ** 50n }).path)
  t.is(before.nowNs(), -499_938_965n)
  t.is(before.nowDate().getTime(), -500)
  t.true(Math.abs(before.nowMs() - -499.938965) < 1e-6)
})

const STAMPS = `
  const { VmClock } = require('vmclock')
  const clock = VmClock.open(process.argv[2])
  const slots = new BigInt64Array(13)
  const stamps = Number(process.argv[3])
  for (let stamp = 0; stamp < stamps; stamp++) { clock.nowNs(); clock.nowMs(); clock.readInto(slots) }
  clock.close()`

// System calls that V8 itself makes, for its heap and its threads.
const HOUSEKEEPING = new Set([
  ...['mmap', 'munmap', 'madvise', 'mprotect', 'brk', 'futex', 'sched_yield', 'getpid'],
])

test('a million stamps make no system call', async (t) => {
  if (isEmulated) {
    t.log('not shown: an emulated process makes its emulator’s system calls')
    t.pass()
    return
  }
  if (spawnSync('strace', ['-V']).error !== undefined) {
    t.log('not shown: there is no strace')
    t.not(process.env['VMCLOCK_REQUIRE_ALL'], '1', 'strace is missing')
    t.pass()
    return
  }
  const { path } = page(t, timeFields(counterNow(t)))
  const calls = async (stamps: number): Promise<Map<string, number>> => {
    const summary = join(newDirectory(t), 'summary')
    const by = ['strace', '-c', '-f', '-o', summary]
    const words = ['--input-type=commonjs', '-e', STAMPS, 'stamps', path, String(stamps)]
    const { exitCode, stderr } = await run(words, { by })
    t.is(exitCode, 0, stderr)
    const counts = new Map<string, number>()
    for (const row of readFileSync(summary, 'utf8').split('\n')) {
      const columns = row.trim().split(/\s+/)
      const name = columns.at(-1) ?? ''
      if (/^[\d.]+$/.test(columns[0] ?? '') && name !== 'total') {
        counts.set(name, Number(columns[3]))
      }
    }
    return counts
  }
  const few = await calls(1000)
  const many = await calls(1_000_000)
  t.true((few.get('mmap') ?? 0) > 0, 'the summary was understood')
  let growth = 0
  for (const [name, count] of many) {
    const grown = count - (few.get(name) ?? 0)
    if (!HOUSEKEEPING.has(name)) t.true(grown < 50, `${name}: ${grown} more`)
    growth += Math.max(0, grown)
  }
  t.log(`${growth} more system calls in 3 million stamps than in 3 thousand, all of them V8's own`)
  t.true(growth < 3000, `${growth} more`)
})

test('two clocks on one page agree', async (t) => {
  const publisher = publish(t)
  const [first, second] = [open(t, publisher.path), open(t, publisher.path)] as [VmClock, VmClock]
  await throughout(publisher, 1000, 2n, () => {
    const counter = first.counter()
    const [a, b] = [first, second].map((clock) =>
      clock.convert(counter, clock.continuityToken()),
    ) as [Reading, Reading]
    const apart = a.epochNs - b.epochNs
    t.true((apart < 0n ? -apart : apart) <= boundOf(a) + boundOf(b))
  })
})
