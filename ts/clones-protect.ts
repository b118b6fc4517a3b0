/**
 * Protects the randomness of this process when it is loaded: `node --import vmclock/clones/protect app.js`.
 *
 * It calls `protectRandomness()` of `vmclock/clones` without options, and throws what that throws.
 *
 * @module vmclock/clones/protect
 */

import { protectRandomness, type RandomnessProtection } from './clones'

/** The protection of this process. */
export const protection: RandomnessProtection = protectRandomness()
