/** Gives a span the times of a clock, and marks it if a migration or a restore crosses it. */

import type { Attributes, Exception, Span, TimeInput } from '@opentelemetry/api'
import type { Machine, Stamper } from './stamper'

const NS_PER_SEC = 1_000_000_000

/** A time as OpenTelemetry takes it: `[seconds, nanoseconds]`. */
export type HrTime = [number, number]

/**
 * The last time of a local trace: a span without a parent in this process, and all its descendants here. No later call
 * gives the trace a time before it.
 */
class TraceTime {
  private seconds = 0
  private nanoseconds = 0
  private hasTime = false

  /** Returns the stamp's time, or the last time if the stamp is before it. */
  next({ seconds, nanoseconds }: Stamper): HrTime {
    const isBack =
      this.hasTime &&
      (seconds < this.seconds || (seconds === this.seconds && nanoseconds < this.nanoseconds))
    if (!isBack) {
      this.seconds = seconds
      this.nanoseconds = nanoseconds
      this.hasTime = true
    }
    return [this.seconds, this.nanoseconds]
  }

  /** As `next`, but the trace does not remember the time, which is of another clock. */
  passing({ seconds, nanoseconds }: Stamper): HrTime {
    const isBack =
      this.hasTime &&
      (seconds < this.seconds || (seconds === this.seconds && nanoseconds < this.nanoseconds))
    return isBack ? [this.seconds, this.nanoseconds] : [seconds, nanoseconds]
  }
}

// Under this name the state is on the span itself, so that children find it and it lives as long as the span.
const STATE: unique symbol = Symbol('vmclock.span')

interface StampedSpan extends Span {
  [STATE]: SpanState
}

/** What the adapter keeps of a span. It is made just before the span, and takes the stamp of its start. */
export class SpanState {
  /** The span's start; undefined if the caller gave one, or the clock gives no time. */
  readonly startTime: HrTime | undefined
  private readonly stamper: Stamper
  private readonly trace: TraceTime
  private readonly withBound: boolean
  private readonly startBoundNs: number | undefined
  private machine: Machine | undefined
  private spanEnd: Span['end'] | undefined
  private spanAddEvent: Span['addEvent'] | undefined
  private spanRecordException: Span['recordException'] | undefined

  /**
   * @param stamper - stamps by the clock
   * @param withBound - whether the span gets the bounds of its times
   * @param parent - the parent in this process; undefined if there is none
   * @param isGiven - whether the caller gives the span's start
   */
  constructor(stamper: Stamper, withBound: boolean, parent: Span | undefined, isGiven: boolean) {
    const hasTime = stamper.take()
    this.stamper = stamper
    this.withBound = withBound
    this.machine = stamper.machine
    const parentState = (parent as Partial<StampedSpan> | undefined)?.[STATE]
    this.trace = parentState === undefined ? new TraceTime() : parentState.trace
    this.startTime = hasTime && !isGiven ? this.trace.next(stamper) : undefined
    this.startBoundNs =
      withBound && this.startTime !== undefined ? boundOf(stamper, this.startTime) : undefined
  }

  /**
   * Replaces the methods of the new span that take times. The span remains the same object: span processors and other
   * tools know the SDK's.
   */
  attachTo(span: Span): void {
    if (!span.isRecording() || !Object.isExtensible(span)) return
    this.spanEnd = span.end
    this.spanAddEvent = span.addEvent
    this.spanRecordException = span.recordException
    const stamped = span as StampedSpan
    stamped[STATE] = this
    stamped.end = end
    stamped.addEvent = addEvent
    stamped.recordException = recordException
    if (this.startBoundNs !== undefined) {
      span.setAttribute('vmclock.start.max_error_ns', this.startBoundNs)
    }
  }

  /** Ends the span, at the caller's time if there is one. */
  end(span: Span, given: TimeInput | undefined): void {
    let time = given
    if (span.isRecording()) {
      const hasTime = this.stamper.take()
      time ??= this.timeNow(span, hasTime)
      this.markIfCrossed(span, time)
      if (this.withBound && hasTime && given === undefined && isHrTime(time)) {
        const boundNs = boundOf(this.stamper, time)
        if (boundNs !== undefined) span.setAttribute('vmclock.end.max_error_ns', boundNs)
      }
    }
    this.spanEnd?.call(span, time)
  }

