/**
 * Gives error-bounded time from the hypervisor's vmclock page, and notice of migrations and clones.
 *
 * @module vmclock
 */

export type { AbortSignalLike } from './abort-signal'
export {
  type SystemOffset,
  VmClock,
  type VmClockFallbackOptions,
  type VmClockOptions,
} from './clock'
export type { Clock } from './clock-interface'
export { type ContinuityToken, type ContinuityTokenJson, tokenFromJSON } from './continuity'
export type { Emitter, EventMap, Listener } from './emitter'
export { VmClockError, type VmClockErrorCode, type VmClockErrorDetails } from './errors'
export type { HrTime } from './hr-time'
export type { Instant, InstantLike } from './instant'
export {
  type GuardUnavailable,
  type Maintenance,
  type PageGeneration,
  type PageShape,
  type PassedOver,
  type PublisherTimeSource,
  VmClockPublisher,
  type VmClockPublisherOptions,
} from './publisher'
export {
  formatNs,
  READING_KNOWN,
  READING_SLOT_COUNT,
  READING_SLOTS,
  Reading,
  type ReadingJson,
  TIMESCALES,
  type Timescale,
  type UsableClockStatus,
} from './reading'
export type {
  BoundUnavailable,
  BoundUnavailableReason,
  ClockStatus,
  CounterKind,
  LeapIndicator,
  RawPage,
  SmearingHint,
  Snapshot,
  TimeType,
  UnknownValue,
} from './snapshot'
export type { AssumedPart, SourceChoice, SourceOfTime, TimeGuard, TimeSource } from './time-source'
export {
  type DisruptionEvent,
  type FreshnessEvent,
  type GenerationEvent,
  type LeapEvent,
  type MaintenanceEvent,
  type ReplacedEvent,
  type StatusEvent,
  type VmClockChange,
  type VmClockEvent,
  VmClockWatcher,
  type VmClockWatcherEvents,
  type VmClockWatchOptions,
} from './watcher'
