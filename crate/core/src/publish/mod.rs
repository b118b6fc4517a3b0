//! A page from this machine's own clock, with honest bounds.
//!
//! A machine whose hypervisor provides no vmclock page can publish one for itself: the kernel's
//! CLOCK_REALTIME, tied to the CPU counter, with the bounds that the kernel's own figures allow.
//! Readers then stamp from it without a system call, as they would from a hypervisor's.
//!
//! # What the page claims
//!
//! At an update the counter is read before and after CLOCK_REALTIME, `w` apart. The claims follow:
//!
//! - **`time_maxerror`** = the kernel's `maxerror` + what it still has to slew + `w` / 2 + one step of
//!   the counter, which may move in larger steps than its ticks. Daemons hand `maxerror` over in
//!   whole microseconds, cut off, so one is added. The kernel lets `maxerror` grow by 500 µs at the
//!   start of each second, for what the clock may have drifted in the second before, so 500 µs are
//!   added for the present one. What is slewed in the present second the kernel no longer shows among
//!   what it has to slew, so the most that this can be is added. What ran before the publisher
//!   began, or while it was not let run for more than 1.5 s, no sample showed: then that is the most
//!   that the kernel slews at all for a daemon like the present one, until the daemon speaks again.
//!   In less time a daemon is taken to speak once at most.
//! - **No bound** where the kernel's figure is worth nothing. systemd-timesyncd and linuxptp's
//!   `phc2sys` set `maxerror` to 0 at each adjustment, with milliseconds still to go. The kernel
//!   adds 500 µs a second from there, so a `maxerror` that is a multiple of 500 µs was counted up
//!   from 0, and the page then states no bound; once an actual 0 was seen it never states one
//!   again. Nor does it after a suspend (also one before it began) or a counter reset, or where it
//!   takes over a page that states none, until the daemon has measured anew. A daemon's real
//!   figure is such a multiple one time in 500, and goes without bound until the next one: silence
//!   is the safe side. An operator who knows the error can state it
//!   ([`PublishOptions::max_error_ns`]) and then answers for it.
//! - **After the clock was set**, by whomever, or another than the daemon began to slew it (by an
//!   `adjtime` or an offset for the kernel's loop, unless the daemon is seen to do so time after time; or by
//!   turning its rate by more than 100 ppm where the daemon tells nothing in the same interval, unless back to
//!   what it was before), the daemon's word alone does not count until eight of its measurements have agreed
//!   with what the page said before, carried on by the counter: until then the bound covers that too. A
//!   daemon that did not move the clock itself does not know at once. What another hands to `adjtime` or to
//!   the loop, and steps that are too small for the daemon to have noticed, it may take for noise for longer,
//!   and would agree all the same: they stay in the bound for 64 of its measurements. So does what the kernel
//!   still had to slew when the clock was set, which it then forgets.
//! - **Not seen** is what another did to the clock before the publisher began, while it was not let run for
//!   more than 1.5 s, or while the kernel did not take the clock for synchronized; by a smaller rate, or one
//!   that the daemon took back without noticing; by an `adjtime` that began and ended between two updates,
//!   500 µs at most for each second, or by what looks like the kernel's own progress with what it slews. Nor
//!   is what the daemon handed to the kernel in the very interval in which another set the clock; nor that a
//!   daemon learns of the one of two larger steps after they cancelled each other for eight measurements. For
//!   all that the daemon's word is taken: let one program keep the clock.
//! - **chrony** puts into the `maxerror` that it tells at a measurement, and into `esterror`, the whole
//!   correction that it has yet to carry out ("System time" in `chronyc tracking`; since 2.0,
//!   `set_sync_status` in its `sys_generic.c`): of a clock that it turns back from 900 ms by 100 ppm it
//!   tells more than 900 ms. So a correction below the 500 ppm that the kernel counts needs nothing
//!   more. Where it turns the clock by more, which takes `tick`, the kernel's figure does not follow:
//!   then the page goes by what it said before that, as above, or states no bound where it said nothing.
//! - **An unsynchronized clock** (STA_UNSYNC, or `maxerror` at its ceiling of 16 s) is published
//!   as free-running, without a bound.
//! - **`counter_period_maxerror`** = (sum of the bounds at both ends of the baseline) / its length,
//!   plus an allowance for wander ([`PublishOptions::wander_ppb`]). It is never more than the
//!   ceiling: the kernel's |frequency| and |tick - nominal|, 500 ppm that it may slew, and 100 ppm
//!   of oscillator; which is also what holds before there is a baseline. A baseline ends at a step,
//!   a suspend, a disruption, a change of the kernel's frequency or tick, and where nobody looked
//!   for 1.5 s.
//! - **TAI** where the offset is known: from the kernel, else from tzdata's `leap-seconds.list`
//!   until that expires, else from the operator. Else UTC, with the offset marked unknown.
//! - **TIME_MONOTONIC is never claimed**: an update publishes the best time there is, which may be
//!   below what the last one gave. A reader who needs more asks for `non_decreasing`.
//!
//! # Two parts
//!
//! [`Publication`] decides what the page says; it is a state machine over clock and counter, with
//! neither thread nor file, so that a simulation can drive it. [`Publisher`] owns the file, the
//! lock and the thread.

mod baseline;
mod existing;
mod lock;
pub(crate) mod period;
mod publication;
mod publisher;
mod sample;
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
            && !crate::time::TAI_MINUS_UTC_RANGE_SEC.contains(&seconds)
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
