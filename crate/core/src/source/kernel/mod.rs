//! The kernel's clock as a source of time.

pub mod clock;
pub mod discipline;
pub(crate) mod leap;
pub mod leap_seconds;
pub(crate) mod slew;
pub mod step_alarm;
pub(crate) mod trust;

use clock::{Bracket, SystemClock};
use discipline::{Discipline, MAXERROR_CEILING_US, MAXERROR_GROWTH_US_PER_SEC};
use leap::{LeapTracker, Seen};
use slew::{HiddenSlew, SlewTracker};
use trust::TrustTracker;

use super::{Event, Known, SUSPENDED_NOISE_NS, Sample, TimeSource};
use crate::abi::TAI_MINUS_UTC_RANGE_SEC;
use crate::counter::Counter;
use crate::error::Error;
use crate::extension::SourceKind;
use crate::no_bound::{Distrust, NoBound};
use crate::time::period::{self, Period};
use crate::time::{NS_PER_SEC, fixed};

/// The deviation from a prediction at which a clock or a counter has jumped, beyond all that is accounted for.
const JUMP_NS: u128 = 1_000_000;
/// A figure of 0 counts from so many reports without a step on, where the operator states the host's error.
const ZERO_REPORTS: u8 = 2;
/// A sample is taken again so often while the kernel's figures change.
const TRIES: usize = 8;

/// The kernel's CLOCK_REALTIME, with the bounds that the kernel's figures allow.
#[derive(Debug)]
pub struct KernelSource<S> {
    clock: S,
    leap: LeapTracker,
    slews: SlewTracker,
    trust: TrustTracker,
    /// The error that the daemon does not report, in nanoseconds, as the operator states it.
    host_error_ns: Option<u64>,
    /// The daemon's reports without a step since the last step or the start, at most [`ZERO_REPORTS`].
    steady_reports: u8,
    last: Option<Look>,
}

/// The clocks, the counter and the kernel's figures at one instant.
#[derive(Clone, Copy, Debug)]
struct Look {
    bracket: Bracket,
    /// The counter in the middle of the bracket around CLOCK_REALTIME.
    counter: u64,
    /// The whole bracket, CLOCK_MONOTONIC included, and one step of the counter.
    span_ticks: u64,
    suspended_ns: i128,
    discipline: Discipline,
    seen: Seen,
    hidden_slew: HiddenSlew,
    ceiling_ppb: u128,
}

impl<S: SystemClock> KernelSource<S> {
    /// Makes a source of a clock.
    pub fn new(clock: S) -> Self {
        let mut trust = TrustTracker::default();
        // After a suspend the kernel sets its clock from another one, which is good to a second, and keeps
        // `maxerror`. It does not say when that was.
        if clock.may_have_been_suspended() {
            trust.disrupt(Distrust::Suspend);
        }
        Self {
            clock,
            leap: LeapTracker::default(),
            slews: SlewTracker::default(),
            trust,
            host_error_ns: None,
            steady_reports: 0,
            last: None,
        }
    }

    /// Adds an error that the operator states to the daemon's. It is the part that the daemon does not report, such as
    /// that of a PTP clock that it follows. A daemon's 0 is then a report.
    #[must_use]
    pub fn with_host_error(self, host_error_ns: Option<u64>) -> Self {
        Self {
            host_error_ns,
            ..self
        }
    }

    /// Returns whether a figure that starts from 0 is no reason for distrust: the operator states what it lacks.
    ///
    /// systemd-timesyncd reports 0 for a clock that it follows over a network. It is known by the kernel's loop, which
    /// it uses from its first report after a step on. So a 0 gives a bound only after [`ZERO_REPORTS`] of them.
    fn takes_zero(&self, discipline: &Discipline) -> bool {
        self.host_error_ns.is_some() && !discipline.is_driven_by_loop()
    }

