//! Trustworthy time from the hypervisor's vmclock page.

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("vmclock needs 64-bit little-endian Linux on x86-64 or aarch64");

pub mod abi;
pub mod clock;
pub mod counter;
mod error;
pub mod fixed;
pub mod leap;
pub mod page;
pub mod publish;
pub mod seqlock;
pub mod snapshot;
pub mod system_clock;
pub mod writer;

pub use clock::{Continuity, Options, Reading, SystemOffset, VmClock};
pub use error::{Error, NoTime};
pub use leap::Timescale;
pub use publish::{Maintenance, PublishOptions, Publisher, Shape};
pub use writer::{PageHeader, PageLayout, PageWriter};
