/**
 * Finds out why a machine has no usable vmclock page, and what fixes it.
 *
 * @module vmclock/doctor
 */

export { type DiagnoseOptions, diagnose } from './diagnose'
export type { Check, CheckDetails, CheckName, CheckState, Diagnosis } from './diagnosis'
