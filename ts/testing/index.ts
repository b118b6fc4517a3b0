/**
 * Writes vmclock pages by hand, for tests and for authors of hypervisors.
 *
 * @module vmclock/testing
 */

export { type PageFields, type PageLayout, VmClockPage } from './page'
