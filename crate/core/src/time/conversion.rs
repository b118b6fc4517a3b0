//! From a counter to a reading, by one state of the page.
//!
//! All checks (version, counter, status, period, timescale) are made once for each state: a page that
//! may not be used has no short way, and what it is refused for is found on the long one.

use crate::abi::{VMCLOCK_COUNTER_INVALID, VMCLOCK_VERSION};
use crate::error::{Error, NoTime};
use crate::seqlock::Consistent;
use crate::snapshot::{Abi, ClockStatus, LeapIndicator, Snapshot};
use crate::time::fixed;
use crate::time::leap::{Mapping, Reference, Timescale};
use crate::time::linear::{self, ErrorAndRate, Exact, LinearFn, ReadingLines};
use crate::time::reading::{Continuity, Reading, TimePoint};

const PPB: u128 = 1_000_000_000;

/// The short ways of a page under one sequence number, as a stamp looks at them: all that it loads, and
/// nothing that it would have to ask first. What has no short way has one that gives nothing.
#[derive(Clone, Debug)]
pub(crate) struct FastPath {
    pub(crate) seq: u32,
    /// From a live counter to its label in nanoseconds.
    pub(crate) live_ns: LinearFn,
    /// To the same in milliseconds, as a double's bits.
    pub(crate) live_ms_bits: LinearFn,
    /// To all that changes from one reading to the next.
    pub(crate) readings: ReadingLines,
    /// What the page says about which machine this is.
    pub(crate) continuity: Option<Continuity>,
    /// For the lines above, next to a border; `None` where there are none.
    exact: Option<Exact>,
    /// A reading but for what changes; of no meaning where `readings` gives nothing.
    rest: Reading,
}

impl FastPath {
    /// Those of no page.
    pub(crate) const NONE: Self = Self {
        seq: 0,
        live_ns: LinearFn::NONE,
        live_ms_bits: LinearFn::NONE,
        readings: ReadingLines::NONE,
        continuity: None,
        exact: None,
        rest: Reading {
            epoch_ns: 0,
            max_error_ns: None,
            est_error_ns: None,
            earliest_ns: None,
            latest_ns: None,
            counter: 0,
            disruption_marker: 0,
            vm_generation: None,
            status: ClockStatus::Unknown(0),
            leap_second: false,
            timescale: Timescale::Utc,
            tai_minus_utc_sec: None,
        },
    };

    /// What `live_ns` does not tell of a counter next to a border.
    #[inline]
    pub(crate) fn exact_ns(&self, counter: u64) -> Option<i64> {
        self.exact.as_ref()?.ns_along(&self.live_ns, counter)
    }

    /// What `readings` do not tell of a counter next to a border.
    #[inline]
    pub(crate) fn exact_time_point(&self, counter: u64) -> Option<TimePoint> {
        self.exact.as_ref()?.moment_along(&self.readings, counter)
    }

    /// The whole reading that `moment` of these ways is of.
    #[inline(always)]
    pub(crate) fn reading(&self, point: &TimePoint) -> Reading {
        let epoch_ns = point.epoch_ns;
        // Lines stay far below 2^63.
        let side_ns = point.max_error_ns.map(u64::cast_signed);
        Reading {
            epoch_ns,
            max_error_ns: point.max_error_ns,
            est_error_ns: point.est_error_ns,
            earliest_ns: side_ns.map(|side| epoch_ns - side),
            latest_ns: side_ns.map(|side| epoch_ns + side),
            counter: point.counter,
            ..self.rest
        }
    }
}

/// What follows from the page under one sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    pub(crate) seq: u32,
    /// What the page says about which machine this is.
    pub(crate) continuity: Continuity,
    /// `None` where no line is made for this page.
    reference: Option<linear::Reference>,
    /// `None` where the page gives no time: [`Conversion::mapping`] says why.
    mapping: Option<Mapping>,
    snapshot: Snapshot,
    rules: ClockPolicy,
}

/// What decides, beside the page, whether its time may be used and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockPolicy {
    /// The counter that there is.
    pub(crate) counter_id: u8,
    pub(crate) timescale: Timescale,
    pub(crate) assumed_drift_ppb: Option<u32>,
    pub(crate) require_synchronized: bool,
}

