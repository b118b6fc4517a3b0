//! Publishes a page from this machine's own clock.
//!
//! The page gives the kernel's CLOCK_REALTIME, tied to the CPU's counter, and bounds that are no better
//! than what the kernel knows. `docs/bounds.md`, "What a published page claims", derives each figure.
//!
//! [`Publication`] decides what the page says. It is a state machine over clock and counter, without a
//! thread or a file, so that a simulation can drive it. `maker` gives it this machine's clocks and a thread.
//! [`Publisher`] has the file and its lock.

mod baseline;
mod device;
mod file_lock;
#[doc(hidden)]
pub mod guard;
mod lock;
mod maker;
mod memory;
mod publication;
mod publisher;
mod rates;
mod shared;
mod takeover;
mod trusted_counter;
mod worker;

use std::time::Duration;

use crate::error::Error;
use crate::snapshot::Maintenance;
pub use crate::source::best::From;

pub use guard::DisruptionSource;
pub use memory::{notify_restored, process_page};
pub use publication::{Publication, VOID_AFTER};
pub use publisher::Publisher;
pub use takeover::OldPage;
pub(crate) use trusted_counter::require_trusted_counter;

/// The kind of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Time from this machine's clock and a disruption marker. [`Generation`] says whether there is a generation
    /// counter too.
    #[default]
    Time,
    /// A disruption marker and no time, as EC2 and QEMU publish today.
    Marker,
    /// A disruption marker and a generation counter and no time, as Firecracker publishes.
    MarkerAndGeneration,
}

/// The rule by which a page with time has a generation counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// The page has one if this machine has a source of it when the publisher starts: its own vmclock device,
    /// with a generation counter. Without a source nothing changes the counter when the machine is cloned,
    /// and readers would conclude that the machine was not cloned.
    #[default]
    Auto,
    /// The page has one. Without a source only [`Publisher::bump_generation`] changes it.
    Always,
    /// The page has none.
    Never,
}

/// The reason to bring a page up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The interval has run out.
    Interval,
    /// The system's clock was set, or a leap second happened.
    ClockStep,
    /// The operator declares that the machine was disrupted. The counter itself goes on.
    Disrupt,
    /// The operator declares that the machine was cloned or restored.
    BumpGeneration,
    /// The machine was restored or cloned, and the device need not have reported it: the kernel or the platform said
    /// so, some time after the machine ran again. The counter is another one. A page of [`Generation::Auto`] has a
    /// generation counter from then on.
    Restored,
    /// The operator announces maintenance, or withdraws the announcement.
    Maintenance(Maintenance),
    /// The publisher ends: the page becomes unreliable.
    Close,
}

/// The options of a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    /// The kind of the page.
    pub shape: Shape,
    /// The rule for the generation counter of a page of [`Shape::Time`]. The other shapes fix it:
    /// give [`Generation::Auto`], or the value that matches the shape.
    pub generation: Generation,
    /// The source of the time.
    pub from: From,
    /// The time between two updates: 100 ms to 1 s.
    pub interval: Duration,
    /// The largest error of CLOCK_REALTIME while this page is published, in nanoseconds. The operator answers
    /// for it: the page says that it is synchronized, and uses this figure instead of the kernel's.
    ///
    /// It holds until the machine is disrupted: migrated, restored or suspended. From then on the page follows the
    /// kernel's figures, and so does each later publisher of this boot.
    pub max_error_ns: Option<u64>,
    /// The error that neither the time daemon nor a PTP clock's driver reports, in nanoseconds: that of the host's
    /// clock. The operator answers for it.
    ///
    /// It is added to the daemon's figure, and a daemon's 0 then counts. It is the bound of a PTP clock whose driver
    /// states none. It holds on each host that the machine may be migrated to.
    pub host_error_ns: Option<u64>,
    /// The stated error holds after a disruption too.
    pub max_error_after_migration: bool,
    /// State a bound although this process cannot look at the machine's vmclock device, so that it would not
    /// notice a migration.
    pub allow_unguarded: bool,
    /// Leave the page as it is when the publisher is closed, for the next publisher. Its bound grows until
    /// [`VOID_AFTER`]. Otherwise the page is marked unreliable.
    pub keep_on_exit: bool,
    /// TAI - UTC in seconds now, 10 to 255, if neither the kernel nor tzdata knows it. The publisher adds the
    /// leap seconds that the kernel carries out.
    pub tai_minus_utc_sec: Option<i16>,
    /// The allowance for wander: how far the counter's rate may differ from its average over the baseline, in
    /// parts per billion.
    pub wander_ppb: u32,
    /// Added to the time that the page gives, in nanoseconds, at most an hour in either direction. It is for tests of
    /// programs on machines whose clocks differ. The bound grows by as much, so that it holds. While the clock reports a
    /// leap second, such a page gives no time.
    pub offset_ns: i64,
    /// Publish from a counter that CPUID does not call invariant, or that the kernel does not trust.
    pub allow_untrusted_counter: bool,
    /// The page's permission bits, whatever the umask is. Readers refuse a page that others than its owner may
    /// write.
    pub mode: u32,
}

