// The rows of the table: what is held against what, what it should come to, and what it must not
// exceed (or fall short of, where more is better).

import { median } from './statistics.mjs'

const ratio = (program, figure, peer) => ({
  program,
  rounds: (found) => pairs(found[figure], found[peer]),
  costs: [figure, peer],
})

const single = (program, figure) => ({ program, rounds: (found) => found[figure], costs: [] })

/** Rows that every Node has its own figure of. */
export const nodeRows = [
  ['nowNs() / process.hrtime.bigint()', 0.74, 0.85, ratio('stamps', 'nowNs', 'hrtime.bigint')],
  ['nowMs() / Date.now()', 0.72, 0.85, ratio('stamps', 'nowMs', 'Date.now')],
  ['nowMs() / performance.now()', 0.63, 0.75, ratio('stamps', 'nowMs', 'performance.now')],
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
  ['convertInto() each of 10,000 / C loop', 2, 4, ratio('stamps', 'convertInto', 'C multiply')],
  ['open() to first stamp, ms', 0.5, 1, single('start-up', 'first stamp ms')],
  ["import 'vmclock', ms", 15, 25, single('start-up', 'import ms')],
  ['garbage collections over all readInto()', 0, 0, single('garbage', 'collections')],
  [
    'two workers / one, over the same for hrtime',
    1,
    0.95,
    {
      program: 'workers',
      more: true,
      rounds: (found) =>
        pairs(
          pairs(found['nowNs by 2'], found['nowNs by 1']),
          pairs(found['hrtime.bigint by 2'], found['hrtime.bigint by 1']),
        ),
      costs: [],
    },
  ],
  ['nowNs() p99.9 / median, writer at 1 kHz', 4, 8, single('churn', 'tail')],
  [
    'nowNs(), writer at 10 kHz / idle',
    1.1,
    1.2,
    ratio('churn', 'nowNs at 10000 Hz', 'nowNs at 0 Hz'),
  ],
].map(asRow)

/** Rows of the core, which knows of no Node. */
export const coreRows = [
  ['now_ns() / clock_gettime(CLOCK_REALTIME)', 0.95, 1.1, ratio('core', 'now_ns', 'clock_gettime')],
  ['read() / clock_gettime(CLOCK_REALTIME)', 1.15, 1.4, ratio('core', 'read', 'clock_gettime')],
  ['read() / clock-bound 3', 0.3, 0.4, ratio('core', 'read', 'clock-bound 3')],
  ['read() / clock-bound-client 2', 0.3, 0.4, ratio('core', 'read', 'clock-bound-client 2')],
  ['update by the writer, µs', 1, 2, { ...single('core', 'update'), unit: 1e-3 }],
  ["publisher's share of a core, %", 0.05, 0.1, { ...single('core', 'publisher'), unit: 100 }],
].map(asRow)

function asRow([title, goal, floor, { program, rounds, costs, more = false, unit = 1 }]) {
  return {
    title,
    goal,
    floor,
    more,
    program,
    costs,
    /** The figures of one run, a round each; undefined where the run lacks one. */
    figures(found) {
      const figures = found === undefined ? undefined : rounds(found)
      return figures?.map((figure) => figure * unit)
    },
    /** How a figure stands: `goal`, `floor` or `missed`. */
    standing(figure) {
      const reaches = (bar) => (more ? figure >= bar : figure <= bar)
      if (reaches(goal)) return 'goal'
      return reaches(floor) ? 'floor' : 'missed'
    },
    /** The worst of several runs' medians, with the run that it is of. */
    worst(runs) {
      const measured = runs.filter((run) => run !== undefined && run.length > 0)
      if (measured.length === 0) return undefined
      return measured.reduce((worst, run) => (median(run) > median(worst) === more ? worst : run))
    },
  }
}

// Round by round: what disturbed a round disturbed both.
function pairs(figures, peers) {
  if (figures === undefined || peers === undefined) return undefined
  return figures.map((figure, round) => figure / peers[round])
}
