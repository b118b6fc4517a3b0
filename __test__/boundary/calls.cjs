// Describes every public call: arguments that fit, how to call it, the error codes that it documents, and a
// check of its result. `right` gets the world, the arguments, the result, and the counter just before and
// after the call. It throws if the result is wrong.

const assert = require('node:assert/strict')
const { types } = require('node:util')
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

/** Computes a counter's time from a page's fields, rounded down to whole nanoseconds. */
function epochNs(fields, counter) {
  const distance = BigInt.asIntN(64, counter - fields.counterValue)
  const elapsed = (distance * fields.counterPeriodFracSec) >> BigInt(fields.counterPeriodShift)
  const time = (fields.timeSec << 64n) + fields.timeFracSec + elapsed
  return (time * 1_000_000_000n) >> 64n
}

function inRange(ns) {
  return ns >= -MAX_INT64 - 1n && ns <= MAX_INT64
}

// This page's bound does not grow with time. It is the stated one, and 1 ns for the rounding.
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
      ageNs: expected - epochNs(world.fields, world.fields.counterValue),
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
  assert.deepEqual({ ...token }, { disruptionMarker, vmGeneration: vmGenerationCounter })
}

// Checks that a page holds the fields that were written. It leaves out the sequence number, and getters,
// which may return another value each time.
function checkFields(page, given) {
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

// The fields may be such that no clock opens the page.
function checkFieldsIfItOpens(page, given) {
  try {
    checkFields(page, given)
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
  }
}

/** Replaces the path of the page that all cases read, so that no case writes that page. */
function elsewhere({ directory }, [path, ...others]) {
  return [path === `${directory}/live` ? `${directory}/other` : path, ...others]
}

// Descriptions of values, as values.cjs builds them.
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
      [live, options(['timescale', value('page')])],
      [
        options(['timescale', value('utc')], ['nonDecreasing', TRUE], ['abi', value('uapi')]),
        options(['trustedUids', { kind: 'array', items: [value(0), value(1000)], holes: 0 }]),
        options(['assumedDriftPpm', value(0.5)], ['requireSynchronized', value(true)]),
        options(['assumedErrorNs', value(2n ** 63n - 1n)]),
        options(['maxAgeMs', value(1)], ['errorLimitNs', value(2n ** 63n - 1n)]),
        options(['allowUnguarded', TRUE], ['allowUntrustedCounter', TRUE]),
        options(['ordered', { kind: 'word', value: 'false' }]),
        options(['calls', value('node-api')]),
        options(['calls', value('ffi')]),
      ],
    ],
    codes: [...OPENING, 'ERR_VMCLOCK_UNSUPPORTED', ARGUMENT],
    call: (_world, given) => VmClock.open(...given),
    right(world, [first, second], clock, before) {
      assert.ok(clock instanceof VmClock)
      assert.ok(TIMESCALES.includes(clock.timescale))
      const asked = Object.getOwnPropertyDescriptor(Object(second ?? first), 'timescale')
      if (asked !== undefined && asked.get === undefined && asked.value !== undefined) {
        // The pages here are in UTC.
        assert.equal(clock.timescale, asked.value === 'page' ? 'utc' : asked.value)
      } else if (asked === undefined) {
        assert.equal(clock.timescale, 'utc')
      }
      if (clock.path === `${world.directory}/live` && clock.timescale === 'utc') {
        within(world, clock.nowNs(), before, world.counter())
      }
      clock.close()
    },
  },
  'VmClock.list': {
    codes: [],
    call: (_world, given) => VmClock.list(...given),
    right: (world, _given, list) => assert.deepEqual(list, [`${world.directory}/live`]),
  },
  'VmClock.isSupported': {
    codes: [],
    call: (_world, given) => VmClock.isSupported(...given),
    right: (_world, _given, answer) => assert.equal(answer, true),
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
  nowHrTime: {
    fits: [[{ kind: 'array', items: [value(0), value(0)], holes: 0 }, own('pair')]],
    codes: [ARGUMENT, CLOSED],
    call: ({ clock }, given) => clock.nowHrTime(...given),
    right(world, [out], pair, before, after) {
      if (out !== undefined) assert.equal(pair, out)
      // A proxy may answer anything.
      if (types.isProxy(pair) || pair !== world.pair) return
      const [seconds, nanoseconds] = pair
      within(world, BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds), before, after)
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
        const outside = [...slots].filter((_slot, index) => index < at || index >= at + 13)
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
      assert.ok(types.isBigUint64Array(counters))
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
    right(world, [token], answer) {
      assert.equal(typeof answer, 'boolean')
      const figures = ['disruptionMarker', 'vmGeneration'].map(
        (key) => Object.getOwnPropertyDescriptor(token, key) ?? { value: undefined },
      )
      if (figures.some(({ get }) => get !== undefined)) return
      const [marker, generation] = figures.map((figure) => figure.value)
      const { disruptionMarker, vmGenerationCounter } = world.fields
      assert.equal(answer, marker === disruptionMarker && generation === vmGenerationCounter)
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
      // The offset now differs from the result by the time since the call, and by any step of the clock.
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
      assert.equal(watcher.path, `${world.directory}/live`)
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
    right: ({ directory }, _given, answer) =>
      assert.deepEqual(answer, [`${directory}/live`, 'utc', true]),
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
      if (layout === undefined) checkFieldsIfItOpens(page, fields ?? {})
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
    right: ({ scratch }, [fields]) => checkFieldsIfItOpens(scratch, fields ?? {}),
  },
  writeUnguarded: {
    fits: [[options(['seqCount', value(4)], ['timeFracSec', value(2n ** 64n - 1n)])]],
    codes: [ARGUMENT, CLOSED],
    call: ({ scratch }, given) => scratch.writeUnguarded(...given),
    right({ scratch }, [fields]) {
      if (scratch.seqCount % 2 === 0) checkFieldsIfItOpens(scratch, fields ?? {})
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
      const { updates, cpuTimeNs, failure, closed, boundUnavailable } = publisher
      return [updates, cpuTimeNs, failure, closed, boundUnavailable]
    },
    right(_world, _given, [updates, cpuTimeNs, failure, closed, boundUnavailable]) {
      assert.ok(updates > 0n && cpuTimeNs >= 0n)
      assert.ok(boundUnavailable === undefined || typeof boundUnavailable.reason === 'string')
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
    // A publisher without a path would publish the machine's own page.
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
    right: () => assert.fail('no PTP clock is at these paths'),
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
    // The constructor checks nothing, so JavaScript itself refuses wrong arguments.
    theirs: TypeError,
    call: (_world, given) => new VmClockError(...given),
    right: (_world, [code], error) => assert.equal(error.code, code),
  },
  isVmClockError: {
    codes: [],
    call: (_world, [given]) => [VmClockError.isVmClockError(given), given instanceof VmClockError],
    right: (_world, _given, answer) => assert.deepEqual(answer, [false, false]),
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
    right({ reading }, _given, answer) {
      assert.equal(answer.epochNs, String(reading.epochNs))
      assert.equal(Object.hasOwn(answer, 'taiMinusUtcSec'), false)
    },
  },
}

// A method or getter throws JavaScript's own TypeError for a receiver of another class.
for (const type of [VmClock, VmClockPage, VmClockPublisher, PtpClock, VmClockWatcher]) {
  calls[`${type.name} methods on another receiver`] = {
    codes: [],
    theirs: TypeError,
    call({ clock }, [receiver, ...given]) {
      // A clock whose calls go by FFI has methods of its own.
      const prototypes = type === VmClock ? [Object.getPrototypeOf(clock)] : []
      const properties = [type.prototype, ...prototypes].flatMap((prototype) =>
        Object.entries(Object.getOwnPropertyDescriptors(prototype)),
      )
      for (const [key, { get, value: method }] of properties) {
        const isOwn = receiver instanceof type
        if (key === 'constructor' || isOwn) continue
        try {
          ;(get ?? method).call(receiver, ...given)
        } catch (error) {
          if (error instanceof TypeError || error?.thrownByTheValue) continue
          // A method may check its arguments first.
          if (error instanceof VmClockError && error.code === ARGUMENT) continue
          throw error
        }
        assert.fail(`${type.name}.${key} accepted another receiver`)
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
