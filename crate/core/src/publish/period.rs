//! The counter's period and its error, in exact integers.

use crate::source::kernel::clock::{
    Discipline, LOOP_SHIFT_MAX, LOOP_SHIFT_MIN, MAXERROR_CEILING_US, MAXERROR_GROWTH_US_PER_SEC,
    NOMINAL_TICK_US,
};
use crate::time::fixed;

const PPB: u128 = 1_000_000_000;

/// What a machine's oscillator, and the kernel's idea of its frequency, may be off by.
const OSCILLATOR_PPB: u128 = 100_000;
/// The kernel carries out `adjtime` at this rate.
const SLEW_PPB: u128 = 500_000;
/// One microsecond of `tick` in parts per billion.
const TICK_PPB: u128 = 100_000;

/// What the kernel may be slewing in the present second without showing it any more, in
/// nanoseconds. At the start of each second it takes that second's share off what it shows, and then
/// slews it evenly (`second_overflow`, `kernel/time/ntp.c`): of the phase-locked loop's offset
/// 2^-shift, which is 1 / (2^shift - 1) of what is left to show; of an `adjtime` 500 µs.
pub(crate) fn running_slew_ns(discipline: &Discipline) -> u128 {
    let shift = discipline.loop_shift.clamp(LOOP_SHIFT_MIN, LOOP_SHIFT_MAX);
    let loop_ns = u128::from(discipline.offset_ns.unsigned_abs()).div_ceil((1 << shift) - 1);
    let single_shot_ns = if discipline.single_shot_ns == 0 {
        0
    } else {
        SLEW_PPB
    };
    loop_ns + single_shot_ns
}

/// The most that the kernel can be slewing in any one second for a daemon like the present one.
pub(crate) fn largest_slew_ns(discipline: &Discipline) -> u128 {
    /// MAXPHASE: the loop takes no more than half a second.
    const LARGEST_OFFSET_NS: u128 = 500_000_000;
    let shift = discipline.loop_shift.clamp(LOOP_SHIFT_MIN, LOOP_SHIFT_MAX);
    let loop_ns = if discipline.has_loop {
        LARGEST_OFFSET_NS >> shift
    } else {
        0
    };
    loop_ns + SLEW_PPB
}

/// One tick of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// In 2^-(64 + shift) s. Its highest bit is set: the shift is the largest with which it fits.
    pub(crate) frac_sec: u64,
    pub(crate) shift: u8,
    /// How far this may be off the rate that the kernel's clock had, in parts per billion: the
    /// widths of the two brackets that it was measured between.
    pub(crate) noise_ppb: u128,
    /// The most that the kernel slewed in a second while it was measured, in nanoseconds.
    pub(crate) running_slew_ns: u128,
    /// What holds for it because of that, in parts per billion.
    pub(crate) ceiling_ppb: u128,
}

impl Period {
    /// `elapsed_ns` in `ticks`, rounded down, with no error noted yet. `None` where that is no period of a counter: nothing
    /// or less, or a second and more a tick.
    pub(crate) fn measured(elapsed_ns: i128, ticks: i64) -> Option<Self> {
        let elapsed = u128::try_from(elapsed_ns).ok()?;
        let ticks = u128::try_from(ticks).ok()?;
        Self::ratio(elapsed, ticks.checked_mul(PPB)?)
    }

    /// `numerator / denominator` seconds by long division, one bit at a time.
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
            running_slew_ns: 0,
            ceiling_ppb: 0,
        })
    }

    /// The period after the kernel's clock changed its rate from `old` to `new`.
    pub(crate) fn at_rate(self, old: &Discipline, new: &Discipline) -> Self {
        let (Some(old), Some(new)) = (kernel_rate(old), kernel_rate(new)) else {
            return self;
        };
        let scaled = u128::from(self.frac_sec) * new / old;
        // Highest bit first again; a rate changes by tenths, not by powers of two.
        let (mut frac, mut shift) = (scaled, self.shift);
        while frac > u128::from(u64::MAX) && shift > 0 {
            frac >>= 1;
            shift -= 1;
        }
        while frac >> 63 == 0 && shift < fixed::MAX_SHIFT && frac != 0 {
            frac <<= 1;
            shift += 1;
        }
        match u64::try_from(frac) {
            Ok(frac_sec) if frac_sec != 0 => Self {
                frac_sec,
                shift,
                ..self
            },
            _ => self,
        }
    }

    /// Ticks in nanoseconds, rounded up.
    pub(crate) fn ticks_ns(&self, ticks: u64) -> u128 {
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        fixed::growth_ns(ticks, self.frac_sec, self.shift)
    }

    /// Signed ticks in nanoseconds, rounded towards minus infinity.
    pub(crate) fn elapsed_ns(&self, ticks: i64) -> i128 {
        fixed::time_ns(0, 0, fixed::elapsed_frac(ticks, self.frac_sec, self.shift))
    }

    /// A relative error in the period's own unit, rounded up, and one more for the period's own
    /// rounding.
    pub(crate) fn error(&self, ppb: u128) -> u64 {
        let error = u128::from(self.frac_sec)
            .saturating_mul(ppb)
            .div_ceil(PPB)
            .saturating_add(1);
        u64::try_from(error).unwrap_or(u64::MAX)
    }
}

