/**
 * The one file that loads the native part, and the types of what it exports.
 *
 * Native calls never throw: one that fails returns a {@link Failure}, which `errors.ts` turns into
 * a `VmClockError`. They look for what they are given on prototypes too, and leave out what they do
 * not have: nothing optional goes in or out but as an own property. The calls of {@link HotCalls} are raw Node-API callbacks that exchange figures
 * by way of the two arrays beside them.
 */

import { AddonError, loadAddon } from './addon'
import { type Failure, VmClockError } from './errors'

/** The raw callbacks of one clock. Each but `isContinuous` returns `undefined`, or the failure. */
export interface HotCalls {
  /** One for each position of `SLOT`; unsigned figures as two's complement. */
  readonly slots: BigInt64Array
  /** 1 slot. */
  readonly doubles: Float64Array
  /** Writes `EpochNs`. */
  nowNs(): Failure | undefined
  /** Writes the double `NowMs`. */
  nowMs(): Failure | undefined
  /** Writes the slots up to and with `Known`. */
  read(): Failure | undefined
  /** Writes `Counter`. */
  counter(): Failure | undefined
  /** Takes the counter and the token's three arguments; writes what `read` writes. */
  convert(): Failure | undefined
  /** Writes `DisruptionMarker`, `VmGeneration` and `Known`. */
  continuityToken(): Failure | undefined
  /**
   * Takes the token's three arguments; `undefined` means that it is continuous, `false` that it is not.
   */
  isContinuous(): Failure | false | undefined
}

export interface NativeClockOptions {
  /** `utc`, `tai`, `monotonic`, `utc-noon-linear` or `utc-sls`. */
  timescale: string
  rfcV4: boolean
  /** Parts per billion, 0 to 10^9. */
  assumedDriftPpb: number | undefined
  requireSynchronized: boolean
  nonDecreasing: boolean
  trustedUids: number[]
}

export interface NativeSystemOffset {
  offsetNs: bigint
  maxErrorNs?: bigint
}

/** Fields that `size` does not cover are absent. 64-bit fields are unsigned bigints. */
export interface NativeSnapshot {
  sizeBytes: number
  seqCount: number
  counter: bigint
  version: number
  counterId: number
  timeType: number
  disruptionMarker: bigint
  flags: bigint
  clockStatus?: number
  leapSecondSmearingHint?: number
  taiOffsetSec?: number
  leapIndicator?: number
  counterPeriodShift?: number
  counterValue?: bigint
  counterPeriodFracSec?: bigint
  counterPeriodEsterrorRateFracSec?: bigint
  counterPeriodMaxerrorRateFracSec?: bigint
  timeSec?: bigint
  timeFracSec?: bigint
  timeEsterrorNanosec?: bigint
  timeMaxerrorNanosec?: bigint
  vmGenerationCounter?: bigint
  /** Decoded: `utc`, `tai`, `monotonic`, `smeared`, `maybe-smeared`, `unrecognized (N)`. */
  timeTypeName: string
  /** Decoded: `unknown`, `initializing`, `synchronized`, `free-running`, `unreliable`, `unrecognized (N)`. */
  clockStatusName?: string
  /** Decoded: `strict`, `noon-linear`, `utc-sls`, `unrecognized (N)`. */
  smearingHintName?: string
  /** Decoded by the page's ABI: `none`, `pre-positive`, … , `unrecognized (N)`. */
  leapIndicatorName?: string
  /** The offset where it is valid, by the rule for its sign. */
  taiMinusUtcSec?: number
  /** Errors at the reference where they are valid. */
  maxErrorNs?: bigint
  estErrorNs?: bigint
  /** The generation where the page has one. */
  vmGeneration?: bigint
  disruptionSoon: boolean
  disruptionImminent: boolean
  timeMonotonic: boolean
  notificationPresent: boolean
}

export interface NativeClock {
  readonly path: string
  /** Makes new calls with new arrays at every access: take it once. */
  readonly hot: HotCalls
  hasTime(): boolean | Failure
  snapshot(): NativeSnapshot | Failure
  systemOffset(): NativeSystemOffset | Failure
  /** `generation` is absent where the token has none. All or nothing. */
  convertInto(
    counters: BigUint64Array,
    out: BigInt64Array,
    disruptionMarker: bigint,
    vmGeneration?: bigint,
  ): Failure | undefined
  /** `callback` is called when there is something to `take`; it keeps nothing alive. */
  watch(intervalMs: number | undefined, callback: () => void): NativeWatcher | Failure
  /**
   * Unmaps at once, unless a watcher shares the mapping. Afterwards every call fails with
   * ERR_VMCLOCK_CLOSED.
   */
  close(): void
}

