//! Error-bounded UTC or TAI on virtual machines, from the hypervisor's *vmclock* page and the CPU's counter,
//! without a system call. The same reading says whether the machine was migrated, restored or cloned.
//!
//! # The vmclock page
//!
//! A live migration moves a guest to a host whose counter has another frequency and another offset, and
//! nothing tells the guest's clock. The hypervisor knows. A *vmclock* device is one page of memory that the
//! hypervisor shares with the guest. It holds
//!
//! - a *disruption marker*, which changes when the counter was disrupted,
//! - a *generation counter*, which changes when the machine was restored from a snapshot or cloned,
//! - and, from some providers, time: a counter value and the time at it, the counter's period, and bounds on
//!   the error of both.
//!
//! Most hypervisors fill in the marker only. Continuity works on such a page, and a call for the time returns
//! [`Error::NoTime`]. [`Publisher`] makes a page from a machine's own clock. [`abi`] has the layout, by the
//! Linux header `include/uapi/linux/vmclock-abi.h` and the UAPI group's specification UAPI.13. The driver
//! `drivers/ptp/ptp_vmclock.c` maps the page as `/dev/vmclock0`.
//!
//! ```
//! use vmclock::{Options, PublishOptions, Publisher, VmClock};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("page");
//! let publisher = Publisher::create(&path, PublishOptions::default())?;
//!
//! let mut clock = VmClock::open(&path, Options::default())?;
//! let token = clock.continuity_token()?;
//! let reading = clock.read()?;
//! println!("{} ns since 1970, ± {:?} ns", reading.epoch_ns, reading.max_error_ns);
//!
//! let captured = clock.counter(); // cheap: convert it later
//! assert!(clock.convert(captured, &token)?.epoch_ns >= reading.epoch_ns);
//!
//! publisher.disrupt()?;
//! assert!(!clock.is_continuous(&token)?);
//! assert_eq!(clock.convert(captured, &token).unwrap_err().code(), "ERR_VMCLOCK_DISRUPTED");
//! # Ok(())
//! # }
//! ```
//!
//! # Rooms
//!
//! ```text
//! source ─► publish ─► writer ─► page ─► seqlock ─► snapshot ─► time ─► clock
//!                                        counter ────────────────┘
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`abi`] | the page's layout |
//! | [`page`], [`writer`] | opening and checking a page that is read, or written |
//! | [`seqlock`] | fields and counter as of one sequence number, or [`Error::Timeout`] after 100 ms |
//! | [`counter`] | the TSC or CNTVCT_EL0, ordered as the kernel's vDSO orders it |
//! | [`snapshot`] | the fields of one sequence number, decoded |
//! | [`time`] | exact arithmetic: counter to time and bound, leap seconds, smears, the fast path |
//! | [`clock`] | [`VmClock`]: the checks, once for each page state, and readings |
//! | [`choose`] | which page is opened where the caller names none |
//! | [`watch`] | waiting until the page changes |
//! | [`ptp`] | the kernel's PTP clocks, one of which the driver makes from a page with time |
//! | [`source`] | the clocks that a page can be made from |
//! | [`publish`] | the bounds that such a page may state, and the thread that writes it |
//! | [`device`] | finding the machine's own device |
//! | [`extension`] | what a page's maker knows beyond the specification's fields |
//! | [`no_bound`] | the reasons why a time has no bound |
//! | [`machine`] | facts about the machine: its boot, its hypervisor, its managers of devices and services |
//!
//! [`VmClock`] is generic over its memory ([`seqlock::SharedWords`]) and its counter
//! ([`counter::Counter`]). So a simulation drives the code that runs in production, and the model checker runs
//! the seqlock itself.
//!
//! # Promises and limits
//!
//! Two rules go before speed: never a wrong or torn time, and never a bound that is not true. A figure that
//! the page does not state is `None`. A page that may not be used is an [`Error`] with a stable code.
//!
//! - The page is trusted. So a regular file that others may write is refused. A hypervisor that lies, lies
//!   about everything else in the guest too.
//! - Marker and generation detect change and are no identity: clones of one snapshot read the same numbers.
//! - The counter is taken to be the same on all CPUs, as the page format does. A counter that moves in steps
//!   ([`counter::step_ticks`]) lags by up to a step. Only the page's provider can include that in its bound;
//!   [`publish`] does.
//! - A disruption is visible once the provider updates the page. Providers do so before the guest runs again.
//! - A page in a file or in memory is guarded by the machine's device: [`clock::guard`]. From a migration on, its
//!   time has no bound until its maker has followed.

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("vmclock needs 64-bit little-endian Linux on x86-64 or aarch64");

pub mod abi;
pub mod choose;
pub mod clock;
pub mod counter;
pub mod device;
mod error;
pub mod extension;
pub mod machine;
pub mod no_bound;
mod open;
pub mod page;
pub mod ptp;
pub mod publish;
pub mod seqlock;
pub mod snapshot;
pub mod source;
pub mod time;
mod timescale;
pub mod watch;
pub mod writer;

pub use clock::{Options, SystemOffset, VmClock};
pub use error::{Error, NoTime};
pub use ptp::PtpClock;
pub use publish::{Generation, PublishOptions, Publisher, Shape};
pub use snapshot::Maintenance;
pub use time::conversion::Converter;
pub use time::reading::{Continuity, Reading};
pub use timescale::Timescale;
pub use watch::{WatchOptions, Watcher};
pub use writer::{PageHeader, PageLayout, PageWriter};

/// The guide's page on this crate, so that its example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/rust.md")]
struct Guide;
