//! The counter's period, from the baselines of each source.

use super::baseline::{PeriodEstimator, RateError};
use crate::extension::SourceKind;
use crate::source::Sample;
use crate::time::period::Period;

/// Measures the counter's period against the kernel's clock, and against the source that gives the time instead.
///
/// No baseline is drawn between samples of two sources. Its proof needs a bound at both ends or one clock whose slews
/// are known. A change of source has neither if one of them states no bound. But each baseline is a statement
/// about one thing, the counter. So the page shows the one whose error is smaller, whatever source it comes from. The
/// kernel's is there from the second sample on, with its ceiling.
#[derive(Debug)]
pub(super) struct Rates {
    kernel: PeriodEstimator,
    other: PeriodEstimator,
    /// The source that `other` measured against.
    other_kind: SourceKind,
    shown: Option<(Period, RateError)>,
}

impl Rates {
    /// See [`PeriodEstimator::new`].
    pub(super) fn new(wander_ppb: u32, is_stated: bool) -> Self {
        Self {
            kernel: PeriodEstimator::new(wander_ppb, is_stated),
            other: PeriodEstimator::new(wander_ppb, false),
            other_kind: SourceKind::Unknown,
            shown: None,
        }
    }

    /// The period, once there is one.
    pub(super) fn period(&self) -> Option<Period> {
        self.shown.map(|(period, _)| period)
    }

    /// How far that period may be off, in parts per billion of it.
    pub(super) fn period_error_ppb(&self) -> u128 {
        self.shown.map_or(0, |(_, error)| error.max_ppb)
    }

    /// Ends all baselines. The counter goes on.
    pub(super) fn forget(&mut self) {
        self.kernel.forget();
        self.other.forget();
    }

    /// Ends all baselines because somebody stepped the system's clock.
    pub(super) fn step(&mut self) {
        self.kernel.step();
        // The other source may read that clock too.
        self.other.reset();
        self.shown = self
            .kernel
            .period()
            .zip(self.shown)
            .map(|(period, (_, error))| (period, error));
    }

    /// Forgets the periods too, because the counter does not go on.
    pub(super) fn reset(&mut self) {
        self.kernel.reset();
        self.other.reset();
        self.shown = None;
    }

    /// See [`PeriodEstimator::follow_source`].
    pub(super) fn follow_source(&mut self) {
        self.kernel.follow_source();
    }

    /// Measures the period up to `now`, and returns how far it may be off. `kernel` is the kernel's sample where
    /// `now` is of another source.
    pub(super) fn measure(&mut self, now: &Sample, kernel: Option<&Sample>) -> Option<RateError> {
        // Without a period nobody can compare two times of a source, and one that corrects itself leaves a false anchor.
        let is_compared = self.shown.is_some();
        let by_kernel = self.measure_kernel(kernel.unwrap_or(now));
        let by_other = match kernel {
            Some(_) if is_compared => self.measure_other(now),
            _ => {
                self.leave_other(SourceKind::Unknown);
                None
            }
        };
        self.shown = by_other
            .into_iter()
            .chain(by_kernel)
            .min_by_key(|(_, error)| error.max_ppb);
        self.shown.map(|(_, error)| error)
    }

    fn measure_kernel(&mut self, now: &Sample) -> Option<(Period, RateError)> {
        if now.is_free_at_other_rate {
            self.kernel.follow_rate();
        }
        if now.hidden_slew.is_unseen {
            // Since the last sample the kernel may have slewed more than any sample shows.
            self.kernel.forget();
        }
        let error = self.kernel.measure(now);
        self.kernel.period().zip(error)
    }

    fn measure_other(&mut self, now: &Sample) -> Option<(Period, RateError)> {
        self.leave_other(now.source);
        let error = self.other.measure(now);
        self.other.period().zip(error)
    }

    /// Ends the baselines of the other source unless they are of this kind.
    fn leave_other(&mut self, kind: SourceKind) {
        if self.other_kind != kind {
            self.other_kind = kind;
            self.other.reset();
        }
    }
}