    /// Samples the clocks, the counter and the kernel's figures.
    fn look(&mut self, counter: &impl Counter, step_ticks: u64) -> Result<Option<Look>, Error> {
        for _ in 0..TRIES {
            let before = self.clock.discipline()?;
            let bracket = self.clock.bracket(counter);
            let suspended_ns = self.clock.suspended_ns();
            let after = self.clock.discipline()?;
            let Some(discipline) = during(&before, &after) else {
                continue;
            };
            let seen = self.leap.look(bracket.realtime_ns, discipline.leap);
            let hidden_slew = self.slews.look(bracket.monotonic_ns, &discipline);
            let half_ticks = bracket.width_ticks / 2;
            return Ok(Some(Look {
                counter: bracket.counter.wrapping_add(half_ticks),
                span_ticks: bracket.span_ticks.saturating_add(step_ticks),
                bracket,
                suspended_ns,
                discipline,
                seen,
                hidden_slew,
                ceiling_ppb: discipline.ceiling_ppb(hidden_slew.running_ns),
            }));
        }
        Ok(None)
    }

    /// Returns what happened since the last sample.
    fn event(&self, now: &Look, known: &Known) -> Event {
        let Some(last) = &self.last else {
            return Event::Nothing;
        };
        if now.suspended_ns - last.suspended_ns > SUSPENDED_NOISE_NS {
            return Event::Disruption(Distrust::Suspend);
        }
        let ticks = fixed::distance_ticks(now.counter, last.counter);
        if ticks < 0 {
            return Event::Disruption(Distrust::Disruption);
        }
        if let Some(period) = &known.period {
            let elapsed_ns = period.elapsed_ns(ticks);
            // The slews now, and those while the period was measured.
            let ceiling_ppb = last.ceiling_ppb.max(now.ceiling_ppb);
            let explained_ns = period::share(
                elapsed_ns.unsigned_abs(),
                ceiling_ppb + ceiling_ppb.max(known.period_error_ppb) + period.noise_ppb,
            ) + period.ticks_ns(last.span_ticks)
                + period.ticks_ns(now.span_ticks)
                + JUMP_NS;
            let is_off = |clock_ns: i128| (clock_ns - elapsed_ns).unsigned_abs() > explained_ns;
            // Nobody can set CLOCK_MONOTONIC: if it disagrees, the counter jumped.
            if is_off(now.bracket.monotonic_ns - last.bracket.monotonic_ns) {
                return Event::Disruption(Distrust::Disruption);
            }
            if is_off(now.seen.realtime_ns - last.seen.realtime_ns) {
                return Event::Step;
            }
        }
        if known.is_alarm || now.is_set_since(last, 0, known.period) {
            Event::Step
        } else {
            Event::Nothing
        }
    }

    /// Compares a sample with the one before, and takes note of what the daemon and others did.
    fn note_change(&mut self, last: &Look, now: &Look, known: &Known) {
        let leap_ns = i128::from(now.seen.tai_change_sec) * NS_PER_SEC;
        // The kernel forgets the error of a clock that somebody sets, by however little. It does not at a leap
        // second, and for another TAI offset, which raise the alarm too.
        let has_forgotten = now.discipline.maxerror_us >= MAXERROR_CEILING_US;
        let is_step =
            known.is_alarm && has_forgotten || now.is_set_since(last, leap_ns, known.period);
        if is_step {
            self.steady_reports = 0;
        } else if now.discipline.has_report_since(&last.discipline) {
            self.steady_reports = (self.steady_reports + 1).min(ZERO_REPORTS);
        }
        self.trust.observe(&trust::Change {
            last: &last.discipline,
            now: &now.discipline,
            last_ns: last.bracket.monotonic_ns,
            now_ns: now.bracket.monotonic_ns,
            is_step,
            takes_zero: self.takes_zero(&now.discipline),
        });
    }

    /// Returns why the kernel's figures give no bound; `None` if they do.
    fn no_bound(&self, discipline: &Discipline) -> Option<NoBound> {
        let takes_zero = self.takes_zero(discipline) && self.steady_reports == ZERO_REPORTS;
        let is_counted_from_0 = !takes_zero
            && discipline
                .maxerror_us
                .is_multiple_of(MAXERROR_GROWTH_US_PER_SEC);
        if !discipline.is_synchronized() {
            Some(NoBound::Unsynchronized)
        } else if let Some(no_bound) = self.trust.no_bound() {
            Some(no_bound)
        } else if discipline.is_off_nominal() {
            Some(NoBound::OffNominal)
        } else {
            is_counted_from_0.then_some(NoBound::NeverUpdated)
        }
    }

