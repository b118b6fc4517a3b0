//! Converts the kernel's stamps into nanoseconds, offsets, and the offsets' bounds.

use super::attributes::{Attributes, CounterKind, SystemCounter};
use super::device::RawTime;
use crate::time::NS_PER_SEC;

/// A PTP clock and two system clocks at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossTimestamp {
    /// The PTP clock, in nanoseconds since the epoch of its timescale.
    pub device_ns: i64,
    /// CLOCK_REALTIME, in nanoseconds since 1970.
    pub realtime_ns: i64,
    /// CLOCK_MONOTONIC_RAW, in nanoseconds since an unspecified point in the past.
    pub monotonic_raw_ns: i64,
    /// The quality of the PTP clock's time. `None` if the kernel lacks the request, or the driver states none.
    pub attributes: Option<Attributes>,
    /// The CPU's counter at the same instant. `None` if the kernel lacks the request, or the system's clocks run
    /// on another counter than the CPU's.
    pub counter: Option<SystemCounter>,
}

/// A reading of a PTP clock between two readings of a system clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The system clock just before, in nanoseconds since its epoch.
    pub before_ns: i64,
    /// The PTP clock, in nanoseconds since the epoch of its timescale.
    pub device_ns: i64,
    /// The system clock just after, in nanoseconds since its epoch; never less than `before_ns`.
    pub after_ns: i64,
    /// System clock minus PTP clock, in nanoseconds: the middle of `before_ns` and `after_ns`, rounded
    /// down, minus `device_ns`.
    pub offset_ns: i64,
    /// The bound of `offset_ns` in nanoseconds: half the bracket, rounded up.
    ///
    /// When the PTP clock read `device_ns`, the system clock read a value from `before_ns` to
    /// `after_ns`. So `offset_ns` differs from the difference of the two readings by at most this much.
    /// There is one exception: a step of CLOCK_REALTIME back within the bracket, by less than the
    /// bracket's length, cannot be seen. The other two clocks are never stepped.
    ///
    /// The bound is 0 if all three readings were computed from one counter value, as with a vmclock
    /// whose counter the system's clocks run on. It is also 0 if the system clock did not advance by a
    /// nanosecond, or by its own tick, within the bracket. The difference of the two *readings* is then
    /// exact. The bound never includes a reading's own rounding to whole nanoseconds or ticks.
    pub max_error_ns: u64,
    /// The quality of the PTP clock's time. `None` if the kernel lacks the request, or the driver states none.
    pub attributes: Option<Attributes>,
    /// The CPU's counter at `before_ns` and at `after_ns`. `None` if the kernel lacks the request, or the system's
    /// clocks run on another counter than the CPU's.
    pub counters: Option<CounterBracket>,
}

/// One reading of a PTP clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PtpReading {
    /// The PTP clock, in nanoseconds since the epoch of its timescale.
    pub device_ns: i64,
    /// The quality of that time. `None` if the kernel lacks the request, or the driver states none.
    pub attributes: Option<Attributes>,
    /// The CPU's counter around the same instant. `None` as in [`Sample::counters`].
    pub counters: Option<CounterBracket>,
}

/// The CPU's counter at both ends of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterBracket {
    /// The kind of counter.
    pub kind: CounterKind,
    /// The counter that the reading before was computed from.
    pub before: u64,
    /// The counter that the reading after was computed from.
    pub after: u64,
}

impl Sample {
    /// Returns the sample of three stamps. `None` means that the system clock was stepped back within
    /// the bracket, or that the offset exceeds 64 bits.
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
            attributes: None,
            counters: None,
        })
    }
}

impl RawTime {
    /// Returns the time in nanoseconds. `None` means that it exceeds signed 64 bits, or that `nsec` is
    /// not below one second.
    ///
    /// The header says that the sign of the seconds applies to the nanoseconds too. The kernel, however,
    /// fills in both from a `timespec64`, whose nanoseconds always count upwards. It also clamps times
    /// that exceed its own signed 64-bit nanoseconds, so both limits count as exceeded.
    pub(super) fn epoch_ns(self) -> Option<i64> {
        let nsec = i128::from(self.nsec);
        if nsec >= NS_PER_SEC {
            return None;
        }
        i64::try_from(i128::from(self.sec) * NS_PER_SEC + nsec)
            .ok()
            .filter(|ns| *ns != i64::MAX && *ns != i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounding_of_the_middle_keeps_the_bound_true() {
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
    fn times_beyond_64_bits_are_none() {
        let ns = |sec, nsec| RawTime::new(sec, nsec).epoch_ns();
        assert_eq!(ns(1, 5), Some(1_000_000_005));
        assert_eq!(ns(-1, 500_000_000), Some(-500_000_000));
        assert_eq!(ns(9_223_372_036, 854_775_806), Some(i64::MAX - 1));
        // The kernel clamps its nanoseconds here.
        assert_eq!(ns(9_223_372_036, 854_775_807), None);
        assert_eq!(ns(9_223_372_036, 854_775_808), None);
        assert_eq!(ns(i64::MAX, 0), None);
        assert_eq!(ns(i64::MIN, 999_999_999), None);
        assert_eq!(ns(0, 1_000_000_000), None);
    }

    proptest! {
        #[test]
        fn the_bound_holds_at_every_instant_within_the_bracket(
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
            // The bound is no wider than half the bracket.
            prop_assert!(2 * bound - i128::from(width) <= 1);
        }

        #[test]
        fn every_time_within_64_bits_is_exact(ns in i64::MIN + 1..i64::MAX) {
            let time = RawTime::new(ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) as u32);
            prop_assert_eq!(time.epoch_ns(), Some(ns));
        }
    }
}
