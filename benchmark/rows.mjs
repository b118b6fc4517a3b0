// Defines the rows of the tables. A row compares two figures, and may have a goal and a floor: the worst
// acceptable value.

import { median } from './statistics.mjs'

const ratio = (program, figure, peer) => ({
  program,
  rounds: (found) => pairs(found[figure], found[peer]),
  costs: [figure, peer],
})

const single = (program, figure) => ({ program, rounds: (found) => found[figure], costs: [] })

// For a row beside a writer: the writer's target rate, and the figure with the rate that it reached.
const beside = (targetHz, figure = `updates a second at ${targetHz} Hz`) => ({
  reach: { targetHz, figure },
})

// For a row of a runtime's FFI, which the older Nodes lack.
const byFfi = (figure, peer) => ({ ...ratio('ffi', figure, peer), needsFfi: true })

const overHrtime = (workers) => ({
  program: 'workers',
  more: true,
  rounds: (found) =>
    pairs(
      pairs(found[`nowNs by ${workers}`], found['nowNs by 1']),
      pairs(found[`hrtime.bigint by ${workers}`], found['hrtime.bigint by 1']),
    ),
  costs: [],
})

/** Rows with a target and a column for each Node. */
export const nodeRows = [
  ['nowNs() / process.hrtime.bigint()', 0.74, 0.85, ratio('stamps', 'nowNs', 'hrtime.bigint')],
  ['read() / process.hrtime.bigint()', 1.4, 1.5, ratio('stamps', 'read', 'hrtime.bigint')],
  ['nowMs() / Date.now()', 0.72, 0.85, ratio('stamps', 'nowMs', 'Date.now')],
  ['nowMs() / performance.now()', 0.63, 0.75, ratio('stamps', 'nowMs', 'performance.now')],
  ['nowHrTime(out) / nowMs()', 1.1, 1.15, ratio('stamps', 'nowHrTime', 'nowMs')],
  [
    'readInto() / C call that reads the counter',
    1.25,
    1.4,
    ratio('stamps', 'readInto', 'C counter'),
  ],
  ['counter() / the same C call', 1.25, 1.4, ratio('stamps', 'counter', 'C counter')],
  [
    'isContinuous() / C call that does nothing',
    1.3,
    1.6,
    ratio('stamps', 'isContinuous', 'C no-op'),
  ],
  [
    'unordered nowNs() / process.hrtime.bigint()',
    0.55,
    0.62,
    ratio('unordered', 'unordered nowNs', 'hrtime.bigint beside unordered'),
  ],
  [
    'unordered nowMs() / Date.now()',
    0.52,
    0.6,
    ratio('unordered', 'unordered nowMs', 'Date.now beside unordered'),
  ],
  [
    'unordered readInto() / C call with a bare counter read',
    1.35,
    1.5,
    ratio('unordered', 'unordered readInto', 'C unordered counter'),
  ],
  [
    'nowMs() by FFI / Date.now()',
    0.62,
    0.7,
    byFfi('ordered nowMs by FFI', 'Date.now beside ordered'),
  ],
  [
    'unordered nowMs() by FFI / Date.now()',
    0.35,
    0.45,
    byFfi('unordered nowMs by FFI', 'Date.now beside unordered'),
  ],
  ['convertInto() each of 10,000 / C loop', 2, 4, ratio('stamps', 'convertInto', 'C multiply')],
  ['open() to first stamp, ms', 0.5, 1, single('start-up', 'first stamp ms')],
  ['open() of a page, ms', 0.4, 0.8, single('start-up', 'page ms')],
  ["first open() of the process's own page, ms", 12, 15, single('start-up', 'first own ms')],
  ['later open() of that page, ms', 0.3, 0.5, single('start-up', 'later own ms')],
  ["import 'vmclock', ms", 15, 25, single('start-up', 'import ms')],
  ['garbage collections over all readInto()', 0, 0, single('garbage', 'collections')],
  ['garbage collections over all nowHrTime(out)', 0, 0, single('garbage', 'pair collections')],
  ['two workers / one, over the same for hrtime', 1, 0.95, overHrtime(2)],
  [
    'nowNs() p99.9 / median, writer at 1 kHz',
    4,
    8,
    { ...single('churn', 'tail'), ...beside(1_000, 'updates a second beside single stamps') },
  ],
  [
    'nowNs(), writer at 10 kHz / idle',
    1.1,
    1.2,
    { ...ratio('churn', 'nowNs at 10000 Hz', 'nowNs at 0 Hz'), ...beside(10_000) },
  ],
  [
    'randomBytes(16) of a protected process / of another',
    1.05,
    1.3,
    ratio('clones', 'protected randomBytes(16)', 'randomBytes(16)'),
  ],
  [
    'randomUUID() of a protected process / of another',
    1.05,
    1.3,
    ratio('clones', 'protected randomUUID()', 'randomUUID()'),
  ],
  ['perMachine access / isContinuous()', 1, 1.5, ratio('clones', 'perMachine', 'isContinuous')],
  [
    'waitUntilPast() late / a loop of timers of 1 ms',
    0.2,
    0.5,
    ratio('waits', 'waitUntilPast late', 'poll late'),
  ],
  [
    'a span of OpenTelemetry by the clock / by the SDK',
    1,
    1.05,
    ratio('spans', 'span by the clock', 'span'),
  ],
  ['CPU share of waitUntilPast() at rest', 0.002, 0.01, single('waits', 'CPU at rest')],
].map(asRow)

