//! The fast path from a counter to a figure: one multiplication, with the exact result or none.
//!
//! The formulas (`fixed`, then `leap`) multiply twice and round twice. A [`LinearFn`] holds the product of
//! both factors, truncated to a multiple of 2^-64 of the figure's unit, so its value may be a little off. Its result is
//! the formulas' all the same, or none:
//!
//! ```text
//!   E  the formulas' value before its last rounding, so floor(E) is the result
//!   v  the function's value + MARGIN
//!   E < v < E + 2 * MARGIN                                   (see MARGIN)
//!
//!   If fraction(v) >= 2 * MARGIN:
//!     floor(v) = v - fraction(v) <= v - 2 * MARGIN < E
//!     E < v
//!     so floor(v) <= floor(E) <= floor(v)
//! ```
//!
//! A smaller fraction means that v lies next to a border between two results, and the function returns
//! nothing. [`Exact`] then follows the formulas. On most pages that happens once in thousands of counters.
//! On pages whose tick and reference are both whole nanoseconds it happens at every counter, and each
//! timestamp follows the formulas.
//!
//! The limits of a function are computed once for each page state, as `first` and `span_ticks`. A timestamp
//! has only two comparisons left to make.

use crate::time::NS_PER_SEC;
use crate::time::fixed;
use crate::time::reading::TimePoint;

/// How far a function reaches from the reference, in ticks: a day at 3 GHz.
const REACH_TICKS: u64 = 1 << 48;

/// How far a function of a slow counter reaches, in seconds: 36 hours. It keeps all sums and products
/// below within 128 bits.
const REACH_SEC: u64 = 1 << 17;

/// How far the function may be from the formulas' value, in 2^-64 of the unit, rounded up to a power of 2.
///
/// - Its slope is less than 2^-64 of the unit per tick below the true one. At [`REACH_TICKS`] after the reference
///   its value is less than 2^48 too low, and as far before the reference less than 2^48 too high.
/// - The formulas' first rounding takes away less than 2^-64 s, that is, less than `units_per_sec` times
///   2^-64 of the unit: at most 10^9, less than 2^30.
const MARGIN: u64 = 1 << 49;

/// The least fraction of a value, in 2^-64 of the unit, that does not lie next to a border.
const CLEARANCE: u64 = 2 * MARGIN;

/// Functions are made for labels below this many seconds, in the year 2106.
const LABEL_LIMIT_SEC: i128 = 1 << 32;

/// Functions are made for errors below this: 36 years.
const ERROR_LIMIT_NS: u64 = 1 << 60;

const NS: u128 = NS_PER_SEC.unsigned_abs();
const MS_PER_SEC: u128 = 1000;

/// A label at a counter, and the counter's period: the page's reference in the timescale asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    pub(crate) counter: u64,
    /// In 2^-(64 + shift) s, and not 0.
    pub(crate) period: u64,
    pub(crate) shift: u8,
    /// As [`fixed::ticks_per_second`] returns it: how far behind the reference a live counter may be.
    pub(crate) ticks_per_second: u64,
    /// The label, in seconds and 2^-64 s. Two numbers, because an `Option` of a struct with 128-bit
    /// numbers takes more instructions to test.
    sec: u64,
    frac_sec: u64,
    /// How far functions may reach before the reference, and after it, in ticks.
    limits: Limits,
}

/// How far from the reference the page's time may be used, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) before: u64,
    pub(crate) after: u64,
}

impl Limits {
    /// As far as functions reach.
    pub(crate) const NONE: Self = Self {
        before: u64::MAX,
        after: u64::MAX,
    };
}

impl Reference {
    /// Makes a reference at `sec` and `frac_sec`. `None` where no functions are made for that label.
    pub(crate) fn new(
        counter: u64,
        (period, shift): (u64, u8),
        (sec, frac_sec): (i128, u64),
        limits: Limits,
    ) -> Option<Self> {
        (0..LABEL_LIMIT_SEC).contains(&sec).then(|| Self {
            counter,
            period,
            shift,
            ticks_per_second: fixed::ticks_per_second(period, shift),
            sec: sec as u64,
            frac_sec,
            limits,
        })
    }

    /// Returns the label in whole nanoseconds, rounded down.
    pub(crate) fn label_ns(&self) -> i64 {
        // Fits: labels end in 2106.
        fixed::time_ns(self.sec, self.frac_sec, 0) as i64
    }

