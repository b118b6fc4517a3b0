//! The kernel's clock as a source of time.

pub mod clock;
pub(crate) mod leap;
pub(crate) mod slew;
