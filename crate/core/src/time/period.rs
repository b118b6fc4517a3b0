//! Computes the counter's period and its error, in exact integers.

use super::fixed;

const PPB: u128 = 1_000_000_000;

/// One tick of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// In 2^-(64 + shift) s. Its highest bit is set: the shift is the largest with which it fits.
    pub(crate) frac_sec: u64,
    pub(crate) shift: u8,
    /// The largest deviation from the rate that the kernel's clock had, in parts per billion: it comes from the
    /// widths of the two brackets at the ends of the baseline.
    pub(crate) noise_ppb: u128,
    /// The largest error that follows from that slew, in parts per billion.
    pub(crate) ceiling_ppb: u128,
}

impl Period {
    /// Returns `elapsed_ns` / `ticks`, rounded down, without an error. `None` if that is no period of a counter: 0 or
    /// less, or a second and more for a tick.
    pub(crate) fn measured(elapsed_ns: i128, ticks: i64) -> Option<Self> {
        let elapsed = u128::try_from(elapsed_ns).ok()?;
        let ticks = u128::try_from(ticks).ok()?;
        Self::ratio(elapsed, ticks.checked_mul(PPB)?)
    }

    /// Returns `numerator / denominator` seconds by long division, one bit at a time.
    fn ratio(numerator: u128, denominator: u128) -> Option<Self> {
        if numerator == 0 || numerator >= denominator || denominator > u128::MAX >> 1 {
            return None;
        }
        let mut rest = numerator;
        let mut quotient = 0_u64;
        let mut fraction_bits = 0_u8;
        while quotient >> 63 == 0 {
            fraction_bits = fraction_bits.checked_add(1)?;
            rest <<= 1;
            quotient <<= 1;
            if rest >= denominator {
                rest -= denominator;
                quotient |= 1;
            }
        }
        let shift = fraction_bits.checked_sub(64)?;
        (shift <= fixed::MAX_SHIFT).then_some(Self {
            frac_sec: quotient,
            shift,
            noise_ppb: 0,
            ceiling_ppb: 0,
        })
    }

    /// Converts ticks to nanoseconds, rounded up.
    pub(crate) fn ticks_ns(&self, ticks: u64) -> u128 {
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        fixed::growth_ns(ticks, self.frac_sec, self.shift)
    }

    /// Converts signed ticks to nanoseconds, rounded towards minus infinity.
    pub(crate) fn elapsed_ns(&self, ticks: i64) -> i128 {
        fixed::time_ns(0, 0, fixed::elapsed_frac(ticks, self.frac_sec, self.shift))
    }

    /// Converts a relative error to the period's own unit, rounded up, and adds one for the period's own rounding.
    pub(crate) fn error(&self, ppb: u128) -> u64 {
        let error = u128::from(self.frac_sec)
            .saturating_mul(ppb)
            .div_ceil(PPB)
            .saturating_add(1);
        u64::try_from(error).unwrap_or(u64::MAX)
    }
}

/// Returns `error_ns` over a baseline of `length_ns`, in parts per billion, rounded up.
pub(crate) fn quotient_ppb(error_ns: u128, length_ns: i128) -> Option<u128> {
    let length = u128::try_from(length_ns).ok().filter(|ns| *ns != 0)?;
    Some(error_ns.checked_mul(PPB)?.div_ceil(length))
}

/// Returns the most that 1 / (1 ± x) differs from 1, in parts per billion, rounded up.
///
/// It is x / (1 - x). A rate that is off by x has a period that is off by this. From x = 1 on there is no such
/// number, and this returns x.
pub(crate) fn error_of_inverse_ppb(ppb: u128) -> u128 {
    match PPB.checked_sub(ppb) {
        Some(rest) if rest != 0 => (ppb * PPB).div_ceil(rest),
        _ => ppb,
    }
}

/// Returns `ppb` parts per billion of a quantity, rounded up.
pub(crate) fn share(quantity: u128, ppb: u128) -> u128 {
    quantity.saturating_mul(ppb).div_ceil(PPB)
}

#[cfg(test)]
mod tests {
    use super::{PPB, error_of_inverse_ppb};

    #[test]
    fn the_error_of_an_inverse_is_never_less_than_the_error() {
        assert_eq!(error_of_inverse_ppb(0), 0);
        assert_eq!(error_of_inverse_ppb(15_000), 15_001);
        assert_eq!(error_of_inverse_ppb(PPB / 2), PPB);
        assert_eq!(error_of_inverse_ppb(PPB), PPB);
        assert_eq!(error_of_inverse_ppb(4 * PPB), 4 * PPB);
    }
}
