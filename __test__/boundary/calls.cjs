// Every public call: how it is called with what values were made, which codes it is documented to refuse
// with, and what has to be true of what it gives. `right` sees the world, the arguments, the result, and
// the counter just before and just after; it throws where the result is not the right one.

const assert = require('node:assert/strict')
const {
  Reading,
  TIMESCALES,
  VmClock,
  VmClockError,
  VmClockPublisher,
  VmClockWatcher,
} = require('vmclock')
const { diagnose } = require('vmclock/doctor')
const { PtpClock } = require('vmclock/ptp')
const { VmClockPage } = require('vmclock/testing')

const ARGUMENT = 'ERR_VMCLOCK_INVALID_ARGUMENT'
const CLOSED = 'ERR_VMCLOCK_CLOSED'
const OPENING = [
  ...['NOT_FOUND', 'ACCESS', 'UNTRUSTED', 'TOO_SMALL', 'BAD_MAGIC', 'BAD_VERSION', 'SYSTEM'],
].map((code) => `ERR_VMCLOCK_${code}`)
const CONVERTING = ['ERR_VMCLOCK_DISRUPTED', 'ERR_VMCLOCK_OUT_OF_RANGE', ARGUMENT, CLOSED]

const MARK = -77n
const MAX_INT64 = 2n ** 63n - 1n

/** The time of a counter by a page's fields: floor of whole nanoseconds, as abi says. */
function epochNs(fields, counter) {
  const distance = BigInt.asIntN(64, counter - fields.counterValue)
  const elapsed = (distance * fields.counterPeriodFracSec) >> BigInt(fields.counterPeriodShift)
  const time = (fields.timeSec << 64n) + fields.timeFracSec + elapsed
  return (time * 1_000_000_000n) >> 64n
}

function inRange(ns) {
  return ns >= -MAX_INT64 - 1n && ns <= MAX_INT64
}

// The page's bound does not grow: what it states, and one for what is cut off.
function isReading(world, reading, counter) {
  assert.ok(reading instanceof Reading)
  const expected = epochNs(world.fields, counter)
  const bound = world.fields.timeMaxerrorNanosec + 1n
  assert.deepEqual(
    { ...reading },
    {
      epochNs: expected,
      maxErrorNs: bound,
      estErrorNs: undefined,
      earliestNs: expected - bound,
      latestNs: expected + bound,
      counter,
      disruptionMarker: world.fields.disruptionMarker,
      vmGeneration: world.fields.vmGenerationCounter,
      status: 'synchronized',
      leapSecond: false,
      timescale: 'utc',
      taiMinusUtcSec: undefined,
    },
  )
}

function within(world, ns, before, after) {
  assert.equal(typeof ns, 'bigint')
  assert.ok(epochNs(world.fields, before) <= ns && ns <= epochNs(world.fields, after), `${ns}`)
}

function isToken(world, token) {
  const { disruptionMarker, vmGenerationCounter } = world.fields
  assert.deepEqual(token, { disruptionMarker, vmGeneration: vmGenerationCounter })
}

// A page that was written by hand says what it was told, field by field, and nothing but the sequence
// number besides. What a getter gave may be another thing each time.
function says(page, given) {
  const clock = VmClock.open(page.path)
  const { raw } = clock.snapshot()
  clock.close()
  for (const key of Object.keys(given)) {
    const { get, value } = Object.getOwnPropertyDescriptor(given, key)
    if (get === undefined && value !== undefined && key !== 'seqCount') {
      assert.equal(raw[key], value, key)
    }
  }
}

// What cannot be opened any more cannot be looked at either.
function saysIfItOpens(page, given) {
  try {
    says(page, given)
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
  }
}

const of = (array, kind) => Object.prototype.toString.call(array) === `[object ${kind}]`

/** The arguments, but for the page that all of the cases read: nobody writes that. */
function elsewhere({ folder }, [path, ...others]) {
  return [path === `${folder}/live` ? `${folder}/other` : path, ...others]
}