    /// Returns the label in 2^-64 s.
    fn label(&self) -> u128 {
        (u128::from(self.sec) << 64) | u128::from(self.frac_sec)
    }

    fn reach_ticks(&self) -> u64 {
        self.ticks_per_second
            .saturating_mul(REACH_SEC)
            .min(REACH_TICKS)
    }

    fn live_ticks(&self) -> u64 {
        self.ticks_per_second.min(REACH_TICKS)
    }
}

/// A figure that grows evenly with the counter, in whole units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearFn {
    /// The first counter that the function covers. The counter may wrap past 2^64 after it.
    first: u64,
    /// How many ticks after `first` the last one is.
    span_ticks: u64,
    /// Growth a tick, in 2^-64 of the unit.
    slope: u128,
    /// The value at `first` in 2^-64 of the unit, plus [`MARGIN`].
    base: u128,
    /// The least fraction that does not lie next to a border: at least [`CLEARANCE`].
    clearance: u64,
}

impl LinearFn {
    /// Returns nothing at any counter.
    pub(crate) const NONE: Self = Self {
        first: 0,
        span_ticks: 0,
        slope: 0,
        base: 0,
        clearance: u64::MAX,
    };

    /// The label of a live counter, in nanoseconds.
    pub(crate) fn live_ns(reference: &Reference) -> Option<Self> {
        Self::label(reference, NS, reference.live_ticks())
    }

    /// The label of a counter that may be old, in nanoseconds.
    pub(crate) fn wide_ns(reference: &Reference) -> Option<Self> {
        Self::label(reference, NS, reference.reach_ticks())
    }

    /// The label of a live counter in milliseconds, as the bits of the double nearest to the label's whole
    /// nanoseconds.
    ///
    /// The doubles of one exponent `e` are evenly spaced, a *step* of 2^(e-52) apart, and so are their
    /// bits. A double of `n` steps, 2^52 <= n < 2^53, has the bits
    ///
    /// ```text
    /// ((1023 + e) << 52) + (n - 2^52)  =  n + ((1023 + e - 1) << 52)
    /// ```
    ///
    /// So the function's unit is a step, and the exponent's part is added to its base.
    pub(crate) fn live_ms_bits(reference: &Reference) -> Option<Self> {
        const MANTISSA_BITS: u32 = 52;
        const EXPONENT_BIAS: u128 = 1023;
        const NORMALIZED: std::ops::Range<u128> = 1 << MANTISSA_BITS..1 << (MANTISSA_BITS + 1);
        let whole_ms = (reference.label() * MS_PER_SEC) >> 64;
        let exponent = whole_ms.checked_ilog2()?;
        // From 2^36 ms on, in 1972, a step is many nanoseconds long. Below 2^45 ms no whole nanosecond
        // lies half-way between two doubles, where two doubles would be nearest: the middle is an odd
        // multiple of half a step, 2^-9 ms or less, and a nanosecond is a multiple of 2^-6 / 15625 ms.
        let steps_log2 = MANTISSA_BITS
            .checked_sub(exponent)
            .filter(|log2| (8..=16).contains(log2))?;
        let steps_per_sec = MS_PER_SEC << steps_log2;
        let mut function = Self::label(reference, steps_per_sec, reference.live_ticks())?;
        let first = function.base;
        // Half a step more, so that the floor of the sum is the nearest step.
        function.base += 1 << 63;
        // All of the function must have the exponent `e`. Its first value counts without that half: below
        // a power of two the steps are half as long, and the half would hide that.
        let last = function.base + function.slope * u128::from(function.span_ticks);
        if ![first >> 64, last >> 64]
            .iter()
            .all(|steps| NORMALIZED.contains(steps))
        {
            return None;
        }
        function.base += (EXPONENT_BIAS + u128::from(exponent) - 1) << (MANTISSA_BITS + 64);
        // The whole nanoseconds lie up to one nanosecond below the label.
        function.clearance += ((steps_per_sec << 64) / NS) as u64 + 1;
        Some(function)
    }

    /// The label, from `ticks_before` the reference to as far after it as functions reach.
    fn label(reference: &Reference, units_per_sec: u128, ticks_before: u64) -> Option<Self> {
        let ticks_before = ticks_before.min(reference.limits.before);
        let ticks_after = reference.reach_ticks().min(reference.limits.after);
        let slope = slope(reference.period, units_per_sec, reference.shift);
        let at_reference = reference.label() * units_per_sec;
        // No function begins before 1970.
        let base = at_reference.checked_sub(slope * u128::from(ticks_before))?;
        Some(Self {
            first: reference.counter.wrapping_sub(ticks_before),
            span_ticks: ticks_before + ticks_after,
            slope,
            base: base + u128::from(MARGIN),
            clearance: CLEARANCE,
        })
    }

