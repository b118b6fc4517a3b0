//! One PTP clock: its readings, and the error bound that its driver states in a file.

use std::fs;
use std::path::PathBuf;

use super::find::Driver;
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