    /// Makes the sample of a look.
    fn assess(&self, now: &Look, event: Event, step_ticks: u64) -> Sample {
        let discipline = &now.discipline;
        let no_bound = self.no_bound(discipline);
        let unless_unknown = |ns: u128| no_bound.is_none().then_some(ns);
        // A daemon that reports an error of 0 synchronizes the clock all the same.
        let is_doubted = matches!(
            no_bound,
            Some(NoBound::Distrusted { cause, .. }) if cause != Distrust::ZeroError
        );
        let last = self.last.as_ref().map(|last| last.discipline);
        Sample {
            source: SourceKind::Kernel,
            monotonic_ns: now.bracket.monotonic_ns,
            suspended_ns: now.suspended_ns,
            has_unexplained_change: self.trust.has_unexplained_change(),
            counter: now.counter,
            half_width_ticks: super::half_width_ticks(now.bracket.width_ticks, step_ticks),
            realtime_ns: now.seen.realtime_ns,
            claim_ns: unless_unknown(now.claim_ns() + u128::from(self.host_error_ns.unwrap_or(0))),
            estimate_ns: unless_unknown(now.estimate_ns()),
            no_bound,
            is_synchronized: discipline.is_synchronized() && !is_doubted,
            is_operators: self.host_error_ns.is_some(),
            ceiling_ppb: now.ceiling_ppb,
            hidden_slew: now.hidden_slew,
            tai_minus_utc_sec: i16::try_from(discipline.tai_minus_utc_sec)
                .ok()
                .filter(|seconds| TAI_MINUS_UTC_RANGE_SEC.contains(seconds)),
            tai_change_sec: now.seen.tai_change_sec,
            leap_indicator: now.seen.indicator,
            is_in_leap_second: now.seen.inserting,
            event,
            is_free_at_other_rate: !discipline.is_synchronized()
                && last.is_some_and(|last| last.has_other_rate(discipline)),
        }
    }
}

impl<S: SystemClock> TimeSource for KernelSource<S> {
    fn resume(&mut self, utc_sec: i128, leap_indicator: u8) {
        self.leap = LeapTracker::resume(leap_indicator, utc_sec);
    }

    fn resume_distrust(&mut self, no_bound: NoBound) {
        let is_answered = matches!(
            no_bound,
            NoBound::Distrusted {
                cause: Distrust::ZeroError,
                ..
            }
        ) && self.host_error_ns.is_some();
        if !is_answered {
            self.trust.resume(no_bound);
        }
    }

    fn sample(&mut self, counter: &impl Counter, known: &Known) -> Result<Option<Sample>, Error> {
        let Some(now) = self.look(counter, known.step_ticks)? else {
            return Ok(None);
        };
        let event = self.event(&now, known);
        if let Event::Disruption(cause) = event {
            self.forget();
            self.distrust(cause);
        }
        if let Some(last) = self.last {
            self.note_change(&last, &now, known);
        }
        let sample = self.assess(&now, event, known.step_ticks);
        self.last = Some(now);
        Ok(Some(sample))
    }

    fn distrust(&mut self, cause: Distrust) -> Option<NoBound> {
        self.trust.disrupt(cause);
        self.trust.no_bound()
    }

    fn forget(&mut self) {
        self.last = None;
    }

    fn rough_time_ns(&self, counter: &impl Counter) -> i128 {
        self.clock.bracket(counter).realtime_ns
    }

    fn suspended_ns(&self) -> i128 {
        self.clock.suspended_ns()
    }
}

