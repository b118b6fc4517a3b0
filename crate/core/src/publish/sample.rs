//! Clock and counter at one instant.

use crate::publish::period::Period;
use crate::source::kernel::clock::Bracket;
use crate::source::kernel::discipline::Discipline;
use crate::source::kernel::slew::HiddenSlew;
use crate::time::fixed;

/// Clock and counter at one instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The counter in the middle of the bracket.
    pub(super) counter: u64,
    /// Half the bracket around CLOCK_REALTIME, rounded up, and one step of the counter: by so much it
    /// may lag behind, here or at a reader.
    pub(super) half_width_ticks: u64,
    /// The whole bracket, CLOCK_MONOTONIC included, and one step of the counter.
    pub(super) span_ticks: u64,
    pub(super) realtime_ns: i128,
    pub(super) monotonic_ns: i128,
    pub(super) suspended_ns: i128,
    pub(super) discipline: Discipline,
    pub(super) hidden_slew: HiddenSlew,
    /// The most that a period measured from here can be off, in parts per billion: by how the kernel
    /// slewed here, and at every sample since.
    pub(super) ceiling_ppb: u128,
    /// How far CLOCK_REALTIME may be off, where that is known.
    pub(super) claim_ns: Option<u128>,
    /// How far the kernel thinks it is, where that means anything.
    pub(super) estimate_ns: Option<u128>,
}

impl Sample {
    /// A sample from a bracket, with nothing claimed yet.
    pub(super) fn new(
        bracket: &Bracket,
        step_ticks: u64,
        realtime_ns: i128,
        suspended_ns: i128,
        discipline: Discipline,
        hidden_slew: HiddenSlew,
    ) -> Self {
        let half = bracket.width_ticks / 2;
        Self {
            counter: bracket.counter.wrapping_add(half),
            half_width_ticks: half.saturating_add(1).saturating_add(step_ticks),
            span_ticks: bracket.span_ticks.saturating_add(step_ticks),
            realtime_ns,
            monotonic_ns: bracket.monotonic_ns,
            suspended_ns,
            discipline,
            hidden_slew,
            ceiling_ppb: discipline.ceiling_ppb(hidden_slew.running_ns),
            claim_ns: None,
            estimate_ns: None,
        }
    }

    /// Half the bracket in nanoseconds, and one for CLOCK_REALTIME's own rounding.
    pub(super) fn half_width_ns(&self, period: &Period) -> u128 {
        period.ticks_ns(self.half_width_ticks) + 1
    }

    /// How far CLOCK_REALTIME was set since an earlier sample, and how far that may be off: both are slewed
    /// alike, and CLOCK_MONOTONIC is never set, but they are not read at once. `period` serves where the two
    /// samples are too close to each other to tell well how long a tick is, and is good to the half.
    pub(super) fn set_since(&self, last: &Self, period: Option<Period>) -> Option<(i128, u128)> {
        let monotonic_ns = self.monotonic_ns - last.monotonic_ns;
        let set_by_ns = self.realtime_ns - last.realtime_ns - monotonic_ns;
        let spans_ticks = self.span_ticks.saturating_add(last.span_ticks);
        // Of the ticks between the two, so many at least went by while CLOCK_MONOTONIC went that far.
        let ticks = fixed::distance_ticks(self.counter, last.counter);
        let between_ticks = ticks.saturating_sub(i64::try_from(spans_ticks).ok()?);
        let measured = Period::measured(monotonic_ns + 1, between_ticks);
        let spans_ns = [measured, period].into_iter().flatten();
        let spans_ns = spans_ns.map(|period| period.ticks_ns(spans_ticks)).min()?;
        // One for each clock's rounding.
        Some((set_by_ns, 2 * spans_ns + 2))
    }

    /// What the daemon wanted slewed, and counts on, that had not been carried out by then.
    pub(super) fn unslewed_ns(&self) -> u128 {
        u128::from(self.discipline.offset_ns.unsigned_abs())
            + u128::from(self.discipline.single_shot_ns.unsigned_abs())
            + self.hidden_slew.owed_ns
    }

    pub(super) fn is_slewing(&self) -> bool {
        self.hidden_slew.running_ns != 0
    }

    /// Takes note of how the kernel slews at a later sample, up to which this one is measured from.
    pub(super) fn note_slew(&mut self, later: &Self) {
        let running_ns = &mut self.hidden_slew.running_ns;
        *running_ns = (*running_ns).max(later.hidden_slew.running_ns);
        self.ceiling_ppb = self.ceiling_ppb.max(later.ceiling_ppb);
    }
}