/// The kernel's clock against its own oscillator, in 2^-16 ppm.
fn kernel_rate(discipline: &Discipline) -> Option<u128> {
    const SCALED_PPM_PER_TICK_US: i64 = 100 << 16;
    let rate = discipline.tick_us.checked_mul(SCALED_PPM_PER_TICK_US)?;
    let rate = rate.checked_add(discipline.frequency_scaled_ppm)?;
    u128::try_from(rate).ok().filter(|rate| *rate != 0)
}

/// Whether the kernel's clock is turned by more than the kernel counts for what it may drift: somebody is
/// moving it on purpose, and does not say how far.
pub(crate) fn is_turned(discipline: &Discipline) -> bool {
    const COUNTED_SCALED_PPM: u128 = 500 << 16;
    let nominal = Discipline {
        frequency_scaled_ppm: 0,
        tick_us: NOMINAL_TICK_US,
        ..*discipline
    };
    turn_scaled_ppm(&nominal, discipline) > COUNTED_SCALED_PPM
}

/// Whether the clock's rate differs between two samples by more than any oscillator's.
pub(crate) fn has_turned(last: &Discipline, now: &Discipline) -> bool {
    turn_scaled_ppm(last, now) * 1000 > OSCILLATOR_PPB << 16
}

/// Whether a daemon told the kernel an error between two samples. By itself the kernel only counts up, the
/// one of the two figures.
pub(crate) fn is_told(last: &Discipline, now: &Discipline) -> bool {
    let counted_us = now.maxerror_us.checked_sub(last.maxerror_us);
    now.esterror_us != last.esterror_us
        || !counted_us.is_some_and(|us| us.is_multiple_of(MAXERROR_GROWTH_US_PER_SEC))
}

/// Whether the kernel was told, by no daemon's measurement, that the clock may be off by anything: so it does
/// itself when the clock is set.
pub(crate) fn has_forgotten(last: &Discipline, now: &Discipline) -> bool {
    is_synchronized(last) && now.unsynchronized && now.maxerror_us >= MAXERROR_CEILING_US
}

pub(crate) fn is_synchronized(discipline: &Discipline) -> bool {
    !discipline.unsynchronized && discipline.maxerror_us < MAXERROR_CEILING_US
}

/// What the clock's rate changed by, in 2^-16 ppm.
fn turn_scaled_ppm(from: &Discipline, to: &Discipline) -> u128 {
    match (kernel_rate(from), kernel_rate(to)) {
        (Some(from), Some(to)) => from.abs_diff(to),
        _ => u128::MAX >> 16,
    }
}

/// The most by which a period measured against CLOCK_REALTIME can be off the truth, whatever its
/// bounds, while the kernel slews by `running_slew_ns` a second: in parts per billion of the period.
/// An `adjtime` of less than a second's share may come and go between two samples, unseen.
pub(crate) fn ceiling_ppb(discipline: &Discipline, running_slew_ns: u128) -> u128 {
    let tick_us = u128::from(discipline.tick_us.abs_diff(NOMINAL_TICK_US));
    let frequency_scaled = u128::from(discipline.frequency_scaled_ppm.unsigned_abs());
    let frequency_ppb = (frequency_scaled * 1000).div_ceil(1 << 16);
    // Nanoseconds a second are parts per billion.
    let of_truth = frequency_ppb + SLEW_PPB + OSCILLATOR_PPB + TICK_PPB * tick_us + running_slew_ns;
    // The figures are relative to true time, the result to the measured: x / (1 - x).
    match PPB.checked_sub(of_truth) {
        Some(rest) if rest != 0 => (of_truth * PPB).div_ceil(rest),
        _ => PPB,
    }
}

/// `error_ns` over a baseline of `length_ns`, in parts per billion, rounded up.
pub(crate) fn quotient_ppb(error_ns: u128, length_ns: i128) -> Option<u128> {
    let length = u128::try_from(length_ns).ok().filter(|ns| *ns != 0)?;
    Some(error_ns.checked_mul(PPB)?.div_ceil(length))
}

/// `ppb` of a quantity, rounded up.
pub(crate) fn share(quantity: u128, ppb: u128) -> u128 {
    quantity.saturating_mul(ppb).div_ceil(PPB)
}