impl PublishOptions {
    /// The shortest interval.
    pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
    /// The longest interval.
    pub const INTERVAL_MAX: Duration = Duration::from_secs(1);
    /// The largest offset, in either direction.
    pub const OFFSET_MOST: Duration = Duration::from_secs(3600);
    /// The default interval: four updates a second.
    ///
    /// Between updates the bound grows by some 600 ppm of the interval, 0.15 ms, before there is a baseline.
    /// Later it grows by some 4 µs. Both are less than the error of a clock that is synchronized over a network. An
    /// update costs about 0.1 ms of a core on a small virtual machine, 0.04 % of it at this interval
    /// (`examples/publish_cost.rs`).
    pub const INTERVAL_DEFAULT: Duration = Duration::from_millis(250);
    /// The default allowance for wander: 15 ppm, the frequency tolerance PHI of RFC 5905.
    ///
    /// The frequency of a quartz changes by so much over the temperatures of a machine room. ClockBound's 50 ppm
    /// cover the whole error of the rate; here the baseline's own error is added.
    pub const WANDER_DEFAULT_PPB: u32 = 15_000;
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            shape: Shape::Time,
            generation: Generation::Auto,
            from: From::Auto,
            interval: Self::INTERVAL_DEFAULT,
            max_error_ns: None,
            host_error_ns: None,
            max_error_after_migration: false,
            allow_unguarded: false,
            keep_on_exit: false,
            tai_minus_utc_sec: None,
            wander_ppb: Self::WANDER_DEFAULT_PPB,
            offset_ns: 0,
            allow_untrusted_counter: false,
            mode: 0o644,
        }
    }
}

impl PublishOptions {
    /// Returns the source to use: a stated error is that of the kernel's clock.
    pub(crate) fn used_from(&self) -> From {
        if self.from == From::Auto && self.max_error_ns.is_some() {
            From::Kernel
        } else {
            self.from
        }
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::invalid_argument(reason));
        match (self.shape, self.generation) {
            (Shape::Marker, Generation::Always) => {
                return Err(Error::InvalidArgument {
                    reason: "a page of the shape marker has no generation counter".to_owned(),
                    remedy: Some("give the shape marker-and-generation"),
                });
            }
            (Shape::MarkerAndGeneration, Generation::Never) => {
                return Err(Error::InvalidArgument {
                    reason: "a page of the shape marker-and-generation has a generation counter"
                        .to_owned(),
                    remedy: Some("give the shape marker"),
                });
            }
            _ => {}
        }
        if !(Self::INTERVAL_MIN..=Self::INTERVAL_MAX).contains(&self.interval) {
            return refuse(format!(
                "the interval must be 100 to 1000 ms, and this is {}",
                self.interval.as_millis()
            ));
        }
        if self.host_error_ns.is_some() && self.max_error_ns.is_some() {
            return Err(Error::InvalidArgument {
                reason: "two errors are stated: the whole error of the system's clock, and the host's part of it"
                    .to_owned(),
                remedy: Some(
                    "state the whole error (`maxErrorNs`, --max-error) or the host's (`hostErrorNs`, --host-error)",
                ),
            });
        }
        if self.host_error_ns.is_some() && self.from == From::ClockBound {
            return Err(Error::InvalidArgument {
                reason:
                    "the host's error has no effect: ClockBound's daemon states the whole error"
                        .to_owned(),
                remedy: Some(
                    "leave it out (`hostErrorNs`, --host-error), or choose another source",
                ),
            });
        }
        if self.max_error_after_migration && self.max_error_ns.is_none() {
            return Err(Error::InvalidArgument {
                reason: "no error is stated that could hold after a migration".to_owned(),
                remedy: Some("state the error too (`maxErrorNs`, --max-error)"),
            });
        }
        if self.max_error_ns.is_some() && !matches!(self.from, From::Auto | From::Kernel) {
            return Err(Error::InvalidArgument {
                reason: format!(
                    "the stated error is that of the kernel's clock, and the time comes from {}",
                    self.from.name()
                ),
                remedy: Some("leave out one of the two"),
            });
        }
        if let Some(seconds) = self.tai_minus_utc_sec
            && !crate::abi::TAI_MINUS_UTC_RANGE_SEC.contains(&seconds)
        {
            return refuse(format!(
                "TAI - UTC must be 10 to 255 s (it has been 37 since 2017), and this is {seconds}"
            ));
        }
        if u128::from(self.offset_ns.unsigned_abs()) > Self::OFFSET_MOST.as_nanos() {
            return refuse(format!(
                "the offset must be at most an hour in either direction, and this is {} ns",
                self.offset_ns
            ));
        }
        if self.mode & !0o777 != 0 {
            return refuse(format!(
                "the mode must be permission bits alone, such as 644, and this is {:o}",
                self.mode
            ));
        }
        if self.mode & 0o022 != 0 || self.mode & 0o600 != 0o600 {
            return refuse(format!(
                "the mode must let the owner read and write the page and nobody else write it, \
                 such as 644, or readers refuse it, and this is {:o}",
                self.mode
            ));
        }
        Ok(())
    }
}
