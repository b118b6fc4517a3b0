// The simulated clock answers as a real one: the same scripts run on both, and all that a program sees is equal.

import test, { type ExecutionContext } from 'ava'
import {
  type Clock,
  type Maintenance,
  type Reading,
  VmClock,
  type VmClockError,
  type VmClockEvent,
  type VmClockWatcher,
} from 'vmclock'
import {
  encodeInterval,
  HybridClock,
  isFuture,
  isPast,
  waitUntilPast,
  waitUntilSynchronized,
} from 'vmclock/ordering'
import { SimulatedClock, type SimulatedClockOptions, type VmClockPage } from 'vmclock/testing'
import { publishWith, writeExtension } from './extension'
import { COUNTER_ID, counterNow, FLAG, frozenFields, page, refuses, timeFields } from './pages'

const START_NS = 1_767_225_600_000_000_000n
const MS = 1_000_000n
const SEC = 1_000_000_000n

type Status = 'unknown' | 'initializing' | 'synchronized' | 'free-running' | 'unreliable'
type Options = Pick<
  SimulatedClockOptions,
  | 'timescale'
  | 'requireSynchronized'
  | 'errorLimitNs'
  | 'nonDecreasing'
  | 'maxErrorNs'
  | 'vmGeneration'
  | 'taiMinusUtcSec'
>

/** What a script does to a machine, simulated or real. */
interface Machine {
  readonly clock: Clock
  set(utcNs: bigint): void
  advance(ns: bigint): void
  skew(ns: bigint): void
  step(ns: bigint): void
  widen(ns: bigint): void
  loseBound(): void
  synchronize(ns: bigint): void
  leapSecond(kind: 'inserted' | 'deleted'): void
  disrupt(): void
  /** A restore: what `clone` does to the machine that goes on. */
  restore(): void
  setStatus(status: Status): void
  setMaintenance(maintenance: Maintenance): void
  loseTime(): void
  recover(): void
}

function simulated(t: ExecutionContext, options: Options): Machine {
  const clock = new SimulatedClock(options)
  t.teardown(() => clock.close())
  return {
    clock,
    // Every change of the page's time is an update of the page.
    set: (utcNs) => clock.set(utcNs),
    advance: (ns) => clock.advance(ns),
    skew: (ns) => clock.skew(ns),
    step: (ns) => clock.step(ns),
    widen: (ns) => clock.widen(ns),
    loseBound: () => clock.loseBound(),
    synchronize: (ns) => clock.synchronize(ns),
    leapSecond: (kind) => clock.leapSecond(kind),
    disrupt: () => clock.disrupt(),
    restore: () => clock.clone().close(),
    setStatus: (status) => clock.setStatus(status),
    setMaintenance: (maintenance) => clock.setMaintenance(maintenance),
    loseTime: () => clock.fail('ERR_VMCLOCK_NO_TIME'),
    recover: () => clock.recover(),
  }
}

/**
 * A real clock on a page whose time stands still. This driver rewrites the page for each change, by the
 * header's rules and none of the simulation's code.
 */
class PageMachine implements Machine {
  readonly clock: Clock
  readonly #page: VmClockPage
  readonly #hasGeneration: boolean
  #count = START_NS
  #error = 0n
  #bound: bigint | undefined
  #leap: { readonly kind: 'inserted' | 'deleted'; readonly edge: bigint } | undefined
  #tai: number | undefined
  #marker = 1n
  #generation: bigint
  #status: Status = 'synchronized'
  #maintenance: Maintenance = 'none'
  #hasTime = true

