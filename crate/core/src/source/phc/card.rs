//! One PTP clock: its driver, its readings, and the error bound that the driver states in a file.

use std::fs;
use std::path::PathBuf;

use crate::error::Error;
use crate::ptp::{PtpClock, PtpReading};

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
}

impl MachineCard {
    pub(super) fn new(clock: PtpClock, driver: Driver, bound_path: PathBuf) -> Self {
        Self {
            clock,
            driver,
            bound_path,
        }
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
}
