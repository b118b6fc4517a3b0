//! Sources of time that a page can be made from.

pub mod kernel;
mod sample;

use crate::counter::Counter;
use crate::error::Error;
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

    /// Forgets the last sample: the counter is another one from now on.
    fn forget(&mut self);

    /// Returns the time in nanoseconds since 1970, without a bound.
    fn rough_time_ns(&self, counter: &impl Counter) -> i128;

    /// Returns how long this machine has been suspended since boot, in nanoseconds.
    fn suspended_ns(&self) -> i128;
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
}
