//! The short way from a counter to a figure: one multiplication, and exact all the same.
//!
//! The long way (`fixed`, then `leap`) multiplies and rounds twice, as the formulas say. A [`LinearFn`]
//! has both factors in one, cut off to 2^-64 of the figure's unit, so its value may be a little off.
//! It nevertheless rounds to what the long way gives, unless it lies next to a border between two
//! results. There it gives nothing, and [`Exact`] multiplies twice: once in thousands of times on most
//! pages, and always where a tick is a whole number of nanoseconds from a whole one.
//!
//! Everything that limits where a line holds is made part of it when it is made, once for each state
//! of the page: what is left for a stamp to do is two comparisons.

use crate::time::fixed;
use crate::time::reading::TimePoint;

/// How far lines reach from the reference, in ticks: a day at 3 GHz. A slope is short of the true one
/// by less than 2^-64 of the unit a tick, so a value by less than 2^-16 of the unit.
const REACH_TICKS: u64 = 1 << 48;

/// The same for slow counters, in seconds: 36 hours. No sum or product below leaves 128 bits then.
const REACH_SEC: u64 = 1 << 17;

/// How far a value may be from what is exact, either way, in 2^-64 of the unit: by the slope's cut,
/// 2^48 at the furthest, and by the long way's first rounding, which takes up to 2^-64 s, 10^9 here.
const MARGIN: u64 = 1 << 49;

/// Lines are made for labels below this many seconds, in the year 2106.
const MOST_SEC: i128 = 1 << 32;

/// Lines are made for errors of up to 36 years.
const MOST_ERROR_NS: u64 = 1 << 60;

const NS_PER_SEC: u64 = 1_000_000_000;
const MS_PER_SEC: u64 = 1000;

/// A label at a counter, and the counter's period: the page's reference in the timescale asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    pub(crate) counter: u64,
    /// In 2^-(64 + shift) s, and not 0.
    pub(crate) period: u64,
    pub(crate) shift: u8,
    /// As [`fixed::ticks_per_second`] gives it: how far behind a live counter may be.
    pub(crate) ticks_per_second: u64,
    /// The label, in seconds and 2^-64 s. Not in one: an option of 128 bits takes longer to look at, and
    /// by what one has to spare a clock is told from none.
    sec: u64,
    frac_sec: u64,
}

impl Reference {
    /// A reference at `sec` and `frac_sec`, where lines are made for it.
    pub(crate) fn new(
        counter: u64,
        (period, shift): (u64, u8),
        (sec, frac_sec): (i128, u64),
    ) -> Option<Self> {
        (0..MOST_SEC).contains(&sec).then(|| Self {
            counter,
            period,
            shift,
            ticks_per_second: fixed::ticks_per_second(period, shift),
            sec: sec as u64,
            frac_sec,
        })
    }

    /// In 2^-64 s.
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

/// A value whose fraction is smaller lies too near to a border to be told from what is beyond it.
const CLEAR: u64 = 2 * MARGIN;

/// A figure that grows evenly with the counter, in whole units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearFn {
    /// The first counter of the line; it may wrap past 2^64 before the last.
    first: u64,
    /// How many ticks further on the last one is.
    span_ticks: u64,
    /// Growth a tick, in 2^-64 of the unit.
    slope: u128,
    /// The value at the first counter in 2^-64 of the unit, raised by [`MARGIN`].
    base: u128,
    /// At least [`CLEAR`].
    clear: u64,
}

impl LinearFn {
    /// Gives nothing at any counter.
    pub(crate) const NONE: Self = Self {
        first: 0,
        span_ticks: 0,
        slope: 0,
        base: 0,
        clear: u64::MAX,
    };

    /// The label of a live counter, in nanoseconds.
    pub(crate) fn live_ns(reference: &Reference) -> Option<Self> {
        Self::label(reference, NS_PER_SEC, reference.live_ticks())
    }

    /// The label of a counter that may be old, in nanoseconds.
    pub(crate) fn wide_ns(reference: &Reference) -> Option<Self> {
        Self::label(reference, NS_PER_SEC, reference.reach_ticks())
    }

