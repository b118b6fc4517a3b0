//! The counter's period, measured over a long baseline.
//!
//! The page's period follows the truth and not the kernel's present rate. It is measured between an earlier
//! sample, the anchor, and the present one, and [`PeriodEstimator::baseline`] proves its error.
//!
//! | the clock | the page's period |
//! |---|---|
//! | synchronized, or its error is stated by the operator | the average over the baseline |
//! | runs free: nothing says how far it is from the truth | the average since the kernel's rate last changed |
//!
//! A baseline ends at a step, a suspend, a disruption, and where nobody looked for 1.5 s.

use std::collections::VecDeque;

use crate::source::Sample;
use crate::time::NS_PER_SEC;
use crate::time::fixed;
use crate::time::period::{self, Period};

/// Two samples closer than this make no baseline.
const SHORTEST_BASELINE_NS: i128 = 5_000_000;
/// Anchors are at most this far apart.
const ANCHOR_SPACING_NS: i128 = 64 * NS_PER_SEC;
/// Older anchors are dropped: a counter's rate of half an hour ago says little about the present one. By then
/// the quotient is far below the allowance for wander.
const OLDEST_ANCHOR_NS: i128 = 1024 * NS_PER_SEC;
/// Enough for a daemon that reports a smaller error sixteen times in each [`ANCHOR_SPACING_NS`].
const MOST_ANCHORS: usize = 256;

/// How far a period may be off, in parts per billion of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateError {
    pub(super) max_ppb: u128,
    pub(super) estimate_ppb: Option<u128>,
}

/// A period, its error, and its baseline.
#[derive(Clone, Copy, Debug)]
struct Measured {
    period: Period,
    error: RateError,
    /// CLOCK_REALTIME at the anchor.
    since_ns: i128,
    length_ns: i128,
}

impl Measured {
    /// Returns whether the claims at both ends give a smaller error than the ceiling.
    fn is_by_claims(&self) -> bool {
        self.error.max_ppb < self.period.ceiling_ppb
    }

    /// Returns whether this stays although `new` was measured later, because `new` has only a ceiling.
    ///
    /// The error of `self` is about the counter and remains true. But a baseline up to the present gives times
    /// between those at its two ends, and so near those that earlier pages gave. Therefore `new` is better if
    /// its claims count, or if it is twice as long.
    fn outlasts(&self, new: &Self) -> bool {
        self.is_by_claims()
            && !new.is_by_claims()
            && self.error.max_ppb < new.error.max_ppb
            && new.length_ns < 2 * self.length_ns
    }
}

/// Measures the counter's period while nothing disrupts the counter.
#[derive(Debug)]
pub(super) struct PeriodEstimator {
    /// Samples to measure from, in order.
    anchors: VecDeque<Sample>,
    period: Option<Period>,
    /// The period before the last sample was part of it.
    earlier_period: Option<Period>,
    /// The measurement that `period` comes from, until its baseline ends.
    measured: Option<Measured>,
    /// How far the counter's period may move away from its average.
    wander_ppb: u128,
    /// The operator states the error of the kernel's clock.
    is_stated: bool,
}

impl PeriodEstimator {
    /// `wander_ppb` is how far the counter's rate may move away from its average over the baseline.
    pub(super) fn new(wander_ppb: u32, is_stated: bool) -> Self {
        Self {
            anchors: VecDeque::new(),
            period: None,
            earlier_period: None,
            measured: None,
            wander_ppb: period::error_of_inverse_ppb(wander_ppb.into()),
            is_stated,
        }
    }

    /// The period, once there is one.
    pub(super) fn period(&self) -> Option<Period> {
        self.period
    }

    /// Ends the baseline. The counter goes on, but earlier samples say nothing about later ones.
    pub(super) fn forget(&mut self) {
        self.anchors.clear();
        self.measured = None;
    }

    /// Ends the baseline because somebody stepped the system's clock.
    ///
    /// The last sample may already be one of the stepped clock, so that the period goes back to the one
    /// before that sample.
    pub(super) fn step(&mut self) {
        self.forget();
        self.period = self.earlier_period;
    }

    /// Forgets the period too, because the counter does not go on.
    pub(super) fn reset(&mut self) {
        self.forget();
        self.period = None;
        self.earlier_period = None;
    }

    /// Begins a new baseline, because the kernel's clock runs free and was given another rate.
    ///
    /// While a daemon disciplines the clock, its changes of the rate say nothing about the counter, and the
    /// baseline goes on. A clock that runs free has no truth to keep to, so its page follows its rate. The
    /// period stays until the new baseline gives another, and so does its error: it was measured over more
    /// rates than the last one, so no rescaling would make it exact.
    pub(super) fn follow_rate(&mut self) {
        if !self.is_stated {
            self.forget();
        }
    }

    /// Measures from the source's own claims from now on: the error that the operator stated does not hold any
    /// more.
    pub(super) fn follow_source(&mut self) {
        self.is_stated = false;
        self.forget();
    }

    /// Measures the period up to `now`, and returns how far it may be off.
    pub(super) fn measure(&mut self, now: &Sample) -> Option<RateError> {
        self.drop_old(now);
        for anchor in &mut self.anchors {
            anchor.note_slew(now);
        }
        self.earlier_period = self.period;
        self.measured = match (self.measured, self.best(now)) {
            (Some(old), Some(new)) if !old.outlasts(&new) => Some(new),
            (old, new) => old.or(new),
        };
        let result = match self.measured {
            Some(measured) => {
                self.period = Some(measured.period);
                Some(measured.error)
            }
            None => self.period.map(|period| RateError {
                max_ppb: self
                    .at_most(now.ceiling_ppb, period.noise_ppb)
                    .max(period.ceiling_ppb),
                estimate_ppb: None,
            }),
        };
        if self.makes_anchor(now) {
            self.anchors.push_back(*now);
        }
        result
    }

