/** Parses and formats durations, numbers, times and frequencies. */

import { InvalidArgumentError } from 'commander'
import { LONGEST_PATH_BYTES } from '../arguments'
import { isoText } from '../format'
import type { Timescale } from '../reading'

const NS_PER_SEC = 1_000_000_000n
const UNITS_NS: ReadonlyMap<string, bigint> = new Map([
  ['ns', 1n],
  ['us', 1_000n],
  ['µs', 1_000n],
  ['ms', 1_000_000n],
  ['s', NS_PER_SEC],
  ['min', 60n * NS_PER_SEC],
  ['h', 3600n * NS_PER_SEC],
])

/** Parses a duration with a unit (`250ms`, `1.5s`; 0 needs no unit) into exact nanoseconds. */
export function durationNs(text: string): bigint {
  if (text === '0') return 0n
  const [, whole, fraction = '', unit = ''] = /^(\d+)(?:\.(\d+))?\s*([a-zµ]+)$/.exec(text) ?? []
  const unitNs = UNITS_NS.get(unit)
  if (whole === undefined || unitNs === undefined) {
    throw new InvalidArgumentError('Give a duration with its unit, such as 250ms, 1.5s or 40us.')
  }
  const scale = 10n ** BigInt(fraction.length)
  const scaled = BigInt(whole + fraction) * unitNs
  if (scaled % scale !== 0n) {
    throw new InvalidArgumentError('The duration is not a whole number of nanoseconds.')
  }
  if (scaled / scale >= 2n ** 63n)
    throw new InvalidArgumentError('The duration is longer than 292 years.')
  return scaled / scale
}

/** Makes a parser of durations of either sign, such as `-20ms`, up to a length, into exact nanoseconds. */
export function offsetNs(most: string): (text: string) => bigint {
  const mostNs = durationNs(most)
  return (text) => {
    const ns = durationNs(text.replace(/^[+-]/, ''))
    if (ns > mostNs) throw new InvalidArgumentError(`Give at most ${most} in either direction.`)
    return text.startsWith('-') ? -ns : ns
  }
}

/** Makes a parser of durations within a range, both ends included, into whole milliseconds. */
export function durationMs(least: string, most: string): (text: string) => number {
  const [leastNs, mostNs] = [durationNs(least), durationNs(most)]
  return (text) => {
    const ns = durationNs(text)
    if (ns % 1_000_000n !== 0n || ns < leastNs || ns > mostNs) {
      throw new InvalidArgumentError(`Give whole milliseconds, from ${least} to ${most}.`)
    }
    return Number(ns / 1_000_000n)
  }
}

// Number() also takes hexadecimal digits and surrounding space.
const DECIMAL = /^-?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i

/** Makes a parser of decimal numbers within a range. */
export function numberFrom(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = DECIMAL.test(text) ? Number(text) : Number.NaN
    if (!(value >= least && value <= most)) {
      throw new InvalidArgumentError(`Give a number from ${least} to ${most}.`)
    }
    return value
  }
}

/** Makes a parser of whole numbers within a range. */
export function integerFrom(least: number, most: number): (text: string) => number {
  const parse = numberFrom(least, most)
  return (text) => {
    const value = parse(text)
    if (!Number.isInteger(value)) throw new InvalidArgumentError('Give a whole number.')
    return value
  }
}

/** Parses the permission bits of a page's file in octal, as `chmod` takes them: `640`, `0644`. */
export function pageMode(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) {
    throw new InvalidArgumentError('Give three octal digits, such as 644.')
  }
  const mode = Number.parseInt(text, 8)
  if ((mode & 0o600) !== 0o600 || (mode & 0o022) !== 0) {
    throw new InvalidArgumentError(
      'The owner must read and write the page, and nobody else may write it, as with 644.',
    )
  }
  return mode
}

/** Parses a path, which is not empty and no longer than the system allows. */
export function filePath(text: string): string {
  if (text === '') throw new InvalidArgumentError('The path is empty.')
  if (Buffer.byteLength(text) > LONGEST_PATH_BYTES) {
    throw new InvalidArgumentError(`Give a path of at most ${LONGEST_PATH_BYTES} bytes.`)
  }
  return text
}

/** Parses a command for the shell, which does something. */
export function shellCommand(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('The command is empty.')
  return text
}

/** Formats a duration with four digits, such as `4.100 µs`; below 1 µs, in whole nanoseconds. */
export function distance(ns: bigint): string {
  const size = Number(ns < 0n ? -ns : ns)
  const sign = ns < 0n ? '-' : ''
  if (size < 1e3) return `${sign}${size} ns`
  if (size < 1e6) return `${sign}${(size / 1e3).toPrecision(4)} µs`
  if (size < 1e9) return `${sign}${(size / 1e6).toPrecision(4)} ms`
  if (size < 3600e9) return `${sign}${(size / 1e9).toPrecision(4)} s`
  if (size < 48 * 3600e9) return `${sign}${(size / 3600e9).toPrecision(4)} h`
  return `${sign}${(size / (24 * 3600e9)).toPrecision(4)} days`
}

/** Formats a time in full, with its timescale: `2026-01-01T00:00:00.000000000 TAI`. */
export function timestamp(epochNs: bigint, timescale: Timescale, leapSecond = false): string {
  if (timescale === 'monotonic') {
    const seconds = floorDivide(epochNs, NS_PER_SEC)
    const nanoseconds = String(epochNs - seconds * NS_PER_SEC).padStart(9, '0')
    return `${seconds}.${nanoseconds} s since the page's own epoch`
  }
  const shown = isoText(epochNs, leapSecond)
  switch (timescale) {
    case 'tai':
      return `${shown} TAI`
    case 'utc':
      return `${shown}Z`
    case 'utc-noon-linear':
      return `${shown}Z (leap seconds smeared, noon to noon)`
    case 'utc-sls':
      return `${shown}Z (leap seconds smeared, UTC-SLS)`
  }
}

/** Formats a frequency, such as `2.500000 GHz`. */
export function frequency(hertz: number): string {
  if (hertz >= 1e9) return `${(hertz / 1e9).toPrecision(7)} GHz`
  if (hertz >= 1e6) return `${(hertz / 1e6).toPrecision(7)} MHz`
  return `${hertz.toPrecision(7)} Hz`
}

function floorDivide(dividend: bigint, divisor: bigint): bigint {
  const quotient = dividend / divisor
  return dividend < quotient * divisor ? quotient - 1n : quotient
}
