//! Time and counter at one instant.

use crate::extension::SourceKind;
use crate::no_bound::{Distrust, NoBound};
use crate::source::kernel::slew::HiddenSlew;
use crate::time::period::Period;

/// The time of a source and the counter at one instant, and what the source knows about both.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The source that gave the time.
    pub(crate) source: SourceKind,
    /// CLOCK_MONOTONIC in nanoseconds, of the kernel's sample.
    pub(crate) monotonic_ns: i128,
    /// How long the machine has been suspended since boot, in nanoseconds.
    pub(crate) suspended_ns: i128,
    /// The counter in the middle of the bracket around the time.
    pub(crate) counter: u64,
    /// Half the bracket, rounded up, and one step of the counter, which may lag behind by that much here or at
    /// a reader.
    pub(crate) half_width_ticks: u64,
    /// UTC in nanoseconds since 1970.
    pub(crate) realtime_ns: i128,
    /// How far that may be off, and the source's estimate.
    pub(crate) claim_ns: Option<u128>,
    pub(crate) estimate_ns: Option<u128>,
    /// The reason if there is no claim.
    pub(crate) no_bound: Option<NoBound>,
    pub(crate) is_synchronized: bool,
    /// The claim includes an error that the operator states of the host's clock.
    pub(crate) is_operators: bool,
    /// The largest error of a period that is measured from here, in parts per billion: by the slews at this
    /// sample and at each later one.
    pub(crate) ceiling_ppb: u128,
    pub(crate) hidden_slew: HiddenSlew,
    /// TAI - UTC in seconds, if the source knows it.
    pub(crate) tai_minus_utc_sec: Option<i16>,
    /// The change of TAI - UTC since the last sample, in seconds.
    pub(crate) tai_change_sec: i16,
    /// `leap_indicator`.
    pub(crate) leap_indicator: u8,
    /// True in an inserted second.
    pub(crate) is_in_leap_second: bool,
    /// The event since the last sample.
    pub(crate) event: Event,
    /// Somebody changed the kernel's clock, and its daemon has not explained that.
    pub(crate) has_unexplained_change: bool,
    /// True if the source has no truth to keep to and its rate has changed since the last sample.
    pub(crate) is_free_at_other_rate: bool,
}

/// An event between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing but time passed.
    Nothing,
    /// The source's time was set. The counter goes on.
    Step,
    /// The counter does not go on, or nothing is known about it.
    Disruption(Distrust),
}

/// Returns half a bracket in ticks, rounded up, and one step of the counter.
pub(crate) fn half_width_ticks(width_ticks: u64, step_ticks: u64) -> u64 {
    (width_ticks / 2)
        .saturating_add(1)
        .saturating_add(step_ticks)
}

impl Sample {
    /// Returns half the bracket in nanoseconds, and one for the rounding of the source's time.
    pub(crate) fn half_width_ns(&self, period: &Period) -> u128 {
        period.ticks_ns(self.half_width_ticks) + 1
    }

    /// Returns whether the kernel slews its clock at this sample, or did since.
    pub(crate) fn is_slewing(&self) -> bool {
        self.hidden_slew.running_ns != 0
    }

    /// Takes note of the slews at a later sample, up to which the period is measured from this one.
    pub(crate) fn note_slew(&mut self, later: &Self) {
        let running_ns = &mut self.hidden_slew.running_ns;
        *running_ns = (*running_ns).max(later.hidden_slew.running_ns);
        self.ceiling_ppb = self.ceiling_ppb.max(later.ceiling_ppb);
    }
}