/** The watched part of a page. What the page has not is absent. */
export interface NativeWatched {
  seqCount: number
  disruptionMarker: bigint
  vmGeneration?: bigint
  /** `none`, `soon`, `imminent`. */
  maintenance: string
  clockStatus?: string
  leapIndicator?: string
}

/** Two states, what changed on the way, and in how many updates. */
export interface NativeChange {
  before: NativeWatched
  after: NativeWatched
  updates: number
  disruption: boolean
  generation: boolean
  maintenance: boolean
  status: boolean
  leap: boolean
}

/** All that happened since the last `take`; nothing may have. */
export interface NativeNotices {
  change?: NativeChange
  replaced: boolean
  error?: Failure
}

export interface NativeWatcher {
  take(): NativeNotices
  /** Ends the thread; `take` gives nothing afterwards. */
  close(): void
}

export interface NativePublisherOptions {
  /** `time`, `marker`, `marker-and-generation`. */
  shape: string
  /** `auto`, `always`, `never`. */
  generation: string
  intervalMs: number | undefined
  maxErrorNs: bigint | undefined
  taiMinusUtcSec: number | undefined
  /** Allowance for the wander of the counter's rate, parts per billion. */
  wanderPpb: number | undefined
  allowUntrustedCounter: boolean
  mode: number | undefined
}

export interface NativePublisher {
  readonly path: string
  updates(): bigint
  cpuTimeNs(): bigint
  /** Why the publisher had to stop by itself, if it had to. */
  failure(): string | undefined
  disrupt(): Failure | undefined
  bumpGeneration(): Failure | undefined
  /** `none`, `soon`, `imminent`. */
  setMaintenance(announced: string): Failure | undefined
  close(): Failure | undefined
}

/** Any subset of the page's fields, by the header's names. 64-bit ones are unsigned bigints. */
export interface NativePageFields {
  magic?: number
  size?: number
  version?: number
  counterId?: number
  timeType?: number
  /** Only for `writeUnguarded` and at creation. */
  seqCount?: number
  disruptionMarker?: bigint
  flags?: bigint
  clockStatus?: number
  leapSecondSmearingHint?: number
  taiOffsetSec?: number
  leapIndicator?: number
  counterPeriodShift?: number
  counterValue?: bigint
  counterPeriodFracSec?: bigint
  counterPeriodEsterrorRateFracSec?: bigint
  counterPeriodMaxerrorRateFracSec?: bigint
  timeSec?: bigint
  timeFracSec?: bigint
  timeEsterrorNanosec?: bigint
  timeMaxerrorNanosec?: bigint
  vmGenerationCounter?: bigint
}

export interface NativePage {
  readonly path: string
  seqCount(): number | Failure
  /** Under the seqlock. */
  write(fields: NativePageFields): Failure | undefined
  /** As given, without touching the sequence number unless `seqCount` is among the fields. */
  writeUnguarded(fields: NativePageFields): Failure | undefined
  /** Leaves the sequence number odd. */
  begin(): Failure | undefined
  /** On to the next even number. */
  end(): Failure | undefined
  close(): void
}

export interface NativePageLayout {
  fileBytes: number | undefined
  pageOffset: number | undefined
  mode: number | undefined
}

export interface NativePtpDevice {
  path: string
  name: string
}

export interface NativePtpCapabilities {
  maxAdjustmentPpb: number
  maxPhaseAdjustmentNs: number
  alarms: number
  externalTimestamps: number
  periodicOutputs: number
  pins: number
  pulsePerSecond: boolean
  crossTimestamping: boolean
  phaseAdjustment: boolean
}

export interface NativeCrossTimestamp {
  deviceNs: bigint
  realtimeNs: bigint
  monotonicRawNs: bigint
}

export interface NativePtpSample {
  beforeNs: bigint
  deviceNs: bigint
  afterNs: bigint
  offsetNs: bigint
  maxErrorNs: bigint
}

export interface NativePtpClock {
  readonly path: string
  /** Empty where it is not known. */
  readonly name: string
  capabilities(): NativePtpCapabilities | Failure
  nowNs(): bigint | Failure
  crossTimestamp(): NativeCrossTimestamp | Failure
  /** `clock` is `realtime`, `monotonic` or `monotonic-raw`. */
  samples(count: number, clock: string): NativePtpSample[] | Failure
  /** `tai`, `utc` or `unknown`. */
  timescale(page: NativeClock): string | Failure
  close(): void
}

