/** The token that shows whether this is still the same machine. */

import * as argument from './arguments'
import { invalidArgument } from './errors'
import { toJSON } from './json'

/**
 * Which machine and which clock the page said this is, from `VmClock.continuityToken()`.
 *
 * A token is frozen and can be cloned, posted and written as JSON; `tokenFromJSON` makes a token of that. It
 * is good for one page and one boot. It is no identity:
 * clones of one snapshot hold equal tokens, because both counters continue from a saved value.
 */
export interface ContinuityToken {
  /** `disruption_marker`, unsigned 64-bit: changes when the counter was disrupted. */
  readonly disruptionMarker: bigint
  /** `vm_generation_counter`, unsigned 64-bit; undefined if the page has none. */
  readonly vmGeneration: bigint | undefined
}

/** A {@link ContinuityToken} in JSON: decimal strings, and no `vmGeneration` if the page has none. */
export interface ContinuityTokenJson {
  /** As {@link ContinuityToken.disruptionMarker}. */
  readonly disruptionMarker: string
  /** As {@link ContinuityToken.vmGeneration}. */
  readonly vmGeneration?: string | undefined
}

// A prototype with `toJSON`, and otherwise that of every object. An own property would take longer to make
// than the whole token.
class Token implements ContinuityToken {
  readonly disruptionMarker: bigint
  readonly vmGeneration: bigint | undefined

  constructor(disruptionMarker: bigint, vmGeneration: bigint | undefined) {
    this.disruptionMarker = disruptionMarker
    this.vmGeneration = vmGeneration
  }
}
Object.defineProperties(Token.prototype, {
  constructor: { value: Object },
  toJSON: { value: toJSON },
})

// Its constructor returns its argument, so that a subclass can put a private field on that.
class Given {
  constructor(token: object) {
    // biome-ignore lint/correctness/noConstructorReturn: this is its purpose
    return token
  }
}

// Marks tokens that cannot change, so that a caller that has read one need not read it again. Nothing outside
// this class can put the mark on an object, and no clone or proxy has it.
class Issued extends Given {
  readonly #issued = true

  static has(token: object): boolean {
    return #issued in token
  }
}

/** Makes a frozen token of these figures. */
export function issueToken(
  disruptionMarker: bigint,
  vmGeneration: bigint | undefined,
): ContinuityToken {
  const token = new Token(disruptionMarker, vmGeneration)
  new Issued(token)
  return Object.freeze(token)
}

/** Returns whether `issueToken` made a token, so that it cannot have changed. */
export function isIssued(token: ContinuityToken): boolean {
  return Issued.has(token)
}

/**
 * Reads a token's figures from its own properties, each once. Accepts a clone, and a `Reading`, which holds
 * the same figures.
 */
export function continuityToken(token: unknown): ContinuityToken {
  if (
    typeof token !== 'object' ||
    token === null ||
    !argument.holds(() => Object.hasOwn(token, 'disruptionMarker'))
  ) {
    throw invalidArgument(
      'token must be what continuityToken() returned, or a structured clone of it',
      'take the token before the counter that it is for',
    )
  }
  const { disruptionMarker } = token as { disruptionMarker: unknown }
  const vmGeneration = Object.hasOwn(token, 'vmGeneration')
    ? (token as { vmGeneration: unknown }).vmGeneration
    : undefined
  return {
    disruptionMarker: argument.uint64(disruptionMarker, 'token.disruptionMarker'),
    vmGeneration: argument.optionalUint64(vmGeneration, 'token.vmGeneration'),
  }
}

/**
 * Makes a token from its JSON, such as a file keeps over a restart of the program.
 *
 * @param json - the parsed JSON of a token
 * @throws VmClockError `ERR_VMCLOCK_INVALID_ARGUMENT` if it is none
 */
export function tokenFromJSON(json: ContinuityTokenJson): ContinuityToken {
  const given = argument.record(json, 'json', ['disruptionMarker', 'vmGeneration'])
  const { disruptionMarker, vmGeneration } = given
  return issueToken(
    figure(disruptionMarker, 'json.disruptionMarker'),
    vmGeneration === undefined ? undefined : figure(vmGeneration, 'json.vmGeneration'),
  )
}

// No figure has more than 20 digits.
function figure(value: unknown, name: string): bigint {
  if (typeof value === 'string' && /^\d{1,20}$/.test(value)) {
    return argument.uint64(BigInt(value), name)
  }
  throw invalidArgument(
    `${name} must be a string of decimal digits`,
    'give the parsed JSON of a token: tokenFromJSON(JSON.parse(text))',
  )
}
