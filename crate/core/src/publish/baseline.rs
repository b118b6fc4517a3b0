//! The counter's period, measured over an undisrupted stretch.

use std::collections::VecDeque;

use crate::source::Sample;
use crate::source::kernel::discipline::Discipline;
use crate::time::NS_PER_SEC;
use crate::time::fixed;
use crate::time::period::{self, Period};

/// Two samples closer than this make no baseline.
const SHORTEST_BASELINE_NS: i128 = 5_000_000;
/// Samples are kept this far apart, and for so long: what a counter's rate did half an hour ago
/// says little about now, and by then the quotient is far below the allowance for wander.
const ANCHOR_SPACING_NS: i128 = 64 * NS_PER_SEC;
const OLDEST_ANCHOR_NS: i128 = 1024 * NS_PER_SEC;

/// How far a period may be off, in parts per billion of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateError {
    pub(super) max_ppb: u128,
    pub(super) estimate_ppb: Option<u128>,
}

/// The undisrupted stretch up to now, and what was measured over it.
#[derive(Debug)]
pub(super) struct PeriodEstimator {
    /// Samples to measure from, in order.
    anchors: VecDeque<Sample>,
    period: Option<Period>,
    /// The period before the last sample was part of it.
    earlier_period: Option<Period>,
    /// What was said last about how far that may be off.
    period_error_ppb: u128,
    /// How far the rate may move away from its average.
    wander_ppb: u128,
    /// Claims are the operator's, about the kernel's clock as it is.
    is_stated: bool,
}

impl PeriodEstimator {
    pub(super) fn new(wander_ppb: u32, is_stated: bool) -> Self {
        Self {
            anchors: VecDeque::new(),
            period: None,
            earlier_period: None,
            period_error_ppb: 0,
            wander_ppb: wander_ppb.into(),
            is_stated,
        }
    }

    /// The period, once there is one.
    pub(super) fn period(&self) -> Option<Period> {
        self.period
    }

    /// How far that period may be off, in parts per billion of it.
    pub(super) fn period_error_ppb(&self) -> u128 {
        self.period_error_ppb
    }

    /// The counter goes on, but what was seen before says nothing about what comes.
    pub(super) fn forget(&mut self) {
        self.anchors.clear();
    }

    /// The system's clock was set. What tells of that may come after a sample that was taken of the
    /// clock as it was set, so that sample is no part of any baseline either.
    pub(super) fn step(&mut self) {
        self.forget();
        self.period = self.earlier_period;
    }

    /// The counter does not go on.
    pub(super) fn reset(&mut self) {
        self.anchors.clear();
        self.period = None;
        self.earlier_period = None;
    }

    /// The kernel's clock was given another rate, so that what was measured against it moves too.
    pub(super) fn change_rate(&mut self, old: &Discipline, new: &Discipline) {
        self.anchors.clear();
        self.period = self.period.map(|period| {
            // Its error is what the kernel slewed while it was measured, and the new rate's.
            let ceiling_ppb = new.ceiling_ppb(period.running_slew_ns);
            Period {
                ceiling_ppb: self.at_most(ceiling_ppb, period.noise_ppb),
                ..period.at_rate(old.rate_scaled_ppm(), new.rate_scaled_ppm())
            }
        });
    }

    /// Measures the period from the best baseline that there is, and says how far it may be off.
    pub(super) fn measure(&mut self, now: &Sample) -> Option<RateError> {
        while self.anchors.len() > 1
            && self
                .anchors
                .front()
                .is_some_and(|oldest| now.realtime_ns - oldest.realtime_ns > OLDEST_ANCHOR_NS)
        {
            self.anchors.pop_front();
        }
        for anchor in &mut self.anchors {
            anchor.note_slew(now);
        }
        self.earlier_period = self.period;
        let best = self
            .anchors
            .iter()
            .filter_map(|anchor| self.baseline(anchor, now))
            .min_by_key(|(period, error)| (error.max_ppb, period.noise_ppb));
        let result = match best {
            Some((period, error)) => {
                self.period = Some(period);
                Some(error)
            }
            None => self.period.map(|period| RateError {
                max_ppb: self
                    .at_most(now.ceiling_ppb, period.noise_ppb)
                    .max(period.ceiling_ppb),
                estimate_ppb: None,
            }),
        };
        if let Some(error) = &result {
            self.period_error_ppb = error.max_ppb;
        }
        if self
            .anchors
            .back()
            .is_none_or(|newest| now.realtime_ns - newest.realtime_ns >= ANCHOR_SPACING_NS)
        {
            self.anchors.push_back(*now);
        }
        result
    }

    /// The ceiling of the period's error, and never less than the allowance for wander.
    fn at_most(&self, ceiling_ppb: u128, noise_ppb: u128) -> u128 {
        ceiling_ppb.max(self.wander_ppb) + noise_ppb
    }

    fn baseline(&self, anchor: &Sample, now: &Sample) -> Option<(Period, RateError)> {
        let length_ns = now.realtime_ns - anchor.realtime_ns;
        let ticks = fixed::distance_ticks(now.counter, anchor.counter);
        if length_ns < SHORTEST_BASELINE_NS {
            return None;
        }
        let period = Period::measured(length_ns, ticks)?;
        let widths_ns = anchor.half_width_ns(&period) + now.half_width_ns(&period);
        // The widths are converted by the very period whose error they make: with w for both, the
        // relative error e is at most w * (1 + e) / length, so e = w / (length - w).
        let divisor_ns = length_ns - i128::try_from(widths_ns).ok()?;
        if divisor_ns < SHORTEST_BASELINE_NS / 2 {
            return None;
        }
        let noise_ppb = period::quotient_ppb(widths_ns, divisor_ns)?;
        // The anchor knows how the kernel slewed ever since.
        let ceiling_ppb = self.at_most(anchor.ceiling_ppb, noise_ppb);
        let wander_ppb = self.wander_ppb;
        let quotient_of = |a: Option<u128>, b: Option<u128>| {
            period::quotient_ppb(a? + b? + widths_ns, divisor_ns)
        };
        // What an operator states is about the kernel's clock, slews and all, so that it says
        // nothing about the counter's rate while the kernel slews.
        let stated_and_slewing = self.is_stated && anchor.is_slewing();
        let max_ppb = quotient_of(anchor.claim_ns, now.claim_ns)
            .filter(|_| !stated_and_slewing)
            .map_or(ceiling_ppb, |quotient| {
                (quotient + wander_ppb).min(ceiling_ppb)
            });
        let estimate_ppb =
            quotient_of(anchor.estimate_ns, now.estimate_ns).map(|ppb| ppb.min(max_ppb));
        let error = RateError {
            max_ppb,
            estimate_ppb,
        };
        Some((
            Period {
                noise_ppb,
                running_slew_ns: anchor.hidden_slew.running_ns,
                ceiling_ppb,
                ..period
            },
            error,
        ))
    }
}
