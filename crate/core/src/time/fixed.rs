//! From counter ticks to nanoseconds, in exact integers.
//!
//! A page states a reference (a counter value and the time at it) and the period of one tick in
//! units of 2^-(64 + shift) s. With `d` the signed distance of a counter from the reference:
//!
//! ```text
//! e     = floor(d * period / 2^shift)                        units of 2^-64 s
//! ns    = floor((time_sec * 2^64 + time_frac_sec + e) * 10^9 / 2^64)
//! bound = time_maxerror + ceil(|d| * period_maxerror * 10^9 / 2^(64 + shift)) + 1
//! ```
//!
//! The final `+ 1` allows for both floors: the second takes away less than 1 ns, and the first less than
//! 2^-34 ns. The driver `ptp_vmclock.c` computes the same time with an unsigned `d`, which lands centuries
//! ahead for a counter that was read just before an update. A signed `d` is right on both sides of the
//! reference.

use crate::time::NS_PER_SEC;

const NS: u128 = NS_PER_SEC.unsigned_abs();

/// The largest shift that the arithmetic takes: `2^(64 + 127)` ticks a second at period 1.
pub const MAX_SHIFT: u8 = 127;

/// Returns the signed distance in ticks from the reference to `counter`. The counter may wrap past 2^64.
#[inline(always)]
#[must_use]
pub fn distance_ticks(counter: u64, reference: u64) -> i64 {
    counter.wrapping_sub(reference).cast_signed()
}

/// Converts `d` ticks to units of 2^-64 s, rounded towards minus infinity. `shift` is at most
/// [`MAX_SHIFT`].
#[inline(always)]
#[must_use]
pub fn elapsed_frac(d: i64, period: u64, shift: u8) -> i128 {
    // |d * period| <= 2^63 * (2^64 - 1) < 2^127: the product always fits.
    (i128::from(d) * i128::from(period)) >> (shift & MAX_SHIFT)
}

/// Returns the time in whole nanoseconds since the epoch of the reference, rounded towards minus infinity.
/// Exact for every input; the caller checks the range that it can use.
#[inline]
#[must_use]
pub fn time_ns(time_sec: u64, time_frac_sec: u64, elapsed_frac: i128) -> i128 {
    // The sum is made in two halves, because time_sec * 2^64 alone can fill 128 bits. The casts cut off
    // all but the low half on purpose.
    let (low, carry) = time_frac_sec.overflowing_add(elapsed_frac as u64);
    let seconds = i128::from(time_sec) + (elapsed_frac >> 64) + i128::from(carry);
    seconds * NS_PER_SEC + i128::from(frac_to_ns(low))
}

/// Converts 2^-64 s to whole nanoseconds, rounded down.
#[inline(always)]
#[must_use]
pub fn frac_to_ns(frac_sec: u64) -> u64 {
    ((u128::from(frac_sec) * NS) >> 64) as u64
}

/// Returns how far an error has grown after `d` ticks, in nanoseconds, rounded up. It grows by `rate` a
/// tick, in the period's unit, on both sides of the reference.
#[inline]
#[must_use]
pub fn growth_ns(d: i64, rate: u64, shift: u8) -> u128 {
    let shift = shift & MAX_SHIFT;
    // |d| * rate * 10^9 needs up to 157 bits, so it is made in two parts: `high` is the product divided by
    // 2^64, and the low half of `low` is what that division left over.
    let product = u128::from(d.unsigned_abs()) * u128::from(rate);
    let low = (product & u128::from(u64::MAX)) * NS;
    let high = (product >> 64) * NS + (low >> 64);
    let has_remainder = low & u128::from(u64::MAX) != 0 || high & !(u128::MAX << shift) != 0;
    (high >> shift) + u128::from(has_remainder)
}

/// Returns the maximum error at a distance from the reference, at which it has grown by `growth_ns`.
/// Exact for every growth that [`growth_ns`] returns: the interval is made from it before anything is cut
/// off.
#[inline]
#[must_use]
pub fn bound_ns(time_maxerror_ns: u64, growth_ns: u128) -> u128 {
    u128::from(time_maxerror_ns) + growth_ns + 1
}

/// Limits an error to 2^63 - 1, which then means "at least 292 years".
#[inline]
#[must_use]
pub fn saturate(value: u128) -> u64 {
    u64::try_from(value)
        .unwrap_or(u64::MAX)
        .min(i64::MAX.cast_unsigned())
}

/// Returns how many whole ticks fit into a second; `u64::MAX` for more than that.
#[must_use]
pub fn ticks_per_second(period: u64, shift: u8) -> u64 {
    if period == 0 {
        return u64::MAX;
    }
    // 2^(64 + shift) / period. The dividend fits up to shift 63, and from there on the quotient does not:
    // it is 2^64 at least.
    if shift > 63 {
        return u64::MAX;
    }
    u64::try_from((1_u128 << (64 + u32::from(shift))) / u128::from(period)).unwrap_or(u64::MAX)
}

/// Returns how many whole ticks fit into `ns` nanoseconds, or into up to a nanosecond less; `u64::MAX` for more
/// than that.
#[must_use]
pub fn ticks_in(ns: u64, period: u64, shift: u8) -> u64 {
    let shift = u32::from(shift & MAX_SHIFT);
    // ns * 2^(64 + shift) / (period * 10^9). The first rounding takes away less than 2^shift / 10^9 ticks, which
    // are period / 2^64 nanoseconds.
    let Some(scaled) = (u128::from(ns) << 64).checked_div(u128::from(period)) else {
        return u64::MAX;
    };
    // A product that does not fit means at least 2^128 / 10^9 ticks.
    if scaled.leading_zeros() < shift {
        return u64::MAX;
    }
    u64::try_from((scaled << shift) / NS).unwrap_or(u64::MAX)
}