  constructor(t: ExecutionContext, options: Options) {
    const { maxErrorNs = MS, vmGeneration = 1n, taiMinusUtcSec = 37 } = options
    this.#bound = maxErrorNs ?? undefined
    this.#hasGeneration = vmGeneration !== null
    this.#generation = vmGeneration ?? 0n
    this.#tai = taiMinusUtcSec ?? undefined
    this.#page = page(t, this.#fields())
    const { timescale, requireSynchronized, errorLimitNs, nonDecreasing } = options
    this.clock = VmClock.open(this.#page.path, {
      timescale,
      requireSynchronized,
      errorLimitNs,
      nonDecreasing,
    })
    t.teardown(() => this.clock.close())
  }

  set(utcNs: bigint): void {
    const edge = this.#leap?.edge
    const shift = this.#leap?.kind === 'inserted' ? SEC : -SEC
    this.#count = edge !== undefined && utcNs >= edge ? utcNs + shift : utcNs
    this.#write()
  }

  advance(ns: bigint): void {
    this.#count += ns
    this.#write()
  }

  skew(ns: bigint): void {
    this.#error = ns
    this.#write()
  }

  step(ns: bigint): void {
    this.skew(this.#error + ns)
  }

  widen(ns: bigint): void {
    this.#bound = ns
    this.#write()
  }

  loseBound(): void {
    this.#bound = undefined
    this.#write()
  }

  synchronize(ns: bigint): void {
    this.#bound = ns
    this.#error = 0n
    this.#status = 'synchronized'
    this.#write()
  }

  leapSecond(kind: 'inserted' | 'deleted'): void {
    const date = new Date(Number(this.#count / MS))
    const edge = BigInt(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1)) * MS
    this.#leap = { kind, edge }
    this.#write()
  }

  disrupt(): void {
    this.#marker += 1n
    this.#bound = undefined
    this.#write()
  }

  restore(): void {
    this.#generation += 1n
    this.disrupt()
  }

  setStatus(status: Status): void {
    this.#status = status
    this.#write()
  }

  setMaintenance(maintenance: Maintenance): void {
    this.#maintenance = maintenance
    this.#write()
  }

  loseTime(): void {
    this.#hasTime = false
    this.#write()
  }

  recover(): void {
    this.#hasTime = true
    this.#write()
  }

  #write(): void {
    this.#page.write(this.#fields())
  }

  #fields(): ReturnType<typeof frozenFields> {
    const count = this.#count + this.#error
    const leap = this.#leap
    const inserted = leap?.kind === 'inserted'
    let label = count
    let indicator = 0
    let offset = this.#tai
    if (leap !== undefined) {
      const isOver = count >= (inserted ? leap.edge : leap.edge - SEC)
      if (!isOver) indicator = inserted ? 1 : 2
      else {
        label += inserted ? -SEC : SEC
        if (offset !== undefined) offset += inserted ? 1 : -1
        indicator = inserted && count < leap.edge + SEC ? 3 : inserted ? 4 : 5
      }
    }
    const seconds = label / SEC
    const rest = label % SEC
    return {
      ...frozenFields(),
      counterId: this.#hasTime ? COUNTER_ID : 255,
      flags:
        FLAG.PERIOD_MAXERROR_VALID |
        (this.#bound === undefined ? 0n : FLAG.TIME_MAXERROR_VALID) |
        (offset === undefined ? 0n : FLAG.TAI_OFFSET_VALID) |
        (this.#hasGeneration ? FLAG.VM_GEN_COUNTER_PRESENT : 0n) |
        (this.#maintenance === 'soon' ? FLAG.DISRUPTION_SOON : 0n) |
        (this.#maintenance === 'imminent' ? FLAG.DISRUPTION_IMMINENT : 0n),
      clockStatus: [
        'unknown',
        'initializing',
        'synchronized',
        'free-running',
        'unreliable',
      ].indexOf(this.#status),
      disruptionMarker: this.#marker,
      vmGenerationCounter: this.#generation,
      leapIndicator: indicator,
      taiOffsetSec: offset ?? 0,
      timeSec: seconds,
      // The least fraction that is not before the nanosecond.
      timeFracSec: (rest * 2n ** 64n + SEC - 1n) / SEC,
      // The reader adds a nanosecond for what its arithmetic rounds off.
      timeMaxerrorNanosec: this.#bound === undefined ? 0n : this.#bound - 1n,
    }
  }
}

type Step = (machine: Machine) => void

interface Script {
  readonly title: string
  readonly options?: Options
  readonly steps: readonly Step[]
}

const NEW_MONTH_NS = BigInt(Date.UTC(2026, 1)) * MS

const scripts: readonly Script[] = [
  {
    title: 'time passes, and the clock is skewed and stepped',
    steps: [
      (machine) => machine.advance(1n),
      (machine) => machine.advance(1_234_567_891n),
      (machine) => machine.skew(999n),
      (machine) => machine.step(-5n * SEC),
      (machine) => machine.step(3n * SEC + 7n),
    ],
  },
  {
    title: 'the bound widens, is lost and returns',
    options: { maxErrorNs: 5000n, vmGeneration: null, taiMinusUtcSec: null },
    steps: [
      (machine) => machine.widen(7n * SEC),
      (machine) => machine.loseBound(),
      (machine) => machine.synchronize(1n),
      (machine) => machine.advance(86_400n * SEC),
    ],
  },
  {
    title: 'disruptions, restores and maintenance',
    steps: [
      (machine) => machine.setMaintenance('soon'),
      (machine) => machine.setMaintenance('imminent'),
      (machine) => machine.disrupt(),
      (machine) => machine.setMaintenance('none'),
      (machine) => machine.synchronize(2n * MS),
      (machine) => machine.restore(),
      (machine) => machine.restore(),
      (machine) => machine.widen(3n),
    ],
  },
  {
    title: 'the clock becomes unreliable, free-running, and right again',
    steps: [
      (machine) => machine.setStatus('free-running'),
      (machine) => machine.setStatus('unreliable'),
      (machine) => machine.setStatus('unknown'),
      (machine) => machine.setStatus('initializing'),
      (machine) => machine.synchronize(MS),
      (machine) => machine.loseTime(),
      (machine) => machine.advance(5n),
      (machine) => machine.recover(),
    ],
  },
  {
    title: 'a strict clock refuses what its options exclude',
    options: { requireSynchronized: true, errorLimitNs: MS },
    steps: [
      (machine) => machine.widen(MS + 1n),
      (machine) => machine.widen(MS),
      (machine) => machine.setStatus('free-running'),
      (machine) => machine.synchronize(4n),
      (machine) => machine.loseBound(),
      (machine) => machine.disrupt(),
    ],
  },
  {
    title: 'a clock that never steps back holds its time, with a wider bound',
    options: { nonDecreasing: true, maxErrorNs: 5000n },
    steps: [
      (machine) => machine.step(-5n * SEC),
      (machine) => machine.advance(2n * SEC),
      (machine) => machine.loseBound(),
      (machine) => machine.widen(9n * SEC),
      (machine) => machine.step(-SEC),
      (machine) => machine.disrupt(),
      (machine) => machine.synchronize(7n),
      (machine) => machine.advance(9n * SEC),
    ],
  },
  {
    title: 'a held time whose bound grew above the limit is refused',
    options: { nonDecreasing: true, errorLimitNs: MS },
    steps: [
      (machine) => machine.synchronize(MS - 3n),
      (machine) => machine.step(-3n),
      (machine) => machine.step(-1n),
      (machine) => machine.advance(1n),
      (machine) => machine.advance(3n),
    ],
  },
  ...(['inserted', 'deleted'] as const).flatMap((kind) =>
    (['utc', 'tai'] as const).map(
      (timescale): Script => ({
        title: `a leap second is ${kind}, in ${timescale}`,
        options: { timescale, maxErrorNs: 300n * MS },
        steps: [
          (machine) => machine.leapSecond(kind),
          ...(timescale === 'tai'
            ? [(machine: Machine) => machine.advance(NEW_MONTH_NS - START_NS - 2n * SEC)]
            : [(machine: Machine) => machine.set(NEW_MONTH_NS - 2n * SEC)]),
          ...Array.from({ length: 18 }, () => (machine: Machine) => machine.advance(200n * MS)),
          (machine) => machine.widen(1n),
          (machine) => machine.advance(3600n * SEC),
        ],
      }),
    ),
  ),
]

/** Returns the result of a call, or the code of its error. */
function outcome(call: () => unknown): unknown {
  try {
    return call()
  } catch (error) {
    return (error as VmClockError).code
  }
}

/** Everything that a program sees of a clock but its counter, its path and its source. */
function observed(clock: Clock, token: ReturnType<Clock['continuityToken']>): unknown {
  const reading = clock.tryRead()
  const figures = 'code' in reading ? reading.code : { ...reading, counter: undefined }
  const slots = new BigInt64Array(20).fill(7n)
  const near = 'code' in reading ? START_NS : reading.epochNs
  return {
    figures,
    json: 'code' in reading ? undefined : { ...reading.toJSON(), counter: undefined },
    slots: outcome(() => {
      clock.readInto(slots, 2)
      // The counter.
      slots[7] = 0n
      return [...slots]
    }),
    nowNs: outcome(() => clock.nowNs()),
    nowMs: outcome(() => clock.nowMs()),
    nowHrTime: outcome(() => clock.nowHrTime()),
    nowDate: outcome(() => clock.nowDate()),
    hasTime: outcome(() => clock.hasTime),
    isUsable: clock.isUsable,
    token: outcome(() => clock.continuityToken()),
    isContinuous: outcome(() => clock.isContinuous(token)),
    converted: outcome(() => {
      const own = clock.continuityToken()
      return { ...clock.convert(clock.counter(), own), counter: undefined }
    }),
    convertedLate: outcome(() => clock.convert(clock.counter(), token).epochNs),
    ...Object.fromEntries(
      [-2n * MS, -1n, 0n, 1n, 2n * MS].map((distance) => [
        `near ${distance}`,
        [
          outcome(() => isPast(clock, near + distance)),
          outcome(() => isFuture(clock, near + distance)),
        ],
      ]),
    ),
    bytes: outcome(() => encodeInterval(clock.read())),
    stamp: outcome(() => new HybridClock(clock, { nodeId: 1, maxSkewNs: MS }).now()),
  }
}

/** Collects a watcher's events, and waits until there are as many as wanted. */
class Events {
  readonly seen: VmClockEvent[] = []
  readonly #watcher: VmClockWatcher
  #onEvent = (): void => {}

  constructor(t: ExecutionContext, clock: Clock) {
    this.#watcher = clock.watch({ intervalMs: 1 })
    t.teardown(() => this.#watcher.close())
    for (const type of ['disruption', 'generation', 'maintenance', 'status', 'leap'] as const) {
      this.#watcher.on(type as 'leap', (event: VmClockEvent) => {
        this.seen.push(event)
        this.#onEvent()
      })
    }
  }

  async atLeast(count: number): Promise<void> {
    const alive = setInterval(() => {}, 1 << 30)
    try {
      await new Promise<void>((resolve) => {
        this.#onEvent = () => {
          if (this.seen.length >= count) resolve()
        }
        this.#onEvent()
      })
    } finally {
      clearInterval(alive)
    }
  }

  /** The events without the numbers of updates: advancing simulated time is no update of a page. */
  get comparable(): unknown {
    return this.seen.map((event) => ({
      ...event,
      updates: undefined,
      seqCount: undefined,
      reading: 'reading' in event && { ...event.reading, counter: undefined },
    }))
  }
}

// The last step of every script. Events that the real clock has too many come before its event.
const SENTINELS: readonly Step[] = [
  (machine) => machine.setMaintenance('imminent'),
  (machine) => machine.setMaintenance('none'),
]

for (const { title, options = {}, steps } of scripts) {
  test(`simulated and real clocks agree: ${title}`, async (t) => {
    const machines = [simulated(t, options), new PageMachine(t, options)] as const
    const [model, real] = machines
    const tokens = machines.map(({ clock }) => clock.continuityToken())
    const [expectedEvents, realEvents] = machines.map(({ clock }) => new Events(t, clock)) as [
      Events,
      Events,
    ]
    let compared = 0
    for (const [index, step] of [() => {}, ...steps, ...SENTINELS].entries()) {
      for (const machine of machines) step(machine)
      const [expected, found] = machines.map(({ clock }, which) =>
        observed(clock, tokens[which] as never),
      )
      t.deepEqual(found, expected, `step ${index}`)
      compared++
      // The simulated events come as reactions of promises.
      await Promise.resolve()
      await realEvents.atLeast(expectedEvents.seen.length)
      t.deepEqual(realEvents.comparable, expectedEvents.comparable, `events of step ${index}`)
    }
    t.is(compared, steps.length + 1 + SENTINELS.length)
    t.true(expectedEvents.seen.length >= SENTINELS.length)
    for (const { clock } of machines) clock.close()
    t.deepEqual(
      observed(real.clock, tokens[1] as never),
      observed(model.clock, tokens[0] as never),
      'after close',
    )
  })
}

test('simulated and real clocks agree: how far a bound grows with the counter', (t) => {
  const reference = counterNow(t)
  const ppm = 3n
  // One tick is a nanosecond, rounded up, so that whole nanoseconds do not round down.
  const period = timeFields(0n).counterPeriodFracSec as bigint
  const made = page(t, {
    ...timeFields(reference),
    counterPeriodFracSec: period + 1n,
    timeFracSec: 2n,
    counterPeriodMaxerrorRateFracSec: (period * ppm) / 1_000_000n,
    timeMaxerrorNanosec: 999n,
  })
  const clock = VmClock.open(made.path)
  t.teardown(() => clock.close())
  const model = new SimulatedClock({ maxErrorNs: 1000n, maxDriftPpm: Number(ppm) })
  model.goStale()
  const modelReference = model.counter()
  const figures = ({ epochNs, maxErrorNs, earliestNs, latestNs, ageNs }: Reading) => ({
    epochNs,
    maxErrorNs,
    earliestNs,
    latestNs,
    ageNs,
  })
  for (const distance of [0n, 500_000n, 1_500_000n, 33_500_000n, SEC + 500_000n]) {
    t.deepEqual(
      figures(clock.convert(reference + distance, clock.continuityToken())),
      figures(model.convert(modelReference + distance, model.continuityToken())),
      String(distance),
    )
  }
})

test('simulated and real clocks agree on the events of a page that nobody updates', async (t) => {
  // The reference of a live page, which ages by the counter.
  const made = page(t, timeFields(counterNow(t)))
  writeExtension(made.path, {})
  const real = VmClock.open(made.path, { maxAgeMs: 3_600_000 })
  t.teardown(() => real.close())
  const model = new SimulatedClock({ maxAgeMs: 3_600_000 })
  const alive = setInterval(() => {}, 1 << 30)
  t.teardown(() => clearInterval(alive))
  // A watcher that begins late learns of a page that is stale already.
  const begin = () =>
    [real, model].map((clock) => {
      const watcher = clock.watch({ intervalMs: 1 })
      t.teardown(() => watcher.close())
      return watcher[Symbol.asyncIterator]()
    })
  const watchers = begin()
  const next = async (iterations: typeof watchers): Promise<unknown> => {
    const [found, expected] = await Promise.all(
      iterations.map(async (iteration) => {
        const { value } = await iteration.next()
        return value?.type === 'freshness'
          ? { ...value, ageNs: (value.ageNs ?? 0n) > 3600n * SEC }
          : value
      }),
    )
    t.deepEqual(found, expected)
    return found
  }
  // Two hours ago, by the counter.
  const counterValue = BigInt.asUintN(64, counterNow(t) - 7_200n * SEC)
  publishWith(made, { counterValue })
  model.goStale()
  model.advance(7_200n * SEC)
  const stale = { type: 'freshness', isStale: true, ageNs: true }
  t.deepEqual(await next(watchers), stale)
  t.deepEqual(await next(begin()), stale)
  for (const clock of [real, model]) refuses(t, () => clock.nowNs(), 'ERR_VMCLOCK_STALE', /./)
  publishWith(made, { counterValue: counterNow(t) })
  model.widen(5n)
  t.deepEqual(await next(watchers), { type: 'freshness', isStale: false, ageNs: false })
})

/** Whether a wait resolved, or the code with which it rejected. */
function settled(wait: Promise<unknown>): Promise<unknown> {
  return wait.then(
    () => 'resolved',
    (error: VmClockError) => error.code,
  )
}

for (const [what, disturb, expected] of [
  ['time passes', (machine: Machine) => machine.advance(SEC), 'resolved'],
  ['the clock is stepped ahead', (machine: Machine) => machine.step(SEC), 'resolved'],
  ['the machine is migrated', (machine: Machine) => machine.disrupt(), 'ERR_VMCLOCK_DISRUPTED'],
  ['the machine is restored', (machine: Machine) => machine.restore(), 'ERR_VMCLOCK_DISRUPTED'],
  ['the bound is lost', (machine: Machine) => machine.loseBound(), 'ERR_VMCLOCK_TOO_UNCERTAIN'],
  ['the time is lost', (machine: Machine) => machine.loseTime(), 'ERR_VMCLOCK_NO_TIME'],
  ['the clock is closed', ({ clock }: Machine) => clock.close(), 'ERR_VMCLOCK_CLOSED'],
] as const) {
  test(`simulated and real clocks agree on the end of waitUntilPast when ${what}`, async (t) => {
    for (const machine of [simulated(t, {}), new PageMachine(t, {})]) {
      const { latestNs } = machine.clock.read()
      const end = settled(waitUntilPast(machine.clock, latestNs as bigint))
      disturb(machine)
      t.is(await end, expected)
    }
  })
}

test('simulated and real clocks agree on the end of waitUntilSynchronized', async (t) => {
  for (const machine of [simulated(t, {}), new PageMachine(t, {})]) {
    machine.setStatus('initializing')
    const wait = waitUntilSynchronized(machine.clock, { errorLimitNs: 500n, intervalMs: 1 })
    machine.disrupt()
    machine.synchronize(501n)
    machine.synchronize(500n)
    const { maxErrorNs, disruptionMarker } = await wait
    t.deepEqual([maxErrorNs, disruptionMarker], [500n, 2n])
  }
})
