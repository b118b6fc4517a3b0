/** The token that tells whether this is still the same machine. */

import * as argument from './arguments'
import { invalidArgument } from './errors'

/**
 * What a page says about which machine this is, from `VmClock.continuityToken()`.
 *
 * It is frozen and can be cloned and posted. It is good for one page and one boot, and it is no
 * identity: clones of one snapshot hold equal ones, because both counters go on from a saved value.
 */
export interface ContinuityToken {
  /** `disruption_marker`, unsigned 64-bit: changes when the counter was disrupted. */
  readonly disruptionMarker: bigint
  /** `vm_generation_counter`, unsigned 64-bit; undefined where the page has none. */
  readonly vmGeneration: bigint | undefined
}

// What its constructor is given is what it makes, so that a subclass can put a private field on it.
class Given {
  constructor(token: object) {
    // biome-ignore lint/correctness/noConstructorReturn: that is what it is for
    return token
  }
}

// The mark of tokens that cannot change, so that whoever has looked at one need not look again. Nothing
// outside this class can put it on an object, and no clone or proxy has it.
class Issued extends Given {
  readonly #issued = true

  static has(token: object): boolean {
    return #issued in token
  }
}

/** A token of these figures, frozen. */
export function issueToken(
  disruptionMarker: bigint,
  vmGeneration: bigint | undefined,
): ContinuityToken {
  const token: ContinuityToken = { disruptionMarker, vmGeneration }
  new Issued(token)
  return Object.freeze(token)
}

/** Whether a token is one that `issueToken` made, and so holds what it always held. */
export function isIssued(token: ContinuityToken): boolean {
  return Issued.has(token)
}

/**
 * The token's figures, from its own properties, each read once. A clone will do, and so will a
 * `Reading`, which holds the same figures.
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
