// Waits end no earlier than they may, reject with typed errors, and leave no timer behind.

import { getActiveResourcesInfo } from 'node:process'
import test, { type ExecutionContext } from 'ava'
import { type Reading, type VmClock, VmClockError, type VmClockErrorCode } from 'vmclock'
import {
  CLOCK_TIMER,
  type ReadableClock,
  waitUntilPast,
  waitUntilSynchronized,
} from 'vmclock/ordering'
import type { VmClockPage } from 'vmclock/testing'
import { counterNow, FLAG, frozenFields, liveFields, open, page, timeFields } from './pages'

const WAITS = Number(process.env['VMCLOCK_ORDERING_WAITS'] ?? 200)
const FOREVER_NS = 2n ** 62n

interface Frozen {
  readonly made: VmClockPage
  readonly clock: VmClock
}

function frozen(t: ExecutionContext): Frozen {
  const made = page(t, frozenFields())
  return { made, clock: open(t, made.path) }
}

/** A clock that counts its timers: how many were started, and how many still run. */
class CountedClock implements ReadableClock {
  started = 0
  readonly #clock: ReadableClock
  readonly #callbacks = new Set<() => void>()

  constructor(clock: ReadableClock) {
    this.#clock = clock
  }

  get pending(): number {
    return this.#callbacks.size
  }

  read(): Reading {
    return this.#clock.read()
  }

  [CLOCK_TIMER](_delayNs: bigint, callback: () => void): () => void {
    this.started++
    this.#callbacks.add(callback)
    return () => this.#callbacks.delete(callback)
  }

  /** Ends all timers. */
  fire(): void {
    for (const callback of [...this.#callbacks]) {
      this.#callbacks.delete(callback)
      callback()
    }
  }
}

async function rejects(
  t: ExecutionContext,
  promise: Promise<unknown>,
  code: VmClockErrorCode,
): Promise<void> {
  const error = await t.throwsAsync(promise, { instanceOf: VmClockError, code })
  t.truthy((error as VmClockError).remedy)
}

test('waitUntilPast is never early, under load and while the bound changes', async (t) => {
  const made = page(t, { ...liveFields(t), timeMaxerrorNanosec: 0n })
  const clock = open(t, made.path)
  const judge = open(t, made.path)
  // An own reference: a bound of 0 at a reference that never moves makes the page's time the true time.
  const trueNs = (reading: Reading): bigint => reading.epochNs
  let early = 0
  let changes = 0
  let stopped = false
  const load = (): void => {
    if (stopped) return
    // A busy event loop delays timers; a bound that changes makes earliest jump in both directions.
    for (let turns = 0; turns < 20_000; turns++) Math.sqrt(turns)
    changes++
    made.write({ timeMaxerrorNanosec: BigInt((changes * 7919) % 2_000_000) })
    setImmediate(load)
  }
  load()
  t.teardown(() => {
    stopped = true
  })
  const wait = async (): Promise<void> => {
    const stamp = clock.read().latestNs as bigint
    const shown = await waitUntilPast(clock, stamp)
    if ((shown.earliestNs as bigint) <= stamp || trueNs(judge.read()) <= stamp) early++
  }
  const lanes = Array.from({ length: 20 }, async () => {
    for (let waits = 0; waits < WAITS / 20; waits++) await wait()
  })
  await Promise.all(lanes)
  stopped = true
  t.is(early, 0)
  t.true(changes > 0)
})

test('a time that is past already resolves without a timer', async (t) => {
  const { clock } = frozen(t)
  const counted = new CountedClock(clock)
  const { earliestNs } = clock.read()
  const reading = await waitUntilPast(counted, (earliestNs as bigint) - 1n)
  t.is(reading.earliestNs, earliestNs)
  t.is(counted.started, 0)
})

test('a bound that grew during the wait prolongs it', async (t) => {
  const { made, clock } = frozen(t)
  const counted = new CountedClock(clock)
  const stamp = clock.read().latestNs as bigint
  const wait = waitUntilPast(counted, stamp)
  made.write({ timeFracSec: 2n ** 54n, timeMaxerrorNanosec: 10_000_000n })
  counted.fire()
  t.is(counted.pending, 1)
  made.write({ timeMaxerrorNanosec: 0n })
  counted.fire()
  t.true(((await wait).earliestNs as bigint) > stamp)
  t.is(counted.started, 2)
})

for (const [what, fields, code] of [
  ['a migration', { disruptionMarker: 1n }, 'ERR_VMCLOCK_DISRUPTED'],
  [
    'a restore',
    { flags: frozenFields().flags | FLAG.VM_GEN_COUNTER_PRESENT, vmGenerationCounter: 6n },
    'ERR_VMCLOCK_DISRUPTED',
  ],
  ['the loss of the bound', { flags: 0n }, 'ERR_VMCLOCK_TOO_UNCERTAIN'],
  ['a clock that became unreliable', { clockStatus: 4 }, 'ERR_VMCLOCK_UNSYNCHRONIZED'],
] as const) {
  test(`${what} during waitUntilPast rejects it, and no timer is left`, async (t) => {
    const { made, clock } = frozen(t)
    const counted = new CountedClock(clock)
    const wait = waitUntilPast(counted, clock.read().latestNs as bigint)
    made.write(fields)
    counted.fire()
    await rejects(t, wait, code)
    t.is(counted.pending, 0)
  })
}

for (const [name, begin] of [
  [
    'waitUntilPast',
    (clock: ReadableClock, signal: AbortSignal) => waitUntilPast(clock, FOREVER_NS, { signal }),
  ],
  [
    'waitUntilSynchronized',
    (clock: ReadableClock, signal: AbortSignal) =>
      waitUntilSynchronized(clock, { errorLimitNs: 0n, signal }),
  ],
] as const) {
  test(`an abort rejects ${name} with its reason, and no timer or listener is left`, async (t) => {
    const { clock } = frozen(t)
    const counted = new CountedClock(clock)
    const controller = new AbortController()
    let listeners = 0
    const { signal } = controller
    const { addEventListener, removeEventListener } = signal
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listeners++
      addEventListener.apply(signal, args)
    }
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listeners--
      removeEventListener.apply(signal, args)
    }
    const wait = begin(counted, signal)
    t.is(counted.pending, 1)
    const reason = new Error('enough')
    controller.abort(reason)
    t.is(await t.throwsAsync(wait), reason)
    t.is(counted.pending, 0)
    t.is(listeners, 0)
    t.is(await t.throwsAsync(begin(counted, signal)), reason)
    t.is(counted.started, 1)
  })

  test(`${name} cancels Node's timer on abort`, async (t) => {
    const { clock } = frozen(t)
    const timersOf = (): number =>
      getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
    const before = timersOf()
    const controller = new AbortController()
    const wait = begin(clock, controller.signal)
    t.is(timersOf(), before + 1)
    controller.abort(new Error('enough'))
    await t.throwsAsync(wait)
    t.is(timersOf(), before)
  })
}