const SIZES = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]

const untargeted = ([title, row]) => asRow([title, undefined, undefined, row])

/** Rows without a target: other clocks, and how the figures scale. */
export const scaleRows = [
  ['nowNs() / microtime', ratio('stamps', 'nowNs', 'microtime')],
  ['nowNs() / nano-time', ratio('stamps', 'nowNs', 'nano-time')],
  ['nowNs() / nanotime', ratio('stamps', 'nowNs', 'nanotime')],
  ...['ordered', 'unordered'].flatMap((order) => [
    ...['FFI', 'Node-API'].flatMap((way) => [
      [
        `${order} nowNs() by ${way} / process.hrtime.bigint()`,
        byFfi(`${order} nowNs by ${way}`, `hrtime.bigint beside ${order}`),
      ],
      [
        `${order} nowMs() by ${way} / performance.now()`,
        byFfi(`${order} nowMs by ${way}`, `performance.now beside ${order}`),
      ],
    ]),
    ...['nowHrTime', 'readInto', 'read', 'counter', 'isContinuous'].map((name) => [
      `${order} ${name}() by FFI / by Node-API`,
      byFfi(`${order} ${name} by FFI`, `${order} ${name} by Node-API`),
    ]),
  ]),
  ['nowMs() / performance-now', ratio('stamps', 'nowMs', 'performance-now')],
  [
    'nowMs() / Date.now(), stored in an array of objects',
    ratio('variants', 'nowMs kept', 'Date.now kept'),
  ],
  [
    'continuityToken() / C call that does nothing',
    ratio('variants', 'continuity', 'C no-op beside continuity'),
  ],
  [
    'isContinuous(), a new token each time / the same',
    ratio('variants', 'isContinuous, other tokens', 'isContinuous, one token'),
  ],
  ...['nowNs', 'nowMs', 'readInto', 'read'].map((name) => [
    `${name}() of a nonDecreasing clock / of a default clock`,
    ratio('variants', `nonDecreasing ${name}`, `plain ${name}`),
  ]),
  ...['nowNs', 'nowMs', 'readInto', 'read'].map((name) => [
    `${name}() with ticks of whole nanoseconds / with others`,
    ratio('variants', `whole ${name}`, `plain ${name}`),
  ]),
  [
    'nowMs(), nonDecreasing, with ticks of whole nanoseconds / with others',
    ratio('variants', 'whole nonDecreasing nowMs', 'nonDecreasing nowMs'),
  ],
  ...SIZES.map((size) => [
    `convertInto() each of ${size.toLocaleString('en')} / C loop`,
    ratio('convert', `convertInto of ${size}`, `C multiply of ${size}`),
  ]),
  ...[2, 3, 4].map((workers) => [
    `nowNs(), ${workers} workers / one`,
    {
      ...ratio('workers', `nowNs by ${workers}`, 'nowNs by 1'),
      more: true,
    },
  ]),
  ...[3, 4].map((workers) => [
    `${workers} workers / one, over the same for hrtime`,
    overHrtime(workers),
  ]),
  ...[1_000, 10_000, 100_000].map((rate) => [
    `nowNs(), writer at ${rate / 1_000} kHz / idle`,
    { ...ratio('churn', `nowNs at ${rate} Hz`, 'nowNs at 0 Hz'), ...beside(rate) },
  ]),
  [
    'a span of OpenTelemetry by the clock, with bounds / by the SDK',
    ratio('spans', 'span by the clock, with bounds', 'span'),
  ],
  [
    'getRandomValues() of a protected process / of another',
    ratio('clones', 'protected getRandomValues of 16', 'getRandomValues of 16'),
  ],
  ['a restore noticed, a reseed and a draw, µs', { ...single('clones', 'restore'), unit: 1e-3 }],
  ['growth of the process over all readInto(), KiB', single('garbage', 'growth KiB')],
  ...['readInto', 'nowHrTime', 'nowNs', 'nowMs', 'read'].map((name) => [
    `${name}() allocates, bytes`,
    single('garbage', `bytes a ${name}`),
  ]),
].map(untargeted)