    /// Measures from each anchor, and returns the best result.
    fn best(&self, now: &Sample) -> Option<Measured> {
        // From the longest baseline to the shortest.
        let all = || {
            let anchors = self.anchors.iter();
            anchors.filter_map(|anchor| self.baseline(anchor, now))
        };
        let smallest = all().min_by_key(|one| (one.error.max_ppb, one.period.noise_ppb))?;
        if now.claim_ns.is_some() {
            return Some(smallest);
        }
        // The page states no bound now. The longest baseline of about that error changes the times least
        // that readers converted before.
        let most_ppb = smallest.error.max_ppb / 2 * 3;
        all().find(|one| one.error.max_ppb <= most_ppb)
    }

    /// Drops each anchor and measurement that is too old, but the last anchor.
    fn drop_old(&mut self, now: &Sample) {
        let is_old = |since_ns: i128| now.realtime_ns - since_ns > OLDEST_ANCHOR_NS;
        self.measured = self.measured.filter(|measured| !is_old(measured.since_ns));
        while self.anchors.len() > 1
            && self
                .anchors
                .front()
                .is_some_and(|oldest| is_old(oldest.realtime_ns))
        {
            self.anchors.pop_front();
        }
    }

    /// Returns whether to measure from this sample later: it is far from the last anchor, or much better.
    ///
    /// A sample right after a daemon's update has a small claim, which grows by 500 ppm from then on.
    fn makes_anchor(&self, now: &Sample) -> bool {
        self.anchors.back().is_none_or(|last| {
            now.realtime_ns - last.realtime_ns >= ANCHOR_SPACING_NS
                || self.anchors.len() < MOST_ANCHORS && self.is_much_better(now, last)
        })
    }

    /// Returns whether the claim or the ceiling of `one` is a third smaller than that of `other`, and neither is
    /// larger.
    fn is_much_better(&self, one: &Sample, other: &Sample) -> bool {
        let claim_ns = |sample| self.claim_ns(sample).unwrap_or(u128::MAX);
        let errors = [
            (claim_ns(one), claim_ns(other)),
            (one.ceiling_ppb, other.ceiling_ppb),
        ];
        errors.iter().all(|(one, other)| one <= other)
            && errors.iter().any(|(one, other)| *one < other / 3 * 2)
    }

    /// How far the clock may be off at a sample, where that helps to measure the counter's rate.
    fn claim_ns(&self, sample: &Sample) -> Option<u128> {
        // An operator states the error of the kernel's clock, slews and all, so that it says nothing about
        // the counter's rate while the kernel slews.
        let is_stated_and_slewing = self.is_stated && sample.is_slewing();
        sample.claim_ns.filter(|_| !is_stated_and_slewing)
    }

    /// The ceiling of the period's error, and never less than the allowance for wander.
    fn at_most(&self, ceiling_ppb: u128, noise_ppb: u128) -> u128 {
        ceiling_ppb.max(self.wander_ppb) + noise_ppb
    }

    /// Measures the period from `anchor` to `now`.
    ///
    /// # Its error, where both ends have a claim
    ///
    /// Let `c` be the counter, `T(c)` the true time at it, `R` what CLOCK_REALTIME showed, `E` the claim and
    /// `w` half the width of the bracket around `R`. At the anchor `j` and at the present sample `k`
    ///
    /// ```text
    /// |R_j - T(c_j)| <= E_j + w_j        |R_k - T(c_k)| <= E_k + w_k
    /// ```
    ///
    /// The page's period is `p = (R_k - R_j) / (c_k - c_j)`, and the counter's average period over the
    /// baseline is `q = (T(c_k) - T(c_j)) / (c_k - c_j)`. The difference of the two inequalities gives
    ///
    /// ```text
    /// |p - q| <= e * p        e = (E_j + E_k + w_j + w_k) / (R_k - R_j)
    /// ```
    ///
    /// This needs the claims at the two ends and nothing in between. There the daemon may change the
    /// kernel's frequency and tick, or slew its clock, as often as it likes. So the baseline goes on.
    ///
    /// The allowance for wander `a` covers the counter, whose present period is `q' = q * (1 ± a)`. With
    /// `q <= p * (1 + e)` the period's error is
    ///
    /// ```text
    /// |p - q'| <= |p - q| + |q - q'| <= (e + a + e * a) * p
    /// ```
    ///
    /// # Its error without claims
    ///
    /// The ceiling: at no time of the baseline did the kernel's clock run further off than
    /// [`Sample::ceiling_ppb`] of the anchor, which is the largest one since.
    fn baseline(&self, anchor: &Sample, now: &Sample) -> Option<Measured> {
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
        let ceiling_ppb = self.at_most(anchor.ceiling_ppb, noise_ppb);
        let quotient_of = |a: Option<u128>, b: Option<u128>| {
            period::quotient_ppb(a? + b? + widths_ns, divisor_ns)
        };
        let by_claims_ppb = quotient_of(self.claim_ns(anchor), now.claim_ns)
            .map(|ppb| ppb + self.wander_ppb + period::share(self.wander_ppb, ppb));
        let max_ppb = by_claims_ppb.map_or(ceiling_ppb, |ppb| ppb.min(ceiling_ppb));
        let estimate_ppb =
            quotient_of(anchor.estimate_ns, now.estimate_ns).map(|ppb| ppb.min(max_ppb));
        Some(Measured {
            period: Period {
                noise_ppb,
                ceiling_ppb,
                ..period
            },
            error: RateError {
                max_ppb,
                estimate_ppb,
            },
            since_ns: anchor.realtime_ns,
            length_ns,
        })
    }
}