test('the rest of a wait that is shorter than a millisecond starts no timer', async (t) => {
  const made = page(t, timeFields(counterNow(t)))
  const clock = open(t, made.path)
  const stamp = clock.read().latestNs as bigint
  t.true((await waitUntilPast(clock, stamp)).epochNs > stamp)
})

test('waitUntilSynchronized waits through states that pass, until the bound fits', async (t) => {
  const { made, clock } = frozen(t)
  const counted = new CountedClock(clock)
  made.write({ clockStatus: 1 })
  let ended = false
  const wait = waitUntilSynchronized(counted, { errorLimitNs: 500n }).finally(() => {
    ended = true
  })
  for (const fields of [
    { clockStatus: 2, flags: 0n },
    { flags: frozenFields().flags, timeMaxerrorNanosec: 500n },
    { counterId: 255 },
    { counterId: frozenFields().counterId as number, disruptionMarker: 9n },
  ]) {
    counted.fire()
    await Promise.resolve()
    t.false(ended)
    made.write(fields)
  }
  made.write({ timeMaxerrorNanosec: 499n })
  counted.fire()
  t.is((await wait).maxErrorNs, 500n)
  t.is(counted.pending, 0)
})

test('waitUntilSynchronized without a limit accepts any bound, and no unknown one', async (t) => {
  const { made, clock } = frozen(t)
  made.write({ timeMaxerrorNanosec: 2n ** 62n })
  t.true(((await waitUntilSynchronized(clock)).maxErrorNs as bigint) > 2n ** 62n)
  made.write({ flags: 0n })
  const counted = new CountedClock(clock)
  const controller = new AbortController()
  const wait = waitUntilSynchronized(counted, { signal: controller.signal })
  counted.fire()
  t.is(counted.pending, 1)
  controller.abort(new Error('enough'))
  await t.throwsAsync(wait, { message: 'enough' })
})

test('waitUntilSynchronized rejects at once with an error that cannot pass', async (t) => {
  const { clock } = frozen(t)
  clock.close()
  await rejects(t, waitUntilSynchronized(clock), 'ERR_VMCLOCK_CLOSED')
})

test('wrong arguments of the waits reject with the package error', async (t) => {
  const { clock } = frozen(t)
  for (const call of [
    () => waitUntilPast(undefined as never, 0n),
    () => waitUntilPast(clock, 0 as never),
    () => waitUntilPast(clock, 2n ** 63n),
    () => waitUntilPast(clock, 0n, { signal: {} as never }),
    () => waitUntilPast(clock, 0n, { timeout: 1 } as never),
    () => waitUntilSynchronized({} as never),
    () => waitUntilSynchronized(clock, { errorLimitNs: -1n }),
    () => waitUntilSynchronized(clock, { intervalMs: 0 }),
  ]) {
    await t.throwsAsync(call, {
      instanceOf: VmClockError,
      code: 'ERR_VMCLOCK_INVALID_ARGUMENT',
    })
  }
})
