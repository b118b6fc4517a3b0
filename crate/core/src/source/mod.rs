//! Sources of time that a page can be made from.
//!
//! The kernel's clock is always sampled: it notices suspends, jumps of the counter and leap seconds. A better source
//! may then give the time: [`best`] chooses.

pub mod best;
pub mod clockbound;
pub mod kernel;
pub mod phc;
mod sample;

use crate::counter::Counter;
use crate::error::Error;
use crate::extension::{DeviceRecord, SourceKind};
use crate::no_bound::{Distrust, NoBound};
use crate::time::period::Period;

pub(crate) use sample::half_width_ticks;
pub use sample::{Event, Sample};

/// A source of time: it gives samples of UTC against the counter, each with its bound.
pub trait TimeSource {
    /// Continues from a page whose reference was this second of UTC, and which reported this leap second.
    fn resume(&mut self, utc_sec: i128, leap_indicator: u8);

    /// Goes on with the reason for which the page of an earlier publisher stated no bound.
    fn resume_distrust(&mut self, no_bound: NoBound);

    /// Takes a sample, and compares it with the one before. `None` if the source changed each time that it
    /// was sampled.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the system refuses a call.
    fn sample(&mut self, counter: &impl Counter, known: &Known) -> Result<Option<Sample>, Error>;

    /// States no bound until whoever disciplines the source has seen the event in its measurements. Returns the
    /// reason that samples give from then on.
    fn distrust(&mut self, cause: Distrust) -> Option<NoBound>;

    /// Takes note that an earlier maker noticed a disruption that the device did not report.
    fn resume_jump(&mut self) {}

    /// Returns the kernel's sample that the last sample was taken with, if another source gave that one.
    fn along(&self) -> Option<&Sample> {
        None
    }

    /// Returns the better sources that the last sample did not come from, and why.
    fn passed_over(&self) -> Vec<PassedOver> {
        Vec::new()
    }

    /// Follows a disruption that the device reports: nothing is known about the counter any more.
    fn follow_device(&mut self) {
        self.forget();
        self.distrust(Distrust::Disruption);
    }

    /// Forgets the last sample: the counter is another one from now on.
    fn forget(&mut self);

    /// Returns the time in nanoseconds since 1970, without a bound.
    fn rough_time_ns(&self, counter: &impl Counter) -> i128;

    /// Returns how long this machine has been suspended since boot, in nanoseconds.
    fn suspended_ns(&self) -> i128;
}

/// A source of time beside the kernel's clock.
pub trait Candidate {
    /// Returns the kind of the source.
    fn kind(&self) -> SourceKind;

    /// Takes a sample, right after the kernel's.
    ///
    /// # Errors
    ///
    /// The reason for which the source gives no time with a bound now.
    fn sample(&mut self, counter: &dyn Counter, scene: &Scene<'_>) -> Result<Fix, Error>;

    /// Takes note that the machine was suspended or disrupted, or that it may have been.
    fn disrupt(&mut self, cause: Distrust);

    /// Takes note of a disruption that the machine's device reports. A source that knows the device's marker needs
    /// no more.
    fn follow_device(&mut self) {
        self.disrupt(Distrust::Disruption);
    }
}

impl<T: Candidate + ?Sized> Candidate for Box<T> {
    fn kind(&self) -> SourceKind {
        (**self).kind()
    }

    fn sample(&mut self, counter: &dyn Counter, scene: &Scene<'_>) -> Result<Fix, Error> {
        (**self).sample(counter, scene)
    }

    fn disrupt(&mut self, cause: Distrust) {
        (**self).disrupt(cause);
    }

    fn follow_device(&mut self) {
        (**self).follow_device();
    }
}

/// The time of a [`Candidate`] at one value of the counter, with its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fix {
    /// The counter in the middle of the bracket around the time.
    pub counter: u64,
    /// Half the bracket, rounded up, and one step of the counter.
    pub half_width_ticks: u64,
    /// UTC in nanoseconds since 1970.
    pub utc_ns: i128,
    /// How far that may be off, in nanoseconds.
    pub max_error_ns: u128,
    /// The source's estimate of its error in nanoseconds, if it gives one.
    pub estimate_ns: Option<u128>,
    /// Something keeps the source near UTC now.
    pub is_synchronized: bool,
    /// The bound includes an error that the operator states.
    pub is_operators: bool,
}

/// The scene in which a [`Candidate`] takes its sample.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The knowledge of the publication.
    pub known: &'a Known,
    /// The kernel's sample of the same step.
    pub kernel: &'a Sample,
}

/// A better source that was not used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The kind of the source.
    pub kind: SourceKind,
    /// The code of the error: `ERR_VMCLOCK_…`. `None` while the source is good again, and not long enough yet.
    pub code: Option<&'static str>,
    /// The reason, in words.
    pub reason: String,
}

/// Less than this is the noise of reading two clocks one after the other.
pub(crate) const SUSPENDED_NOISE_NS: i128 = 1_000_000;

/// The knowledge of a publication that asks for a sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The counter's period, if it has been measured.
    pub(crate) period: Option<Period>,
    /// The error of that period, in parts per billion.
    pub(crate) period_error_ppb: u128,
    /// The step in which the counter moves, in ticks.
    pub(crate) step_ticks: u64,
    /// The kernel reported that CLOCK_REALTIME was set.
    pub(crate) is_alarm: bool,
    /// The machine's device, as it was looked at before this sample and after it.
    pub device: DeviceRecord,
}
