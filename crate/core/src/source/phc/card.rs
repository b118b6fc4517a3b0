//! One PTP clock: its driver, its readings, and the error bound that the driver states in a file.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use super::{READINGS_PER_SEC, SPACING_NS};
use crate::error::Error;
use crate::ptp::{PtpClock, PtpReading};
use crate::time::NS_PER_SEC;

/// A PTP clock, as this source reads it.
pub trait Card {
    /// Returns what is known of the clock's driver.
    fn driver(&self) -> Driver;

    /// Reads the clock once, by one request.
    ///
    /// # Errors
    ///
    /// Those of [`PtpClock::samples`].
    fn reading(&self) -> Result<PtpReading, Error>;

    /// Reads the driver's error bound, which describes the last reading by any program.
    fn driver_bound(&self) -> DriverBound;

    /// Returns what all makers of this process share of the clock.
    fn share(&self) -> &Share;
}

/// The readings of one clock that a process may make, shared by all its makers.
///
/// It has no lock. A forked child gets a copy, in which another thread of the parent may have held one for ever.
#[derive(Debug)]
pub struct Share {
    /// CLOCK_MONOTONIC of the last readings; 0 for none.
    asked_ns: [AtomicI64; READINGS_PER_SEC],
    makers: AtomicUsize,
}

/// The shares of the clocks by number. Two clocks with one place only get fewer readings.
static SHARES: [Share; 64] = [const { Share::new() }; 64];

impl Default for Share {
    fn default() -> Self {
        Self::new()
    }
}

impl Share {
    /// Makes the share of a clock that nobody has read.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            asked_ns: [const { AtomicI64::new(0) }; READINGS_PER_SEC],
            makers: AtomicUsize::new(0),
        }
    }

    /// Returns this process's share of the clock with this path, such as `/dev/ptp0`.
    fn of(path: &std::path::Path) -> &'static Self {
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name
            .and_then(|name| name.strip_prefix("ptp"))
            .and_then(|digits| digits.parse::<usize>().ok())
            .unwrap_or_default();
        let [first, ..] = &SHARES;
        SHARES.get(number % SHARES.len()).unwrap_or(first)
    }

    /// Takes one reading of the second that ends now. Returns false if all are taken.
    pub(super) fn take(&self, now_ns: i128) -> bool {
        const SEC: i64 = NS_PER_SEC as i64;
        let Ok(now_ns) = i64::try_from(now_ns) else {
            return false;
        };
        // Each place is one reading, and is free again a second later. Nothing else is published by the exchange.
        self.asked_ns.iter().any(|place| {
            let asked_ns = place.load(Ordering::Relaxed);
            (asked_ns == 0 || now_ns.saturating_sub(asked_ns) >= SEC)
                && place
                    .compare_exchange(asked_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
        })
    }

    /// Returns the shortest time between two readings of one maker while it has a fix, so that each gets its part.
    pub(super) fn spacing_ns(&self) -> i128 {
        let makers = self.makers.load(Ordering::Relaxed).max(1);
        (SPACING_NS * makers as i128).min(NS_PER_SEC / 2)
    }

    pub(super) fn join(&self) {
        self.makers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.makers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A driver of PTP clocks, as far as it says something about the clock's timescale and bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Amazon's network card, `ena`: UTC without a smear, with its own error bound in a file.
    Ena,
    /// `ptp_kvm`: the host's CLOCK_REALTIME.
    Kvm,
    /// `hyperv`: the host's time in UTC.
    HyperV,
    /// `ptp_vmclock`, which gives the time of a page.
    VmClock,
    /// Another, such as a network card's. Its clock counts what somebody set it to.
    Other,
}

impl Driver {
    /// Returns whether the driver's clocks are known to give UTC.
    pub(super) fn gives_utc(self) -> bool {
        matches!(self, Self::Ena | Self::Kvm | Self::HyperV)
    }
}

/// The error bound in a driver's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverBound {
    /// The driver has no such file.
    None,
    /// The driver does not know the error now (EBUSY), or the file has no number.
    Unknown,
    /// The clock is switched off (EOPNOTSUPP).
    Off,
    /// The bound in nanoseconds.
    Ns(u32),
}

impl DriverBound {
    /// Reads the file at `path`, a decimal number of nanoseconds.
    pub(super) fn read(path: &PathBuf) -> Self {
        match fs::read_to_string(path) {
            Ok(text) => match text.trim().parse() {
                Ok(u32::MAX) | Err(_) => Self::Unknown,
                Ok(ns) => Self::Ns(ns),
            },
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => Self::None,
                Some(libc::EOPNOTSUPP) => Self::Off,
                _ => Self::Unknown,
            },
        }
    }
}

/// One of this machine's PTP clocks, open.
#[derive(Debug)]
pub struct MachineCard {
    clock: PtpClock,
    driver: Driver,
    bound_path: PathBuf,
    share: &'static Share,
}

impl MachineCard {
    pub(super) fn new(
        clock: PtpClock,
        path: &std::path::Path,
        driver: Driver,
        bound_path: PathBuf,
    ) -> Self {
        let share = Share::of(path);
        share.join();
        Self {
            clock,
            driver,
            bound_path,
            share,
        }
    }
}

impl Drop for MachineCard {
    fn drop(&mut self) {
        self.share.leave();
    }
}

impl Card for MachineCard {
    fn driver(&self) -> Driver {
        self.driver
    }

    fn reading(&self) -> Result<PtpReading, Error> {
        self.clock.reading()
    }

    fn driver_bound(&self) -> DriverBound {
        DriverBound::read(&self.bound_path)
    }

    fn share(&self) -> &Share {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn all_makers_of_a_process_together_take_at_most_five_readings_of_a_clock_in_a_second() {
        let share = Share::new();
        let start_ns = 7 * NS_PER_SEC;
        let taken = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| share.take(start_ns)).count()))
                .collect();
            takers
                .into_iter()
                .map(|taker| taker.join().unwrap())
                .sum::<usize>()
        });
        assert_eq!(taken, READINGS_PER_SEC);
        assert!(!share.take(start_ns + NS_PER_SEC - 1));
        assert!(share.take(start_ns + NS_PER_SEC));
    }

    #[test]
    fn the_makers_of_a_process_share_the_readings_of_one_clock_and_not_of_another() {
        let of = |path| Share::of(Path::new(path));
        assert!(std::ptr::eq(of("/dev/ptp7"), of("/dev/ptp7")));
        assert!(!std::ptr::eq(of("/dev/ptp7"), of("/dev/ptp8")));
        let share = Share::new();
        for spacing in [1, 1, 2] {
            assert_eq!(share.spacing_ns(), spacing * SPACING_NS);
            share.join();
        }
        assert_eq!(share.spacing_ns(), NS_PER_SEC / 2);
        share.leave();
        assert_eq!(share.spacing_ns(), 2 * SPACING_NS);
    }
}