    /// The label of a live counter as the bits of a double: the one nearest to the label's whole
    /// nanoseconds, in milliseconds.
    ///
    /// Doubles of one exponent are even steps, and so are their bits: the line's unit is such a step,
    /// and the exponent is part of its base.
    pub(crate) fn live_ms_bits(reference: &Reference) -> Option<Self> {
        const MANTISSA_BITS: u32 = 52;
        const EXPONENT_BIAS: u128 = 1023;
        let whole_ms = (reference.label() * u128::from(MS_PER_SEC)) >> 64;
        let exponent = whole_ms.checked_ilog2()?;
        // From 2^36 ms on, in 1972, a step is many nanoseconds. Below 2^45 ms none of these lies
        // half-way between two doubles, where the nearest would be two: that is an odd multiple of
        // 2^-9 ms or less, and a nanosecond is one of 2^-6 / 15625.
        let steps_log2 = MANTISSA_BITS
            .checked_sub(exponent)
            .filter(|log2| (8..=16).contains(log2))?;
        let steps_per_sec = MS_PER_SEC << steps_log2;
        let mut line = Self::label(reference, steps_per_sec, reference.live_ticks())?;
        let first = line.base;
        // To the nearest step.
        line.base += 1 << 63;
        // The exponent is the same all along the line, at its start before anything is rounded up: below
        // a power of two steps are half as wide.
        let last = line.base + line.slope * u128::from(line.span_ticks);
        let with_exponent = 1_u128 << MANTISSA_BITS..1 << (MANTISSA_BITS + 1);
        if ![first >> 64, last >> 64]
            .iter()
            .all(|steps| with_exponent.contains(steps))
        {
            return None;
        }
        line.base += (EXPONENT_BIAS + u128::from(exponent) - 1) << (MANTISSA_BITS + 64);
        // The label's whole nanoseconds lie up to one below the line.
        line.clear += ((u128::from(steps_per_sec) << 64) / u128::from(NS_PER_SEC)) as u64 + 1;
        Some(line)
    }

    /// The label, from `ticks_before` the reference to the furthest after it.
    fn label(reference: &Reference, units_per_sec: u64, ticks_before: u64) -> Option<Self> {
        let slope = slope(reference.period, units_per_sec, reference.shift);
        let at_reference = reference.label() * u128::from(units_per_sec);
        // A line that would begin before 1970 is none.
        let base = at_reference.checked_sub(slope * u128::from(ticks_before))?;
        Some(Self {
            first: reference.counter.wrapping_sub(ticks_before),
            span_ticks: ticks_before + reference.reach_ticks(),
            slope,
            base: base + u128::from(MARGIN),
            clear: CLEAR,
        })
    }

    /// Whether `counter` is on the line, so that where [`LinearFn::at`] gives nothing, it lies next to a border.
    /// No counter is on [`LinearFn::NONE`], which has no slope.
    fn covers(&self, counter: u64) -> bool {
        self.slope != 0 && counter.wrapping_sub(self.first) <= self.span_ticks
    }

    /// The figure at `counter`, exactly; `None` where this cannot tell.
    #[inline(always)]
    pub(crate) fn at(&self, counter: u64) -> Option<u64> {
        let ticks = counter.wrapping_sub(self.first);
        // Wraps for counters that are not on the line only.
        let value = self
            .base
            .wrapping_add(self.slope.wrapping_mul(u128::from(ticks)));
        // Cut off on purpose: the halves are the whole units and the fraction.
        let fraction = value as u64;
        (ticks <= self.span_ticks && fraction >= self.clear).then_some((value >> 64) as u64)
    }
}

/// The figures of a reading, at counters from the reference on: lines that begin and end together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadingLines {
    first: u64,
    span_ticks: u64,
    label_slope: u128,
    label_base: u128,
    /// `None` where there is no bound.
    max_error: Option<ErrorLine>,
    est_error: Option<ErrorLine>,
}

/// An error that grows by less than a nanosecond a tick.
#[derive(Clone, Copy, Debug)]
struct ErrorLine {
    slope: u64,
    /// The value at the reference, raised by [`MARGIN`], in halves: see [`Reference`].
    base_units: u64,
    base_fraction: u64,
}

/// An error at the reference in nanoseconds, and its growth a tick in the period's unit.
pub(crate) type ErrorAndRate = (u64, u64);

impl ReadingLines {
    /// Give nothing at any counter.
    pub(crate) const NONE: Self = Self {
        first: 0,
        span_ticks: 0,
        label_slope: 0,
        label_base: 0,
        max_error: None,
        est_error: None,
    };

    /// The lines of a reading with these errors, to the first of which a nanosecond is added.
    pub(crate) fn new(
        reference: &Reference,
        max_error: Option<ErrorAndRate>,
        est_error: Option<ErrorAndRate>,
    ) -> Option<Self> {
        let label = LinearFn::label(reference, NS_PER_SEC, 0)?;
        // An error that there is and that no line is made for leaves no short way to the others.
        let line = |error: Option<ErrorAndRate>, extra_ns| match error {
            Some(error) => ErrorLine::new(reference, error, extra_ns).map(Some),
            None => Some(None),
        };
        Some(Self {
            first: label.first,
            span_ticks: label.span_ticks,
            label_slope: label.slope,
            label_base: label.base,
            max_error: line(max_error, 1)?,
            est_error: line(est_error, 0)?,
        })
    }