export interface CounterFacts {
  /** The page's name for this machine's counter: 1 on x86-64 (TSC), 0 on aarch64 (CNTVCT_EL0). */
  counterId: number
  frequencyHz?: bigint
  invariant: boolean
}

/** What a read of the counter costs. */
export interface CounterCost {
  /** Nanoseconds a read in the median batch. */
  medianNs: number
  /** Nanoseconds a read in the quickest batch. */
  leastNs: number
  /** Whether even that is what a trap costs: more than the next figure. */
  trapped: boolean
  trappedAboveNs: number
}

/** How the kernel's clock is disciplined: `adjtimex`. */
export interface NativeDiscipline {
  unsynchronized: boolean
  maxErrorUs: number
  estErrorUs: number
  /** TAI - CLOCK_REALTIME; 0 where nobody told the kernel. */
  taiMinusUtcSec: number
}

/** The udev rules file, and where it belongs. */
export interface UdevRules {
  path: string
  text: string
}

export interface Binding {
  openClock(path: string | undefined, options: NativeClockOptions): NativeClock | Failure
  defaultPath(): string
  listPages(): string[]
  counterFacts(): CounterFacts
  counterCost(): CounterCost
  hypervisorSignature(): string | null | undefined
  systemDiscipline(): NativeDiscipline | Failure
  udevRules(): UdevRules
  createPublisher(
    path: string | undefined,
    options: NativePublisherOptions,
  ): NativePublisher | Failure
  createPage(path: string, fields: NativePageFields, layout: NativePageLayout): NativePage | Failure
  openPage(path: string, pageOffset: number): NativePage | Failure
  openPtpClock(path: string): NativePtpClock | Failure
  findPtpClock(name: string): NativePtpClock | Failure
  listPtpClocks(): NativePtpDevice[]
}

/** What keeps the native part from being used: what to throw, and why. */
interface Obstacle {
  readonly code: 'ERR_VMCLOCK_UNSUPPORTED' | 'ERR_VMCLOCK_NATIVE'
  readonly message: string
  readonly remedy?: string | undefined
  readonly cause?: unknown
}

const CALLS: ReadonlyArray<keyof Binding> = [
  'openClock',
  'defaultPath',
  'listPages',
  'counterFacts',
  'counterCost',
  'hypervisorSignature',
  'systemDiscipline',
  'udevRules',
  'createPublisher',
  'createPage',
  'openPage',
  'openPtpClock',
  'findPtpClock',
  'listPtpClocks',
]

// Importing must not throw, so what goes wrong is kept until somebody needs the native part.
const loaded: { readonly binding: Binding } | { readonly obstacle: Obstacle } = load()

function load(): typeof loaded {
  const machine = `${process.platform}-${process.arch}`
  if (machine !== 'linux-x64' && machine !== 'linux-arm64') {
    return {
      obstacle: {
        code: 'ERR_VMCLOCK_UNSUPPORTED',
        message: `vmclock works on Linux on x86-64 and 64-bit Arm, and this is ${machine}`,
        remedy: 'ask VmClock.isSupported() before opening, and use another clock here',
      },
    }
  }
  try {
    const binding = loadAddon(machine) as Partial<Binding>
    const missing = CALLS.filter((name) => typeof binding[name] !== 'function')
    if (missing.length === 0) return { binding: binding as Binding }
    throw new AddonError({
      message: `it is of another release, without ${missing.join(', ')}`,
      remedy: 'remove node_modules and install again',
    })
  } catch (error) {
    const { message, remedy, cause } = error as Error & Partial<AddonError>
    return {
      obstacle: {
        code: 'ERR_VMCLOCK_NATIVE',
        message: `the native part of vmclock for ${machine} cannot be used: ${message}`,
        remedy,
        cause: cause ?? error,
      },
    }
  }
}

/** The native part; throws what kept it from loading. */
export function native(): Binding {
  if ('binding' in loaded) return loaded.binding
  const { code, message, remedy, cause } = loaded.obstacle
  throw new VmClockError(code, message, { remedy, cause })
}

/** Why the native part cannot be used here, if it cannot. */
export function obstacle(): Obstacle | undefined {
  return 'obstacle' in loaded ? loaded.obstacle : undefined
}
