//! Publishes a page from this machine's own clock.
//!
//! The page gives the kernel's CLOCK_REALTIME, tied to the CPU's counter, and bounds that are no better
//! than what the kernel knows. `docs/bounds.md`, "What a published page claims", derives each figure.
//!
//! [`Publication`] decides what the page says. It is a state machine over clock and counter, without a
//! thread or a file, so that a simulation can drive it. [`Publisher`] owns the file, the lock and the
//! thread.

mod baseline;
mod existing;
mod lock;
mod publication;
mod publisher;
mod takeover;
mod worker;

use std::time::Duration;

use crate::error::Error;
use crate::snapshot::Maintenance;

pub use publication::Publication;
pub use publisher::Publisher;

/// What kind of page is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// With time from this machine's clock, a disruption marker and a generation counter.
    #[default]
    Time,
    /// A disruption marker and no time, as EC2 and QEMU publish today.
    Marker,
    /// A disruption marker and a generation counter and no time, as Firecracker publishes.
    MarkerAndGeneration,
}

/// Whether a page with time has a generation counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// Only if this machine has a source of one when the publisher starts: its own vmclock device,
    /// with a generation counter. Without a source nothing changes the counter when the machine is
    /// cloned, and readers would take its silence for "not cloned".
    ///
    /// A [`Publication`] looks at no device, and takes this for [`Generation::Never`].
    #[default]
    Auto,
    /// Always. Without a source only [`Publisher::bump_generation`] changes it.
    Always,
    /// Never.
    Never,
}

/// Why a page is brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The interval has run out.
    Interval,
    /// The system's clock was set, or a leap second happened.
    ClockStep,
    /// The operator says that the machine was disrupted. The counter itself goes on.
    Disrupt,
    /// This machine was migrated or restored: whatever was known about its counter is void.
    Migrated,
    /// The operator says that the machine was cloned or restored.
    BumpGeneration,
    /// The operator announces or calls off maintenance.
    Maintenance(Maintenance),
    /// The publisher ends: the page becomes unreliable.
    Close,
}

/// How a page is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    /// What kind of page.
    pub shape: Shape,
    /// Whether a page of [`Shape::Time`] has a generation counter. The other shapes say so
    /// themselves; with them only [`Generation::Auto`] and what the shape says are accepted.
    pub generation: Generation,
    /// The time from one update to the next: 100 ms to 1 s.
    pub interval: Duration,
    /// How far CLOCK_REALTIME is from the truth at most, in nanoseconds, at every time while this
    /// page is published. The operator answers for it: the page then says that it is synchronized
    /// and uses this figure instead of the kernel's.
    pub max_error_ns: Option<u64>,
    /// TAI - UTC in seconds now, 10 to 255, for where neither the kernel nor tzdata knows it. Leap
    /// seconds that the kernel carries out are added.
    pub tai_minus_utc_sec: Option<i16>,
    /// How far the counter's rate may move away from its average over the baseline, in parts per
    /// billion.
    pub wander_ppb: u32,
    /// Publish from a counter that CPUID or the kernel does not vouch for.
    pub allow_untrusted_counter: bool,
    /// The page's permission bits, whatever the umask is. Readers refuse a page that others than
    /// its owner may write.
    pub mode: u32,
}

impl PublishOptions {
    /// The shortest interval.
    pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
    /// The longest interval.
    pub const INTERVAL_MAX: Duration = Duration::from_secs(1);
    /// Four times a second. Between updates the bound grows by some 600 ppm of the interval,
    /// 0.15 ms, before there is a baseline, and by some 4 µs after; both are below what a network
    /// synchronizes a clock to. A wake-up with its update costs about 0.1 ms of a core on a small
    /// virtual machine, 0.04 % of it at this interval (`examples/publish_cost.rs`).
    pub const INTERVAL_DEFAULT: Duration = Duration::from_millis(250);
    /// 15 ppm, the frequency tolerance PHI of RFC 5905: what a quartz does over the temperatures of
    /// a machine room. ClockBound's 50 ppm stand for the whole rate error; here the baseline's own
    /// uncertainty comes on top.
    pub const WANDER_DEFAULT_PPB: u32 = 15_000;
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            shape: Shape::Time,
            generation: Generation::Auto,
            interval: Self::INTERVAL_DEFAULT,
            max_error_ns: None,
            tai_minus_utc_sec: None,
            wander_ppb: Self::WANDER_DEFAULT_PPB,
            allow_untrusted_counter: false,
            mode: 0o644,
        }
    }
}

impl PublishOptions {
    /// Replaces [`Generation::Auto`] by what this machine can do.
    fn with_generation_source(mut self, has_source: bool) -> Self {
        if self.shape == Shape::Time && self.generation == Generation::Auto {
            self.generation = if has_source {
                Generation::Always
            } else {
                Generation::Never
            };
        }
        self
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
        if let Some(seconds) = self.tai_minus_utc_sec
            && !crate::abi::TAI_MINUS_UTC_RANGE_SEC.contains(&seconds)
        {
            return refuse(format!(
                "TAI - UTC must be 10 to 255 s (it has been 37 since 2017), and this is {seconds}"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auto_on_a_page_with_time_follows_the_machines_source_of_a_generation() {
        let decided = |shape, generation, has_source| {
            let options = PublishOptions {
                shape,
                generation,
                ..PublishOptions::default()
            };
            options.with_generation_source(has_source).generation
        };
        let time = Shape::Time;
        assert_eq!(decided(time, Generation::Auto, true), Generation::Always);
        assert_eq!(decided(time, Generation::Auto, false), Generation::Never);
        for has_source in [true, false] {
            for generation in [Generation::Always, Generation::Never] {
                assert_eq!(decided(time, generation, has_source), generation);
            }
            for shape in [Shape::Marker, Shape::MarkerAndGeneration] {
                let auto = decided(shape, Generation::Auto, has_source);
                assert_eq!(auto, Generation::Auto);
            }
        }
    }
}
