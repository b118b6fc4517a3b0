//! From counter ticks to nanoseconds in exact integers. No I/O, no floating point.
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
//! The final `+ 1` is for what the two floors take away: less than 1 ns by the second, and less than
//! 2^-34 ns by the first. The driver `ptp_vmclock.c` computes the same time with an unsigned `d`,
//! which for a counter read just before an update lands centuries ahead; a signed one is right on
//! both sides of the reference.

const NS_PER_SEC: u64 = 1_000_000_000;

/// The largest shift that the arithmetic takes: `2^(64 + 127)` ticks a second at period 1.
pub const MAX_SHIFT: u8 = 127;

/// The signed distance in ticks from the reference to `counter`. The counter may wrap past 2^64.
#[inline(always)]
#[must_use]
pub fn distance_ticks(counter: u64, reference: u64) -> i64 {
    counter.wrapping_sub(reference).cast_signed()
}

/// `d` ticks in units of 2^-64 s, rounded towards minus infinity. `shift` is at most [`MAX_SHIFT`].
#[inline(always)]
#[must_use]
pub fn elapsed_frac(d: i64, period: u64, shift: u8) -> i128 {
    // |d * period| <= 2^63 * (2^64 - 1) < 2^127: the product always fits.
    (i128::from(d) * i128::from(period)) >> (shift & MAX_SHIFT)
}

/// The time in whole nanoseconds since the epoch of the reference, rounded towards minus infinity.
/// Exact for every input; the caller checks the range that it can use.
#[inline]
#[must_use]
pub fn time_ns(time_sec: u64, time_frac_sec: u64, elapsed_frac: i128) -> i128 {
    // The sum is carried in two halves, because time_sec * 2^64 alone can fill 128 bits. The low
    // halves are cut off on purpose.
    let (low, carry) = time_frac_sec.overflowing_add(elapsed_frac as u64);
    let seconds = i128::from(time_sec) + (elapsed_frac >> 64) + i128::from(carry);
    seconds * i128::from(NS_PER_SEC) + i128::from(frac_to_ns(low))
}

/// 2^-64 s to whole nanoseconds, rounded down.
#[inline(always)]
#[must_use]
pub fn frac_to_ns(frac_sec: u64) -> u64 {
    ((u128::from(frac_sec) * u128::from(NS_PER_SEC)) >> 64) as u64
}

/// How far an error that grows by `rate` (in the period's unit) a tick has grown after `d` ticks,
/// in nanoseconds, rounded up.
#[inline]
#[must_use]
pub fn growth_ns(d: i64, rate: u64, shift: u8) -> u128 {
    let shift = shift & MAX_SHIFT;
    // |d| * rate * 10^9 needs up to 157 bits: the part below 2^64 is kept apart.
    let product = u128::from(d.unsigned_abs()) * u128::from(rate);
    let low = (product & u128::from(u64::MAX)) * u128::from(NS_PER_SEC);
    let high = (product >> 64) * u128::from(NS_PER_SEC) + (low >> 64);
    let rest = low & u128::from(u64::MAX) != 0 || high & !(u128::MAX << shift) != 0;
    (high >> shift) + u128::from(rest)
}

/// The maximum error at `d` ticks from the reference. Exact for every growth that [`growth_ns`]
/// returns: an interval is made from it before anything is cut off.
#[inline]
#[must_use]
pub fn bound_ns(time_maxerror_ns: u64, growth_ns: u128) -> u128 {
    u128::from(time_maxerror_ns) + growth_ns + 1
}

/// `value`, at most 2^63 - 1, which as an error then reads "at least 292 years".
#[inline]
#[must_use]
pub fn saturate(value: u128) -> u64 {
    u64::try_from(value)
        .unwrap_or(u64::MAX)
        .min(i64::MAX.cast_unsigned())
}

/// The most ticks by which a counter may be behind the reference before it is more than a second.
#[must_use]
pub fn ticks_per_second(period: u64, shift: u8) -> u64 {
    if period == 0 {
        return u64::MAX;
    }
    // 2^(64 + shift) / period, saturated; 2^(64 + shift) itself fits up to shift 63.
    if shift > 63 {
        return u64::MAX;
    }
    u64::try_from((1_u128 << (64 + u32::from(shift))) / u128::from(period)).unwrap_or(u64::MAX)
}