  /** Adds an event that has no time of the caller's. */
  addEvent(span: Span, name: string, attributes: Attributes | undefined): void {
    this.spanAddEvent?.call(span, name, attributes, this.eventTime(span))
  }

  /** Adds an event with the caller's time. */
  addTimedEvent(...[span, ...args]: [Span, ...Parameters<Span['addEvent']>]): void {
    this.spanAddEvent?.apply(span, args)
  }

  /** Records an exception, at the caller's time if there is one. */
  recordException(span: Span, exception: Exception, given: TimeInput | undefined): void {
    this.spanRecordException?.call(span, exception, given ?? this.eventTime(span))
  }

  private eventTime(span: Span): TimeInput | undefined {
    if (!span.isRecording()) return undefined
    const time = this.timeNow(span, this.stamper.take())
    this.markIfCrossed(span, time)
    return time
  }

  /**
   * The time for an end or an event; undefined if the span did not start by the clock. If the clock gives no time now,
   * it is that of the system, and the span says so.
   */
  private timeNow(span: Span, hasTime: boolean): HrTime | undefined {
    if (this.startTime === undefined) return undefined
    if (!hasTime) {
      this.stamper.takeSystemTime()
      span.setAttribute('vmclock.system_time', true)
      return this.trace.passing(this.stamper)
    }
    return this.trace.next(this.stamper)
  }

  /** Marks the span if the last stamp is of another machine than the one before it in this span. */
  private markIfCrossed(span: Span, time: TimeInput | undefined): void {
    const before = this.machine
    const { machine } = this.stamper
    if (machine === before || machine === undefined) return
    this.machine = machine
    if (before === undefined) return
    // A page that begins or ends to give a generation says nothing about the machine.
    const isRestored =
      before.vmGeneration !== undefined &&
      machine.vmGeneration !== undefined &&
      before.vmGeneration !== machine.vmGeneration
    if (!isRestored && before.disruptionMarker === machine.disruptionMarker) return
    span.setAttribute('vmclock.disrupted', true)
    if (isRestored) span.setAttribute('vmclock.restored', true)
    this.spanAddEvent?.call(
      span,
      'vmclock.disruption',
      {
        'vmclock.disruption_marker.before': String(before.disruptionMarker),
        'vmclock.disruption_marker.after': String(machine.disruptionMarker),
        ...(before.vmGeneration !== undefined && {
          'vmclock.generation.before': String(before.vmGeneration),
        }),
        ...(machine.vmGeneration !== undefined && {
          'vmclock.generation.after': String(machine.vmGeneration),
        }),
      },
      time,
    )
  }
}

function end(this: StampedSpan, time?: TimeInput): void {
  this[STATE].end(this, time ?? undefined)
}

function addEvent(
  this: StampedSpan,
  name: string,
  attributesOrTime?: Attributes | TimeInput,
  time?: TimeInput,
): StampedSpan {
  if (isTime(attributesOrTime) || isTime(time)) {
    this[STATE].addTimedEvent(this, name, attributesOrTime, time)
  } else {
    this[STATE].addEvent(this, name, attributesOrTime)
  }
  return this
}

function recordException(this: StampedSpan, exception: Exception, time?: TimeInput): void {
  this[STATE].recordException(this, exception, time ?? undefined)
}

function isTime(value: Attributes | TimeInput | undefined): value is TimeInput {
  return typeof value === 'number' || value instanceof Date || Array.isArray(value)
}

function isHrTime(value: TimeInput | undefined): value is HrTime {
  return Array.isArray(value)
}

/** Returns the bound of a time that a trace gave for the stamp. If the time was held, it is off by that much more. */
function boundOf(stamper: Stamper, [seconds, nanoseconds]: HrTime): number | undefined {
  const { maxErrorNs } = stamper
  if (maxErrorNs === undefined) return undefined
  const heldNs = (seconds - stamper.seconds) * NS_PER_SEC + (nanoseconds - stamper.nanoseconds)
  const boundNs = maxErrorNs + heldNs
  // A larger double may have been rounded down.
  return boundNs <= Number.MAX_SAFE_INTEGER ? boundNs : undefined
}
