//! How the kernel's clock is disciplined, and what follows from that.

/// Where the kernel counts `maxerror` and stops: NTP_PHASE_LIMIT, 16 s.
pub const MAXERROR_CEILING_US: u64 = 16_000_000;
/// What the kernel adds to `maxerror` each second: MAXFREQ, 500 ppm.
pub const MAXERROR_GROWTH_US_PER_SEC: u64 = 500;
/// The nominal `tick`: microseconds in 1/USER_HZ s, which is 1/100 s on both architectures.
pub const NOMINAL_TICK_US: i64 = 10_000;

/// The phase-locked loop takes no more than 2^-this off its offset in a second: SHIFT_PLL.
pub const LOOP_SHIFT_MIN: u32 = 2;
/// And no less than 2^-this: SHIFT_PLL + MAXTC.
pub const LOOP_SHIFT_MAX: u32 = 12;

const PPB: u128 = 1_000_000_000;
/// What a machine's oscillator, and the kernel's idea of its frequency, may be off by.
const OSCILLATOR_PPB: u128 = 100_000;
/// The kernel carries out `adjtime` at this rate.
const SLEW_PPB: u128 = 500_000;
/// One microsecond of `tick` in parts per billion.
const TICK_PPB: u128 = 100_000;

/// Whether a leap second is announced, happening, or just over: what `adjtimex` returns, and with
/// it STA_INS and STA_DEL, which say which kind it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeapState {
    /// TIME_OK: none.
    #[default]
    None,
    /// TIME_INS: one will be inserted at the end of this UTC day.
    Insert,
    /// TIME_DEL: the last second of this UTC day will be left out.
    Delete,
    /// TIME_OOP: the inserted second.
    Inserting,
    /// TIME_WAIT after an insertion (STA_INS still set), until the daemon takes the flag back.
    Inserted,
    /// TIME_WAIT after a deletion (STA_DEL still set).
    Deleted,
    /// TIME_WAIT with neither flag set: over, of either kind.
    Over,
}

/// How the kernel's clock is disciplined: `adjtimex` with nothing to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discipline {
    /// STA_UNSYNC, or TIME_ERROR returned: nothing corrects the clock.
    pub unsynchronized: bool,
    /// `maxerror`, in microseconds, at most [`MAXERROR_CEILING_US`].
    pub maxerror_us: u64,
    /// `esterror`, in microseconds.
    pub esterror_us: u64,
    /// What the kernel's phase-locked loop still has to slew, in nanoseconds: `offset`. What it slews
    /// in the present second is no longer part of it.
    pub offset_ns: i64,
    /// In a second the loop takes 2^-this off its offset: SHIFT_PLL + `constant`.
    pub loop_shift: u32,
    /// STA_PLL: a daemon uses that loop.
    pub has_loop: bool,
    /// What an `adjtime` still has to slew, in nanoseconds, without the present second's part.
    pub single_shot_ns: i64,
    /// `freq`: the frequency correction in 2^-16 ppm.
    pub frequency_scaled_ppm: i64,
    /// `tick`: microseconds that the clock advances in 1/100 s; [`NOMINAL_TICK_US`] unless changed.
    pub tick_us: i64,
    /// `tai`: TAI - CLOCK_REALTIME in seconds; 0 where nobody told the kernel.
    pub tai_minus_utc_sec: i32,
    /// The leap second's state.
    pub leap: LeapState,
}

impl Discipline {
    /// Whether something corrects the clock, and its maximum error has not run out.
    #[must_use]
    pub fn is_synchronized(&self) -> bool {
        !self.unsynchronized && self.maxerror_us < MAXERROR_CEILING_US
    }

    /// Whether a daemon reported an error since `earlier`: wrote `maxerror` or `esterror`.
    ///
    /// By itself the kernel only adds to `maxerror`, 500 µs at a time, and sets both figures to
    /// [`MAXERROR_CEILING_US`] when somebody sets the clock.
    #[must_use]
    pub(crate) fn is_updated_since(&self, earlier: &Self) -> bool {
        let growth_us = self.maxerror_us.checked_sub(earlier.maxerror_us);
        let is_counted = growth_us.is_some_and(|us| us.is_multiple_of(MAXERROR_GROWTH_US_PER_SEC));
        self.maxerror_us < MAXERROR_CEILING_US
            && (self.esterror_us != earlier.esterror_us || !is_counted)
    }

    /// Whether the clock's rate was changed between the two: its frequency or its tick.
    #[must_use]
    pub fn has_other_rate(&self, other: &Self) -> bool {
        self.frequency_scaled_ppm != other.frequency_scaled_ppm || self.tick_us != other.tick_us
    }

