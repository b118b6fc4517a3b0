//! From a counter to a reading, by one state of the page.
//!
//! A [`Conversion`] is made once for each state of the page, from everything that was read under one
//! sequence number. It makes all checks (version, counter, status, period, timescale) and holds what the
//! formulas need. Its [`FastPath`] holds what a timestamp loads: linear functions, in which no check is
//! left. A page that may not be used has functions that return nothing, so the slow path finds the
//! reason.

use crate::abi::VMCLOCK_COUNTER_INVALID;
use crate::error::{Error, NoTime};
use crate::no_bound::NoBound;
use crate::snapshot::{ClockStatus, LeapIndicator, Snapshot};
use crate::time::NS_PER_MS;
use crate::time::fixed;
use crate::time::leap::{Mapping, Reference};
use crate::time::linear::{self, ErrorAndRate, Exact, Limits, LinearFn, LinearReading};
use crate::time::reading::{Continuity, Reading, TimePoint};
use crate::timescale::Timescale;

/// Parts per billion in one.
const PPB: u128 = 1_000_000_000;

/// Everything that a timestamp loads, for the page under one sequence number.
///
/// No field is optional that a timestamp would have to test first. A figure without a fast path has a
/// function that returns nothing.
#[derive(Clone, Debug)]
pub(crate) struct FastPath {
    /// The page's sequence number, even.
    pub(crate) seq: u32,
    /// The sequence number of the device that guards the page, or the page's own. Odd where the device is
    /// stuck.
    pub(crate) guard_seq: u32,
    /// From a live counter to its label in nanoseconds.
    pub(crate) live_ns: LinearFn,
    /// From a live counter to its label in milliseconds, as a double's bits.
    pub(crate) live_ms_bits: LinearFn,
    /// From a live counter to the figures that change from one reading to the next.
    pub(crate) readings: LinearReading,
    /// Which machine and which clock this is. `None` where nobody knows: before a page was read, and while the
    /// guard cannot tell.
    pub(crate) continuity: Option<Continuity>,
    /// The label of the page's reference. Meaningless where `readings` returns nothing.
    reference_ns: i64,
    /// The formulas, for counters next to a border of the functions above. `None` where these return
    /// nothing.
    exact: Option<Exact>,
    /// The figures that all readings of this state share. Meaningless where `readings` returns nothing.
    shared: Reading,
}

impl FastPath {
    /// The fast path of no page: every function returns nothing.
    pub(crate) const NONE: Self = Self {
        seq: 0,
        guard_seq: 0,
        live_ns: LinearFn::NONE,
        live_ms_bits: LinearFn::NONE,
        readings: LinearReading::NONE,
        continuity: None,
        reference_ns: 0,
        exact: None,
        shared: Reading {
            epoch_ns: 0,
            max_error_ns: None,
            est_error_ns: None,
            earliest_ns: None,
            latest_ns: None,
            age_ns: 0,
            counter: 0,
            disruption_marker: 0,
            vm_generation: None,
            status: ClockStatus::Unknown(0),
            leap_second: false,
            timescale: Timescale::Utc,
            tai_minus_utc_sec: None,
        },
    };

    /// Returns the label in nanoseconds at a counter that `live_ns` covers; `None` at any other.
    #[inline]
    pub(crate) fn exact_ns(&self, counter: u64) -> Option<i64> {
        self.exact.as_ref()?.ns_at(&self.live_ns, counter)
    }

    /// Returns the figures at a counter that `readings` covers; `None` at any other.
    #[inline]
    pub(crate) fn exact_time_point(&self, counter: u64) -> Option<TimePoint> {
        self.exact.as_ref()?.time_point_at(&self.readings, counter)
    }

    /// Completes a time point of this state to a reading.
    #[inline(always)]
    pub(crate) fn reading(&self, point: &TimePoint) -> Reading {
        let epoch_ns = point.epoch_ns;
        // Fits, because linear functions stay far below 2^63.
        let side_ns = point.max_error_ns.map(u64::cast_signed);
        Reading {
            epoch_ns,
            max_error_ns: point.max_error_ns,
            est_error_ns: point.est_error_ns,
            earliest_ns: side_ns.map(|side| epoch_ns - side),
            latest_ns: side_ns.map(|side| epoch_ns + side),
            age_ns: epoch_ns - self.reference_ns,
            counter: point.counter,
            ..self.shared
        }
    }
}

