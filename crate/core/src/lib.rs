//! Trustworthy, high-rate time on virtual machines: error-bounded UTC or TAI from the hypervisor's
//! *vmclock* page and the CPU's counter, without a system call, and notice of migrations, restores
//! and clones in the same breath.
//!
//! # What a vmclock page is
//!
//! A guest's kernel can be disciplined by NTP to well under a millisecond, until the machine is
//! moved: a live migration gives it another host's counter, of another frequency and another
//! offset, and nothing tells the guest. The hypervisor knows. The *vmclock* device is one page of
//! memory, shared with the guest, in which it says so: a *disruption marker* that changes when the
//! counter was disrupted, a *generation counter* that changes when the machine was restored from a
//! snapshot or cloned, and, where the provider fills them in, a reference (counter value and time),
//! the counter's period, and bounds on the error of both. The layout is in [`abi`]; it follows the
//! Linux header `include/uapi/linux/vmclock-abi.h` and the UAPI group's specification UAPI.13, and
//! the driver `drivers/ptp/ptp_vmclock.c` maps the page as `/dev/vmclock0`.
//!
//! Most hypervisors today fill in the marker only. Continuity works on such a page; time gives
//! [`Error::NoTime`]. On a machine without any device, [`publish`] makes a page from the machine's
//! own clock.
//!
//! # How a read works
//!
//! ```text
//! page ──► seqlock ──► snapshot ──► fixed ──► leap ──► clock
//!          counter ───────────────────┘
//! ```
//!
//! 1. [`page`] opens, checks and maps the page, once. Who could write a page could lie about the
//!    time, so a regular file that others may write is refused.
//! 2. [`seqlock`] takes fields and counter as of one sequence number, or gives up after 100 ms: a
//!    reading is never torn and never hangs. After the first look a reader keeps what follows from
//!    the fields, and a stamp is the counter, one look at the sequence number, and arithmetic.
//! 3. [`counter`] reads the TSC or CNTVCT_EL0, ordered as the kernel's vDSO orders it.
//! 4. [`time::fixed`] turns the counter's distance from the reference into nanoseconds and a bound, in
//!    exact 128-bit integers. Where nothing stands in the way, one multiplication gives the same
//!    (`time::linear`).
//! 5. [`time::leap`] turns the page's timescale into the one asked for, and the bound into the interval
//!    that holds the truth, also across a leap second or a smear.
//! 6. [`clock`] puts it together: [`VmClock`].
//!
//! Two rules stand above speed: never a wrong or torn time, and never a bound that is not true. A
//! figure that the page does not give is `None`, and a page that may not be used is an [`Error`]
//! with a stable code.
//!
//! ```
//! use vmclock::{Options, PublishOptions, Publisher, VmClock};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("page");
//! // On a machine with `/dev/vmclock0`, leave this out and open `None`.
//! let publisher = Publisher::create(&path, PublishOptions::default())?;
//!
//! let mut clock = VmClock::open(Some(&path), Options::default())?;
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
//! # Writing a page
//!
//! [`writer`] puts fields into a page under the seqlock and knows nothing of clocks: hypervisors
//! and tests use it. [`publish`] uses it to publish a page from this machine's own clock, with
//! bounds that are no better than what the kernel knows ([`source::kernel::clock`]).
//!
//! # Watching a page
//!
//! [`watch`] blocks until the page changes, by the driver's notification where there is one and by a
//! timer elsewhere, and says what happened: a disruption, a clone, an announcement.
//!
//! # The kernel's own clock
//!
//! Of a page with time the driver also makes a PTP clock. [`ptp`] reads it, as any other, and against
//! the system's clocks, and tells which timescale it is in by comparison with the page.
//!
//! # Counters and memory of the caller's
//!
//! [`VmClock`] is generic over its memory ([`seqlock::SharedWords`]) and its counter
//! ([`counter::Counter`]), both resolved at compile time. A simulation drives the very code that
//! runs in production with a virtual counter, and the model checker runs the very seqlock.
//!
//! # What it does not promise
//!
//! - A page is believed. A hypervisor that lies, lies about everything else in the guest, too.
//! - Marker and generation detect change. Two clones of one snapshot read the same numbers, so they
//!   are never an identity.
//! - A counter is taken to be the same on all CPUs, as the page format does. One that moves in larger
//!   steps than its ticks ([`counter::step_ticks`]) lags behind by up to a step, which only the page's
//!   provider can include in its bound; [`publish`] does.
//! - Between a disruption and the hypervisor's update of the page nothing can be noticed; providers
//!   update it before the guest runs again.

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
pub mod machine;
pub mod no_bound;
pub mod page;
pub mod ptp;
pub mod publish;
pub mod seqlock;
pub mod snapshot;
pub mod source;
pub mod time;
pub mod watch;
pub mod writer;

pub use clock::{Options, SystemOffset, VmClock};
pub use error::{Error, NoTime};
pub use ptp::PtpClock;
pub use publish::{Generation, PublishOptions, Publisher, Shape};
pub use snapshot::Maintenance;
pub use time::conversion::Converter;
pub use time::leap::Timescale;
pub use time::reading::{Continuity, Reading};
pub use watch::{WatchOptions, Watcher};
pub use writer::{PageHeader, PageLayout, PageWriter};

/// The guide's page on this crate, so that its example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/rust.md")]
struct Guide;
