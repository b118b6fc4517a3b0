//! What a clock gives: times with their bounds, and tokens.

use crate::snapshot::ClockStatus;
use crate::time::leap::Timescale;

/// A time with its bound, and what the page said in the same breath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds since 1970-01-01 in `timescale` (since the page's own epoch if that is
    /// monotonic).
    pub epoch_ns: i64,
    /// The truth is at most this far from `epoch_ns`; 2^63 - 1 stands for that and more. `None`:
    /// the page states no bound.
    pub max_error_ns: Option<u64>,
    /// The provider's estimate of the error. `None`: the page gives none.
    pub est_error_ns: Option<u64>,
    /// The start of the interval that holds the truth, where there is a bound.
    pub earliest_ns: Option<i64>,
    /// The end of that interval. Near a leap second the interval is not symmetric.
    pub latest_ns: Option<i64>,
    /// The counter that was converted.
    pub counter: u64,
    /// Changes when the counter was disrupted (live migration).
    pub disruption_marker: u64,
    /// Changes when the machine was restored from a snapshot or cloned, where the page has it.
    pub vm_generation: Option<u64>,
    /// The state of the page's clock.
    pub status: ClockStatus,
    /// Whether UTC is in an inserted second, 23:59:60.
    pub leap_second: bool,
    /// The timescale of the times above.
    pub timescale: Timescale,
    /// TAI - UTC at this time, where the page tells it.
    pub tai_minus_utc_sec: Option<i16>,
}

/// What of a [`Reading`] changes with the counter alone, while the page stands and no leap second is
/// near. The interval that holds the truth is `epoch_ns` ± `max_error_ns`.
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

/// What a page says about which machine this is. Good for one page and one boot; clones of one
/// snapshot hold equal ones, so it detects change and is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Continuity {
    /// The page's `disruption_marker`.
    pub disruption_marker: u64,
    /// The page's `vm_generation_counter`, where it has one.
    pub vm_generation: Option<u64>,
}