/** The description of a value that a parameter is for. */
const live = { kind: 'file', value: 'live' }
const own = (kind) => ({ kind })
const options = (...entries) => ({
  kind: 'object',
  prototype: 'plain',
  entries,
  getters: [],
  hasSymbol: false,
})
const value = (given) => ({ kind: typeof given, value: given })
const TRUE = { kind: 'word', value: 'true' }
const signalLike = (effect, lacksRemove) => ({
  ...{ kind: 'signalLike', aborted: { kind: 'word', value: 'false' } },
  ...{ effect, lacksRemove },
})

const calls = {
  'VmClock.open': {
    fits: [
      [live, options(['timescale', value('tai')])],
      [
        options(['timescale', value('utc')], ['nonDecreasing', TRUE], ['abi', value('uapi')]),
        options(['trustedUids', { kind: 'array', items: [value(0), value(1000)], holes: 0 }]),
        options(['assumedDriftPpm', value(0.5)], ['requireSynchronized', value(true)]),
      ],
    ],
    codes: [...OPENING, ARGUMENT],
    call: (_world, given) => VmClock.open(...given),
    right(world, [first, second], clock, before) {
      assert.ok(clock instanceof VmClock)
      assert.ok(TIMESCALES.includes(clock.timescale))
      const asked = Object.getOwnPropertyDescriptor(Object(second ?? first), 'timescale')
      if (asked !== undefined && asked.get === undefined && asked.value !== undefined) {
        assert.equal(clock.timescale, asked.value)
      } else if (asked === undefined) {
        assert.equal(clock.timescale, 'utc')
      }
      if (clock.path === `${world.folder}/live` && clock.timescale === 'utc') {
        within(world, clock.nowNs(), before, world.counter())
      }
      clock.close()
    },
  },
  'VmClock.list': {
    codes: [],
    call: (_world, given) => VmClock.list(...given),
    right: (world, _given, list) => assert.deepEqual(list, [`${world.folder}/live`]),
  },
  'VmClock.isSupported': {
    codes: [],
    call: (_world, given) => VmClock.isSupported(...given),
    right: (_world, _given, told) => assert.equal(told, true),
  },
  'new VmClock': {
    codes: [ARGUMENT],
    call: (_world, given) => new VmClock(...given),
    right: () => assert.fail('a clock was made'),
  },
  nowNs: {
    codes: [CLOSED],
    call: ({ clock }, given) => clock.nowNs(...given),
    right: (world, _given, ns, before, after) => within(world, ns, before, after),
  },
  nowMs: {
    codes: [CLOSED],
    call: ({ clock }, given) => clock.nowMs(...given),
    right(world, _given, ms, before, after) {
      assert.equal(typeof ms, 'number')
      const [least, most] = [before, after].map(
        (ticks) => Number(epochNs(world.fields, ticks)) / 1e6,
      )
      assert.ok(least - 0.001 <= ms && ms <= most + 0.001)
    },
  },
  nowDate: {
    codes: [CLOSED],
    call: ({ clock }, given) => clock.nowDate(...given),
    right(world, _given, date, before, after) {
      const ms = BigInt(Date.prototype.getTime.call(date))
      const [least, most] = [before, after].map(
        (ticks) => epochNs(world.fields, ticks) / 1_000_000n,
      )
      assert.ok(least <= ms && ms <= most)
    },
  },
  nowInstant: {
    codes: [CLOSED, 'ERR_VMCLOCK_UNSUPPORTED'],
    call: ({ clock }, given) => clock.nowInstant(...given),
    right: (world, _given, instant, before, after) =>
      within(world, instant.epochNanoseconds, before, after),
  },
  read: {
    codes: [CLOSED],
    call: ({ clock }, given) => clock.read(...given),
    right(world, _given, reading, before, after) {
      assert.ok(before <= reading.counter && reading.counter <= after)
      isReading(world, reading, reading.counter)
    },
  },
  readInto: {
    fits: [[own('slots')], [value(0), value(4)]],
    codes: [ARGUMENT, CLOSED],
    call: ({ clock }, given) => clock.readInto(...given),
    right(world, [slots, at = 0], nothing, before, after) {
      assert.equal(nothing, undefined)
      const bytes = new BigInt64Array(slots.buffer, slots.byteOffset)
      const counter = BigInt.asUintN(64, bytes[at + 5])
      assert.ok(before <= counter && counter <= after)
      isReading(world, new Reading(bytes, 'utc', at), counter)
      if (slots === world.slots) {
        const outside = [...slots].filter((_slot, index) => index < at || index >= at + 12)
        assert.ok(outside.every((slot) => slot === MARK))
      }
    },
  },
  counter: {
    codes: [CLOSED],
    call: ({ clock }, given) => clock.counter(...given),
    right: (_world, _given, ticks, before, after) => assert.ok(before <= ticks && ticks <= after),
  },
  convert: {
    fits: [
      [value(0n), value(2n ** 64n - 1n), value(2n ** 63n - 1n)],
      [own('token'), own('clonedToken'), own('reading')],
    ],
    codes: CONVERTING,
    call: ({ clock }, given) => clock.convert(...given),
    right: (world, [counter], reading) => isReading(world, reading, counter),
  },
  convertInto: {
    fits: [[own('counters')], [own('out'), own('slots')], [own('token'), own('clonedToken')]],
    codes: CONVERTING,
    call: ({ clock }, given) => clock.convertInto(...given),
    right(world, [counters, out], nothing) {
      assert.equal(nothing, undefined)
      assert.ok(of(counters, 'BigUint64Array') || true)
      if (counters.buffer === out.buffer) return
      const ticks = Array.from({ length: lengthOf(counters) }, (_none, index) => counters[index])
      for (const [index, counter] of ticks.entries()) {
        assert.equal(out[index], epochNs(world.fields, counter))
      }
      if (out === world.out) {
        assert.ok([...out].every((slot, index) => index < ticks.length || slot === MARK))
      }
    },
  },
  continuityToken: {
    codes: [CLOSED],
    call: ({ clock }, given) => clock.continuityToken(...given),
    right(world, _given, token) {
      assert.ok(Object.isFrozen(token))
      isToken(world, token)
    },
  },
  isContinuous: {
    fits: [[own('token'), own('clonedToken'), own('reading')]],
    codes: [ARGUMENT, CLOSED],
    call: ({ clock }, given) => clock.isContinuous(...given),
    right(world, [token], told) {
      assert.equal(typeof told, 'boolean')
      const figures = ['disruptionMarker', 'vmGeneration'].map(
        (key) => Object.getOwnPropertyDescriptor(token, key) ?? { value: undefined },
      )
      if (figures.some(({ get }) => get !== undefined)) return
      const [marker, generation] = figures.map((figure) => figure.value)
      const { disruptionMarker, vmGenerationCounter } = world.fields
      assert.equal(told, marker === disruptionMarker && generation === vmGenerationCounter)
    },
  },
  snapshot: {
    codes: [CLOSED],
    call: ({ clock }, given) => clock.snapshot(...given),
    right(world, _given, { raw, counter, ...decoded }, before, after) {
      for (const [key, field] of Object.entries(world.fields)) assert.equal(raw[key], field, key)
      assert.ok(before <= counter && counter <= after)
      assert.equal(decoded.timeType, 'utc')
      assert.equal(decoded.clockStatus, 'synchronized')
      assert.equal(decoded.maxErrorNs, world.fields.timeMaxerrorNanosec)
      assert.equal(decoded.estErrorNs, undefined)
      assert.equal(decoded.taiMinusUtcSec, undefined)
    },
  },
  systemOffset: {
    codes: [CLOSED],
    call: ({ clock }, given) => clock.systemOffset(...given),
    right(world, _given, { offsetNs, maxErrorNs, ...rest }) {
      assert.deepEqual(rest, {})
      assert.ok(maxErrorNs > world.fields.timeMaxerrorNanosec)
      // The system's clock now, to within whatever happened since the call.
      const there = BigInt(Date.now()) * 1_000_000n - epochNs(world.fields, world.counter())
      assert.ok(offsetNs - there < 60_000_000_000n && there - offsetNs < 60_000_000_000n)
    },
  },
  watch: {
    fits: [
      [
        options(['intervalMs', value(5)], ['signal', own('signal')]),
        options(['signal', signalLike('throw', false)]),
        options(['signal', signalLike('close', true)]),
        options(['signal', signalLike('none', true)]),
      ],
    ],
    codes: [ARGUMENT, CLOSED, 'ERR_VMCLOCK_SYSTEM'],
    call: ({ clock }, given) => clock.watch(...given),
    right(world, _given, watcher) {
      assert.ok(watcher instanceof VmClockWatcher)
      assert.equal(watcher.path, `${world.folder}/live`)
      const iteration = watcher[Symbol.asyncIterator]()
      world.awaited.push(iteration.next())
      watcher.close()
      assert.equal(watcher.closed, true)
    },
  },
  close: {
    codes: [],
    call: ({ clock }, given) => clock.close(...given),
    right: ({ clock }) => assert.equal(clock.closed, true),
  },
  'the clock’s properties': {
    codes: [CLOSED],
    call: ({ clock }) => [clock.path, clock.timescale, clock.hasTime],
    right: ({ folder }, _given, told) => assert.deepEqual(told, [`${folder}/live`, 'utc', true]),
  },
  'VmClockPage.create': {
    fits: [
      [{ kind: 'file', value: 'other' }],
      [options(['timeSec', value(5n)], ['clockStatus', value(2)])],
      [
        options(['fileBytes', value(4096)], ['mode', value(0o600)]),
        { kind: 'word', value: 'undefined' },
      ],
    ],
    codes: [...OPENING, ARGUMENT],
    call: (world, given) => VmClockPage.create(...elsewhere(world, given)),
    right(_world, [, fields, layout], page) {
      if (layout === undefined) saysIfItOpens(page, fields ?? {})
      page.close()
    },
  },
  'VmClockPage.open': {
    fits: [[{ kind: 'file', value: 'scratch' }], [value(0), value(8)]],
    codes: [...OPENING, ARGUMENT],
    call: (_world, given) => VmClockPage.open(...given),
    right: (_world, _given, page) => page.close(),
  },
  'new VmClockPage': {
    codes: [ARGUMENT],
    call: (_world, given) => new VmClockPage(...given),
    right: () => assert.fail('a page was made'),
  },
  write: {
    fits: [[options(['timeSec', value(7n)], ['flags', value(1n)], ['taiOffsetSec', value(-37)])]],
    codes: [ARGUMENT, CLOSED],
    call: ({ scratch }, given) => scratch.write(...given),
    right: ({ scratch }, [fields]) => saysIfItOpens(scratch, fields ?? {}),
  },
  writeUnguarded: {
    fits: [[options(['seqCount', value(4)], ['timeFracSec', value(2n ** 64n - 1n)])]],
    codes: [ARGUMENT, CLOSED],
    call: ({ scratch }, given) => scratch.writeUnguarded(...given),
    right({ scratch }, [fields]) {
      if (scratch.seqCount % 2 === 0) saysIfItOpens(scratch, fields ?? {})
    },
  },
  'begin and end': {
    codes: [CLOSED],
    call({ scratch }) {
      scratch.begin()
      const odd = scratch.seqCount
      scratch.end()
      return [odd, scratch.seqCount]
    },
    right: (_world, _given, [odd, even]) =>
      assert.ok(odd % 2 === 1 && even === (odd + 1) % 2 ** 32),
  },
  setMaintenance: {
    fits: [[value('soon')]],
    codes: [ARGUMENT, CLOSED],
    call: ({ publisher }, given) => publisher.setMaintenance(...given),
    right: (_world, [word]) => assert.ok(['none', 'soon', 'imminent'].includes(word)),
  },
  'the publisher’s others': {
    codes: [],
    call({ publisher }, given) {
      publisher.disrupt(...given)
      publisher.bumpGeneration(...given)
      return [publisher.updates, publisher.cpuTimeNs, publisher.failure, publisher.closed]
    },
    right(_world, _given, [updates, cpuTimeNs, failure, closed]) {
      assert.ok(updates > 0n && cpuTimeNs >= 0n)
      assert.deepEqual([failure, closed], [undefined, false])
    },
  },
  'VmClockPublisher.create': {
    isSlow: true,
    fits: [
      [{ kind: 'file', value: 'published' }],
      [
        options(['shape', value('marker')], ['allowUntrustedCounter', TRUE]),
        options(['shape', value('marker')], ['mode', value(0o600)], ['wanderPpm', value(1)]),
        options(['shape', value('marker')], ['generation', value('auto')]),
        options(['generation', TRUE], ['shape', value('marker-and-generation')]),
      ],
    ],
    codes: [...OPENING, ARGUMENT, 'ERR_VMCLOCK_BUSY', 'ERR_VMCLOCK_UNTRUSTED_COUNTER'],
    // Without a path it would be the machine's own page.
    call(world, given) {
      const [first, second] = elsewhere(world, given)
      return VmClockPublisher.create(typeof first === 'string' ? first : Symbol('no path'), second)
    },
    right: (_world, _given, publisher) => publisher.close(),
  },
  'PtpClock.open': {
    fits: [[live]],
    codes: [...OPENING, ARGUMENT, 'ERR_VMCLOCK_NOT_PTP', 'ERR_VMCLOCK_VANISHED'],
    call: (_world, given) => PtpClock.open(...given),
    right: () => assert.fail('there is none'),
  },
  'PtpClock.find': {
    fits: [[value('no such clock')]],
    codes: [...OPENING, ARGUMENT],
    call: (_world, given) => PtpClock.find(...given),
    right: (_world, [asked], clock) => {
      assert.equal(clock.name, asked)
      clock.close()
    },
  },
  diagnose: {
    isSlow: true,
    fits: [[options(['path', live])]],
    codes: [ARGUMENT],
    call: (_world, given) => diagnose(...given),
    right: (_world, _given, { checks }) => assert.ok(checks.length > 10),
  },
  'new VmClockError': {
    fits: [[value('ERR_VMCLOCK_BUSY')], [value('why')], [options(['errno', value(5)])]],
    codes: [],
    // What it cannot take is its caller's mistake, and JavaScript's own TypeError.
    theirs: TypeError,
    call: (_world, given) => new VmClockError(...given),
    right: (_world, [code], error) => assert.equal(error.code, code),
  },
  isVmClockError: {
    codes: [],
    call: (_world, [given]) => [VmClockError.isVmClockError(given), given instanceof VmClockError],
    right: (_world, _given, told) => assert.deepEqual(told, [false, false]),
  },
  'new Reading': {
    fits: [[own('slots')], [value('utc')], [value(0), value(4)]],
    codes: [ARGUMENT],
    call: (_world, given) => new Reading(...given),
    right(_world, [slots, , at = 0], reading) {
      const bytes = new BigInt64Array(slots.buffer, slots.byteOffset)
      assert.equal(reading.epochNs, bytes[at])
    },
  },
  toJSON: {
    codes: [],
    call: ({ reading }, given) => reading.toJSON(...given),
    right({ reading }, _given, told) {
      assert.equal(told.epochNs, String(reading.epochNs))
      assert.equal(Object.hasOwn(told, 'taiMinusUtcSec'), false)
    },
  },
}

// A method on something that is not of its class is JavaScript's own TypeError, and a getter as well.
for (const type of [VmClock, VmClockPage, VmClockPublisher, PtpClock, VmClockWatcher]) {
  calls[`${type.name} methods on another receiver`] = {
    codes: [],
    theirs: TypeError,
    call(_world, [receiver, ...given]) {
      const properties = Object.entries(Object.getOwnPropertyDescriptors(type.prototype))
      for (const [key, { get, value: method }] of properties) {
        const isOwn = receiver instanceof type
        if (key === 'constructor' || isOwn) continue
        try {
          ;(get ?? method).call(receiver, ...given)
        } catch (error) {
          if (error instanceof TypeError || error?.thrownByTheValue) continue
          // Its arguments may be looked at first.
          if (error instanceof VmClockError && error.code === ARGUMENT) continue
          throw error
        }
        assert.fail(`${type.name}.${key} did something on another receiver`)
      }
    },
    right() {},
  }
}

const lengthOf = (array) =>
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), 'length').get.call(
    array,
  )

module.exports = { calls, epochNs, inRange, MARK }
