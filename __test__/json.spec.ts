// Readings, tokens and snapshots keep all their values as JSON and as structured clones.

import test from 'ava'
import { COUNTER_ID, FLAG, liveFields, open, page, timeFields } from './pages'

test('JSON.stringify writes the bigints of a reading as decimal strings', (t) => {
  const { path } = page(t, {
    ...timeFields(1000n),
    flags:
      FLAG.TAI_OFFSET_VALID |
      FLAG.PERIOD_MAXERROR_VALID |
      FLAG.TIME_MAXERROR_VALID |
      FLAG.TIME_ESTERROR_VALID |
      FLAG.PERIOD_ESTERROR_VALID |
      FLAG.VM_GEN_COUNTER_PRESENT,
    taiOffsetSec: -37,
    timeEsterrorNanosec: 10n,
    disruptionMarker: 2n ** 64n - 1n,
    vmGenerationCounter: 2n ** 63n,
  })
  const clock = open(t, path)
  const reading = clock.convert(1000n, clock.continuityToken())
  t.deepEqual(JSON.parse(JSON.stringify(reading)), {
    epochNs: '1767225600000000000',
    maxErrorNs: '1001',
    estErrorNs: String(reading.estErrorNs),
    earliestNs: '1767225599999998999',
    latestNs: '1767225600000001001',
    ageNs: '0',
    counter: '1000',
    disruptionMarker: '18446744073709551615',
    vmGeneration: '9223372036854775808',
    status: 'synchronized',
    leapSecond: false,
    timescale: 'utc',
    taiMinusUtcSec: 37,
  })
})

test('JSON.stringify omits the values that a reading does not know', (t) => {
  const { path } = page(t, { ...liveFields(t), flags: 0n })
  const names = Object.keys(JSON.parse(JSON.stringify(open(t, path).read())) as object)
  t.deepEqual(names, [
    'epochNs',
    'ageNs',
    'counter',
    'disruptionMarker',
    'status',
    'leapSecond',
    'timescale',
  ])
})

test('a structured clone of a reading has the properties of the reading', (t) => {
  const reading = open(t, page(t, liveFields(t)).path).read()
  t.deepEqual(structuredClone(reading) as unknown, { ...reading })
  t.is(structuredClone(reading).epochNs, reading.epochNs)
})

test('a token is frozen, and its structured clone is a valid token', (t) => {
  const made = page(t, {
    size: 0x1000,
    flags: FLAG.VM_GEN_COUNTER_PRESENT,
    counterId: 0xff,
    disruptionMarker: 2n ** 64n - 1n,
    vmGenerationCounter: 2n ** 64n - 2n,
  })
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  t.true(Object.isFrozen(token))
  t.deepEqual(token, { disruptionMarker: 2n ** 64n - 1n, vmGeneration: 2n ** 64n - 2n })
  t.true(clock.isContinuous(structuredClone(token)))
  made.write({ vmGenerationCounter: 1n })
  t.false(clock.isContinuous(structuredClone(token)))
})

test('a token of a page without a generation has an undefined generation, as has its clone', (t) => {
  const clock = open(t, page(t, { counterId: 0xff, disruptionMarker: 5n }).path)
  const token = clock.continuityToken()
  t.deepEqual(token, { disruptionMarker: 5n, vmGeneration: undefined })
  t.true(clock.isContinuous(structuredClone(token)))
})

test('a snapshot has every field of the page, decoded and raw', (t) => {
  const fields = {
    ...timeFields(123n),
    version: 1,
    size: 0x1000,
    timeType: 1,
    clockStatus: 3,
    leapSecondSmearingHint: 2,
    leapIndicator: 1,
    taiOffsetSec: 37,
    disruptionMarker: 2n ** 63n,
    vmGenerationCounter: 7n,
    counterPeriodEsterrorRateFracSec: 8n,
    timeEsterrorNanosec: 9n,
    flags: 0x3ffn,
  }
  const { raw, counter, ageNs, ...decoded } = open(t, page(t, fields).path).snapshot()
  t.deepEqual<unknown, unknown>(raw, { ...fields, seqCount: 2 })
  t.is(typeof counter, 'bigint')
  t.is(typeof ageNs, 'bigint')
  t.deepEqual<unknown, unknown>(decoded, {
    counterKind: COUNTER_ID === 1 ? 'x86-tsc' : 'arm-virtual-counter',
    disruptionMarker: 2n ** 63n,
    vmGeneration: 7n,
    timeType: 'tai',
    clockStatus: 'free-running',
    smearingHint: 'utc-sls',
    leapIndicator: 'pre-positive',
    taiMinusUtcSec: 37,
    maxErrorNs: 1000n,
    estErrorNs: 9n,
    disruptionSoon: true,
    disruptionImminent: true,
    timeMonotonic: true,
    notificationPresent: true,
    boundUnavailable: undefined,
  })
})

test('fields of a snapshot that the page is too short for are undefined', (t) => {
  const made = page(t, { ...timeFields(5n), size: 0x20, disruptionMarker: 3n })
  const { raw, clockStatus, leapIndicator, smearingHint } = open(t, made.path).snapshot()
  t.is(raw.disruptionMarker, 3n)
  t.deepEqual([clockStatus, leapIndicator, smearingHint], [undefined, undefined, undefined])
  t.deepEqual(
    Object.entries(raw)
      .filter(([, value]) => value !== undefined)
      .map(([name]) => name),
    ['size', 'seqCount', 'version', 'counterId', 'timeType', 'disruptionMarker', 'flags'],
  )
})