    /// Returns whether the function covers `counter`. If it does and [`LinearFn::at`] returns nothing, the
    /// value lies next to a border. [`LinearFn::NONE`], which has no slope, covers no counter.
    fn covers(&self, counter: u64) -> bool {
        self.slope != 0 && counter.wrapping_sub(self.first) <= self.span_ticks
    }

    /// Returns the exact figure at `counter`. `None` next to a border, and where the function does not
    /// reach.
    #[inline(always)]
    pub(crate) fn at(&self, counter: u64) -> Option<u64> {
        let ticks = counter.wrapping_sub(self.first);
        // Wraps only for counters that the function does not cover.
        let value = self
            .base
            .wrapping_add(self.slope.wrapping_mul(u128::from(ticks)));
        // Cut off on purpose: the upper half is the whole units, the lower half the fraction.
        let fraction = value as u64;
        (ticks <= self.span_ticks && fraction >= self.clearance).then_some((value >> 64) as u64)
    }
}

/// The changing figures of a reading at counters from the reference on: functions over the same counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearReading {
    first: u64,
    span_ticks: u64,
    label_slope: u128,
    label_base: u128,
    /// `None` where there is no bound.
    max_error: Option<LinearError>,
    est_error: Option<LinearError>,
}

/// An error that grows by less than a nanosecond a tick.
#[derive(Clone, Copy, Debug)]
struct LinearError {
    slope: u64,
    /// The value at the reference, plus [`MARGIN`], in whole nanoseconds and in 2^-64 ns. Two numbers: see
    /// [`Reference`].
    base_units: u64,
    base_fraction: u64,
}

/// An error at the reference in nanoseconds, and its growth a tick in the period's unit.
pub(crate) type ErrorAndRate = (u64, u64);

impl LinearReading {
    /// Returns nothing at any counter.
    pub(crate) const NONE: Self = Self {
        first: 0,
        span_ticks: 0,
        label_slope: 0,
        label_base: 0,
        max_error: None,
        est_error: None,
    };

    /// Makes the functions of a reading with these errors, which hold up to `error_ticks` after the reference.
    /// A nanosecond is added to the maximum error, as [`fixed::bound_ns`] does.
    pub(crate) fn new(
        reference: &Reference,
        max_error: Option<ErrorAndRate>,
        est_error: Option<ErrorAndRate>,
        error_ticks: u64,
    ) -> Option<Self> {
        let label = LinearFn::label(reference, NS, 0)?;
        // A reading needs all of its figures: if no function can be made for one error, none is made for
        // the reading.
        let function = |error: Option<ErrorAndRate>, extra_ns| match error {
            Some(error) => LinearError::new(reference, error, extra_ns).map(Some),
            None => Some(None),
        };
        Some(Self {
            first: label.first,
            span_ticks: label.span_ticks.min(error_ticks),
            label_slope: label.slope,
            label_base: label.base,
            max_error: function(max_error, 1)?,
            est_error: function(est_error, 0)?,
        })
    }

    fn covers(&self, counter: u64) -> bool {
        self.label_slope != 0 && counter.wrapping_sub(self.first) <= self.span_ticks
    }

    /// Returns the exact figures at `counter`. `None` where one of them lies next to a border, and where
    /// the functions do not reach.
    #[inline(always)]
    pub(crate) fn at(&self, counter: u64) -> Option<TimePoint> {
        let ticks = counter.wrapping_sub(self.first);
        if ticks > self.span_ticks {
            return None;
        }
        let label = self
            .label_base
            .wrapping_add(self.label_slope.wrapping_mul(u128::from(ticks)));
        let error_at = |error: Option<LinearError>| match error {
            Some(error) => error.at(ticks).map(Some),
            None => Some(None),
        };
        Some(TimePoint {
            counter,
            epoch_ns: clear_units(label)?.cast_signed(),
            max_error_ns: error_at(self.max_error)?,
            est_error_ns: error_at(self.est_error)?,
        })
    }
}

