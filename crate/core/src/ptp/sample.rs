//! What the kernel's stamps mean: nanoseconds, offsets, and how far these may be off.

use super::device::RawTime;

const NS_PER_SEC: u32 = 1_000_000_000;

/// A clock and two of the system's at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossTimestamp {
    /// The clock, in nanoseconds since the epoch of its timescale.
    pub device_ns: i64,
    /// CLOCK_REALTIME, in nanoseconds since 1970.
    pub realtime_ns: i64,
    /// CLOCK_MONOTONIC_RAW, in nanoseconds since some point in the past.
    pub monotonic_raw_ns: i64,
}

/// A clock between two readings of a system clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The system clock just before, in nanoseconds since its epoch.
    pub before_ns: i64,
    /// The clock, in nanoseconds since the epoch of its timescale.
    pub device_ns: i64,
    /// The system clock just after, never less than `before_ns`.
    pub after_ns: i64,
    /// System clock - clock: what lies halfway between the two readings of the system clock, rounded
    /// down, less the clock's.
    pub offset_ns: i64,
    /// Half the bracket, rounded up: at the instant at which the clock read `device_ns`, the system
    /// clock read something from `before_ns` to `after_ns`, and so `offset_ns` is at most this far from
    /// the difference of the two readings. Not so where CLOCK_REALTIME was set back in between by
    /// less than what went by, which shows nowhere; the other two clocks are never set.
    ///
    /// It is 0 where all three were computed from one reading of the counter, as for a vmclock whose
    /// counter the system's clocks run on, and where the system clock did not advance a nanosecond, or
    /// a tick of its own, in between. The difference of the two *readings* is exact then. What a
    /// reading is itself off by, for it is cut off at whole nanoseconds or at the ticks of what it
    /// counts, is no part of this on any clock.
    pub max_error_ns: u64,
}

impl Sample {
    /// The sample of three stamps; `None` where the system clock was set back in between, so that it
    /// brackets nothing, or where the offset does not fit.
    pub(super) fn new(before_ns: i64, device_ns: i64, after_ns: i64) -> Option<Self> {
        if after_ns < before_ns {
            return None;
        }
        let middle_ns = (i128::from(before_ns) + i128::from(after_ns)).div_euclid(2);
        Some(Self {
            before_ns,
            device_ns,
            after_ns,
            offset_ns: i64::try_from(middle_ns - i128::from(device_ns)).ok()?,
            max_error_ns: after_ns.abs_diff(before_ns).div_ceil(2),
        })
    }
}

impl RawTime {
    /// In nanoseconds; `None` where that does not fit into signed 64 bits, or is no time at all.
    ///
    /// The header says that the sign of the seconds holds for the nanoseconds, too. The kernel, however,
    /// fills both in from a `timespec64`, in which nanoseconds always count upwards. And it keeps what
    /// does not fit into its own signed 64-bit nanoseconds at their limit.
    pub(super) fn epoch_ns(self) -> Option<i64> {
        if self.nsec >= NS_PER_SEC {
            return None;
        }
        let ns = i128::from(self.sec) * i128::from(NS_PER_SEC) + i128::from(self.nsec);
        i64::try_from(ns)
            .ok()
            .filter(|ns| *ns != i64::MAX && *ns != i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_are_rounded_so_that_the_bound_is_true() {
        let sample = |before, device, after| Sample::new(before, device, after).unwrap();
        let short = sample(10, 4, 13);
        assert_eq!((short.offset_ns, short.max_error_ns), (7, 2));
        let negative = sample(-13, 4, -10);
        assert_eq!((negative.offset_ns, negative.max_error_ns), (-16, 2));
        let none = sample(10, 4, 10);
        assert_eq!((none.offset_ns, none.max_error_ns), (6, 0));
    }

    #[test]
    fn a_bracket_that_runs_backwards_is_none() {
        assert_eq!(Sample::new(10, 4, 9), None);
    }

    #[test]
    fn times_that_do_not_fit_are_none() {
        let ns = |sec, nsec| RawTime::new(sec, nsec).epoch_ns();
        assert_eq!(ns(1, 5), Some(1_000_000_005));
        assert_eq!(ns(-1, 500_000_000), Some(-500_000_000));
        assert_eq!(ns(9_223_372_036, 854_775_806), Some(i64::MAX - 1));
        // Where the kernel's own nanoseconds stop.
        assert_eq!(ns(9_223_372_036, 854_775_807), None);
        assert_eq!(ns(9_223_372_036, 854_775_808), None);
        assert_eq!(ns(i64::MAX, 0), None);
        assert_eq!(ns(i64::MIN, 999_999_999), None);
        assert_eq!(ns(0, 1_000_000_000), None);
    }

    proptest! {
        #[test]
        fn the_difference_at_any_instant_within_the_bracket_is_within_the_bound(
            before in any::<i64>(),
            width in prop_oneof![0..8_u64, any::<u64>()],
            device in any::<i64>(),
            part in 0.0..=1.0_f64,
        ) {
            let Some(after) = before.checked_add_unsigned(width) else { return Ok(()) };
            let true_system = i128::from(before) + (width as f64 * part) as i128;
            prop_assume!(true_system <= i128::from(after));
            let Some(sample) = Sample::new(before, device, after) else {
                let offset = (i128::from(before) + i128::from(after)).div_euclid(2) - i128::from(device);
                prop_assert!(i64::try_from(offset).is_err());
                return Ok(());
            };
            let bound = i128::from(sample.max_error_ns);
            for system in [i128::from(before), true_system, i128::from(after)] {
                let off = system - i128::from(device) - i128::from(sample.offset_ns);
                prop_assert!(off.abs() <= bound);
            }
            // And no wider than half the bracket needs.
            prop_assert!(2 * bound - i128::from(width) <= 1);
        }

        #[test]
        fn every_time_that_fits_is_exact(ns in i64::MIN + 1..i64::MAX) {
            let time = RawTime::new(ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) as u32);
            prop_assert_eq!(time.epoch_ns(), Some(ns));
        }
    }
}
