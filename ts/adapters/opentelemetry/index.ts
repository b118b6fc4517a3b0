/**
 * Gives OpenTelemetry's spans the times of a clock, marks the spans that a migration or a restore crossed, and reports
 * the clock as metrics.
 *
 * It needs `@opentelemetry/api`, an optional peer dependency. Without it loading throws `ERR_VMCLOCK_NO_PEER`.
 *
 * @module vmclock/opentelemetry
 */

export { type VmClockMetrics, vmclockMetrics } from './metrics'
export { registerVmClock, type VmClockTracingOptions, vmclockTracerProvider } from './provider'
export { vmclockResourceAttributes } from './resource'
