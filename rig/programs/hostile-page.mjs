// What the kernel's clock and this package make of whatever stands on the page, each time that the host
// asks. The page stands still meanwhile, and so each answer of the kernel's is that of one counter between
// two readings of it.
//
// The answer is three words, one for each way to ask the kernel, or what nothing explains:
//
//   equal      both tell the same time to the nanosecond
//   neither    both refuse
//   behind     the driver takes a counter behind the page's reference for one far ahead
//   sign       the driver takes a TAI offset of the other sign the wrong way
//   status, offset, counter, period, shift, version
//              the driver goes on where this package refuses: its clock is in no state to be used, its
//              offset is none that TAI ever had, it is another counter's, it has no rate, a shift nobody
//              has, another version's
//   range      the time does not fit into 64 bits of nanoseconds, where the kernel's goes around or stops
//
// In each the driver's answer is what its own arithmetic (ptp_vmclock.c) makes of the page.

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

function verdict(raw, ask) {
  const first = clock.counter()
  const kernel = told(ask)
  const last = clock.counter()
  const ours = told(() => clock.read())
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
    // It is beyond what there is only by the driver's own mistake.
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

function told(ask) {
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

/** Whether the page is such that this package must refuse it so. */
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

/** Whether the driver, by its own rules, refuses the page, or tells a time that no 64 bits hold. */
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

/** What this package adds to the page's time to have TAI. */
function offsetOf(raw) {
  return raw.timeType === UTC && isOffset(raw) ? BigInt(Math.abs(raw.taiOffsetSec)) : 0n
}

function isBehind(raw, counter) {
  return BigInt.asIntN(64, counter - raw.counterValue) < 0n
}

function isAtAnEnd(ns) {
  return ns >= (MOST_NS / NS_PER_S) * NS_PER_S || ns <= (LEAST_NS / NS_PER_S) * NS_PER_S
}

/** The page's time of a distance in ticks, in 2^-64 s. */
function timeAt(raw, distance) {
  const elapsed = (distance * raw.counterPeriodFracSec) >> BigInt(raw.counterPeriodShift)
  return (raw.timeSec << 64n) + raw.timeFracSec + elapsed
}

function epochNs(raw, distance, offsetSec) {
  return ((timeAt(raw, distance) * NS_PER_S) >> 64n) + offsetSec * NS_PER_S
}

/** What the driver makes of a counter: the distance is unsigned, and its seconds go around at 2^64. */
function driverNs(raw, counter) {
  const time = timeAt(raw, BigInt.asUintN(64, counter - raw.counterValue))
  const offset = raw.timeType === UTC ? BigInt(raw.taiOffsetSec) : 0n
  const sec = BigInt.asIntN(64, (time >> 64n) - offset)
  return sec * NS_PER_S + ((BigInt.asUintN(64, time) * NS_PER_S) >> 64n)
}

/**
 * A counter from `first` to `last` of which the driver makes that time, if there is one. What it gives by
 * way of the kernel's own count of nanoseconds goes around at 2^64 of them, or stops at the end.
 */
function counterOf(raw, ns, first, last) {
  // Among so few counters time only grows, but where the distance begins anew.
  const isMet = isBehind(raw, first) && !isBehind(raw, last)
  const parts = isMet
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