    fn covers(&self, counter: u64) -> bool {
        self.label_slope != 0 && counter.wrapping_sub(self.first) <= self.span_ticks
    }

    /// The figures at `counter`, exactly; `None` where this cannot tell.
    #[inline(always)]
    pub(crate) fn at(&self, counter: u64) -> Option<TimePoint> {
        let ticks = counter.wrapping_sub(self.first);
        if ticks > self.span_ticks {
            return None;
        }
        let label = self
            .label_base
            .wrapping_add(self.label_slope.wrapping_mul(u128::from(ticks)));
        let error_at = |line: Option<ErrorLine>| match line {
            Some(line) => line.at(ticks).map(Some),
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

impl ErrorLine {
    /// The sum of the error at the reference, how far it has grown (rounded up), and `extra_ns`.
    fn new(
        reference: &Reference,
        (at_reference_ns, rate): ErrorAndRate,
        extra_ns: u64,
    ) -> Option<Self> {
        let slope = u64::try_from(slope(rate, NS_PER_SEC, reference.shift)).ok()?;
        let growth = u128::from(slope) * u128::from(reference.reach_ticks());
        if at_reference_ns >= MOST_ERROR_NS || growth >> 64 >= u128::from(MOST_ERROR_NS) {
            return None;
        }
        // What grows is rounded up: to the next unit above the line, which no border is. What does
        // not grow is nowhere near one.
        let rest = if rate == 0 { 1 << 63 } else { 1 << 64 };
        let base = (u128::from(at_reference_ns + extra_ns) << 64) + rest + u128::from(MARGIN);
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

/// The formulas themselves, along the lines of one reference: for counters next to a border.
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

    /// The label at a counter of `line`, which is one of nanoseconds.
    #[inline]
    pub(crate) fn ns_along(&self, line: &LinearFn, counter: u64) -> Option<i64> {
        let d = fixed::distance_ticks(counter, self.reference.counter);
        line.covers(counter).then(|| self.label_ns(d))
    }

    /// The figures at a counter of `lines`.
    #[inline]
    pub(crate) fn moment_along(&self, lines: &ReadingLines, counter: u64) -> Option<TimePoint> {
        let d = fixed::distance_ticks(counter, self.reference.counter);
        // Along a line all of it stays far below 2^63.
        let error_ns = |(at_reference_ns, rate): ErrorAndRate| {
            let grown_ns = fixed::growth_ns(d, rate, self.reference.shift);
            u128::from(at_reference_ns) + grown_ns
        };
        lines.covers(counter).then(|| TimePoint {
            counter,
            epoch_ns: self.label_ns(d),
            max_error_ns: self.max_error.map(|error| error_ns(error) as u64 + 1),
            est_error_ns: self.est_error.map(|error| error_ns(error) as u64),
        })
    }

    /// The label, `d` ticks along a line. Lines keep to the years 1970 to 2106, so it fits.
    #[inline(always)]
    fn label_ns(&self, d: i64) -> i64 {
        let reference = &self.reference;
        let elapsed = fixed::elapsed_frac(d, reference.period, reference.shift);
        fixed::time_ns(reference.sec, reference.frac_sec, elapsed) as i64
    }
}

/// The whole units of a value that lies next to no border.
#[inline(always)]
fn clear_units(value: u128) -> Option<u64> {
    // Cut off on purpose: the halves are the fraction and the whole units.
    let fraction = value as u64;
    (fraction >= CLEAR).then_some((value >> 64) as u64)
}

/// `rate` a tick, in 2^-(64 + shift) s, as so many 2^-64 of a unit.
fn slope(rate: u64, units_per_sec: u64, shift: u8) -> u128 {
    (u128::from(rate) * u128::from(units_per_sec)) >> shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_just_below_a_power_of_two_milliseconds_rounds_by_its_finer_steps() {
        // 2^31 ticks, a second, before this reference it is 123 ns to 2^41 ms.
        let counter = 1 << 40;
        let label = (2_199_023_256, 10_182_600_459_738_163_770);
        let reference = Reference::new(counter, (1 << 63, 30), label).unwrap();
        let at_start = LinearFn::live_ms_bits(&reference)
            .and_then(|line| line.at(counter - (1 << 31)))
            .map(f64::from_bits);
        assert!(
            at_start.is_none_or(|ms| ms == 2_199_023_255_551.999_8),
            "{at_start:?}"
        );
    }
}