    /// Whether the rates differ by more than an oscillator's can: above 100 ppm.
    #[must_use]
    pub(crate) fn has_distant_rate(&self, other: &Self) -> bool {
        self.rate_difference_scaled_ppm(other) * 1000 > OSCILLATOR_PPB << 16
    }

    /// Whether the clock runs more than 500 ppm off nominal, which is all that the kernel adds to
    /// `maxerror`: somebody slews it, and its error grows faster than that.
    #[must_use]
    pub(crate) fn is_off_nominal(&self) -> bool {
        const COUNTED_SCALED_PPM: u128 = 500 << 16;
        let nominal = Self {
            frequency_scaled_ppm: 0,
            tick_us: NOMINAL_TICK_US,
            ..*self
        };
        self.rate_difference_scaled_ppm(&nominal) > COUNTED_SCALED_PPM
    }

    fn rate_difference_scaled_ppm(&self, other: &Self) -> u128 {
        match (self.rate_scaled_ppm(), other.rate_scaled_ppm()) {
            (Some(one), Some(two)) => one.abs_diff(two),
            _ => u128::MAX >> 16,
        }
    }

    /// The clock's rate against its own oscillator, in 2^-16 ppm; `None` for one that is not above 0.
    #[must_use]
    pub(crate) fn rate_scaled_ppm(&self) -> Option<u128> {
        const SCALED_PPM_PER_TICK_US: i64 = 100 << 16;
        let rate = self.tick_us.checked_mul(SCALED_PPM_PER_TICK_US)?;
        let rate = rate.checked_add(self.frequency_scaled_ppm)?;
        u128::try_from(rate).ok().filter(|rate| *rate != 0)
    }

    /// What the kernel may be slewing in the present second without showing it any more, in
    /// nanoseconds.
    ///
    /// At the start of each second it takes that second's share off what it shows, and then slews it
    /// evenly (`second_overflow`, `kernel/time/ntp.c`): of the phase-locked loop's offset 2^-shift,
    /// which is 1 / (2^shift - 1) of what is left to show; of an `adjtime` 500 µs.
    #[must_use]
    pub(crate) fn running_slew_ns(&self) -> u128 {
        let offset_ns = u128::from(self.offset_ns.unsigned_abs());
        let loop_ns = offset_ns.div_ceil((1 << self.clamped_loop_shift()) - 1);
        let single_shot_ns = if self.single_shot_ns == 0 {
            0
        } else {
            SLEW_PPB
        };
        loop_ns + single_shot_ns
    }

    /// The most that the kernel can be slewing in any one second for a daemon like the present one,
    /// in nanoseconds.
    #[must_use]
    pub(crate) fn largest_slew_ns(&self) -> u128 {
        /// MAXPHASE: the loop takes no more than half a second.
        const LARGEST_OFFSET_NS: u128 = 500_000_000;
        let loop_ns = if self.has_loop {
            LARGEST_OFFSET_NS >> self.clamped_loop_shift()
        } else {
            0
        };
        loop_ns + SLEW_PPB
    }

    /// `loop_shift`, within what the kernel uses.
    #[must_use]
    pub(crate) fn clamped_loop_shift(&self) -> u32 {
        self.loop_shift.clamp(LOOP_SHIFT_MIN, LOOP_SHIFT_MAX)
    }

    /// The most by which a period measured against CLOCK_REALTIME can be off the truth, whatever its
    /// bounds, while the kernel slews by `running_slew_ns` a second: in parts per billion of the
    /// period. An `adjtime` of less than a second's share may come and go between two samples, unseen.
    #[must_use]
    pub(crate) fn ceiling_ppb(&self, running_slew_ns: u128) -> u128 {
        let tick_us = u128::from(self.tick_us.abs_diff(NOMINAL_TICK_US));
        let frequency_scaled = u128::from(self.frequency_scaled_ppm.unsigned_abs());
        let frequency_ppb = (frequency_scaled * 1000).div_ceil(1 << 16);
        // Nanoseconds a second are parts per billion.
        let of_truth =
            frequency_ppb + SLEW_PPB + OSCILLATOR_PPB + TICK_PPB * tick_us + running_slew_ns;
        // The figures are relative to true time, the result to the measured: x / (1 - x).
        match PPB.checked_sub(of_truth) {
            Some(rest) if rest != 0 => (of_truth * PPB).div_ceil(rest),
            _ => PPB,
        }
    }
}
