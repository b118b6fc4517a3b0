/**
 * Makes the Node processes of restored and cloned machines differ: fresh randomness, identity and ids.
 *
 * @module vmclock/clones
 */

export {
  drain,
  type ProtectionSignal,
  type ProtectOptions,
  protectRandomness,
  type RandomnessProtection,
} from './randomness'
export {
  type MachineClock,
  type NotifyOptions,
  notifyRestored,
  onRestore,
  type PerMachineOptions,
  perMachine,
  type RestoreEvent,
  type RestoreSignal,
  restoreSignal,
} from './restores'
export { type UuidV7Options, uuidV7Source } from './uuid'
