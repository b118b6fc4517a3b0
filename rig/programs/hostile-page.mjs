// Compares the kernel's PTP clock with this package on a hostile page, each time the host asks. The page does
// not change meanwhile, so the kernel's time belongs to one counter between two readings of the counter.
//
// The answer is `unexplained: …`, or three words, one for each way to ask the kernel:
//
//   equal      both give the same time to the nanosecond
//   neither    both refuse
//   behind     the driver takes a counter before the page's reference for one far after it
//   sign       the driver applies a TAI offset of the other sign the wrong way
//   range      the time does not fit into 64 bits of nanoseconds: this package refuses, and the kernel's time
//              wraps or saturates
//
// The driver gives a time and this package refuses:
//
//   status     the clock is neither synchronized nor free-running
//   offset     TAI never had this offset from UTC
//   counter    the page belongs to another counter
//   period     the counter has no rate
//   shift      the period's shift is out of range
//   version    the page has another version
//
// In all cases the kernel's time must be the result of the driver's own arithmetic (ptp_vmclock.c).

import assert from 'node:assert/strict'
import { openSync, readSync } from 'node:fs'
import { VmClock, VmClockError } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'
import { answerEach } from './answering.mjs'
import { fieldsOf, STRUCTURE_BYTES } from './page-fields.mjs'

const NS_PER_S = 1_000_000_000n
const [LEAST_NS, MOST_NS] = [-(1n << 63n), (1n << 63n) - 1n]
const TAI_OFFSET_VALID = 1n
const [UTC, TAI] = [0, 1]
const [SYNCHRONIZED, FREE_RUNNING, UNRELIABLE] = [2, 3, 4]

const ownCounter = Number(process.argv[2])

const clock = VmClock.open('/dev/vmclock0', { timescale: 'tai' })
const ptp = PtpClock.find('vmclock0')
const device = openSync('/dev/vmclock0', 'r')
const bytes = Buffer.alloc(STRUCTURE_BYTES)

const KERNEL = [
  () => ptp.nowNs(),
  () => ptp.crossTimestamp().deviceNs,
  () => ptp.samples(1)[0].deviceNs,
]

/** Returns the word for one way to ask the kernel. Throws if no word explains the two results. */
function verdict(raw, ask) {
  const first = clock.counter()
  const kernel = resultOf(ask)
  const last = clock.counter()
  const ours = resultOf(() => clock.read())
  if (ours.code === undefined) {
    const { counter, epochNs: ns } = ours.value
    const distance = BigInt.asIntN(64, counter - raw.counterValue)
    assert.equal(ns, epochNs(raw, distance, offsetOf(raw)))
  } else {
    assert.ok(mayRefuse(raw, ours.code, last), `ours: ${ours.code}`)
  }
  if (kernel.code !== undefined) {
    assert.ok(kernelMayRefuse(raw, kernel.code, first, last), `the kernel: ${kernel.code}`)
    if (ours.code !== undefined) return 'neither'
    // Only the driver's error with a counter before the reference puts its time out of range.
    assert.ok(isBehind(raw, first), `the kernel: ${kernel.code}, ours: ${ours.value.epochNs}`)
    return 'behind'
  }
  const isShifted = raw.counterPeriodShift > 127
  const counter = isShifted ? undefined : counterOf(raw, kernel.value, first, last)
  if (ours.code !== undefined) {
    const word = WORDS[ours.code]
    if (word === 'period' && isShifted) return 'shift'
    const isKnown = isShifted || counter !== undefined || isAtAnEnd(kernel.value)
    assert.ok(isKnown, `the kernel: ${kernel.value}`)
    return word
  }
  if (counter === undefined) {
    assert.ok(isBehind(raw, first) && isAtAnEnd(kernel.value), `the kernel: ${kernel.value}`)
    return 'behind'
  }
  const ns = clock.convert(counter, clock.continuityToken()).epochNs
  if (ns === kernel.value) return 'equal'
  if (isBehind(raw, counter)) return 'behind'
  const isOtherSign = raw.timeType === UTC && raw.taiOffsetSec > 0
  assert.ok(
    isOtherSign && ns - kernel.value === 2n * BigInt(raw.taiOffsetSec) * NS_PER_S,
    `the kernel ${kernel.value}, ours ${ns}`,
  )
  return 'sign'
}

function resultOf(ask) {
  try {
    return { value: ask() }
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
    return { code: error.code }
  }
}

const WORDS = {
  ERR_VMCLOCK_UNSYNCHRONIZED: 'status',
  ERR_VMCLOCK_NO_TAI_OFFSET: 'offset',
  ERR_VMCLOCK_WRONG_COUNTER: 'counter',
  ERR_VMCLOCK_NO_TIME: 'counter',
  ERR_VMCLOCK_BAD_PERIOD: 'period',
  ERR_VMCLOCK_BAD_VERSION: 'version',
  ERR_VMCLOCK_COUNTER_MISMATCH: 'behind',
  ERR_VMCLOCK_OUT_OF_RANGE: 'range',
}