impl LinearError {
    /// The sum of the error at the reference, of its growth since (rounded up), and of `extra_ns`.
    fn new(
        reference: &Reference,
        (at_reference_ns, rate): ErrorAndRate,
        extra_ns: u64,
    ) -> Option<Self> {
        let slope = u64::try_from(slope(rate, NS, reference.shift)).ok()?;
        let growth = u128::from(slope) * u128::from(reference.reach_ticks());
        if at_reference_ns >= ERROR_LIMIT_NS || growth >> 64 >= u128::from(ERROR_LIMIT_NS) {
            return None;
        }
        // The growth is rounded up. A growth that is clear of a border is no whole number, so its ceiling
        // is its floor plus 1. A growth of 0 needs no rounding: half a unit keeps it clear of a border.
        let rounding = if rate == 0 { 1 << 63 } else { 1 << 64 };
        let base = (u128::from(at_reference_ns + extra_ns) << 64) + rounding + u128::from(MARGIN);
        Some(Self {
            slope,
            base_units: (base >> 64) as u64,
            base_fraction: base as u64,
        })
    }

    #[inline(always)]
    fn at(self, ticks: u64) -> Option<u64> {
        let base = (u128::from(self.base_units) << 64) | u128::from(self.base_fraction);
        clear_units(base.wrapping_add(u128::from(self.slope) * u128::from(ticks)))
    }
}

/// The formulas themselves, for counters that a function covers but that lie next to a border.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exact {
    reference: Reference,
    max_error: Option<ErrorAndRate>,
    est_error: Option<ErrorAndRate>,
}

impl Exact {
    pub(crate) fn new(
        reference: Reference,
        max_error: Option<ErrorAndRate>,
        est_error: Option<ErrorAndRate>,
    ) -> Self {
        Self {
            reference,
            max_error,
            est_error,
        }
    }

    /// Returns the label in nanoseconds at a counter that `function` covers; `None` at any other.
    #[inline]
    pub(crate) fn ns_at(&self, function: &LinearFn, counter: u64) -> Option<i64> {
        let d = fixed::distance_ticks(counter, self.reference.counter);
        function.covers(counter).then(|| self.label_ns(d))
    }

    /// Returns the figures at a counter that `functions` cover; `None` at any other.
    #[inline]
    pub(crate) fn time_point_at(
        &self,
        functions: &LinearReading,
        counter: u64,
    ) -> Option<TimePoint> {
        let d = fixed::distance_ticks(counter, self.reference.counter);
        // Far below 2^63, because both parts are below `ERROR_LIMIT_NS`.
        let error_ns = |(at_reference_ns, rate): ErrorAndRate| {
            let grown_ns = fixed::growth_ns(d, rate, self.reference.shift);
            u128::from(at_reference_ns) + grown_ns
        };
        functions.covers(counter).then(|| TimePoint {
            counter,
            epoch_ns: self.label_ns(d),
            max_error_ns: self.max_error.map(|error| error_ns(error) as u64 + 1),
            est_error_ns: self.est_error.map(|error| error_ns(error) as u64),
        })
    }

    /// Returns the label at `d` ticks from the reference. Functions stay within the years 1970 to 2106,
    /// so it fits.
    #[inline(always)]
    fn label_ns(&self, d: i64) -> i64 {
        let reference = &self.reference;
        let elapsed = fixed::elapsed_frac(d, reference.period, reference.shift);
        fixed::time_ns(reference.sec, reference.frac_sec, elapsed) as i64
    }
}

/// Returns the whole units of a value; `None` where it lies next to a border.
#[inline(always)]
fn clear_units(value: u128) -> Option<u64> {
    // Cut off on purpose: the lower half is the fraction, the upper half the whole units.
    let fraction = value as u64;
    (fraction >= CLEARANCE).then_some((value >> 64) as u64)
}

/// Converts `rate` a tick from 2^-(64 + shift) s to 2^-64 of a unit, rounded down.
fn slope(rate: u64, units_per_sec: u128, shift: u8) -> u128 {
    (u128::from(rate) * units_per_sec) >> shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_just_below_a_power_of_two_are_rounded_by_their_finer_steps() {
        // 2^31 ticks, a second, before this reference it is 123 ns to 2^41 ms.
        let counter = 1 << 40;
        let label = (2_199_023_256, 10_182_600_459_738_163_770);
        let reference = Reference::new(counter, (1 << 63, 30), label, Limits::NONE).unwrap();
        let at_start = LinearFn::live_ms_bits(&reference)
            .and_then(|function| function.at(counter - (1 << 31)))
            .map(f64::from_bits);
        assert!(
            at_start.is_none_or(|ms| ms == 2_199_023_255_551.999_8),
            "{at_start:?}"
        );
    }
}