/// The page under one sequence number, checked and ready to convert counters.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    /// The page's sequence number, even.
    pub(crate) seq: u32,
    /// Which machine and which clock this is, and whether the bound may be given.
    pub(crate) outlook: Outlook,
    /// The reference of the linear functions. `None` where none can be made for this page.
    reference: Option<linear::Reference>,
    /// `None` where the page gives no time: [`Conversion::mapping`] says why.
    mapping: Option<Mapping>,
    /// How long after the reference the bound holds, in ticks.
    bound_ticks: u64,
    /// How old the page may become, in ticks after the reference.
    fresh_ticks: u64,
    snapshot: Snapshot,
    policy: ClockPolicy,
}

/// The clock's guard, as far as conversions need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    /// The sequence number of the device that guards the page, or the page's own.
    pub(crate) guard_seq: u32,
    /// Which machine and which clock this is, as far as anybody knows.
    pub(crate) continuity: Continuity,
    /// Nobody knows at present whether that is so.
    pub(crate) is_in_doubt: bool,
    /// The page was made in another boot.
    pub(crate) is_other_boot: bool,
    /// The reason for which the reader takes the bound away.
    pub(crate) no_bound: Option<NoBound>,
}

/// The clock's own part in whether the page's time may be used and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockPolicy {
    /// This machine's counter, by the page's name for it.
    pub(crate) counter_id: u8,
    pub(crate) timescale: Timescale,
    pub(crate) assumed_drift_ppb: Option<u32>,
    pub(crate) assumed_error_ns: Option<u64>,
    pub(crate) require_synchronized: bool,
    /// How old a page with an extension may be.
    pub(crate) max_age_ns: Option<u64>,
    /// How large the bound may be.
    pub(crate) error_limit_ns: Option<u64>,
}

impl Conversion {
    /// Checks a state of the page, and prepares to convert counters by it.
    pub(crate) fn new(snapshot: Snapshot, policy: ClockPolicy, outlook: Outlook) -> Self {
        let raw = &snapshot.raw;
        let ticks_in =
            |ns| fixed::ticks_in(ns, raw.counter_period_frac_sec, raw.counter_period_shift);
        let extension = snapshot.extension.as_ref();
        let void_after_ns = extension
            .map(|extension| extension.void_after_ns)
            .filter(|ns| *ns != 0);
        let max_age_ns = policy.max_age_ns.filter(|_| extension.is_some());
        let mut conversion = Self {
            seq: snapshot.seq_count,
            outlook,
            reference: None,
            mapping: None,
            // From that age on there is no bound, so the last tick is the one before.
            bound_ticks: void_after_ns.map_or(u64::MAX, |ns| ticks_in(ns).saturating_sub(1)),
            fresh_ticks: max_age_ns.map_or(u64::MAX, ticks_in),
            snapshot,
            policy,
        };
        conversion.mapping = conversion.checked_mapping().ok();
        conversion.reference = conversion
            .mapping
            .and_then(|mapping| conversion.linear_reference(&mapping));
        conversion
    }

    /// Makes the fast path of this state of the page.
    pub(crate) fn fast_path(&self) -> FastPath {
        let continuity = self.outlook.continuity;
        let none = FastPath {
            seq: self.seq,
            guard_seq: self.outlook.guard_seq,
            continuity: (!self.outlook.is_in_doubt).then_some(continuity),
            ..FastPath::NONE
        };
        let Some((reference, mapping)) = self.reference.zip(self.mapping) else {
            return none;
        };
        let (max_error, est_error) = self.errors(0);
        let live_ms_bits = if self.policy.timescale.is_utc() {
            LinearFn::live_ms_bits(&reference)
        } else {
            None
        };
        let times_only = FastPath {
            live_ns: LinearFn::live_ns(&reference).unwrap_or(LinearFn::NONE),
            live_ms_bits: live_ms_bits.unwrap_or(LinearFn::NONE),
            exact: Some(Exact::new(reference, max_error, est_error)),
            ..none
        };
        // A reading near a leap second has more figures that change with the counter: its interval is not
        // symmetric, and TAI - UTC changes.
        if mapping.has_leap() {
            return times_only;
        }
        let readings = LinearReading::new(&reference, max_error, est_error, self.bound_ticks);
        FastPath {
            readings: readings.unwrap_or(LinearReading::NONE),
            reference_ns: reference.label_ns(),
            shared: Reading {
                disruption_marker: continuity.disruption_marker,
                vm_generation: continuity.vm_generation,
                status: self.snapshot.raw.clock_status.into(),
                timescale: self.policy.timescale,
                // Without a leap second it is the same at every time.
                tai_minus_utc_sec: mapping.tai_minus_utc_sec(0),
                ..FastPath::NONE.shared
            },
            ..times_only
        }
    }

