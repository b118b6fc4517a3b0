// Every wrong input is refused with a code of its own and a remedy, and nothing is left behind: no
// descriptor, no mapping, no file.

import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import * as vmclock from 'vmclock'
import {
  READING_SLOT_COUNT,
  TIMESCALES,
  type Timescale,
  VmClock,
  VmClockError,
  type VmClockErrorCode,
  VmClockPublisher,
} from 'vmclock'
import { diagnose } from 'vmclock/doctor'
import * as metrics from 'vmclock/metrics'
import * as ordering from 'vmclock/ordering'
import * as ptp from 'vmclock/ptp'
import { PtpClock } from 'vmclock/ptp'
import * as testing from 'vmclock/testing'
import { type PageFields, VmClockPage } from 'vmclock/testing'
import { evaluate } from './node-command'
import {
  contents,
  FLAG,
  held,
  liveFields,
  newDirectory,
  newPath,
  OTHER_COUNTER_ID,
  open,
  page,
  refuses,
  refusesWithRemedy,
  timeFields,
} from './pages'

const isRoot = process.getuid?.() === 0

/** Text that the remedy of each code must contain, and the message must not. */
const REMEDY = {
  ERR_VMCLOCK_NOT_FOUND: /vmclock publish/,
  ERR_VMCLOCK_ACCESS: /let others read the page \(chmod 0644\)/,
  ERR_VMCLOCK_UNTRUSTED: /give the page's own path|chmod go-w|trustedUids/,
  ERR_VMCLOCK_BAD_MAGIC: /check the path/,
  ERR_VMCLOCK_BAD_VERSION: /update vmclock, or check/,
  ERR_VMCLOCK_TOO_SMALL: /check what wrote the page/,
  ERR_VMCLOCK_NO_TIME: /without a path|published here/,
  ERR_VMCLOCK_WRONG_COUNTER: /open this machine's own page/,
  ERR_VMCLOCK_UNSYNCHRONIZED:
    /wait until its provider has synchronized it|start the publisher again/,
  ERR_VMCLOCK_BAD_PERIOD: /check what wrote the page/,
  ERR_VMCLOCK_OUT_OF_RANGE: /check the page's reference time/,
  ERR_VMCLOCK_NO_TAI_OFFSET: /open it with the timescale 'page'/,
  ERR_VMCLOCK_TIMESCALE: /open it with the timescale 'page'|have its provider give UTC/,
  ERR_VMCLOCK_TIMEOUT: /restart what publishes the page/,
  ERR_VMCLOCK_COUNTER_MISMATCH: /restart what publishes the page/,
} as const satisfies Partial<Record<VmClockErrorCode, RegExp>>

type Refusal = keyof typeof REMEDY

function openRefuses(t: ExecutionContext, path: string, code: Refusal): void {
  const error = refusesWithRemedy(t, () => VmClock.open(path), code, REMEDY[code])
  t.is(error.path, path)
  t.deepEqual(held(path), [])
}

/** Asserts that a page opens, and that every call for its time is refused. */
function timeRefuses(
  t: ExecutionContext,
  fields: PageFields,
  code: Refusal,
  timescale: Timescale | 'page' = 'utc',
): void {
  const { path } = page(t, fields)
  const clock = VmClock.open(path, { timescale })
  const token = clock.continuityToken()
  const slots = new BigInt64Array(READING_SLOT_COUNT).fill(7n)
  const out = new BigInt64Array(1).fill(7n)
  const counter = clock.counter()
  refusesWithRemedy(t, () => clock.nowNs(), code, REMEDY[code])
  refusesWithRemedy(t, () => clock.nowHrTime(), code, REMEDY[code])
  refusesWithRemedy(t, () => clock.read(), code, REMEDY[code])
  refusesWithRemedy(t, () => clock.readInto(slots), code, REMEDY[code])
  refusesWithRemedy(t, () => clock.convert(counter, token), code, REMEDY[code])
  refusesWithRemedy(
    t,
    () => clock.convertInto(new BigUint64Array([counter]), out, token),
    code,
    REMEDY[code],
  )
  if (clock.timescale.startsWith('utc')) {
    refusesWithRemedy(t, () => clock.nowMs(), code, REMEDY[code])
    refusesWithRemedy(t, () => clock.nowDate(), code, REMEDY[code])
    refusesWithRemedy(t, () => clock.systemOffset(), code, REMEDY[code])
  }
  t.true(slots.every((slot) => slot === 7n))
  t.is(out[0], 7n)
  // Calls that need no time work.
  t.is(clock.hasTime, code !== 'ERR_VMCLOCK_NO_TIME')
  t.true(clock.isContinuous(token))
  t.is(clock.snapshot().raw.version, 1)
  clock.close()
}

/** Makes a file of `bytes` bytes: the beginning of a page of these fields. */
function cut(t: ExecutionContext, fields: PageFields, bytes: number): string {
  const whole = page(t, fields)
  whole.close()
  const path = newPath(t)
  writeFileSync(path, readFileSync(whole.path).subarray(0, bytes))
  return path
}

// Files

test('no such path', (t) => {
  const path = newPath(t)
  openRefuses(t, path, 'ERR_VMCLOCK_NOT_FOUND')
  openRefuses(t, join(path, 'below'), 'ERR_VMCLOCK_NOT_FOUND')
})

test('a path below a file', (t) => {
  const { path } = page(t, {})
  refuses(t, () => VmClock.open(`${path}/page`), 'ERR_VMCLOCK_NOT_FOUND', /vmclock publish/)
})

test('a directory', (t) => {
  openRefuses(t, newDirectory(t), 'ERR_VMCLOCK_UNTRUSTED')
})

test('a device that is no page', (t) => {
  refuses(t, () => VmClock.open('/dev/null'), 'ERR_VMCLOCK_UNTRUSTED', /cannot be mapped/)
  t.deepEqual(
    held('/dev/null').filter((entry) => entry.includes('/dev/null') && entry.includes('-')),
    [],
  )
})

