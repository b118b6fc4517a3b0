//! Pure time arithmetic: from a counter value and the page's fields to a bounded time.
//!
//! Nothing here reads memory, a counter or the system: every function is exact integer arithmetic on
//! values that it is given, so that it can be checked against big integers and by properties.

pub(crate) mod conversion;
pub mod fixed;
pub mod leap;
pub(crate) mod linear;
pub(crate) mod reading;

use std::ops::RangeInclusive;

/// Nanoseconds in a second.
pub const NS_PER_SEC: i128 = 1_000_000_000;

/// TAI − UTC in seconds that a page, the kernel or an operator can mean.
///
/// TAI has been ahead of UTC by 10 s or more since 1972. The kernel counts leap seconds from 0 where nobody
/// told it the offset, so a smaller value means "unknown".
pub const TAI_MINUS_UTC_RANGE_SEC: RangeInclusive<i16> = 10..=255;