    /// The maximum and the estimated error at the reference, each with its growth a tick, for a counter at `d`
    /// ticks from it. A reader that takes the bound away takes the estimate away too.
    fn errors(&self, d: i64) -> (Option<ErrorAndRate>, Option<ErrorAndRate>) {
        if self.no_bound(d).is_some() {
            return (None, None);
        }
        let snapshot = &self.snapshot;
        (self.policy.max_error(snapshot), est_error(snapshot))
    }

    /// The reader's reason for a time without a bound at `d` ticks from the reference.
    fn no_bound(&self, d: i64) -> Option<NoBound> {
        let void = || is_beyond(d, self.bound_ticks).then_some(NoBound::Void);
        self.outlook.no_bound.or_else(void)
    }

    /// Every field of the page, as of `counter`.
    pub(crate) fn snapshot(&self, counter: u64) -> Snapshot {
        let d = self.distance_ticks(counter);
        let raw = &self.snapshot.raw;
        let has_time = self.snapshot.covers_time()
            && raw.counter_id == self.policy.counter_id
            && raw.counter_period_frac_sec != 0
            && raw.counter_period_shift <= fixed::MAX_SHIFT;
        Snapshot {
            counter,
            age_ns: has_time.then(|| clamp(self.age_ns(d))),
            reader: self.no_bound(d),
            ..self.snapshot
        }
    }

