//! The kernel's clock as a source of time.

pub mod clock;
pub mod discipline;
pub(crate) mod leap;
pub mod leap_seconds;
pub(crate) mod slew;
pub mod step_alarm;
pub(crate) mod trust;
