/**
 * A clock for tests on every operating system, fleets of such clocks, and pages that are written by hand.
 *
 * @module vmclock/testing
 */

export { fieldsOf, PAGE_FLAGS } from './flags'
export { type PageFields, type PageLayout, VmClockPage } from './page'
export { SimulatedClock } from './simulated-clock'
export { SimulatedFleet, type SimulatedFleetOptions } from './simulated-fleet'
export type { LeapSecond } from './simulated-leap'
export type { SimulatedClockOptions } from './simulated-options'
export { SimulatedTime, type SimulatedTimeOptions } from './simulated-time'
