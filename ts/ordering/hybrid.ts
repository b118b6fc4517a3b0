/** Hybrid logical clocks: wall time and a counter, which never step back and respect causality. */

import * as argument from '../arguments'
import { refuseDetached } from '../detached'
import { invalidArgument, VmClockError } from '../errors'
import { withJson } from '../json'
import type { Reading } from '../reading'
import { int64At, putInt64, viewOf } from './bytes'
import { noBound } from './interval'
import { readableClock } from './past'
import type { ReadableClock } from './wait'

const NS_PER_MS = 1_000_000n
const MOST_COUNTER = 2 ** 16 - 1
const MOST_NODE_ID = 2 ** 48 - 1
const MOST_SHORT_MS = 2n ** 48n - 1n
const SHORT_BYTES = 8
const FULL_BYTES = 16

/** A timestamp of a {@link HybridClock}. Stamps are ordered by `wallNs`, then `counter`, then `nodeId`. */
export interface HybridStamp {
  /**
   * The wall time in nanoseconds since the epoch of the clock's timescale, signed 64-bit. It is at least the
   * node's time at the stamp, and a multiple of the resolution.
   */
  readonly wallNs: bigint
  /** Distinguishes stamps of one `wallNs`: 0 to 65,535. */
  readonly counter: number
  /** The node that made it, 0 to 2^48 - 1; undefined if it was decoded from 8 bytes. */
  readonly nodeId: number | undefined
}

/** Options of {@link HybridClock}. */
export interface HybridClockOptions {
  /**
   * This node's id, a whole number from 0 to 2^48 - 1 that no other live node has; or the function that
   * obtains one. The function is called again after the machine was restored or cloned. With a number the
   * clock then throws `ERR_VMCLOCK_DISRUPTED`, because two machines have it.
   *
   * Do not draw it from this process's random numbers alone: clones of one snapshot draw the same.
   */
  readonly nodeId: number | (() => number)
  /**
   * How far a remote stamp may lie beyond this clock's own `latestNs`, in nanoseconds, 0 to 2^63 - 1.
   * Choose the largest error that any node may have. A stamp further ahead is refused.
   */
  readonly maxSkewNs: bigint
  /**
   * The unit of `wallNs`: `ns` keeps the clock's precision and needs 16 bytes; stamps in whole `ms` also
   * fit 8 bytes. Default: `ns`.
   */
  readonly resolution?: 'ns' | 'ms' | undefined
  /** The last stamp of this node before a restart. No later stamp is equal to it or before it. */
  readonly last?: HybridStamp | undefined
}

const OPTIONS = ['nodeId', 'maxSkewNs', 'resolution', 'last'] as const satisfies ReadonlyArray<
  keyof HybridClockOptions
>

/** The part of a stamp that orders causally related events. */
interface Position {
  readonly wallNs: bigint
  readonly counter: number
}

/**
 * A hybrid logical clock (Kulkarni, Demirbas et al., 2014) over a clock with a bound.
 *
 * `now` stamps a local event or a message that is sent. `receive` takes the stamp of a received message.
 * Stamps of one node always increase. If event a happened before event b, through any chain of messages,
 * then a's stamp is less than b's.
 *
 * How far a stamp is from the true time. Let `e` be this node's bound at the stamp, and `t` the true time.
 * - `wallNs` is at least the node's own time, rounded down to the resolution. So it is more than
 *   `t - e - resolution`.
 * - The clock refuses everything beyond its `latestNs + maxSkewNs`, its own stamps too, and `latestNs` is at
 *   most `t + 2e`. So `wallNs` is at most `t + 2e + maxSkewNs`.
 * - If every node's bound is true and `E` is the largest, a stamp that was copied from no full counter is at
 *   most `t + E`: its wall time is some node's time at an earlier instant.
 *
 * Every stamp needs a bound. Without one the first two lines cannot be promised, and both calls throw.
 *
 * A program keeps the last stamp where a restart finds it, and gives it as `last`. A program that loses it
 * waits until the clock is past the last stamp that it may have issued.
 *
 * @example
 * ```ts
 * import { VmClock } from 'vmclock'
 * import { encodeHybrid, HybridClock } from 'vmclock/ordering'
 *
 * const clock = VmClock.open()
 * const hybrid = new HybridClock(clock, { nodeId: 7, maxSkewNs: 10_000_000n })
 * const sent = hybrid.now()
 * const received = hybrid.receive(sent)
 * console.log(Buffer.compare(encodeHybrid(sent), encodeHybrid(received))) // -1
 * clock.close()
 * ```
 */
