/**
 * Loads the native part when it is first needed, and types the calls that the build does not.
 *
 * `napi build` generates the declarations of all other calls: `native/index.d.ts`. Native calls never
 * throw: one that fails returns a {@link Failure}, from which `errors.ts` makes a `VmClockError`.
 *
 * Node-API reads inherited properties. Every option therefore goes in as an own property, null where it is
 * absent. An optional property of a result is read only after a copy to an object without a prototype.
 */

import type { Failure, NativeClock } from '../native/index'
import { AddonError, denoRemedy, loadAddon } from './addon'
import { VmClockError } from './errors'

export type * from '../native/index'

/**
 * The raw callbacks of one clock. Each returns `undefined` for success or the failure, and `isContinuous` also
 * `false`. The others return `true` for a success after a restore that JavaScript of this thread does not know of.
 */
export interface HotCalls {
  /** One integer for each position of `SLOT`; unsigned figures as two's complement. */
  readonly slots: BigInt64Array
  /** One double for each position of `DOUBLE`. */
  readonly doubles: Float64Array
  /** The clock's name for the C interface; NaN if it has none. */
  readonly name: number
  /** Writes `EpochNs`. */
  nowNs(): Failure | true | undefined
  /** Writes the double `NowMs`. */
  nowMs(): Failure | true | undefined
  /** Writes the doubles `HrSeconds` and `HrNanoseconds`. */
  nowHrTime(): Failure | true | undefined
  /** Writes the slots up to and with `Known`. */
  read(): Failure | true | undefined
  /** Writes `Counter`. */
  counter(): Failure | true | undefined
  /** Takes the counter and the token's three arguments; writes the slots that `read` writes. */
  convert(): Failure | undefined
  /** Writes `DisruptionMarker`, `VmGeneration` and `Known`. */
  continuityToken(): Failure | true | undefined
  /**
   * Takes the token's three arguments. `undefined` means continuous, `false` not continuous.
   */
  isContinuous(): Failure | false | undefined
}

/** Returns new raw callbacks of a clock. Call it once for each clock. */
export function hotCalls(clock: NativeClock): HotCalls {
  return clock.hot as HotCalls
}

/** The reason why the native part cannot be used, as the parts of an error. */
interface Obstacle {
  readonly code: 'ERR_VMCLOCK_UNSUPPORTED' | 'ERR_VMCLOCK_NATIVE'
  readonly message: string
  readonly remedy?: string | undefined
  readonly cause?: unknown
}

/** The functions that the addon exports. */
type Binding = {
  readonly [Name in keyof Exports as Exports[Name] extends AnyFunction
    ? Name
    : never]: Exports[Name]
}
type Exports = typeof import('../native/index')
type AnyFunction = (...args: never[]) => unknown

// Named here because an addon of another release may lack some. The compiler requires all of them.
const FUNCTIONS: Readonly<Record<keyof Binding, true>> = {
  addonPath: true,
  beginRestores: true,
  cloneFacts: true,
  counterCost: true,
  counterFacts: true,
  createPage: true,
  createPublisher: true,
  drawsOfThread: true,
  examineClockBound: true,
  findPtpClock: true,
  hypervisorSignature: true,
  ignoreTerminalStops: true,
  listPages: true,
  listenForNotices: true,
  listPtpClocks: true,
  lookForRestore: true,
  notifyRestored: true,
  notifySupervisor: true,
  openClock: true,
  openPage: true,
  openPtpClock: true,
  pageFieldTypes: true,
  protectionState: true,
  protectOpenSsl: true,
  restoreEpoch: true,
  restoreSignal: true,
  restoreWords: true,
  systemDiscipline: true,
  udevRules: true,
  unprotectOpenSsl: true,
}

type Loaded = { readonly binding: Binding } | { readonly obstacle: Obstacle }

let loaded: Loaded | undefined

// Loads the native part when a call first needs it, so that importing costs nothing and cannot throw. A failure
// is not remembered: a start-up snapshot would keep it, and its cause may be gone at the next call.
function loadedPart(): Loaded {
  if (loaded !== undefined) return loaded
  const attempt = load()
  if ('binding' in attempt) loaded = attempt
  return attempt
}

function load(): Loaded {
  const machine = `${process.platform}-${process.arch}`
  if (machine !== 'linux-x64' && machine !== 'linux-arm64') {
    return {
      obstacle: {
        code: 'ERR_VMCLOCK_UNSUPPORTED',
        message: `vmclock works on Linux on x86-64 and 64-bit Arm, and this is ${machine}`,
        remedy:
          'use another clock here, or Linux in a container or a virtual machine; programs ask VmClock.isSupported() first',
      },
    }
  }
  try {
    const binding = loadAddon(machine) as object
    const missing = Object.keys(FUNCTIONS).filter((name) => !Object.hasOwn(binding, name))
    if (missing.length === 0) return { binding: binding as Binding }
    throw new AddonError({
      message: `it is of another release, without ${missing.join(', ')}`,
      remedy: 'remove node_modules and install again',
    })
  } catch (error) {
    const { message, remedy = denoRemedy(error), cause } = error as Error & Partial<AddonError>
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

/** Returns the native part, or throws the reason why it cannot be used. */
export function native(): Binding {
  const part = loadedPart()
  if ('binding' in part) return part.binding
  const { code, message, remedy, cause } = part.obstacle
  throw new VmClockError(code, message, { remedy, cause })
}

/** Returns the reason why the native part cannot be used; undefined if it can. */
export function obstacle(): Obstacle | undefined {
  const part = loadedPart()
  return 'obstacle' in part ? part.obstacle : undefined
}

/** Returns the page that `$VMCLOCK_PATH` names; null if it names none. The native part cannot read it safely. */
export function environmentPath(): string | null {
  return process.env['VMCLOCK_PATH'] || null
}
