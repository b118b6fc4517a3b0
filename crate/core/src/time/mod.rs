//! Pure time arithmetic: from a counter and the page's fields to a time with its bound.
//!
//! Nothing here reads memory, a counter or the system. Every function is exact integer arithmetic on its
//! arguments, so tests can compare it with big integers.
//!
//! - `fixed`: the page's own time and bound at a counter.
//! - `leap`: from the page's own time to the timescale asked for.
//! - `linear`: the fast path, which gives the same results by one multiplication.
//! - `conversion`: the checks, and all of the above for one state of the page.
//! - `period`: the counter's period and its error, for those who make a page.
//! - `reading`: the results.

pub(crate) mod conversion;
pub mod fixed;
pub mod leap;
pub(crate) mod linear;
pub(crate) mod period;
pub(crate) mod reading;

/// Nanoseconds in a second.
pub const NS_PER_SEC: i128 = 1_000_000_000;

/// Nanoseconds in a millisecond.
pub(crate) const NS_PER_MS: i64 = 1_000_000;

/// Seconds in a day without a leap second.
pub(crate) const SEC_PER_DAY: i128 = 86_400;