/** Rows of the core without a target. */
export const corePeerRows = [
  ['now_ns() / std::time::SystemTime::now()', ratio('core', 'now_ns', 'SystemTime')],
  ['now_ns() / std::time::Instant::now()', ratio('core', 'now_ns', 'Instant')],
  ['now_ns() / quanta, which orders nothing', ratio('core', 'now_ns', 'quanta')],
  ['now_ns() / the counter alone', ratio('core', 'now_ns', 'counter')],
].map(untargeted)

/** Rows with a target of the Rust core, which does not depend on Node. */
export const coreRows = [
  ['now_ns() / clock_gettime(CLOCK_REALTIME)', 0.95, 1.1, ratio('core', 'now_ns', 'clock_gettime')],
  ['read() / clock_gettime(CLOCK_REALTIME)', 1.15, 1.4, ratio('core', 'read', 'clock_gettime')],
  [
    'now_ns(), guarded / unguarded',
    1.02,
    1.05,
    ratio('core', 'guarded now_ns', 'unguarded now_ns'),
  ],
  ['read(), guarded / unguarded', 1.02, 1.05, ratio('core', 'guarded read', 'unguarded read')],
  ['read() / clock-bound 3', 0.3, 0.4, ratio('core', 'read', 'clock-bound 3')],
  ['read() / clock-bound-client 2', 0.3, 0.4, ratio('core', 'read', 'clock-bound-client 2')],
  ['update by the writer, µs', 1, 2, { ...single('core', 'update'), unit: 1e-3 }],
  ["publisher's share of a core, %", 0.05, 0.1, { ...single('core', 'publisher'), unit: 100 }],
].map(asRow)

// The least share of its target rate that a writer must reach for a row to count.
const LEAST_REACHED = 0.95

function asRow([title, goal, floor, row]) {
  const { program, rounds, costs, more = false, unit = 1, reach, needsFfi = false } = row
  return {
    title,
    goal,
    floor,
    more,
    program,
    costs,
    needsFfi,
    /** Returns a figure for each round of one run, or undefined if the run lacks one. */
    figures(found) {
      const figures = found === undefined ? undefined : rounds(found)
      return figures?.map((figure) => figure * unit)
    },
    /** Returns the rate that the writer of one run reached, or undefined if the row has no writer. */
    reached(found) {
      return reach && median(found[reach.figure])
    },
    /** Rates a figure: `goal`, `floor`, `missed`, or `unreached` if the writer fell behind. */
    standing(figure, reachedHz) {
      if (reach && reachedHz < LEAST_REACHED * reach.targetHz) return 'unreached'
      if (goal === undefined) return undefined
      const reaches = (bar) => (more ? figure >= bar : figure <= bar)
      if (reaches(goal)) return 'goal'
      return reaches(floor) ? 'floor' : 'missed'
    },
    /** Returns the run with the worst median. */
    worst(runs) {
      const measured = runs.filter((run) => run !== undefined && run.length > 0)
      if (measured.length === 0) return undefined
      return measured.reduce((worst, run) => (median(run) > median(worst) === more ? worst : run))
    },
  }
}

// Divides round by round, because a disturbance affects both figures of a round.
function pairs(figures, peers) {
  if (figures === undefined || peers === undefined) return undefined
  return figures.map((figure, round) => figure / peers[round])
}
