// On systems that the package does not support, a program gets a clock of the same shape if it asks for one.

import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { evaluate, rootDirectory } from './node-command'

const PACKAGE = JSON.stringify(join(rootDirectory, 'dist/index.cjs'))

/** Evaluates an expression in a process that takes itself for one on `platform`. */
function on<Value>(platform: string, expression: string): Promise<Value> {
  return evaluate<Value>(`
    Object.defineProperty(process, 'platform', { value: ${JSON.stringify(platform)} })
    const { Reading, READING_KNOWN, READING_SLOTS, READING_SLOT_COUNT, VmClock, VmClockError } = require(${PACKAGE})
    const open = (options) => VmClock.open({ unsupported: 'system-clock', ...options })
    const codeOf = (call) => {
      try { call() } catch (error) { return error instanceof VmClockError ? error.code : error.stack }
    }
    console.log(JSON.stringify(${expression}, (_, value) => typeof value === 'bigint' ? String(value) : value))`)
}

/** Evaluates an expression as on macOS, and asserts that each of its figures is true. */
async function holds(t: ExecutionContext, expression: string): Promise<void> {
  const figures = await on<Record<string, unknown>>('darwin', expression)
  t.true(Object.keys(figures).length > 0)
  for (const [name, figure] of Object.entries(figures)) t.is(figure, true, name)
}

for (const platform of ['darwin', 'win32', 'freebsd']) {
  test(`open throws on ${platform} unless the program accepts the system clock`, async (t) => {
    const codes = await on<string[]>(
      platform,
      `[
        codeOf(() => VmClock.open()),
        codeOf(() => VmClock.open('/run/vmclock/page')),
        codeOf(() => VmClock.open({ unsupported: undefined })),
        codeOf(() => open().close()) ?? 'none',
        codeOf(() => VmClock.open('/run/vmclock/page', { unsupported: 'system-clock' }).close()) ?? 'none',
      ]`,
    )
    const refused = 'ERR_VMCLOCK_UNSUPPORTED'
    t.deepEqual(codes, [refused, refused, refused, 'none', 'none'])
  })
}

test('the option for unsupported systems changes nothing on a supported one', async (t) => {
  const codes = await on<string[]>(
    'linux',
    `[
      codeOf(() => VmClock.open('/nonexistent', { unsupported: 'system-clock' })),
      codeOf(() => VmClock.open('/nonexistent', { unsupported: 'throw' })),
    ]`,
  )
  t.deepEqual(codes, ['ERR_VMCLOCK_NOT_FOUND', 'ERR_VMCLOCK_INVALID_ARGUMENT'])
})

test('the system clock has every member of Clock that VmClock has', async (t) => {
  const missing = await on<string[]>(
    'darwin',
    `(() => {
      const own = (type) => Object.getOwnPropertyNames(type.prototype)
      const names = own(open().constructor)
      return own(VmClock).filter((name) => !names.includes(name))
    })()`,
  )
  t.deepEqual(missing.sort(), ['calls', 'snapshot', 'systemOffset'])
})

test('the system clock gives the times of Date, with fractions of its millisecond', async (t) => {
  await holds(
    t,
    `(() => {
      const clock = open()
      let isWithin = true, hasFraction = false
      for (let i = 0; i < 10_000; i++) {
        const before = Date.now()
        const ns = clock.nowNs()
        const after = Date.now()
        isWithin &&= BigInt(before) * 1_000_000n <= ns && ns < BigInt(after + 1) * 1_000_000n
        hasFraction ||= ns % 1_000_000n !== 0n
      }
      const ms = clock.nowMs()
      const out = [0, 0]
      const [sec, ns] = clock.nowHrTime()
      const isPair = Math.abs(sec * 1000 + ns / 1e6 - ms) < 1000 && ns < 1e9 && clock.nowHrTime(out) === out
      const isDate = Math.abs(ms - Number(clock.nowDate())) < 1000 && Number.isInteger(Number(clock.nowDate()))
      return { isWithin, hasFraction, isPair, isDate }
    })()`,
  )
})

test('the system clock follows Date when that is set back', async (t) => {
  await holds(
    t,
    `(() => {
      const clock = open()
      const nonDecreasing = open({ nonDecreasing: true })
      const before = clock.nowNs()
      const last = nonDecreasing.nowNs()
      const { now } = Date
      Date.now = () => now() - 3_600_000
      const follows = before - clock.nowNs() > 3_599n * 1_000_000_000n
      const holds = nonDecreasing.nowNs() === last
      return { follows, holds }
    })()`,
  )
})

