//! From a counter to a reading, by one state of the page.
//!
//! All checks (version, counter, status, period, timescale) are made once for each state: a page that
//! may not be used has no short way, and what it is refused for is found on the long one.

use crate::abi::{VMCLOCK_COUNTER_INVALID, VMCLOCK_VERSION};
use crate::error::{Error, NoTime};
use crate::fixed;
use crate::leap::{Mapping, Reference, Timescale};
use crate::reading::{Continuity, Reading};
use crate::seqlock::Consistent;
use crate::snapshot::{Abi, ClockStatus, LeapIndicator, Snapshot};

const NS_PER_SEC: i64 = 1_000_000_000;
const PPB: u128 = 1_000_000_000;

/// What follows from the page under one sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    pub(crate) seq: u32,
    /// The short way from counter to label, where there is one.
    pub(crate) plain: Option<Plain>,
    /// `None` where the page gives no time: [`Conversion::mapping`] says why.
    mapping: Option<Mapping>,
    snapshot: Snapshot,
    rules: Rules,
}

/// What decides, beside the page, whether its time may be used and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The counter that there is.
    pub(crate) counter_id: u8,
    pub(crate) timescale: Timescale,
    pub(crate) assumed_drift_ppb: Option<u32>,
    pub(crate) refuse_free_running: bool,
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
        rules: Rules,
    ) -> Result<Self, Error> {
        let snapshot = Snapshot::new(seen, size_bytes, abi);
        // A machine that was moved to another host may find another provider's page here. What that
        // means no field tells, so nothing of it is used.
        let found = snapshot.raw.version;
        if found != VMCLOCK_VERSION {
            return Err(Error::VersionChanged { found });
        }
        let mapping = rules.map(&snapshot).ok();
        let plain = mapping.and_then(|mapping| Plain::new(&snapshot, &mapping));
        Ok(Self {
            seq: seen.seq,
            plain,
            mapping,
            snapshot,
            rules,
        })
    }

    /// Every field of the page.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What the page says about which machine this is.
    pub(crate) fn continuity(&self) -> Continuity {
        Continuity {
            disruption_marker: self.snapshot.raw.disruption_marker,
            vm_generation: self.snapshot.vm_generation(),
        }
    }

    /// For many counters.
    pub(crate) fn converter(&self) -> Result<Converter<'_>, Error> {
        Ok(Converter {
            conversion: self,
            mapping: self.mapping()?,
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
        let bound_ns = snapshot
            .time_max_error_ns()
            .zip(
                snapshot
                    .period_max_error()
                    .or_else(|| self.rules.assumed_period_error(raw.counter_period_frac_sec)),
            )
            .map(|(at_reference, rate)| {
                fixed::bound_ns(at_reference, fixed::growth_ns(d, rate, shift))
            });
        let est_error_ns = snapshot
            .time_est_error_ns()
            .zip(snapshot.period_est_error())
            .map(|(at_reference, rate)| {
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

impl Rules {
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
            ClockStatus::FreeRunning if !self.refuse_free_running => {}
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

    /// The caller's assumption about the counter's rate in the period's own unit, rounded up.
    fn assumed_period_error(&self, period: u64) -> Option<u64> {
        let ppb = u128::from(self.assumed_drift_ppb?);
        u64::try_from((u128::from(period) * ppb).div_ceil(PPB)).ok()
    }
}

/// A label that is the page's time plus a constant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    counter_value: u64,
    period: u64,
    shift: u8,
    /// The label at the reference in units of 2^-64 s.
    reference: i128,
    /// The least distance from the reference that a live counter may have: -1 s.
    least_distance_ticks: i64,
}

impl Plain {
    /// References further from 1970 than this many seconds take the long way, which is exact for
    /// all: here neither the reference nor its sum with a second's ticks overflows.
    const LARGEST_SEC: i128 = 1 << 40;

    fn new(snapshot: &Snapshot, mapping: &Mapping) -> Option<Self> {
        let raw = &snapshot.raw;
        let reference_sec = i128::from(raw.time_sec) + i128::from(mapping.shift_sec()?);
        if !(0..Self::LARGEST_SEC).contains(&reference_sec) {
            return None;
        }
        let per_second =
            fixed::ticks_per_second(raw.counter_period_frac_sec, raw.counter_period_shift);
        Some(Self {
            counter_value: raw.counter_value,
            period: raw.counter_period_frac_sec,
            shift: raw.counter_period_shift,
            reference: (reference_sec << 64) | i128::from(raw.time_frac_sec),
            least_distance_ticks: i64::try_from(per_second).map_or(i64::MIN, |ticks| -ticks),
        })
    }

    /// The label of a live counter; `None` where it needs the long way, to a result or an error.
    #[inline(always)]
    pub(crate) fn live_ns(&self, counter: u64) -> Option<i64> {
        let d = fixed::distance_ticks(counter, self.counter_value);
        if d < self.least_distance_ticks {
            return None;
        }
        self.label_ns(d)
    }

    #[inline(always)]
    fn label_ns(&self, d: i64) -> Option<i64> {
        let elapsed = fixed::elapsed_frac(d, self.period, self.shift);
        let ticks = self.reference.checked_add(elapsed)?;
        // Cut off on purpose: the halves are whole seconds and the fraction.
        let seconds = (ticks >> 64) as i64;
        let fraction = ticks as u64;
        // Strictly inside the range, so that the sum below cannot leave it.
        if seconds.unsigned_abs() >= i64::MAX.unsigned_abs() / NS_PER_SEC.unsigned_abs() {
            return None;
        }
        Some(seconds * NS_PER_SEC + fixed::frac_to_ns(fraction).cast_signed())
    }
}

/// Converts counters by one state of the page: [`crate::VmClock::converter`].
#[derive(Debug)]
pub struct Converter<'clock> {
    conversion: &'clock Conversion,
    mapping: Mapping,
}

impl Converter<'_> {
    /// The time at `counter`, in nanoseconds since the timescale's epoch.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`].
    #[inline]
    pub fn epoch_ns(&self, counter: u64) -> Result<i64, Error> {
        let d = fixed::distance_ticks(counter, self.conversion.snapshot.raw.counter_value);
        if let Some(ns) = self.conversion.plain.and_then(|plain| plain.label_ns(d)) {
            return Ok(ns);
        }
        let label = self.mapping.label(self.conversion.page_ns(d), 0);
        i64::try_from(label.epoch_ns).map_err(|_| Error::OutOfRange)
    }
}

/// The end of an interval, cut off at what 64 bits hold. Times beyond it cannot be expressed, so
/// an interval that is cut off still holds every truth that can.
fn clamp(ns: i128) -> i64 {
    ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}