impl Conversion {
    /// What follows from what one look at a page of `size_bytes` saw.
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`].
    pub(crate) fn new(
        seen: &Consistent,
        size_bytes: u32,
        abi: Abi,
        rules: ClockPolicy,
    ) -> Result<Self, Error> {
        let snapshot = Snapshot::new(seen, size_bytes, abi);
        // A machine that was moved to another host may find another provider's page here. What that
        // means no field tells, so nothing of it is used.
        let found = snapshot.raw.version;
        if found != VMCLOCK_VERSION {
            return Err(Error::VersionChanged { found });
        }
        let mapping = rules.map(&snapshot).ok();
        let reference = mapping.and_then(|mapping| {
            let raw = &snapshot.raw;
            linear::Reference::new(
                raw.counter_value,
                (raw.counter_period_frac_sec, raw.counter_period_shift),
                (
                    i128::from(raw.time_sec) + i128::from(mapping.shift_sec()?),
                    raw.time_frac_sec,
                ),
            )
        });
        Ok(Self {
            seq: seen.seq,
            continuity: Continuity {
                disruption_marker: snapshot.raw.disruption_marker,
                vm_generation: snapshot.vm_generation(),
            },
            reference,
            mapping,
            snapshot,
            rules,
        })
    }

    /// The short ways of this state of the page.
    pub(crate) fn fast_path(&self) -> FastPath {
        let none = FastPath {
            seq: self.seq,
            continuity: Some(self.continuity),
            ..FastPath::NONE
        };
        let Some((reference, mapping)) = self.reference.zip(self.mapping) else {
            return none;
        };
        let snapshot = &self.snapshot;
        let (max_error, est_error) = (self.rules.max_error(snapshot), est_error(snapshot));
        let ways = FastPath {
            live_ns: LinearFn::live_ns(&reference).unwrap_or(LinearFn::NONE),
            live_ms_bits: Some(&reference)
                .filter(|_| self.rules.timescale.is_utc())
                .and_then(LinearFn::live_ms_bits)
                .unwrap_or(LinearFn::NONE),
            exact: Some(Exact::new(reference, max_error, est_error)),
            ..none
        };
        // Next to a leap second intervals are not symmetric, and the offset of TAI changes.
        if mapping.has_leap() {
            return ways;
        }
        FastPath {
            readings: ReadingLines::new(&reference, max_error, est_error)
                .unwrap_or(ReadingLines::NONE),
            rest: Reading {
                disruption_marker: self.continuity.disruption_marker,
                vm_generation: self.continuity.vm_generation,
                status: snapshot.raw.clock_status.into(),
                timescale: self.rules.timescale,
                tai_minus_utc_sec: mapping.tai_minus_utc_sec(0),
                ..FastPath::NONE.rest
            },
            ..ways
        }
    }

    /// Every field of the page.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// For many counters.
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

    /// From one counter to a later one, in nanoseconds of the page's own time.
    pub(crate) fn span_ns(&self, first: u64, last: u64) -> i128 {
        let page_ns = |counter| {
            self.page_ns(fixed::distance_ticks(
                counter,
                self.snapshot.raw.counter_value,
            ))
        };
        page_ns(last) - page_ns(first)
    }

    /// How the page's time becomes the time asked for.
    pub(crate) fn mapping(&self) -> Result<Mapping, Error> {
        self.mapping
            .map_or_else(|| self.rules.map(&self.snapshot), Ok)
    }

    /// Refuses a live counter that is more than a second behind the reference.
    pub(crate) fn require_near(&self, counter: u64) -> Result<(), Error> {
        self.mapping()?;
        let raw = &self.snapshot.raw;
        let d = fixed::distance_ticks(counter, raw.counter_value);
        let per_second =
            fixed::ticks_per_second(raw.counter_period_frac_sec, raw.counter_period_shift);
        if d < 0 && d.unsigned_abs() > per_second {
            return Err(Error::CounterMismatch {
                behind_ticks: d.unsigned_abs(),
            });
        }
        Ok(())
    }

    /// The reading at `counter`.
    pub(crate) fn reading(&self, counter: u64) -> Result<Reading, Error> {
        let mapping = self.mapping()?;
        let snapshot = &self.snapshot;
        let raw = &snapshot.raw;
        let shift = raw.counter_period_shift;
        let d = fixed::distance_ticks(counter, raw.counter_value);
        let page_ns = self.page_ns(d);
        let bound_ns = self.rules.max_error(snapshot).map(|(at_reference, rate)| {
            fixed::bound_ns(at_reference, fixed::growth_ns(d, rate, shift))
        });
        let est_error_ns = est_error(snapshot).map(|(at_reference, rate)| {
            fixed::saturate(u128::from(at_reference) + fixed::growth_ns(d, rate, shift))
        });
        let label = mapping.label(page_ns, bound_ns.unwrap_or(0));
        let epoch_ns = i64::try_from(label.epoch_ns).map_err(|_| Error::OutOfRange)?;
        let side = (label.epoch_ns - label.earliest_ns).max(label.latest_ns - label.epoch_ns);
        Ok(Reading {
            epoch_ns,
            // An error too large for 64 bits saturates; the interval was made before that, so that
            // it still holds every truth that 64 bits can express.
            max_error_ns: bound_ns.map(|_| fixed::saturate(side.unsigned_abs())),
            est_error_ns,
            earliest_ns: bound_ns.map(|_| clamp(label.earliest_ns)),
            latest_ns: bound_ns.map(|_| clamp(label.latest_ns)),
            counter,
            disruption_marker: raw.disruption_marker,
            vm_generation: snapshot.vm_generation(),
            status: raw.clock_status.into(),
            leap_second: mapping.is_leap_second(page_ns),
            timescale: self.rules.timescale,
            tai_minus_utc_sec: mapping.tai_minus_utc_sec(page_ns),
        })
    }

    /// The page's own time at `d` ticks from its reference.
    fn page_ns(&self, d: i64) -> i128 {
        let raw = &self.snapshot.raw;
        let elapsed = fixed::elapsed_frac(d, raw.counter_period_frac_sec, raw.counter_period_shift);
        fixed::time_ns(raw.time_sec, raw.time_frac_sec, elapsed)
    }
}

impl ClockPolicy {
    /// All that decides whether the page's time may be used, and how.
    fn map(&self, snapshot: &Snapshot) -> Result<Mapping, Error> {
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

    /// The maximum error at the reference, and its growth a tick.
    fn max_error(&self, snapshot: &Snapshot) -> Option<ErrorAndRate> {
        let rate = snapshot
            .period_max_error()
            .or_else(|| self.assumed_period_error(snapshot.raw.counter_period_frac_sec));
        snapshot.time_max_error_ns().zip(rate)
    }

    /// The caller's assumption about the counter's rate in the period's own unit, rounded up.
    fn assumed_period_error(&self, period: u64) -> Option<u64> {
        let ppb = u128::from(self.assumed_drift_ppb?);
        u64::try_from((u128::from(period) * ppb).div_ceil(PPB)).ok()
    }
}

/// The estimated error at the reference, and its growth a tick.
fn est_error(snapshot: &Snapshot) -> Option<ErrorAndRate> {
    snapshot
        .time_est_error_ns()
        .zip(snapshot.period_est_error())
}

/// Converts counters by one state of the page: [`crate::VmClock::converter`].
#[derive(Debug)]
pub struct Converter<'clock> {
    conversion: &'clock Conversion,
    mapping: Mapping,
    wide_ns: LinearFn,
    exact: Option<Exact>,
}

impl Converter<'_> {
    /// The time at `counter`, in nanoseconds since the timescale's epoch.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`].
    #[inline]
    pub fn epoch_ns(&self, counter: u64) -> Result<i64, Error> {
        match self.wide_ns.at(counter) {
            Some(ns) => Ok(ns.cast_signed()),
            None => self.epoch_ns_the_long_way(counter),
        }
    }

    #[cold]
    fn epoch_ns_the_long_way(&self, counter: u64) -> Result<i64, Error> {
        let exact = self.exact.as_ref();
        if let Some(ns) = exact.and_then(|exact| exact.ns_along(&self.wide_ns, counter)) {
            return Ok(ns);
        }
        let d = fixed::distance_ticks(counter, self.conversion.snapshot.raw.counter_value);
        let label = self.mapping.label(self.conversion.page_ns(d), 0);
        i64::try_from(label.epoch_ns).map_err(|_| Error::OutOfRange)
    }
}

/// The end of an interval, cut off at what 64 bits hold. Times beyond it cannot be expressed, so
/// an interval that is cut off still holds every truth that can.
fn clamp(ns: i128) -> i64 {
    ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}