test('the system clock states no bound, no generation, and a free-running status', async (t) => {
  const { reading, source, slots } = await on<{
    reading: Record<string, unknown>
    source: unknown
    slots: string[]
  }>(
    'darwin',
    `(() => {
      const clock = open()
      const slots = new BigInt64Array(READING_SLOT_COUNT + 1)
      clock.readInto(slots, 1)
      const { epochNs, counter, ...reading } = clock.read()
      return { reading, source: clock.timeSource, slots: [...slots.slice(2)] }
    })()`,
  )
  t.deepEqual(reading, {
    ageNs: '0',
    disruptionMarker: '0',
    status: 'free-running',
    leapSecond: false,
    timescale: 'utc',
  })
  t.deepEqual(source, {
    kind: 'system-clock',
    from: 'unknown',
    guard: { state: 'none' },
    assumed: [],
  })
  t.is(slots[0], '-1')
})

test('a token of the system clock stays valid, and its counters can be converted', async (t) => {
  await holds(
    t,
    `(() => {
      const clock = open()
      const token = structuredClone(clock.continuityToken())
      const counter = clock.counter()
      const now = clock.nowNs()
      const reading = clock.convert(counter, token)
      const out = new BigInt64Array(2)
      clock.convertInto(new BigUint64Array([counter, counter + 1_000_000_000n]), out, token)
      const other = { disruptionMarker: 5n, vmGeneration: undefined }
      // The counter and the time are not taken at once.
      const near = (a, b) => a - b < 1_000_000_000n && b - a < 1_000_000_000n
      return {
        isContinuous: clock.isContinuous(token),
        isReading: reading instanceof Reading && reading.counter === counter,
        isNear: near(reading.epochNs, now) && near(out[0], now) && out[1] - out[0] === 1_000_000_000n,
        isOtherRefused: !clock.isContinuous(other) && codeOf(() => clock.convert(counter, other)) === 'ERR_VMCLOCK_DISRUPTED',
        isWrongRefused: codeOf(() => clock.isContinuous(5)) === 'ERR_VMCLOCK_INVALID_ARGUMENT',
        isFarRefused: codeOf(() => clock.convert(2n ** 64n - 1n, token)) === 'ERR_VMCLOCK_OUT_OF_RANGE',
      }
    })()`,
  )
})

test('the system clock refuses what it cannot give', async (t) => {
  await holds(
    t,
    `(() => {
      const clock = open({ requireSynchronized: true })
      return {
        tai: codeOf(() => open({ timescale: 'tai' })) === 'ERR_VMCLOCK_TIMESCALE',
        page: open({ timescale: 'page' }).timescale === 'utc',
        unsynchronized: codeOf(() => clock.nowNs()) === 'ERR_VMCLOCK_UNSYNCHRONIZED',
        tried: clock.tryRead().code === 'ERR_VMCLOCK_UNSYNCHRONIZED',
        usable: !clock.isUsable && open().isUsable,
        slots: codeOf(() => open().readInto(new BigInt64Array(3))) === 'ERR_VMCLOCK_INVALID_ARGUMENT',
      }
    })()`,
  )
})

test('a watcher of the system clock reports nothing, and ends when it is closed', async (t) => {
  await holds(
    t,
    `(() => {
      const clock = open()
      const watcher = clock.watch({ intervalMs: 1 })
      const wasOpen = !watcher.closed && watcher.path === undefined
      clock.close()
      watcher.close()
      return {
        wasOpen,
        isClosed: watcher.closed,
        option: codeOf(() => open().watch({ intervalMs: 0 })) === 'ERR_VMCLOCK_INVALID_ARGUMENT',
      }
    })()`,
  )
})

test('after close every call of the system clock says that it is closed', async (t) => {
  const codes = await on<Record<string, string>>(
    'darwin',
    `(() => {
      const clock = open()
      const token = clock.continuityToken()
      clock.close()
      clock.close()
      const calls = {
        hasTime: () => clock.hasTime,
        nowNs: () => clock.nowNs(),
        nowMs: () => clock.nowMs(),
        nowHrTime: () => clock.nowHrTime(),
        nowDate: () => clock.nowDate(),
        nowInstant: () => clock.nowInstant(),
        read: () => clock.read(),
        readInto: () => clock.readInto(new BigInt64Array(READING_SLOT_COUNT)),
        counter: () => clock.counter(),
        convert: () => clock.convert(5n, token),
        convertInto: () => clock.convertInto(new BigUint64Array(1), new BigInt64Array(1), token),
        continuityToken: () => clock.continuityToken(),
        isContinuous: () => clock.isContinuous(token),
        watch: () => clock.watch(),
      }
      const codes = Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, codeOf(call)]))
      return { ...codes, tryRead: clock.tryRead().code, isUsable: String(clock.isUsable), closed: String(clock.closed) }
    })()`,
  )
  const { isUsable, closed, ...others } = codes
  t.deepEqual([isUsable, closed], ['false', 'true'])
  t.deepEqual([...new Set(Object.values(others))], ['ERR_VMCLOCK_CLOSED'])
  t.is(Object.keys(others).length, 15)
})
