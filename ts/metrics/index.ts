/**
 * Shows a clock to Prometheus: its bound, its state, and what happened to the machine.
 *
 * @module vmclock/metrics
 */

export { ClockMetrics } from './clock-metrics'
export type { MeasuredClock, MetricFamily, MetricSample, MetricType } from './families'