test('a socket', async (t) => {
  const path = newPath(t)
  const server = createServer().listen(path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  refuses(t, () => VmClock.open(path), 'ERR_VMCLOCK_UNTRUSTED', /a socket/)
})

test('no permission', async (t) => {
  const { path } = page(t, {})
  chmodSync(path, 0)
  const script = `
    const { VmClock } = require('vmclock')
    if (process.getuid() === 0) { process.setgroups([]); process.setgid(65534); process.setuid(65534) }
    let seen
    try { VmClock.open(process.argv[1]) } catch ({ code, remedy, errno, syscall, path }) {
      seen = { code, remedy, errno, syscall, path }
    }
    const fs = require('fs')
    const open = fs.readdirSync('/proc/self/fd').map((fd) => { try { return fs.readlinkSync('/proc/self/fd/' + fd) } catch { return '' } })
    console.log(JSON.stringify({ ...seen, held: open.includes(process.argv[1]) }))`
  // The directory is open to all users, so the file itself is the obstacle.
  chmodSync(dirname(path), 0o755)
  const seen = await evaluate<Record<string, unknown>>(
    `process.argv[1] = ${JSON.stringify(path)};${script}`,
  )
  t.is(seen['code'], 'ERR_VMCLOCK_ACCESS')
  t.is(seen['errno'], 13)
  t.is(seen['syscall'], 'open')
  t.is(seen['path'], path)
  t.false(seen['held'])
  t.regex(String(seen['remedy']), REMEDY.ERR_VMCLOCK_ACCESS)
})

for (const bytes of [0, 1, 31]) {
  test(`a file of ${bytes} bytes`, (t) => {
    openRefuses(t, cut(t, {}, bytes), 'ERR_VMCLOCK_TOO_SMALL')
  })
}

test('a file of 0x20 bytes is a page with a marker and no time', (t) => {
  const path = cut(t, { ...liveFields(t), size: 0x20, disruptionMarker: 3n }, 0x20)
  const clock = open(t, path)
  t.deepEqual(clock.continuityToken(), { disruptionMarker: 3n, vmGeneration: undefined })
  t.false(clock.hasTime)
  refusesWithRemedy(t, () => clock.nowNs(), 'ERR_VMCLOCK_NO_TIME', REMEDY.ERR_VMCLOCK_NO_TIME)
})

test('a file of 0x67 bytes has time without a bound', (t) => {
  const clock = open(t, cut(t, { ...liveFields(t), size: 0x67 }, 0x67))
  const reading = clock.read()
  t.true(reading.epochNs > 1767225600_000000000n)
  t.is(reading.maxErrorNs, undefined)
})

test('a file of 0x70 bytes has everything', (t) => {
  const fields = liveFields(t)
  const flags = fields.flags | FLAG.VM_GEN_COUNTER_PRESENT
  const clock = open(t, cut(t, { ...fields, flags, size: 0x70, vmGenerationCounter: 8n }, 0x70))
  const reading = clock.read()
  t.not(reading.maxErrorNs, undefined)
  t.is(reading.vmGeneration, 8n)
})

test('a generation that the size does not cover does not exist', (t) => {
  const flags = FLAG.VM_GEN_COUNTER_PRESENT
  const clock = open(t, cut(t, { flags, size: 0x6f, vmGenerationCounter: 8n }, 0x70))
  t.is(clock.continuityToken().vmGeneration, undefined)
})

for (const magic of [0, 0x56434c4b, 0xffff_ffff]) {
  test(`magic 0x${magic.toString(16)}`, (t) => {
    const made = page(t, { magic })
    made.close()
    openRefuses(t, made.path, 'ERR_VMCLOCK_BAD_MAGIC')
  })
}

for (const version of [0, 2, 65535]) {
  test(`version ${version}`, (t) => {
    const made = page(t, { version })
    made.close()
    openRefuses(t, made.path, 'ERR_VMCLOCK_BAD_VERSION')
  })
}

for (const size of [0, 0x1f]) {
  test(`size 0x${size.toString(16)}`, (t) => {
    const made = page(t, { size })
    made.close()
    openRefuses(t, made.path, 'ERR_VMCLOCK_TOO_SMALL')
  })
}

test('a size that is larger than the file', (t) => {
  openRefuses(t, cut(t, { size: 0x1000 }, 0xfff), 'ERR_VMCLOCK_TOO_SMALL')
  openRefuses(t, cut(t, { size: 0x21 }, 0x20), 'ERR_VMCLOCK_TOO_SMALL')
  openRefuses(t, cut(t, { size: 0xffff_ffff }, 0x1000), 'ERR_VMCLOCK_TOO_SMALL')
})

for (const mode of [0o622, 0o664, 0o646, 0o666]) {
  test(`a file of mode 0${mode.toString(8)}, which others may write`, (t) => {
    const made = page(t, {})
    made.close()
    chmodSync(made.path, mode)
    openRefuses(t, made.path, 'ERR_VMCLOCK_UNTRUSTED')
  })
}

test("another user's file, unless that user is trusted", (t) => {
  if (!isRoot) {
    t.log('not shown: only root can give a file away')
    t.pass()
    return
  }
  const made = page(t, {})
  made.close()
  chownSync(made.path, 65534, 65534)
  openRefuses(t, made.path, 'ERR_VMCLOCK_UNTRUSTED')
  refuses(
    t,
    () => VmClock.open(made.path, { trustedUids: [1000] }),
    'ERR_VMCLOCK_UNTRUSTED',
    /trustedUids: \[65534\]/,
  )
  t.notThrows(() => open(t, made.path, { trustedUids: [1000, 65534] }))
})

// Fields of pages

for (const [what, counterId] of [
  ["the other architecture's counter", OTHER_COUNTER_ID],
  ['an unknown counter', 77],
] as const) {
  test(what, (t) => {
    timeRefuses(t, { ...liveFields(t), counterId }, 'ERR_VMCLOCK_WRONG_COUNTER')
  })
}

test('no counter', (t) => {
  timeRefuses(t, { ...liveFields(t), counterId: 0xff }, 'ERR_VMCLOCK_NO_TIME')
})

test('a size that ends before the time', (t) => {
  timeRefuses(t, { ...liveFields(t), size: 0x57 }, 'ERR_VMCLOCK_NO_TIME')
  t.true(open(t, page(t, { ...liveFields(t), size: 0x58 }).path).nowNs() > 0n)
})

for (const clockStatus of [0, 1, 4, 5, 255]) {
  test(`status ${clockStatus}`, (t) => {
    timeRefuses(t, { ...liveFields(t), clockStatus }, 'ERR_VMCLOCK_UNSYNCHRONIZED')
  })
}

test('an unreliable page asks to start its publisher again, and another to wait', (t) => {
  for (const [clockStatus, remedy] of [
    [1, /wait until its provider has synchronized it/],
    [4, /start the publisher again/],
  ] as const) {
    const clock = open(t, page(t, { ...liveFields(t), clockStatus }).path)
    refusesWithRemedy(t, () => clock.nowNs(), 'ERR_VMCLOCK_UNSYNCHRONIZED', remedy)
  }
})

for (const [clockStatus, status] of [
  [2, 'synchronized'],
  [3, 'free-running'],
] as const) {
  test(`status ${clockStatus} gives time`, (t) => {
    t.is(open(t, page(t, { ...liveFields(t), clockStatus }).path).read().status, status)
  })
}

test('status 3 with requireSynchronized', (t) => {
  const { path } = page(t, { ...liveFields(t), clockStatus: 3 })
  const clock = open(t, path, { requireSynchronized: true })
  refusesWithRemedy(t, () => clock.nowNs(), 'ERR_VMCLOCK_UNSYNCHRONIZED', /leave that option out/)
})

const UTC_LIKE: readonly Timescale[] = ['utc', 'utc-noon-linear', 'utc-sls']

/** Returns the refusal of a timescale on a page of a time type; undefined if there is none. */
function expectedRefusal(
  timeType: number,
  timescale: Timescale,
  offset: 'known' | 'unknown',
): Refusal | undefined {
  if (timeType > 2) return 'ERR_VMCLOCK_TIMESCALE'
  const own = timeType === 0 ? UTC_LIKE : timeType === 1 ? ['tai'] : ['monotonic']
  if (own.includes(timescale)) return undefined
  if (timeType === 2 || timescale === 'monotonic') return 'ERR_VMCLOCK_TIMESCALE'
  return offset === 'known' ? undefined : 'ERR_VMCLOCK_NO_TAI_OFFSET'
}

for (const timeType of [0, 1, 2, 3, 4, 255]) {
  for (const timescale of TIMESCALES) {
    for (const offset of ['known', 'unknown'] as const) {
      const code = expectedRefusal(timeType, timescale, offset)
      test(`time type ${timeType} as ${timescale}, TAI offset ${offset}: ${code ?? 'time'}`, (t) => {
        const fields = liveFields(t)
        const flags = fields.flags | (offset === 'known' ? FLAG.TAI_OFFSET_VALID : 0n)
        const written = { ...fields, timeType, flags, taiOffsetSec: -37 }
        if (code !== undefined) return timeRefuses(t, written, code, timescale)
        const { epochNs, taiMinusUtcSec } = open(t, page(t, written).path, { timescale }).read()
        // The page's own time, shifted by 37 s if the timescale is the other one.
        const shift = { 0: timescale === 'tai' ? 37n : 0n, 1: timescale === 'tai' ? 0n : -37n }
        const second = epochNs / 1_000_000_000n - 1767225600n
        const expected = shift[timeType as 0 | 1] ?? 0n
        t.true(second >= expected && second < expected + 30n, `${second}`)
        if (timeType < 2) t.is(taiMinusUtcSec, offset === 'known' ? 37 : undefined)
      })
    }
  }
}

for (const [timeType, timescale, offset] of [
  [0, 'utc', 'known'],
  [0, 'utc', 'unknown'],
  [1, 'tai', 'known'],
  [1, 'tai', 'unknown'],
  [2, 'monotonic', 'unknown'],
] as const) {
  test(`time type ${timeType} as page, TAI offset ${offset}: time in ${timescale}`, (t) => {
    const fields = liveFields(t)
    const flags = fields.flags | (offset === 'known' ? FLAG.TAI_OFFSET_VALID : 0n)
    const made = page(t, { ...fields, timeType, flags, taiOffsetSec: -37 })
    const clock = open(t, made.path, { timescale: 'page' })
    const reading = clock.read()
    t.is(clock.timescale, timescale)
    t.is(reading.timescale, timescale)
    t.is(reading.toJSON().timescale, timescale)
    // The page's own time, unchanged.
    const second = reading.epochNs / 1_000_000_000n - 1767225600n
    t.true(second >= 0n && second < 30n, `${second}`)
    if (timescale === 'utc') t.is(typeof clock.nowMs(), 'number')
    else refuses(t, () => clock.nowMs(), 'ERR_VMCLOCK_TIMESCALE', /follows UTC/)
  })
}

for (const timeType of [3, 4, 255]) {
  test(`time type ${timeType} as page: ERR_VMCLOCK_TIMESCALE`, (t) => {
    timeRefuses(t, { ...liveFields(t), timeType }, 'ERR_VMCLOCK_TIMESCALE', 'page')
  })
}

test('a page that changes its time type gives time in its first timescale', (t) => {
  const fields = liveFields(t)
  const made = page(t, {
    ...fields,
    flags: fields.flags | FLAG.TAI_OFFSET_VALID,
    taiOffsetSec: -37,
  })
  const clock = open(t, made.path, { timescale: 'page' })
  const beforeNs = clock.nowNs()
  made.write({ timeType: 1, timeSec: 1_767_225_637n })
  const afterNs = clock.nowNs()
  t.true(afterNs >= beforeNs && afterNs < beforeNs + 30_000_000_000n, `${afterNs - beforeNs}`)
  t.is(clock.read().timescale, 'utc')
  made.write({ timeType: 2 })
  refuses(t, () => clock.nowNs(), 'ERR_VMCLOCK_TIMESCALE', /timescale 'page'/)
})

for (const taiOffsetSec of [0, 9, -9, 256, -32768]) {
  test(`a TAI offset of ${taiOffsetSec} that is marked valid`, (t) => {
    const fields = { ...liveFields(t), timeType: 1, taiOffsetSec }
    const flags = fields.flags | FLAG.TAI_OFFSET_VALID
    for (const timescale of ['utc', 'tai', 'utc-sls'] as const) {
      timeRefuses(t, { ...fields, flags }, 'ERR_VMCLOCK_NO_TAI_OFFSET', timescale)
    }
    const snapshot = open(t, page(t, { ...fields, flags }).path).snapshot()
    t.is(snapshot.taiMinusUtcSec, undefined)
    t.is(snapshot.raw.taiOffsetSec, taiOffsetSec)
  })
}

for (const [what, fields] of [
  ['period 0', { counterPeriodFracSec: 0n }],
  ['shift 128', { counterPeriodShift: 128 }],
  ['shift 255', { counterPeriodShift: 255 }],
] as const) {
  test(what, (t) => {
    timeRefuses(t, { ...liveFields(t), ...fields }, 'ERR_VMCLOCK_BAD_PERIOD')
  })
}

test('a result out of range', (t) => {
  for (const timeSec of [9_223_372_037n, 2n ** 62n, 2n ** 64n - 1n]) {
    timeRefuses(t, { ...liveFields(t), timeSec }, 'ERR_VMCLOCK_OUT_OF_RANGE')
  }
})

test('a conversion writes nothing if one of the counters is out of range', (t) => {
  const { path } = page(t, { ...timeFields(0n), timeSec: 9_223_372_036n })
  const clock = open(t, path)
  const out = new BigInt64Array(2)
  refusesWithRemedy(
    t,
    () => clock.convertInto(new BigUint64Array([0n, 2n ** 62n]), out, clock.continuityToken()),
    'ERR_VMCLOCK_OUT_OF_RANGE',
    REMEDY.ERR_VMCLOCK_OUT_OF_RANGE,
  )
  t.deepEqual([...out], [0n, 0n])
})

test('a counter that is more than a second behind the reference', (t) => {
  const fields = liveFields(t)
  const { path } = page(t, { ...fields, counterValue: fields.counterValue + 2n ** 62n })
  const clock = open(t, path)
  const code = 'ERR_VMCLOCK_COUNTER_MISMATCH'
  refusesWithRemedy(t, () => clock.nowNs(), code, REMEDY[code])
  refusesWithRemedy(t, () => clock.read(), code, REMEDY[code])
  refusesWithRemedy(t, () => clock.systemOffset(), code, REMEDY[code])
})

// The sequence number

test('an endless update times out after 100 ms once, and later calls fail at once', (t) => {
  const made = page(t, liveFields(t))
  const clock = open(t, made.path)
  const timeOut = (): number => {
    const startMs = performance.now()
    refusesWithRemedy(t, () => clock.nowNs(), 'ERR_VMCLOCK_TIMEOUT', REMEDY.ERR_VMCLOCK_TIMEOUT)
    return performance.now() - startMs
  }
  clock.nowNs()
  made.begin()
  const firstMs = timeOut()
  t.true(firstMs >= 99, `${firstMs} ms`)
  const startMs = performance.now()
  for (let call = 0; call < 100; call++) timeOut()
  const nextMs = performance.now() - startMs
  // A hundred calls take less time than ten timeouts.
  t.true(nextMs < 10 * firstMs, `${nextMs} ms`)
  for (const call of [
    () => clock.read(),
    () => clock.snapshot(),
    () => clock.continuityToken(),
    () => clock.hasTime,
    () => clock.systemOffset(),
  ]) {
    refusesWithRemedy(t, call, 'ERR_VMCLOCK_TIMEOUT', REMEDY.ERR_VMCLOCK_TIMEOUT)
  }
  // The counter needs no page.
  t.true(clock.counter() > 0n)
  made.end()
  t.true(clock.nowNs() > 0n)
  // Another update does not end: the clock waits again.
  made.begin()
  const secondMs = timeOut()
  t.true(secondMs >= 99, `${secondMs} ms`)
})

test('a page that is being updated opens', (t) => {
  const made = page(t, liveFields(t))
  made.begin()
  const clock = open(t, made.path)
  refusesWithRemedy(t, () => clock.nowNs(), 'ERR_VMCLOCK_TIMEOUT', REMEDY.ERR_VMCLOCK_TIMEOUT)
})

test('constant updates give a consistent answer or a timeout', async (t) => {
  const made = page(t, liveFields(t))
  const clock = open(t, made.path)
  const stop = new Int32Array(new SharedArrayBuffer(8))
  const writer = new Worker(
    `const { workerData, parentPort } = require('worker_threads')
    const { VmClockPage } = require('vmclock/testing')
    const page = VmClockPage.open(workerData.path)
    let seqCount = 0
    while (Atomics.load(workerData.stop, 0) === 0) {
      seqCount = (seqCount + 2) >>> 0
      page.writeUnguarded({ seqCount })
      Atomics.store(workerData.stop, 1, 1)
    }
    page.close()`,
    { eval: true, workerData: { path: made.path, stop } },
  )
  const ended = new Promise((resolve, reject) => writer.once('exit', resolve).once('error', reject))
  while (Atomics.load(stop, 1) === 0) Atomics.wait(stop, 1, 0, 10)
  const seen = new Set<string>()
  const seqs = new Set<number>()
  for (let call = 0; call < 2000; call++) {
    try {
      const { raw } = clock.snapshot()
      seqs.add(raw.seqCount)
      seen.add(String(raw.timeSec))
    } catch (error) {
      if (!VmClockError.isVmClockError(error)) throw error
      seen.add(error.code)
    }
  }
  Atomics.store(stop, 0, 1)
  await ended
  seen.delete('ERR_VMCLOCK_TIMEOUT')
  t.deepEqual([...seen], ['1767225600'])
  t.true(seqs.size > 1)
})

// Arguments

for (const [what, path] of [
  ['a number', 5],
  ['null', null],
  ['a boolean', true],
  ['a bigint', 5n],
  ['a symbol', Symbol('path')],
  ['a function', () => '/dev/vmclock0'],
] as const) {
  test(`a path that is no string: ${what}`, (t) => {
    const call = (): VmClock => VmClock.open(path as unknown as string)
    refuses(t, call, 'ERR_VMCLOCK_INVALID_ARGUMENT', /path must be a string/)
  })
}

test('values that throw at every access', (t) => {
  const code = 'ERR_VMCLOCK_INVALID_ARGUMENT'
  const thrower = Object.defineProperty(new Uint8Array(1), Symbol.toStringTag, {
    get() {
      throw new Error('thrown by the value')
    },
  })
  const { path } = page(t, liveFields(t))
  const clock = open(t, path)
  for (const [target, what] of [
    [{}, 'a proxy'],
    [[], 'a proxy'],
    [(): void => {}, 'a proxy'],
    [thrower, 'a Uint8Array'],
  ] as const) {
    let value: object = target
    if (target !== thrower) {
      const { proxy, revoke } = Proxy.revocable(target, {})
      revoke()
      value = proxy
    }
    const words = new RegExp(`this is ${what}`)
    refuses(t, () => PtpClock.open(value as never), code, words)
    refuses(t, () => PtpClock.find(value as never), code, words)
    refuses(t, () => VmClock.open(value as never), code, words)
    refuses(t, () => VmClock.open(path, value as never), code, words)
    refuses(t, () => VmClock.open(path, { trustedUids: value as never }), code, words)
    refuses(t, () => clock.readInto(value as never), code, words)
    refuses(t, () => clock.watch({ signal: value as never }), code, words)
    refuses(t, () => clock.isContinuous(value as never), code, /token must be/)
    t.false(VmClockError.isVmClockError(value))
  }
})

test('an empty path', (t) => {
  refuses(t, () => VmClock.open(''), 'ERR_VMCLOCK_INVALID_ARGUMENT', /leave it out/)
})

test('a path with NUL', (t) => {
  refuses(t, () => VmClock.open('/dev/null\0x'), 'ERR_VMCLOCK_INVALID_ARGUMENT', /NUL.*remove it/)
})

for (const [what, options, remedy] of [
  ['an unknown one', { timeScale: 'tai' }, /options have no "timeScale" use only: timescale, abi/],
  ['a symbol', { [Symbol('x')]: 1 }, /use only: timescale/],
  ['an unknown timescale', { timescale: 'gps' }, /must be 'utc' or 'tai' or/],
  ["a timescale that is an object's", { timescale: 'toString' }, /must be 'utc'/],
  ['a timescale that is no string', { timescale: ['utc'] }, /must be 'utc'/],
  ['an unknown document', { abi: 'v1' }, /'uapi' or 'rfc-v4'/],
  ['a condition that is not a boolean', { requireSynchronized: 'yes' }, /true or false|boolean/],
  ['a drift below 0', { assumedDriftPpm: -1 }, /from 0 to 1000000/],
  ['a drift above 10^6', { assumedDriftPpm: 1e6 + 1 }, /from 0 to 1000000/],
  ['a drift that is not a number', { assumedDriftPpm: Number.NaN }, /from 0 to 1000000/],
  ['a drift in a string', { assumedDriftPpm: '5' }, /must be a number/],
  ['a flag that is none', { nonDecreasing: 1 }, /true or false/],
  ['an assumed error below 0', { assumedErrorNs: -1n }, /assumedErrorNs must be a bigint from 0n/],
  ['an assumed error in a number', { assumedErrorNs: 5 }, /assumedErrorNs must be a bigint/],
  ['an error of the host in a number', { hostErrorNs: 5 }, /hostErrorNs must be a bigint/],
  ['users that are none', { trustedUids: 1000 }, /array of user numbers/],
  ['a user below 0', { trustedUids: [-1] }, /trustedUids\[0\] must be a whole number/],
  ['a user beyond 32 bits', { trustedUids: [2 ** 32] }, /whole number/],
  ['a user that is a hole', { trustedUids: new Array(1) }, /user number/],
  ['an array', [], /plain object/],
  ['a date', new Date(), /plain object/],
  ['null', null, /plain object/],
  ['a number', 5, /plain object/],
] as const) {
  test(`options: ${what}`, (t) => {
    const { path } = page(t, {})
    refuses(
      t,
      () => VmClock.open(path, options as unknown as object),
      'ERR_VMCLOCK_INVALID_ARGUMENT',
      remedy,
    )
  })
}

test('options twice', (t) => {
  const call = (): VmClock => VmClock.open({ timescale: 'tai' } as unknown as string, {})
  refuses(t, call, 'ERR_VMCLOCK_INVALID_ARGUMENT', /given twice/)
})

test('options are read from own properties, never from a prototype', (t) => {
  const { path } = page(t, liveFields(t))
  const inherited = Object.create({ timescale: 'tai' }) as object
  refuses(t, () => VmClock.open(path, inherited), 'ERR_VMCLOCK_INVALID_ARGUMENT', /plain object/)
  Object.defineProperty(Object.prototype, 'timescale', { value: 'tai', configurable: true })
  try {
    t.is(open(t, path, {}).timescale, 'utc')
  } finally {
    delete (Object.prototype as { timescale?: string }).timescale
  }
})

test.serial(
  'properties of Object.prototype choose no bound, make no failure and receive nothing',
  (t) => {
    const fields = liveFields(t)
    const unbounded = page(t, { ...fields, flags: FLAG.TIME_MAXERROR_VALID })
    const received: unknown[] = []
    const polluted = {
      assumedDriftPpb: { value: 0, writable: true },
      assumedErrorNs: { value: 0n, writable: true },
      maxErrorNs: { value: 1n, writable: true },
      hostErrorNs: { value: 1n, writable: true },
      vmGeneration: { value: 1n, writable: true },
      mode: { value: 0o666, writable: true },
      timeMaxerrorNanosec: { value: 0n, writable: true },
      failed: { value: true, writable: true },
      slots: { set: (value: unknown) => received.push(value) },
      nowNs: { set: (value: unknown) => received.push(value) },
    }
    for (const [name, property] of Object.entries(polluted)) {
      Object.defineProperty(Object.prototype, name, { ...property, configurable: true })
    }
    try {
      const clock = open(t, unbounded.path, {})
      t.is(clock.read().maxErrorNs, undefined)
      t.is(clock.systemOffset().maxErrorNs, undefined)
      t.is(clock.snapshot().vmGeneration, undefined)
      const { timeMaxerrorNanosec: _, ...left } = fields
      const made = page(t, { ...left, timeSec: 5n })
      t.is(open(t, made.path).snapshot().raw.timeMaxerrorNanosec, 0n)
      made.write({ timeMaxerrorNanosec: 9n })
      made.write({ timeSec: 6n })
      t.is(open(t, made.path).snapshot().raw.timeMaxerrorNanosec, 9n)
    } finally {
      for (const name of Object.keys(polluted)) Reflect.deleteProperty(Object.prototype, name)
    }
    t.deepEqual(received, [])
  },
)

test('a diagnosis leaves no descriptor open whatever is on Object.prototype', async (t) => {
  // In a process of its own, in which nothing else opens descriptors.
  const [before, after] = await evaluate<[number, number]>(`
    const { readdirSync } = require('node:fs')
    const { diagnose } = require('vmclock/doctor')
    const descriptors = () => readdirSync('/proc/self/fd').length
    diagnose()
    const before = descriptors()
    Object.assign(Object.prototype, { signal: 1 })
    diagnose()
    delete Object.prototype.signal
    console.log(JSON.stringify([before, descriptors()]))
  `)
  t.is(after, before)
})

test.serial('errors and watchers are made whatever is on Object.prototype', (t) => {
  const { path } = page(t, liveFields(t))
  const clock = open(t, path)
  const { signal } = new AbortController()
  const details = { remedy: 'x', path: 'x', errno: 1, cause: 'x' }
  const polluted = { get: 'x', set: 'x', signal: 'x', once: 'x', ...details }
  const thrown: unknown[] = []
  Object.assign(Object.prototype, polluted)
  try {
    try {
      VmClock.open(5 as unknown as string)
    } catch (error) {
      thrown.push(error)
    }
    clock.watch({ signal }).close()
  } finally {
    for (const name of Object.keys(polluted)) Reflect.deleteProperty(Object.prototype, name)
  }
  const [error] = thrown as VmClockError[]
  t.true(error instanceof VmClockError)
  t.is(error?.code, 'ERR_VMCLOCK_INVALID_ARGUMENT')
  for (const name of ['remedy', 'path', 'errno', 'cause'] as const) t.is(error?.[name], undefined)
})

test('a version that changes while the page is open', (t) => {
  const made = page(t, liveFields(t))
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  clock.nowNs()
  made.write({ version: 2 })
  const [code, remedy] = ['ERR_VMCLOCK_BAD_VERSION', REMEDY.ERR_VMCLOCK_BAD_VERSION] as const
  refuses(t, () => clock.nowNs(), code, remedy)
  refuses(t, () => clock.isContinuous(token), code, remedy)
})

test("a token's getter that detaches the array to convert", (t) => {
  const clock = open(t, page(t, liveFields(t)).path)
  const counters = new BigUint64Array([clock.counter()])
  const out = new BigInt64Array(1)
  const { disruptionMarker } = clock.continuityToken()
  const token = {
    get disruptionMarker() {
      structuredClone(counters, { transfer: [counters.buffer] })
      return disruptionMarker
    },
    vmGeneration: undefined,
  }
  refuses(
    t,
    () => clock.convertInto(counters, out, token),
    'ERR_VMCLOCK_INVALID_ARGUMENT',
    /counters is detached/,
  )
})

test('a bigint so huge that it takes seconds to write down is refused at once', (t) => {
  const clock = open(t, page(t, liveFields(t)).path)
  const token = clock.continuityToken()
  const huge = 1n << 20_000_000n
  const startMs = performance.now()
  for (const counter of [huge, -huge]) {
    const error = refuses(
      t,
      () => clock.convert(counter, token),
      'ERR_VMCLOCK_INVALID_ARGUMENT',
      /this is a bigint of more than 128 bits/,
    )
    t.true(error.message.length < 200)
  }
  t.true(performance.now() - startMs < 150)
})

test("the error of an option's getter is thrown unchanged", (t) => {
  const { path } = page(t, {})
  const options = {
    get timescale(): never {
      throw new RangeError('mine')
    },
  }
  t.throws(() => VmClock.open(path, options), { instanceOf: RangeError, message: 'mine' })
})

test('an array that is too short, or that cannot hold the figures', (t) => {
  const clock = open(t, page(t, liveFields(t)).path)
  const wrong = (slots: unknown, at: unknown, remedy: RegExp): void => {
    const call = (): void => clock.readInto(slots as BigInt64Array, at as number)
    refuses(t, call, 'ERR_VMCLOCK_INVALID_ARGUMENT', remedy)
  }
  wrong(new BigInt64Array(12), undefined, /holds 12 figures and 13 are needed make it longer/)
  wrong(new BigInt64Array(READING_SLOT_COUNT), 1, /holds 13 figures and 14 are needed/)
  wrong(new BigInt64Array(READING_SLOT_COUNT), Number.MAX_SAFE_INTEGER, /make it longer/)
  wrong(new BigInt64Array(24), -1, /at must be a whole number/)
  wrong(new BigInt64Array(24), 0.5, /at must be a whole number/)
  wrong(new BigInt64Array(24), Number.NaN, /at must be a whole number/)
  wrong(new BigInt64Array(24), '0', /at must be a whole number/)
  wrong(new BigInt64Array(24), 0n, /at must be a whole number/)
  wrong(new BigInt64Array(24), null, /at must be a whole number/)
  wrong(new BigUint64Array(13), 0, /must be a BigInt64Array, and this is a BigUint64Array/)
  wrong(new Float64Array(13), 0, /must be a BigInt64Array/)
  wrong(new ArrayBuffer(104), 0, /must be a BigInt64Array/)
  wrong(Object.create(BigInt64Array.prototype), 0, /must be a BigInt64Array/)
  wrong(new Array(13).fill(0n), 0, /must be a BigInt64Array/)
  wrong(undefined, 0, /must be a BigInt64Array/)
  class Liar extends BigInt64Array {
    override get length(): 13 {
      return 13
    }
  }
  wrong(new Liar(1), 0, /holds 1 figures and 13 are needed/)
})

test('readInto writes exactly thirteen figures, at any position', (t) => {
  const clock = open(t, page(t, liveFields(t)).path)
  const slots = new BigInt64Array(15).fill(-77n)
  clock.readInto(slots, 1)
  t.deepEqual([slots[0], slots[14]], [-77n, -77n])
  t.true(slots.subarray(1, 14).every((slot) => slot !== -77n))
})

test('a detached buffer', (t) => {
  const clock = open(t, page(t, liveFields(t)).path)
  const token = clock.continuityToken()
  const slots = new BigInt64Array(READING_SLOT_COUNT)
  const counters = new BigUint64Array(1)
  structuredClone(slots, { transfer: [slots.buffer] })
  structuredClone(counters, { transfer: [counters.buffer] })
  const code = 'ERR_VMCLOCK_INVALID_ARGUMENT'
  refuses(t, () => clock.readInto(slots), code, /slots is detached.*use the array that received it/)
  refuses(
    t,
    () => clock.convertInto(counters, new BigInt64Array(1), token),
    code,
    /counters is det/,
  )
  refuses(t, () => clock.convertInto(new BigUint64Array(1), slots, token), code, /out is detached/)
})

test('arrays that no counters can be converted from, or to', (t) => {
  const clock = open(t, page(t, liveFields(t)).path)
  const wrong = (counters: unknown, out: unknown, remedy: RegExp): void => {
    const call = (): void =>
      clock.convertInto(counters as BigUint64Array, out as BigInt64Array, clock.continuityToken())
    refuses(t, call, 'ERR_VMCLOCK_INVALID_ARGUMENT', remedy)
  }
  wrong(new BigUint64Array(3), new BigInt64Array(2), /out holds 2 figures and 3 are needed/)
  wrong(new BigInt64Array(1), new BigInt64Array(1), /counters must be a BigUint64Array/)
  wrong(new BigUint64Array(1), new BigUint64Array(1), /out must be a BigInt64Array/)
  wrong([1n], new BigInt64Array(1), /counters must be a BigUint64Array, and this is an array/)
  wrong(undefined, undefined, /counters must be a BigUint64Array/)
})

test('counters are converted in place, and an empty array is allowed', (t) => {
  const clock = open(t, page(t, timeFields(1000n)).path)
  const memory = new ArrayBuffer(16)
  new BigUint64Array(memory).set([1000n, 1_000_001_000n])
  clock.convertInto(new BigUint64Array(memory), new BigInt64Array(memory), clock.continuityToken())
  t.deepEqual([...new BigInt64Array(memory)], [1767225600_000000000n, 1767225600_999999999n])
  t.notThrows(() =>
    clock.convertInto(new BigUint64Array(0), new BigInt64Array(0), clock.continuityToken()),
  )
})

for (const [what, counter] of [
  ['negative', -1n],
  ['beyond 64 bits', 2n ** 64n],
  ['huge', 10n ** 4000n],
  ['a number', 5],
  ['undefined', undefined],
] as const) {
  test(`a counter that is ${what}`, (t) => {
    const clock = open(t, page(t, liveFields(t)).path)
    refuses(
      t,
      () => clock.convert(counter as bigint, clock.continuityToken()),
      'ERR_VMCLOCK_INVALID_ARGUMENT',
      /counter must be a bigint from 0n to 2n \*\* 64n - 1n/,
    )
  })
}

for (const [what, token] of [
  ['undefined', undefined],
  ['null', null],
  ['a string', 'token'],
  ['a bigint', 5n],
  ['empty', {}],
  ['of an inherited marker', Object.create({ disruptionMarker: 0n, vmGeneration: undefined })],
  ['of a number', { disruptionMarker: 0, vmGeneration: undefined }],
  ['of a negative marker', { disruptionMarker: -1n, vmGeneration: undefined }],
  ['of a marker beyond 64 bits', { disruptionMarker: 2n ** 64n, vmGeneration: undefined }],
  ['of a generation that is a number', { disruptionMarker: 0n, vmGeneration: 0 }],
  ['of a generation that is null', { disruptionMarker: 0n, vmGeneration: null }],
  ['from JSON', JSON.parse('{"disruptionMarker":"0"}')],
] as const) {
  test(`a token that is none: ${what}`, (t) => {
    const clock = open(t, page(t, liveFields(t)).path)
    const none = token as unknown as Parameters<VmClock['isContinuous']>[0]
    const code = 'ERR_VMCLOCK_INVALID_ARGUMENT'
    refuses(t, () => clock.isContinuous(none), code, /token.* must be /)
    refuses(t, () => clock.convert(clock.counter(), none), code, /token.* must be /)
    const out = new BigInt64Array(1)
    refuses(t, () => clock.convertInto(new BigUint64Array(1), out, none), code, /token.* must be /)
  })
}

test('a class without a public constructor', (t) => {
  for (const type of [VmClock, VmClockPage]) {
    refuses(
      t,
      () => new (type as unknown as new () => unknown)(),
      'ERR_VMCLOCK_INVALID_ARGUMENT',
      /no public constructor use VmClock/,
    )
  }
})

// Timescales that a call does not have

for (const timescale of ['tai', 'monotonic'] as const) {
  test(`calls that need UTC on a clock in ${timescale}`, (t) => {
    const timeType = timescale === 'tai' ? 1 : 2
    const clock = open(t, page(t, { ...liveFields(t), timeType }).path, { timescale })
    t.true(clock.nowNs() > 0n)
    for (const call of ['nowMs', 'nowDate', 'nowInstant', 'systemOffset'] as const) {
      refuses(t, () => clock[call](), 'ERR_VMCLOCK_TIMESCALE', /open the page with timescale 'utc'/)
    }
  })
}

// Closed

test('every call on a closed clock, except for its path and timescale', (t) => {
  const { path } = page(t, liveFields(t))
  const clock = VmClock.open(path)
  const token = clock.continuityToken()
  clock.close()
  clock.close()
  t.is(clock.closed, true)
  t.is(clock.path, path)
  t.is(clock.timescale, 'utc')
  for (const call of [
    () => clock.nowNs(),
    () => clock.nowMs(),
    () => clock.nowHrTime(),
    () => clock.nowDate(),
    () => clock.nowInstant(),
    () => clock.read(),
    () => clock.readInto(new BigInt64Array(READING_SLOT_COUNT)),
    () => clock.counter(),
    () => clock.convert(1n, token),
    () => clock.convertInto(new BigUint64Array(1), new BigInt64Array(1), token),
    () => clock.continuityToken(),
    () => clock.isContinuous(token),
    () => clock.snapshot(),
    () => clock.systemOffset(),
    () => clock.hasTime,
  ]) {
    refuses(t, call, 'ERR_VMCLOCK_CLOSED', /open a new one/)
  }
})

test('every call on a closed page', (t) => {
  const made = page(t, {})
  made.close()
  for (const call of [
    () => made.write({}),
    () => made.writeUnguarded({}),
    () => made.begin(),
    () => made.end(),
    () => made.seqCount,
  ]) {
    refuses(t, call, 'ERR_VMCLOCK_CLOSED', /open a new one/)
  }
})

// Resources

test('a thousand refusals leave no descriptor and no mapping', (t) => {
  const wrong = page(t, { version: 2 })
  wrong.close()
  const { path } = wrong
  mkdirSync(join(dirname(path), 'directory'))
  for (let count = 0; count < 1000; count++) {
    t.throws(() => VmClock.open(path))
    t.throws(() => VmClock.open(join(dirname(path), 'directory')))
  }
  t.deepEqual(held(dirname(path)), [])
  t.deepEqual(contents(dirname(path)), ['directory', 'page'])
})

test('a path of any length is refused at once, and its message is short', (t) => {
  // The whole text is never made: it would take half a gigabyte.
  for (const length of [4096, 100_000_000, 2 ** 29 - 24]) {
    const path = 'x'.repeat(length)
    for (const call of [
      () => VmClock.open(path),
      () => VmClockPublisher.create(path),
      () => VmClockPage.create(path, {}),
      () => VmClockPage.open(path),
      () => PtpClock.open(path),
      () => PtpClock.find(path),
      () => VmClock.open({ timescale: path as never }),
      () => diagnose({ path }),
    ]) {
      const error = t.throws(call, { code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
      t.true((error?.message.length ?? 0) < 300, error?.message)
    }
  }
  t.throws(() => VmClock.open('é'.repeat(2048)), { code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
})

test('a message describes what was given instead', (t) => {
  const given: Array<[unknown, string]> = [
    [{}, 'an object'],
    [() => {}, 'a function'],
    [[], 'an array'],
    [null, 'null'],
    [new Proxy([], {}), 'a proxy'],
    [new Uint8Array(1), 'a Uint8Array'],
    [Symbol('of any length'), 'a symbol'],
    [true, 'true'],
    ['short', '"short"'],
    ['x'.repeat(41), `"${'x'.repeat(40)}…"`],
    ['x'.repeat(4096), 'a string of 4096 characters'],
    [5n, '5n'],
    [2n ** 128n, 'a bigint of more than 128 bits'],
  ]
  for (const [value, words] of given) {
    const message = new RegExp(`this is ${words}$`)
    t.throws(() => VmClockPublisher.create('x', { intervalMs: value as number }), { message })
  }
})

test('a message quotes a long path without its middle', (t) => {
  const error = t.throws(() => VmClock.open(`/${'d/'.repeat(1500)}end`))
  t.true((error?.message.length ?? 0) < 400, error?.message)
  t.regex(error?.message ?? '', /d…\/d.*end/)
})

test('more user numbers than a process can name are refused', (t) => {
  const trustedUids = new Array(2 ** 32 - 1)
  t.throws(() => VmClock.open({ trustedUids }), { code: 'ERR_VMCLOCK_INVALID_ARGUMENT' })
})

test('a method without its object says how to call it', (t) => {
  const classes = [vmclock, metrics, ordering, ptp, testing]
    .flatMap((module): unknown[] => Object.values(module))
    .filter((value): value is new () => object => /^class\b/.test(String(value)))
  t.true(classes.length > 8)
  for (const { prototype } of classes) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
      if (typeof value !== 'function' || name === 'constructor') continue
      refuses(t, () => value(), 'ERR_VMCLOCK_INVALID_ARGUMENT', new RegExp(`object\\.${name}\\(`))
    }
  }
})

test('a watcher refuses the name of an event that does not exist', (t) => {
  const watcher = open(t, page(t, {}).path).watch()
  t.teardown(() => watcher.close())
  for (const add of ['on', 'once', 'addListener', 'prependListener'] as const) {
    for (const name of ['migration', 'Disruption', '', Symbol('disruption'), undefined]) {
      refuses(
        t,
        () => watcher[add](name as 'disruption', () => {}),
        'ERR_VMCLOCK_INVALID_ARGUMENT',
        /use one of: disruption, generation/,
      )
    }
    watcher[add]('disruption', () => {})
    watcher[add]('newListener' as 'disruption', () => {})
  }
})