/** Returns true if this package must refuse the page with this code. */
function mayRefuse(raw, code, counter) {
  const isUsable = raw.clockStatus === SYNCHRONIZED || raw.clockStatus === FREE_RUNNING
  switch (code) {
    case 'ERR_VMCLOCK_BAD_VERSION':
      return raw.version !== 1
    case 'ERR_VMCLOCK_UNSYNCHRONIZED':
      return !isUsable
    case 'ERR_VMCLOCK_NO_TIME':
      return raw.counterId === 0xff
    case 'ERR_VMCLOCK_WRONG_COUNTER':
      return raw.counterId !== ownCounter
    case 'ERR_VMCLOCK_BAD_PERIOD':
      return raw.counterPeriodFracSec === 0n || raw.counterPeriodShift > 127
    case 'ERR_VMCLOCK_TIMESCALE':
      return raw.timeType !== UTC && raw.timeType !== TAI
    case 'ERR_VMCLOCK_NO_TAI_OFFSET':
      return !isOffset(raw)
    case 'ERR_VMCLOCK_COUNTER_MISMATCH':
      return isBehind(raw, counter)
    case 'ERR_VMCLOCK_OUT_OF_RANGE': {
      const ns = epochNs(raw, BigInt.asIntN(64, counter - raw.counterValue), offsetOf(raw))
      return ns < LEAST_NS || ns > MOST_NS
    }
    default:
      return false
  }
}

/** Returns true if the driver must refuse the page, or if its time does not fit into 64 bits. */
function kernelMayRefuse(raw, code, first, last) {
  if (code === 'ERR_VMCLOCK_SYSTEM') {
    const hasTai =
      raw.timeType === TAI || (raw.timeType === UTC && (raw.flags & TAI_OFFSET_VALID) !== 0n)
    return raw.clockStatus === UNRELIABLE || !hasTai
  }
  if (code !== 'ERR_VMCLOCK_OUT_OF_RANGE') return false
  if (raw.counterPeriodShift > 127) return true
  return [first, last].some((counter) => {
    const ns = driverNs(raw, counter)
    return ns < LEAST_NS || ns > MOST_NS
  })
}

function isOffset({ flags, taiOffsetSec }) {
  const magnitude = Math.abs(taiOffsetSec)
  return (flags & TAI_OFFSET_VALID) !== 0n && magnitude >= 10 && magnitude <= 255
}

/** Returns the seconds that this package adds to the page's time to get TAI. */
function offsetOf(raw) {
  return raw.timeType === UTC && isOffset(raw) ? BigInt(Math.abs(raw.taiOffsetSec)) : 0n
}

function isBehind(raw, counter) {
  return BigInt.asIntN(64, counter - raw.counterValue) < 0n
}

function isAtAnEnd(ns) {
  return ns >= (MOST_NS / NS_PER_S) * NS_PER_S || ns <= (LEAST_NS / NS_PER_S) * NS_PER_S
}

/** Returns the page's time at a distance in ticks from its reference, in 2^-64 s. */
function timeAt(raw, distance) {
  const elapsed = (distance * raw.counterPeriodFracSec) >> BigInt(raw.counterPeriodShift)
  return (raw.timeSec << 64n) + raw.timeFracSec + elapsed
}

function epochNs(raw, distance, offsetSec) {
  return ((timeAt(raw, distance) * NS_PER_S) >> 64n) + offsetSec * NS_PER_S
}

/** Returns the driver's time of a counter: the distance is unsigned, and the seconds wrap at 2^64. */
function driverNs(raw, counter) {
  const time = timeAt(raw, BigInt.asUintN(64, counter - raw.counterValue))
  const offset = raw.timeType === UTC ? BigInt(raw.taiOffsetSec) : 0n
  const sec = BigInt.asIntN(64, (time >> 64n) - offset)
  return sec * NS_PER_S + ((BigInt.asUintN(64, time) * NS_PER_S) >> 64n)
}

/**
 * Returns a counter from `first` to `last` for which the driver gives this time, if there is one. The kernel's
 * nanoseconds wrap at 2^64.
 */
function counterOf(raw, ns, first, last) {
  // The driver's time grows with the counter, except at the reference, where its distance restarts at 0.
  const containsReference = isBehind(raw, first) && !isBehind(raw, last)
  const parts = containsReference
    ? [
        [first, raw.counterValue - 1n],
        [raw.counterValue, last],
      ]
    : [[first, last]]
  for (const [least, most] of parts) {
    const around = (driverNs(raw, least) - ns + (1n << 63n)) >> 64n
    const wanted = ns + (around << 64n)
    let [low, high] = [least, most]
    while (low < high) {
      const middle = (low + high) / 2n
      if (driverNs(raw, middle) >= wanted) high = middle
      else low = middle + 1n
    }
    if (driverNs(raw, low) === wanted) return low
  }
  return undefined
}

answerEach(() => {
  assert.equal(readSync(device, bytes, 0, STRUCTURE_BYTES, 0), STRUCTURE_BYTES)
  const raw = fieldsOf(bytes)
  try {
    return KERNEL.map((ask) => verdict(raw, ask)).join(' ')
  } catch (error) {
    const page = JSON.stringify(raw, (_key, value) =>
      typeof value === 'bigint' ? `${value}n` : value,
    )
    return `unexplained: ${error.message.replaceAll('\n', ' ')} ${page}`
  }
})
