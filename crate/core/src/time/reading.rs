//! A clock's results: times with their bounds, and tokens.

use crate::snapshot::ClockStatus;
use crate::timescale::Timescale;

/// A time with its bound, and what the page said at the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds since 1970-01-01 in `timescale` (since the page's own epoch if that is
    /// monotonic).
    pub epoch_ns: i64,
    /// How far the truth is from `epoch_ns` at most; 2^63 - 1 means that or more. `None`: the page states
    /// no bound.
    pub max_error_ns: Option<u64>,
    /// The provider's estimate of the error. `None`: the page states none.
    pub est_error_ns: Option<u64>,
    /// The start of the interval that holds the truth. `None`: the page states no bound.
    pub earliest_ns: Option<i64>,
    /// The end of that interval. Near a leap second the interval is not symmetric around `epoch_ns`.
    pub latest_ns: Option<i64>,
    /// The age of the page's reference at this time, in nanoseconds of the page's own time. It is negative at
    /// a counter from before the reference.
    pub age_ns: i64,
    /// The counter that was converted.
    pub counter: u64,
    /// The page's `disruption_marker`, which changes when the counter was disrupted (live migration).
    pub disruption_marker: u64,
    /// The page's `vm_generation_counter`, which changes when the machine was restored from a snapshot or
    /// cloned. `None`: the page has none.
    pub vm_generation: Option<u64>,
    /// The state of the page's clock.
    pub status: ClockStatus,
    /// True within an inserted second of UTC, 23:59:60.
    pub leap_second: bool,
    /// The timescale of the times above.
    pub timescale: Timescale,
    /// TAI - UTC at this time, in seconds. `None`: the page does not state it.
    pub tai_minus_utc_sec: Option<i16>,
}

/// The figures of a [`Reading`] that change with the counter alone: all other figures are the same in
/// every reading of one page state that is not near a leap second. The interval that holds the truth is
/// `epoch_ns` ± `max_error_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimePoint {
    /// [`Reading::counter`].
    pub counter: u64,
    /// [`Reading::epoch_ns`].
    pub epoch_ns: i64,
    /// [`Reading::max_error_ns`].
    pub max_error_ns: Option<u64>,
    /// [`Reading::est_error_ns`].
    pub est_error_ns: Option<u64>,
}

/// Which machine and which clock the page says this is. Good for one page and one boot. It detects change
/// and is no identity: clones of one snapshot hold equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Continuity {
    /// The page's `disruption_marker`.
    pub disruption_marker: u64,
    /// The page's `vm_generation_counter`, where it has one.
    pub vm_generation: Option<u64>,
}