    /// Prepares to convert many counters.
    pub(crate) fn converter(&self) -> Result<Converter<'_>, Error> {
        Ok(Converter {
            conversion: self,
            mapping: self.mapping()?,
            wide_ns: self
                .reference
                .as_ref()
                .and_then(LinearFn::wide_ns)
                .unwrap_or(LinearFn::NONE),
            exact: self
                .reference
                .map(|reference| Exact::new(reference, None, None)),
        })
    }

    /// Returns the time from one counter to a later one, in nanoseconds of the page's own time.
    pub(crate) fn span_ns(&self, first: u64, last: u64) -> i128 {
        let page_ns = |counter| self.page_ns(self.distance_ticks(counter));
        page_ns(last) - page_ns(first)
    }

    /// How the page's time becomes the time asked for, or why the page gives none.
    pub(crate) fn mapping(&self) -> Result<Mapping, Error> {
        self.mapping.map_or_else(|| self.checked_mapping(), Ok)
    }

    fn checked_mapping(&self) -> Result<Mapping, Error> {
        let mapping = self.policy.mapping(&self.snapshot);
        match mapping {
            Err(error @ Error::NoTime { .. }) => Err(error),
            _ if self.outlook.is_other_boot => Err(Error::OtherBoot),
            mapping => mapping,
        }
    }

    /// Refuses a counter at `d` ticks from the reference for which the page is too old.
    fn require_fresh(&self, d: i64) -> Result<(), Error> {
        match self.policy.max_age_ns {
            Some(max_age_ns) if is_beyond(d, self.fresh_ticks) => Err(Error::Stale {
                age_ms: clamp(self.age_ns(d))
                    .unsigned_abs()
                    .div_ceil(NS_PER_MS.unsigned_abs()),
                max_age_ms: max_age_ns.div_ceil(NS_PER_MS.unsigned_abs()),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a bound that is larger than the caller's limit, or missing.
    pub(crate) fn require_certain(&self, max_error_ns: Option<u64>) -> Result<(), Error> {
        match self.policy.error_limit_ns {
            Some(error_limit_ns) if max_error_ns.is_none_or(|ns| ns > error_limit_ns) => {
                Err(Error::TooUncertain {
                    max_error_ns,
                    error_limit_ns,
                })
            }
            _ => Ok(()),
        }
    }

    /// Returns how old the reference is at `d` ticks from it, in nanoseconds.
    fn age_ns(&self, d: i64) -> i128 {
        self.page_ns(d) - self.page_ns(0)
    }

    /// Returns the reference of linear functions. `None` where the mapping is more than a shift by whole
    /// seconds, because then the label does not grow evenly, and where no function is made for the label.
    fn linear_reference(&self, mapping: &Mapping) -> Option<linear::Reference> {
        let raw = &self.snapshot.raw;
        let sec = i128::from(raw.time_sec) + i128::from(mapping.shift_sec()?);
        linear::Reference::new(
            raw.counter_value,
            (raw.counter_period_frac_sec, raw.counter_period_shift),
            (sec, raw.time_frac_sec),
            self.limits()?,
        )
    }

    /// Returns how far from the reference the caller's limits hold. `None` where they never do. For a mapping
    /// that is a shift, near a leap second too: its interval is then as wide as the bound on both sides.
    fn limits(&self) -> Option<Limits> {
        let Some(limit_ns) = self.policy.error_limit_ns else {
            return Some(Limits {
                after: self.fresh_ticks,
                ..Limits::NONE
            });
        };
        let (at_reference_ns, rate) = self.errors(0).0?;
        let shift = self.snapshot.raw.counter_period_shift;
        let is_within = |d: u64| {
            let grown_ns = fixed::growth_ns(d.cast_signed(), rate, shift);
            fixed::saturate(fixed::bound_ns(at_reference_ns, grown_ns)) <= limit_ns
        };
        if !is_within(0) {
            return None;
        }
        let most = most_ticks(is_within);
        Some(Limits {
            before: most,
            after: most.min(self.fresh_ticks).min(self.bound_ticks),
        })
    }

    /// Refuses a live counter that is more than a second behind the reference.
    pub(crate) fn require_near(&self, counter: u64) -> Result<(), Error> {
        self.mapping()?;
        let raw = &self.snapshot.raw;
        let d = self.distance_ticks(counter);
        let per_second =
            fixed::ticks_per_second(raw.counter_period_frac_sec, raw.counter_period_shift);
        // A little behind is normal: the counter may have been read just before the page's update. More
        // than a second means that counter and page do not belong together.
        if d < 0 && d.unsigned_abs() > per_second {
            return Err(Error::CounterMismatch {
                behind_ticks: d.unsigned_abs(),
            });
        }
        Ok(())
    }

    /// Returns the reading at `counter`, by the formulas.
    pub(crate) fn reading(&self, counter: u64) -> Result<Reading, Error> {
        let mapping = self.mapping()?;
        let raw = &self.snapshot.raw;
        let d = self.distance_ticks(counter);
        self.require_fresh(d)?;
        let page_ns = self.page_ns(d);
        let grown_ns = |rate| fixed::growth_ns(d, rate, raw.counter_period_shift);
        let (max_error, est_error) = self.errors(d);
        let bound_ns = max_error
            .map(|(at_reference_ns, rate)| fixed::bound_ns(at_reference_ns, grown_ns(rate)));
        let est_error_ns = est_error.map(|(at_reference_ns, rate)| {
            fixed::saturate(u128::from(at_reference_ns) + grown_ns(rate))
        });
        // Without a bound the interval is a point and is not returned.
        let label = mapping.label(page_ns, bound_ns.unwrap_or(0));
        let epoch_ns = i64::try_from(label.epoch_ns).map_err(|_| Error::OutOfRange)?;
        // Near a leap second the interval is not symmetric: the larger side is the maximum error.
        let side = (label.epoch_ns - label.earliest_ns).max(label.latest_ns - label.epoch_ns);
        // An error beyond 64 bits saturates. The interval was made from the whole bound, so it still holds
        // every truth that 64 bits can express.
        let max_error_ns = bound_ns.map(|_| fixed::saturate(side.unsigned_abs()));
        self.require_certain(max_error_ns)?;
        Ok(Reading {
            epoch_ns,
            max_error_ns,
            est_error_ns,
            earliest_ns: bound_ns.map(|_| clamp(label.earliest_ns)),
            latest_ns: bound_ns.map(|_| clamp(label.latest_ns)),
            age_ns: clamp(self.age_ns(d)),
            counter,
            disruption_marker: self.outlook.continuity.disruption_marker,
            vm_generation: self.outlook.continuity.vm_generation,
            status: raw.clock_status.into(),
            leap_second: mapping.is_leap_second(page_ns),
            timescale: self.policy.timescale,
            tai_minus_utc_sec: mapping.tai_minus_utc_sec(page_ns),
        })
    }

    /// Returns the signed distance from the page's reference to `counter`.
    fn distance_ticks(&self, counter: u64) -> i64 {
        fixed::distance_ticks(counter, self.snapshot.raw.counter_value)
    }

    /// Returns the page's own time at `d` ticks from its reference.
    fn page_ns(&self, d: i64) -> i128 {
        let raw = &self.snapshot.raw;
        let elapsed = fixed::elapsed_frac(d, raw.counter_period_frac_sec, raw.counter_period_shift);
        fixed::time_ns(raw.time_sec, raw.time_frac_sec, elapsed)
    }
}

/// Returns whether `d` is more than `ticks` after the reference.
fn is_beyond(d: i64, ticks: u64) -> bool {
    d > 0 && d.unsigned_abs() > ticks
}

/// Returns the largest distance for which `is_within` holds. It holds for 0, and for no distance beyond one for
/// which it does not hold.
fn most_ticks(is_within: impl Fn(u64) -> bool) -> u64 {
    let mut most = 0;
    for bit in (0..62).rev() {
        let more = most | 1 << bit;
        if is_within(more) {
            most = more;
        }
    }
    most
}

impl ClockPolicy {
    /// Makes every check of whether the page's time may be used, and returns how it is used.
    fn mapping(&self, snapshot: &Snapshot) -> Result<Mapping, Error> {
        let raw = &snapshot.raw;
        if !snapshot.covers_time() {
            return Err(Error::NoTime {
                reason: NoTime::Size(snapshot.size_bytes),
            });
        }
        if raw.counter_id == VMCLOCK_COUNTER_INVALID {
            return Err(Error::NoTime {
                reason: NoTime::NoCounter,
            });
        }
        if raw.counter_id != self.counter_id {
            return Err(Error::WrongCounter {
                found: raw.counter_id,
                expected: self.counter_id,
            });
        }
        match ClockStatus::from(raw.clock_status) {
            ClockStatus::Synchronized => {}
            ClockStatus::FreeRunning if !self.require_synchronized => {}
            status => return Err(Error::Unsynchronized { status }),
        }
        if raw.counter_period_frac_sec == 0 || raw.counter_period_shift > fixed::MAX_SHIFT {
            return Err(Error::BadPeriod {
                period: raw.counter_period_frac_sec,
                shift: raw.counter_period_shift,
            });
        }
        let reference = Reference {
            time_type: snapshot.time_type(),
            time_sec: raw.time_sec,
            leap_indicator: snapshot.leap_indicator().unwrap_or(LeapIndicator::None),
            tai_offset_sec: raw.tai_offset_sec,
            tai_offset_flagged: snapshot.tai_offset_flagged(),
        };
        Mapping::new(&reference, self.timescale)
    }

    /// Returns the maximum error at the reference and its growth a tick, by the page. The caller's assumptions
    /// complete what it does not state.
    fn max_error(&self, snapshot: &Snapshot) -> Option<ErrorAndRate> {
        let rate = snapshot
            .period_max_error()
            .or_else(|| self.assumed_period_error(snapshot.raw.counter_period_frac_sec));
        let base_ns = snapshot.time_max_error_ns().or_else(|| {
            self.assumed_error_ns
                .filter(|_| snapshot.may_assume_time_error())
        });
        base_ns.zip(rate)
    }

    /// Returns the caller's assumption about the counter's rate in the period's unit, rounded up.
    fn assumed_period_error(&self, period: u64) -> Option<u64> {
        let ppb = u128::from(self.assumed_drift_ppb?);
        u64::try_from((u128::from(period) * ppb).div_ceil(PPB)).ok()
    }
}

/// Returns the estimated error at the reference and its growth a tick.
fn est_error(snapshot: &Snapshot) -> Option<ErrorAndRate> {
    snapshot
        .time_est_error_ns()
        .zip(snapshot.period_est_error())
}

/// Converts many counters by one state of the page: see [`crate::VmClock::converter`].
#[derive(Debug)]
pub struct Converter<'clock> {
    conversion: &'clock Conversion,
    mapping: Mapping,
    wide_ns: LinearFn,
    exact: Option<Exact>,
}

impl Converter<'_> {
    /// Returns the time at `counter`, in nanoseconds since the timescale's epoch.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::Stale`], [`Error::TooUncertain`].
    #[inline]
    pub fn epoch_ns(&self, counter: u64) -> Result<i64, Error> {
        match self.wide_ns.at(counter) {
            Some(ns) => Ok(ns.cast_signed()),
            None => self.slow_epoch_ns(counter),
        }
    }

    #[cold]
    fn slow_epoch_ns(&self, counter: u64) -> Result<i64, Error> {
        let exact = self.exact.as_ref();
        if let Some(ns) = exact.and_then(|exact| exact.ns_at(&self.wide_ns, counter)) {
            return Ok(ns);
        }
        let d = self.conversion.distance_ticks(counter);
        self.conversion.require_fresh(d)?;
        if self.conversion.policy.error_limit_ns.is_some() {
            return Ok(self.conversion.reading(counter)?.epoch_ns);
        }
        let page_ns = self.conversion.page_ns(d);
        let label = self.mapping.label(page_ns, 0);
        i64::try_from(label.epoch_ns).map_err(|_| Error::OutOfRange)
    }
}

/// Cuts off the end of an interval at what 64 bits hold. No time beyond can be expressed, so the interval
/// still holds every truth that can.
fn clamp(ns: i128) -> i64 {
    ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}