export class HybridClock {
  readonly #clock: ReadableClock
  readonly #obtainNodeId: (() => number) | undefined
  readonly #maxSkewNs: bigint
  readonly #resolutionNs: bigint
  #nodeId: number
  /** The machine that the node id belongs to. */
  #machine: bigint
  #last: Position | undefined

  /**
   * @param clock - gives the wall time; any clock
   * @param options - node id, allowed skew, resolution and the last stamp
   * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`, `ERR_VMCLOCK_AHEAD` if `last` is too far ahead, and
   * as `read` of the clock
   */
  constructor(clock: ReadableClock, options: HybridClockOptions) {
    const given = argument.record(options, 'options', OPTIONS)
    this.#clock = readableClock(clock)
    const maxSkewNs = argument.int63(given['maxSkewNs'], 'options.maxSkewNs')
    if (maxSkewNs === undefined) {
      throw invalidArgument(
        'options.maxSkewNs is missing',
        'give the largest error that a node may have, in nanoseconds',
      )
    }
    this.#maxSkewNs = maxSkewNs
    const resolution = argument.choice(given['resolution'], 'options.resolution', ['ns', 'ms'])
    this.#resolutionNs = resolution === 'ms' ? NS_PER_MS : 1n
    const { nodeId, last } = given
    this.#obtainNodeId = typeof nodeId === 'function' ? (nodeId as () => number) : undefined
    // The machine is noted before the id is obtained: a clone in between makes the id obsolete.
    const reading = this.#clock.read()
    this.#machine = machineOf(reading)
    this.#nodeId = checkedNodeId(this.#obtainNodeId?.() ?? nodeId, 'options.nodeId')
    if (last !== undefined) {
      const { wallNs, counter } = checkedStamp(last, 'options.last')
      this.#last = this.#ceiled({ wallNs, counter })
      this.#refuseIfAhead(this.#last, reading, 'the last stamp')
    }
  }

  /** The node id of the stamps, as last obtained. */
  get nodeId(): number {
    return this.#nodeId
  }

  /** The last stamp that this clock returned or was given; undefined before the first. */
  get last(): HybridStamp | undefined {
    return this.#last === undefined ? undefined : withJson({ ...this.#last, nodeId: this.#nodeId })
  }

  /**
   * Returns the stamp of an event that happens now, or of a message that is sent now.
   *
   * @throws VmClockError `ERR_VMCLOCK_TOO_UNCERTAIN` without a bound; `ERR_VMCLOCK_AHEAD` if the next stamp
   * lies beyond `latestNs + maxSkewNs`, as after the clock stepped back; `ERR_VMCLOCK_DISRUPTED` if the
   * machine was restored or cloned and `nodeId` is a number; and as `read` of the clock
   */
  now(): HybridStamp {
    return this.#stamp(this.#read(), undefined)
  }

  /**
   * Returns the stamp of the receipt of a message: after the message's stamp and all stamps of this clock. If
   * it throws, the remote stamp had no effect.
   *
   * @param remote - the stamp that came with the message
   * @throws VmClockError `ERR_VMCLOCK_AHEAD` if the remote stamp lies beyond `latestNs + maxSkewNs`;
   * `ERR_VMCLOCK_INVALID_ARGUMENT`; and as {@link HybridClock.now}
   */
  receive(remote: HybridStamp): HybridStamp {
    const { wallNs, counter } = checkedStamp(remote, 'remote')
    const reading = this.#read()
    this.#refuseIfAhead({ wallNs, counter }, reading, 'the remote stamp')
    return this.#stamp(reading, this.#ceiled({ wallNs, counter }))
  }