/// Returns the kernel's figures between two reads of them; `None` if they changed in a way that leaves open
/// which of both held.
fn during(before: &Discipline, after: &Discipline) -> Option<Discipline> {
    // `maxerror` grows until a report lowers it. The rest must not change, but for the part of a slew that was
    // carried out.
    let same = Discipline {
        maxerror_us: before.maxerror_us,
        esterror_us: before.esterror_us,
        offset_ns: before.offset_ns,
        single_shot_ns: before.single_shot_ns,
        ..*after
    };
    if same != *before || after.maxerror_us < before.maxerror_us {
        return None;
    }
    let larger = |a: i64, b: i64| {
        if a.unsigned_abs() > b.unsigned_abs() {
            a
        } else {
            b
        }
    };
    Some(Discipline {
        offset_ns: larger(before.offset_ns, after.offset_ns),
        single_shot_ns: larger(before.single_shot_ns, after.single_shot_ns),
        esterror_us: before.esterror_us.max(after.esterror_us),
        ..*after
    })
}

impl Look {
    /// Returns whether CLOCK_REALTIME was set since an earlier look, by more than `leap_ns` accounts for.
    ///
    /// Both clocks are slewed alike, and nobody can set CLOCK_MONOTONIC, but they are not read at the same
    /// instant. `period` serves for two looks that follow each other too fast to measure a tick, and need be
    /// right to the half only.
    fn is_set_since(&self, last: &Self, leap_ns: i128, period: Option<Period>) -> bool {
        let monotonic_ns = self.bracket.monotonic_ns - last.bracket.monotonic_ns;
        let set_by_ns = self.seen.realtime_ns - last.seen.realtime_ns - monotonic_ns + leap_ns;
        let spans_ticks = self.span_ticks.saturating_add(last.span_ticks);
        // At least so many ticks passed while CLOCK_MONOTONIC went that far.
        let ticks = fixed::distance_ticks(self.counter, last.counter);
        let between_ticks = ticks.saturating_sub(i64::try_from(spans_ticks).unwrap_or(i64::MAX));
        let measured = Period::measured(monotonic_ns + 1, between_ticks);
        let spans_ns = [measured, period].into_iter().flatten();
        let spans_ns = spans_ns.map(|period| period.ticks_ns(spans_ticks)).min();
        // One for each clock's rounding.
        spans_ns.is_some_and(|spans_ns| set_by_ns.unsigned_abs() > 2 * spans_ns + 2)
    }

    /// Returns how far CLOCK_REALTIME may be off, if the daemon's figures hold.
    fn claim_ns(&self) -> u128 {
        // The kernel counts a second's drift when that second is over.
        let claimed_us = self.discipline.maxerror_us + MAXERROR_GROWTH_US_PER_SEC;
        whole_us_ns(claimed_us) + self.unslewed_ns()
    }

    /// Returns how far the daemon estimates CLOCK_REALTIME to be off.
    fn estimate_ns(&self) -> u128 {
        whole_us_ns(self.discipline.esterror_us) + self.unslewed_ns()
    }

    /// Returns the part of the daemon's slews that the kernel has not carried out, or may have carried out on
    /// top of them.
    fn unslewed_ns(&self) -> u128 {
        u128::from(self.discipline.offset_ns.unsigned_abs())
            + u128::from(self.discipline.single_shot_ns.unsigned_abs())
            + self.hidden_slew.owed_ns
    }
}

/// Returns a figure in nanoseconds that a daemon cut to whole microseconds, rounded up.
fn whole_us_ns(us: u64) -> u128 {
    u128::from(us) * 1000 + 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that a time namespace may have shifted.
    struct Shifted(bool);

    impl SystemClock for Shifted {
        fn bracket(&self, _counter: &impl Counter) -> Bracket {
            Bracket {
                counter: 0,
                width_ticks: 0,
                realtime_ns: 0,
                monotonic_ns: 0,
                span_ticks: 0,
            }
        }

        fn discipline(&self) -> Result<Discipline, Error> {
            Ok(Discipline::default())
        }

        fn suspended_ns(&self) -> i128 {
            0
        }

        fn may_have_been_suspended(&self) -> bool {
            self.0
        }
    }

    #[test]
    fn a_clock_whose_suspends_a_time_namespace_may_hide_starts_as_after_a_suspend() {
        let no_bound = |is_shifted| KernelSource::new(Shifted(is_shifted)).trust.no_bound();
        assert_eq!(no_bound(false), None);
        assert!(matches!(
            no_bound(true),
            Some(NoBound::Distrusted {
                cause: Distrust::Suspend,
                ..
            })
        ));
    }
}
