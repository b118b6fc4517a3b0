// Checks every case of the vectors exactly, through a page file and `VmClock.convert`.

import { readFileSync } from 'node:fs'
import test from 'ava'
import { type Reading, type Timescale, VmClock, type VmClockOptions } from 'vmclock'
import { type PageFields, VmClockPage } from 'vmclock/testing'
import { KINDS } from './kinds'
import { rootDirectory } from './node-command'
import { COUNTER_ID, FLAG, newPath } from './pages'

type Figures = Record<string, string | number>

interface ConvertCase {
  readonly name: string
  readonly fields: Figures
  readonly counter: string
  readonly epoch_ns: string
  readonly max_error_ns: string
}

interface Expected {
  readonly epoch_ns: string
  readonly earliest_ns: string
  readonly latest_ns: string
  readonly max_error_ns: string
}

interface LeapCase extends Record<(typeof LEAP_SCALES)[number], Expected> {
  readonly leap: string
  readonly u_minus_edge_s: string
  readonly bound_ns: string
  readonly page: Figures
  readonly counter: string
  readonly leap_second: boolean
}

const LEAP_SCALES = ['utc', 'tai', 'utc-noon-linear', 'utc-sls'] as const satisfies Timescale[]

const BOUNDED = FLAG.PERIOD_MAXERROR_VALID | FLAG.TIME_MAXERROR_VALID

const NUMBERS: ReadonlySet<string> = new Set([
  'timeType',
  'leapIndicator',
  'taiOffsetSec',
  'clockStatus',
  'counterPeriodShift',
])

function cases<Case>(name: string): Case[] {
  const path = `${rootDirectory}crate/core/tests/vectors/${name}.json`
  return JSON.parse(readFileSync(path, 'utf8')) as Case[]
}

/** Returns the vectors' fields, which have the header's own names. */
function pageFields(figures: Figures): PageFields {
  return Object.fromEntries(
    Object.entries(figures).map(([name, figure]) => {
      const field = name.replace(/_(.)/g, (_match, letter: string) => letter.toUpperCase())
      return [field, NUMBERS.has(field) ? Number(figure) : BigInt(figure)]
    }),
  )
}

function convert(path: string, options: VmClockOptions, counter: string): Reading {
  const clock = VmClock.open(path, options)
  try {
    return clock.convert(BigInt(counter), clock.continuityToken())
  } finally {
    clock.close()
  }
}

for (const { name, fields, counter, epoch_ns, max_error_ns } of cases<ConvertCase>('convert')) {
  test(`convert: ${name}`, (t) => {
    const path = newPath(t)
    VmClockPage.create(path, {
      clockStatus: 2,
      flags: BOUNDED,
      ...pageFields(fields),
      counterId: COUNTER_ID,
    }).close()
    for (const timescale of ['utc', 'utc-noon-linear', 'utc-sls'] as const) {
      for (const [kind, options] of KINDS) {
        const reading = convert(path, { timescale, ...options }, counter)
        t.is(reading.epochNs, BigInt(epoch_ns), `${timescale}, ${kind}`)
        t.is(reading.maxErrorNs, BigInt(max_error_ns), `${timescale}, ${kind}`)
        t.is(reading.counter, BigInt(counter))
      }
    }
  })
}

test('leap: every case on every scale', (t) => {
  const all = cases<LeapCase>('leap')
  t.is(all.length, 136)
  const path = newPath(t)
  // One page, rewritten for each case, so that open clocks have to follow it.
  const page = VmClockPage.create(path, {})
  const clocks = LEAP_SCALES.flatMap((timescale) =>
    KINDS.map(([, options]) => VmClock.open(path, { timescale, ...options })),
  )
  for (const [index, example] of all.entries()) {
    page.write({ ...pageFields(example.page), counterId: COUNTER_ID })
    for (const clock of clocks) {
      const reading = clock.convert(BigInt(example.counter), clock.continuityToken())
      const expected = example[clock.timescale as (typeof LEAP_SCALES)[number]]
      t.deepEqual(
        [reading.epochNs, reading.earliestNs, reading.latestNs, reading.maxErrorNs],
        [expected.epoch_ns, expected.earliest_ns, expected.latest_ns, expected.max_error_ns].map(
          BigInt,
        ),
        `case ${index}, ${clock.timescale}: ${example.leap} at ${example.u_minus_edge_s}`,
      )
      if (clock.timescale === 'utc') t.is(reading.leapSecond, example.leap_second, `case ${index}`)
    }
  }
  for (const clock of clocks) clock.close()
  page.close()
})