  #stamp(reading: Reading, remote: Position | undefined): HybridStamp {
    const wallNs = floored(reading.epochNs, this.#resolutionNs)
    let next: Position = { wallNs, counter: 0 }
    for (const earlier of [this.#last, remote]) {
      if (earlier !== undefined && comparePositions(next, earlier) <= 0) {
        next = this.#successor(earlier)
      }
    }
    this.#refuseIfAhead(next, reading, 'the next stamp')
    this.#last = next
    return Object.freeze(withJson({ ...next, nodeId: this.#nodeId }))
  }

  /** Returns the least position after another. A full counter carries into the wall time. */
  #successor({ wallNs, counter }: Position): Position {
    return counter < MOST_COUNTER
      ? { wallNs, counter: counter + 1 }
      : { wallNs: wallNs + this.#resolutionNs, counter: 0 }
  }

  /** Returns the least position of this clock's resolution that is not before another. */
  #ceiled(position: Position): Position {
    const wholeNs = floored(position.wallNs, this.#resolutionNs)
    return wholeNs === position.wallNs
      ? position
      : { wallNs: wholeNs + this.#resolutionNs, counter: 0 }
  }

  #refuseIfAhead({ wallNs }: Position, { latestNs }: Reading, what: string): void {
    if (latestNs === undefined) throw noBound('this clock')
    const aheadNs = wallNs - latestNs
    if (aheadNs <= this.#maxSkewNs) return
    throw new VmClockError(
      'ERR_VMCLOCK_AHEAD',
      `${what} is ${aheadNs} ns ahead of the latest that it can be here, and ${this.#maxSkewNs} ns are allowed`,
      { remedy: "check the bounds of this clock and of the sender's, or allow a larger maxSkewNs" },
    )
  }

  #read(): Reading {
    const reading = this.#clock.read()
    const machine = machineOf(reading)
    if (machine !== this.#machine) {
      if (this.#obtainNodeId === undefined) {
        throw new VmClockError(
          'ERR_VMCLOCK_DISRUPTED',
          'the machine was restored or cloned, so another machine may have the same node id',
          { remedy: 'make a new HybridClock with a new node id, or give nodeId as a function' },
        )
      }
      this.#nodeId = checkedNodeId(this.#obtainNodeId(), 'the result of nodeId()')
      this.#machine = machine
    }
    return reading
  }
}

/**
 * Returns -1, 0 or 1: the order of two stamps by wall time, counter and node id. Stamps that were decoded from 8
 * bytes have no node id and come before those that have one.
 *
 * @param a - a stamp
 * @param b - a stamp
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
 */
export function compareHybrid(a: HybridStamp, b: HybridStamp): -1 | 0 | 1 {
  const first = checkedStamp(a, 'a')
  const second = checkedStamp(b, 'b')
  const order = comparePositions(first, second)
  return order !== 0 ? order : sign((first.nodeId ?? -1) - (second.nodeId ?? -1))
}

/**
 * Returns a stamp as bytes that sort as the stamps do.
 *
 * 16 bytes: `wallNs` (8 bytes, big-endian, sign bit inverted), `counter` (2 bytes, big-endian), `nodeId` (6
 * bytes, big-endian). They hold the whole stamp.
 *
 * 8 bytes: the whole milliseconds of `wallNs` (6 bytes, big-endian) and `counter` (2 bytes, big-endian). They
 * order the stamps of clocks with `resolution: 'ms'` and do not identify them: two nodes may make equal ones.
 *
 * @param stamp - a stamp
 * @param length - 16 or 8; default 16
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`: 16 bytes need a node id; 8 bytes need a wall time in
 * whole milliseconds from the epoch on
 */
export function encodeHybrid(stamp: HybridStamp, length: 8 | 16 = FULL_BYTES): Uint8Array {
  const { wallNs, counter, nodeId } = checkedStamp(stamp, 'stamp')
  const bytes = new Uint8Array(length === SHORT_BYTES ? SHORT_BYTES : FULL_BYTES)
  const view = new DataView(bytes.buffer)
  if (length === SHORT_BYTES) {
    const ms = wallNs / NS_PER_MS
    if (ms * NS_PER_MS !== wallNs || wallNs < 0n || ms > MOST_SHORT_MS) {
      throw invalidArgument(
        '8 bytes hold whole milliseconds since the epoch, and this stamp has others',
        "use 16 bytes, or make stamps with resolution: 'ms'",
      )
    }
    view.setBigUint64(0, (ms << 16n) | BigInt(counter))
    return bytes
  }
  if (length !== FULL_BYTES) throw invalidArgument('length must be 8 or 16')
  if (nodeId === undefined) {
    throw invalidArgument('16 bytes hold a node id, and this stamp has none', 'use 8 bytes')
  }
  putInt64(view, 0, wallNs)
  view.setUint16(8, counter)
  view.setUint16(10, Math.floor(nodeId / 2 ** 32))
  view.setUint32(12, nodeId % 2 ** 32)
  return bytes
}

/**
 * Returns the stamp of bytes that {@link encodeHybrid} made.
 *
 * @param bytes - 16 or 8 bytes; a `Buffer` too
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT`
 */
export function decodeHybrid(bytes: Uint8Array): HybridStamp {
  const view = viewOf(bytes, [SHORT_BYTES, FULL_BYTES])
  if (view.byteLength === SHORT_BYTES) {
    const wallNs = (view.getBigUint64(0) >> 16n) * NS_PER_MS
    const counter = view.getUint16(6)
    return withJson(checkedStamp({ wallNs, counter, nodeId: undefined }, 'the stamp'))
  }
  return withJson({
    wallNs: int64At(view, 0),
    counter: view.getUint16(8),
    nodeId: view.getUint16(10) * 2 ** 32 + view.getUint32(12),
  })
}

function comparePositions(a: Position, b: Position): -1 | 0 | 1 {
  if (a.wallNs !== b.wallNs) return a.wallNs < b.wallNs ? -1 : 1
  return sign(a.counter - b.counter)
}

function sign(difference: number): -1 | 0 | 1 {
  if (difference === 0) return 0
  return difference < 0 ? -1 : 1
}

/** Rounds towards minus infinity to a multiple of `unitNs`. */
function floored(ns: bigint, unitNs: bigint): bigint {
  const rest = ns % unitNs
  return rest < 0n ? ns - rest - unitNs : ns - rest
}

refuseDetached(HybridClock)

/** Tells machines apart: by the generation, or by the marker on pages that have none. */
function machineOf({ vmGeneration, disruptionMarker }: Reading): bigint {
  return vmGeneration ?? disruptionMarker
}

function checkedStamp(value: unknown, name: string): HybridStamp {
  if (typeof value !== 'object' || value === null) {
    throw invalidArgument(`${name} must be a stamp { wallNs, counter, nodeId }`)
  }
  const { wallNs, counter, nodeId } = value as { [Name in keyof HybridStamp]: unknown }
  const checkedCounter = argument.integer(counter, `${name}.counter`, 0, MOST_COUNTER)
  if (checkedCounter === undefined) throw invalidArgument(`${name}.counter is missing`)
  return {
    wallNs: argument.int64(wallNs, `${name}.wallNs`),
    counter: checkedCounter,
    nodeId: argument.integer(nodeId, `${name}.nodeId`, 0, MOST_NODE_ID),
  }
}

function checkedNodeId(value: unknown, name: string): number {
  const nodeId = argument.integer(value, name, 0, MOST_NODE_ID)
  if (nodeId !== undefined) return nodeId
  throw invalidArgument(`${name} is missing`, 'give an id that no other live node has')
}
