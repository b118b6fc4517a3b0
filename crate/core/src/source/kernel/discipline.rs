//! The kernel's figures about its clock: how it is disciplined, and what follows from that.

/// The largest `maxerror` of the kernel: NTP_PHASE_LIMIT, 16 s.
pub const MAXERROR_CEILING_US: u64 = 16_000_000;
/// The kernel adds this to `maxerror` each second: MAXFREQ, 500 ppm.
pub const MAXERROR_GROWTH_US_PER_SEC: u64 = 500;
/// The nominal `tick`: microseconds in 1/USER_HZ s, which is 1/100 s on both architectures.
pub const NOMINAL_TICK_US: i64 = 10_000;

/// The phase-locked loop takes at most 2^-this of its offset in a second: SHIFT_PLL.
pub const LOOP_SHIFT_MIN: u32 = 2;
/// The phase-locked loop takes at least 2^-this of its offset in a second: SHIFT_PLL + MAXTC.
pub const LOOP_SHIFT_MAX: u32 = 12;

const PPB: u128 = 1_000_000_000;
/// The largest error of a machine's oscillator, and of the kernel's estimate of its frequency.
const OSCILLATOR_PPB: u128 = 100_000;
/// The kernel carries out `adjtime` at this rate.
const SLEW_PPB: u128 = 500_000;
/// One microsecond of `tick` in parts per billion.
const TICK_PPB: u128 = 100_000;

/// The state of a leap second: announced, happening, or just over. `adjtimex` returns it, and the flags
/// STA_INS and STA_DEL give its kind.
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

/// The kernel's figures about its clock: `adjtimex` with nothing to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discipline {
    /// STA_UNSYNC, or TIME_ERROR returned: nothing corrects the clock.
    pub unsynchronized: bool,
    /// `maxerror`, in microseconds, at most [`MAXERROR_CEILING_US`].
    pub maxerror_us: u64,
    /// `esterror`, in microseconds.
    pub esterror_us: u64,
    /// `offset`: the rest that the kernel's phase-locked loop has to slew, in nanoseconds, without the
    /// present second's part.
    pub offset_ns: i64,
    /// The loop takes 2^-this of its offset in a second: SHIFT_PLL + `constant`.
    pub loop_shift: u32,
    /// STA_PLL: a daemon uses that loop.
    pub has_loop: bool,
    /// The rest that an `adjtime` has to slew, in nanoseconds, without the present second's part.
    pub single_shot_ns: i64,
    /// `freq`: the frequency correction in 2^-16 ppm.
    pub frequency_scaled_ppm: i64,
    /// `tick`: microseconds that the clock advances in 1/100 s; [`NOMINAL_TICK_US`] unless changed.
    pub tick_us: i64,
    /// `tai`: TAI - CLOCK_REALTIME in seconds; 0 if nobody set it.
    pub tai_minus_utc_sec: i32,
    /// The leap second's state.
    pub leap: LeapState,
}

impl Discipline {
    /// Returns whether something corrects the clock, and its maximum error has not run out.
    #[must_use]
    pub fn is_synchronized(&self) -> bool {
        !self.unsynchronized && self.maxerror_us < MAXERROR_CEILING_US
    }

    /// Returns whether the kernel's loop drives the clock, as systemd-timesyncd has it do. chrony and phc2sys set
    /// the frequency instead.
    #[must_use]
    pub(crate) fn is_driven_by_loop(&self) -> bool {
        self.has_loop || self.offset_ns != 0
    }

    /// Returns whether a daemon reported an error since `earlier`: wrote `maxerror` or `esterror`.
    ///
    /// By itself the kernel only adds to `maxerror`, 500 µs at a time, and sets both figures to
    /// [`MAXERROR_CEILING_US`] when somebody sets the clock.
    #[must_use]
    pub(crate) fn has_report_since(&self, earlier: &Self) -> bool {
        let growth_us = self.maxerror_us.checked_sub(earlier.maxerror_us);
        let is_counted = growth_us.is_some_and(|us| us.is_multiple_of(MAXERROR_GROWTH_US_PER_SEC));
        self.maxerror_us < MAXERROR_CEILING_US
            && (self.esterror_us != earlier.esterror_us || !is_counted)
    }

    /// Returns whether the clock's rate differs: its frequency or its tick.
    #[must_use]
    pub fn has_other_rate(&self, other: &Self) -> bool {
        self.frequency_scaled_ppm != other.frequency_scaled_ppm || self.tick_us != other.tick_us
    }

    /// Returns whether the rates differ by more than an oscillator's can: above 100 ppm.
    #[must_use]
    pub(crate) fn has_distant_rate(&self, other: &Self) -> bool {
        self.rate_difference_scaled_ppm(other) * 1000 > OSCILLATOR_PPB << 16
    }

    /// Returns whether the clock runs more than 500 ppm off nominal. The kernel adds 500 ppm to
    /// `maxerror`, so that the clock's error may grow faster.
    #[must_use]
    pub(crate) fn is_off_nominal(&self) -> bool {
        const COUNTED_SCALED_PPM: u128 = 500 << 16;
        self.rate_difference_scaled_ppm(&self.at_nominal_rate()) > COUNTED_SCALED_PPM
    }

    /// Returns the same figures with the nominal rate.
    #[must_use]
    pub(crate) fn at_nominal_rate(&self) -> Self {
        Self {
            frequency_scaled_ppm: 0,
            tick_us: NOMINAL_TICK_US,
            ..*self
        }
    }

    /// Returns how much the rates differ, in 2^-16 ppm.
    #[must_use]
    pub(crate) fn rate_difference_scaled_ppm(&self, other: &Self) -> u128 {
        match (self.rate_scaled_ppm(), other.rate_scaled_ppm()) {
            (Some(one), Some(two)) => one.abs_diff(two),
            _ => u128::MAX >> 16,
        }
    }

    /// Returns the clock's rate against its own oscillator, in 2^-16 ppm; `None` if it is not above 0.
    #[must_use]
    pub(crate) fn rate_scaled_ppm(&self) -> Option<u128> {
        const SCALED_PPM_PER_TICK_US: i64 = 100 << 16;
        let rate = self.tick_us.checked_mul(SCALED_PPM_PER_TICK_US)?;
        let rate = rate.checked_add(self.frequency_scaled_ppm)?;
        u128::try_from(rate).ok().filter(|rate| *rate != 0)
    }

    /// Returns the most that the kernel slews in the present second and no longer shows, in nanoseconds.
    ///
    /// At the start of each second the kernel takes that second's share off the figure that it shows. Then
    /// it slews the share evenly (`second_overflow`, `kernel/time/ntp.c`). The loop's share is 2^-shift of
    /// its offset, which is 1 / (2^shift - 1) of the rest that is shown; an `adjtime`'s is 500 µs.
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

    /// Returns the most that the kernel slews in any second for a daemon like the present one, in
    /// nanoseconds.
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

    /// Returns the largest error of a period that was measured against CLOCK_REALTIME while the kernel
    /// slewed `running_slew_ns` in a second, in parts per billion of the period. It includes an `adjtime` of
    /// one second's share, which may begin and end between two samples.
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
