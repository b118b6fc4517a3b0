//! Decides whether the daemon's error figures describe the kernel's clock as it is now.
//!
//! A daemon answers for a clock that only it adjusts. After another program changed the clock, and after the
//! machine was suspended or migrated, the daemon goes on to report small errors until its measurements have
//! caught up. Until then the publisher states no bound. `docs/bounds.md` gives the observations behind the
//! two counts.
//!
//! The whole rule:
//!
//! - A *change* is a step, an `adjtime`, an offset for the kernel's loop, or a change of rate by more than
//!   100 ppm, while the clock counted as synchronized. A return towards the rate before a slew is none.
//! - A *report* (the daemon wrote `maxerror` or `esterror`) in the same, the previous or the next interval
//!   explains a change; a report before a step does not explain the step. An interval is one of the publisher's,
//!   of 100 ms at least. There is no bound until a change is explained.
//! - An unexplained change needs 64 *updates*, a disruption 8. An update is a report that lowers `maxerror`, to a
//!   figure that the kernel cannot have counted up from 0.
//! - A maximum error of 0 says nothing, unless the operator states what the daemon does not report.
//! - A longer count replaces a shorter one, and a step starts the running count again.

use super::discipline::{Discipline, MAXERROR_GROWTH_US_PER_SEC};
use super::slew::Set;
use crate::no_bound::{Distrust, NoBound};

/// The updates to wait for after an unexplained change. chrony remembers the most of all daemons: it estimates
/// from up to 64 measurements.
const AFTER_CHANGE: u8 = 64;
/// The updates to wait for after a disruption, which shows in every measurement since.
const AFTER_DISRUPTION: u8 = 8;
/// Samples that follow each other faster belong to one interval. No publisher's interval is shorter.
const SHORTEST_INTERVAL_NS: i128 = 100_000_000;

/// The trust in the daemon's error figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The figures describe the clock as it is now.
    #[default]
    Trusted,
    /// The figures do not count until the daemon has updated `updates_left` more times.
    Distrusted { updates_left: u8 },
}

/// Follows the trust in the daemon from sample to sample.
#[derive(Debug, Default)]
pub(crate) struct TrustTracker {
    trust: Trust,
    /// The number of updates at which the running count started.
    count: u8,
    cause: Distrust,
    /// A change in the previous interval that no report explains so far.
    pending: Option<Distrust>,
    previous: Interval,
    current: Interval,
    /// The running count is that of an unexplained change, whatever else happened since.
    is_after_change: bool,
    /// The rate before the present slew, until the clock returns to it.
    earlier_rate: Option<Discipline>,
}

/// The observations of one interval.
#[derive(Clone, Copy, Debug, Default)]
struct Interval {
    began_ns: Option<i128>,
    /// The daemon accounted for the changes, by a report in most cases.
    has_report: bool,
    has_distant_rate: bool,
    was_synchronized: bool,
    change: Option<Distrust>,
}

/// Two successive samples of the kernel's figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) last: &'a Discipline,
    pub(crate) now: &'a Discipline,
    /// CLOCK_MONOTONIC at both.
    pub(crate) last_ns: i128,
    pub(crate) now_ns: i128,
    /// True if somebody set CLOCK_REALTIME in between. A leap second does not count.
    pub(crate) is_step: bool,
    /// True if a figure that starts from 0 is a report: the operator states what it lacks.
    pub(crate) takes_zero: bool,
}

impl TrustTracker {
    /// Takes note that the machine was suspended or disrupted, or that it may have been: no sample
    /// from before is comparable with one from after.
    pub(crate) fn disrupt(&mut self, cause: Distrust) {
        if self.is_examining()
            && let Some(change) = self.pending.or(self.current.change)
        {
            self.distrust(change, AFTER_CHANGE);
        }
        self.distrust(cause, AFTER_DISRUPTION);
        self.pending = None;
        self.previous = Interval::default();
        self.current = Interval::default();
        self.earlier_rate = None;
    }

    /// Begins the count of an unexplained change again, in which an earlier publisher ended. Whether a report
    /// explained its last change is unknown, and so is a count behind the reason of a stated error.
    pub(crate) fn resume(&mut self, no_bound: NoBound) {
        match no_bound {
            NoBound::ChangePending | NoBound::StatedErrorVoided => {
                self.distrust(Distrust::TakeOver, AFTER_CHANGE)
            }
            NoBound::Distrusted {
                cause,
                updates_left,
            } if updates_left > AFTER_DISRUPTION => self.distrust(cause, AFTER_CHANGE),
            _ => {}
        }
    }

    /// Takes note of the next sample.
    pub(crate) fn observe(&mut self, change: &Change<'_>) {
        if change.is_step {
            // A report before a step does not explain it.
            self.previous.has_report = false;
            self.current.has_report = false;
            if self.trust != Trust::Trusted {
                self.distrust(Distrust::Step, self.count);
            }
        }
        let (last, now) = (change.last, change.now);
        let current = &mut self.current;
        current.began_ns.get_or_insert(change.last_ns);
        // A daemon that starts or ends disowns the clock. That explains its slews and rates, but no step.
        let is_disowned = last.is_synchronized() && !now.is_synchronized() && !change.is_step;
        current.has_report |= now.has_report_since(last) || is_disowned;
        current.has_distant_rate |= now.has_distant_rate(last);
        current.was_synchronized |= last.is_synchronized();
        let was_synchronized = current.was_synchronized || self.previous.was_synchronized;
        let seen = self.changed(change).filter(|_| was_synchronized);
        self.current.change = self.current.change.or(seen);
        self.close_interval(change.now_ns);
        // No daemon reported a figure that the kernel counted up from 0.
        let is_counted_from_0 =
            !change.takes_zero && now.maxerror_us.is_multiple_of(MAXERROR_GROWTH_US_PER_SEC);
        if now.maxerror_us == 0 && !change.takes_zero {
            // A change that somebody made remains the cause, for the next publisher too.
            let cause = if self.is_after_change {
                self.cause
            } else {
                Distrust::ZeroError
            };
            self.trust = Trust::Trusted;
            self.distrust(cause, AFTER_CHANGE);
        } else if now.maxerror_us < last.maxerror_us && !is_counted_from_0 {
            self.count_update();
        }
    }

    /// Returns why the daemon's figures give no bound; `None` if they do.
    pub(crate) fn no_bound(&self) -> Option<NoBound> {
        match self.trust {
            Trust::Distrusted { updates_left } => Some(NoBound::Distrusted {
                cause: self.cause,
                updates_left,
            }),
            Trust::Trusted => self.is_examining().then_some(NoBound::ChangePending),
        }
    }

    /// Returns whether somebody changed the clock and the daemon has not explained it, or not caught up since. A
    /// disruption alone is no change of the clock.
    pub(crate) fn has_unexplained_change(&self) -> bool {
        self.is_after_change || self.is_examining()
    }

    /// Returns the change that somebody made to the clock between two samples.
    fn changed(&mut self, change: &Change<'_>) -> Option<Distrust> {
        let (last, now) = (change.last, change.now);
        let set = Set::between(last, now, change.now_ns - change.last_ns);
        let is_other_rate = now.has_distant_rate(last) && !self.is_end_of_slew(last, now);
        if change.is_step {
            Some(Distrust::Step)
        } else if set.single_shot || set.offset {
            Some(Distrust::Slew)
        } else {
            is_other_rate.then_some(Distrust::Frequency)
        }
    }

    /// Returns whether the rate comes nearer to the rate before the slew.
    ///
    /// chrony ends its slews so without a report: at once, or by shorter slews.
    fn is_end_of_slew(&mut self, last: &Discipline, now: &Discipline) -> bool {
        // A clock that is off nominal is being slewed already, and nobody saw the rate before.
        let before = if last.is_off_nominal() {
            last.at_nominal_rate()
        } else {
            *last
        };
        let earlier = *self.earlier_rate.get_or_insert(before);
        if !now.has_distant_rate(&earlier) {
            self.earlier_rate = None;
        }
        now.rate_difference_scaled_ppm(&earlier) < last.rate_difference_scaled_ppm(&earlier)
    }

    /// Returns whether the clock changed and a report may yet explain that.
    fn is_examining(&self) -> bool {
        let is_explained = self.current.has_report || self.previous.has_report;
        self.pending.is_some() && !self.current.has_report
            || self.current.change.is_some() && !is_explained
    }

    /// Ends the interval, if it was long enough. A report in it explains the changes of the previous interval,
    /// its own, and those of the next one.
    fn close_interval(&mut self, now_ns: i128) {
        let began_ns = self.current.began_ns.unwrap_or(now_ns);
        if now_ns - began_ns < SHORTEST_INTERVAL_NS {
            return;
        }
        let closed = std::mem::take(&mut self.current);
        let pending = self.pending.take().filter(|_| !closed.has_report);
        if let Some(cause) = pending {
            self.distrust(cause, AFTER_CHANGE);
        }
        let is_explained = closed.has_report || self.previous.has_report;
        self.pending = closed.change.filter(|_| !is_explained);
        if closed.has_report && !closed.has_distant_rate && !self.previous.has_distant_rate {
            // The rate lasts over a report, so it is no slew: chrony sets each slew again when it reports.
            self.earlier_rate = None;
        }
        self.previous = closed;
    }

    /// Distrusts the clock for `count` updates, or for the count that it is in if that is longer.
    fn distrust(&mut self, cause: Distrust, count: u8) {
        self.is_after_change |= count == AFTER_CHANGE && cause != Distrust::ZeroError;
        self.count = match self.trust {
            Trust::Trusted => count,
            Trust::Distrusted { .. } => self.count.max(count),
        };
        self.cause = cause;
        self.trust = Trust::Distrusted {
            updates_left: self.count,
        };
    }

    fn count_update(&mut self) {
        if let Trust::Distrusted { updates_left } = self.trust {
            let updates_left = updates_left - 1;
            self.is_after_change &= updates_left != 0;
            self.trust = if updates_left == 0 {
                Trust::Trusted
            } else {
                Trust::Distrusted { updates_left }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AFTER_CHANGE, AFTER_DISRUPTION, Change, Discipline, Trust, TrustTracker};
    use crate::no_bound::{Distrust, NoBound};

    const INTERVAL_NS: i128 = 250_000_000;
    const FORGOTTEN_US: u64 = 16_000_000;

    /// A tracker, and the kernel's figures as it saw them last.
    struct Kernel {
        trust: TrustTracker,
        last: Discipline,
        now_ns: i128,
    }

    impl Kernel {
        fn new() -> Self {
            Self {
                trust: TrustTracker::default(),
                last: Discipline {
                    maxerror_us: 1003,
                    esterror_us: 501,
                    tick_us: 10_000,
                    loop_shift: 2,
                    ..Discipline::default()
                },
                now_ns: 0,
            }
        }

        /// The next sample, so much later, of figures that somebody may have changed.
        fn sample(&mut self, after_ns: i128, is_step: bool, change: impl FnOnce(&mut Discipline)) {
            let mut now = self.last;
            change(&mut now);
            self.trust.observe(&Change {
                last: &self.last,
                now: &now,
                last_ns: self.now_ns,
                now_ns: self.now_ns + after_ns,
                is_step,
                takes_zero: false,
            });
            self.last = now;
            self.now_ns += after_ns;
        }

        fn pass(&mut self, intervals: usize) {
            for _ in 0..intervals {
                self.sample(INTERVAL_NS, false, |_| ());
            }
        }

        fn change(&mut self, change: impl FnOnce(&mut Discipline)) {
            self.sample(INTERVAL_NS, false, change);
        }

        /// The daemon lowers `maxerror`, which the kernel had counted up.
        fn update(&mut self) {
            self.change(|now| now.maxerror_us += 500);
            self.change(report);
        }

        fn step(&mut self) {
            self.sample(INTERVAL_NS, true, forget);
        }

        fn updates_left(&self) -> u8 {
            match self.trust.trust {
                Trust::Trusted => 0,
                Trust::Distrusted { updates_left } => updates_left,
            }
        }

        fn states_bound(&self) -> bool {
            self.trust.no_bound().is_none()
        }
    }

    /// Changes the figures as the kernel does when somebody sets the clock.
    fn forget(now: &mut Discipline) {
        now.unsynchronized = true;
        now.maxerror_us = FORGOTTEN_US;
        now.esterror_us = FORGOTTEN_US;
        now.offset_ns = 0;
        now.single_shot_ns = 0;
    }

    fn report(now: &mut Discipline) {
        now.unsynchronized = false;
        now.maxerror_us = 1003;
        now.esterror_us = 501;
    }

    fn slew(now: &mut Discipline) {
        now.single_shot_ns = 2_000_000;
    }

    fn turn(now: &mut Discipline) {
        now.frequency_scaled_ppm += 101 << 16;
    }

    #[test]
    fn an_unexplained_change_distrusts_the_clock_for_64_updates() {
        type Act = fn(&mut Kernel);
        let changes: [(Act, Distrust); 4] = [
            (Kernel::step, Distrust::Step),
            (|kernel| kernel.change(slew), Distrust::Slew),
            (
                |kernel| kernel.change(|now| now.offset_ns = 2_000_000),
                Distrust::Slew,
            ),
            (|kernel| kernel.change(turn), Distrust::Frequency),
        ];
        for (change, cause) in changes {
            let mut kernel = Kernel::new();
            kernel.pass(3);
            change(&mut kernel);
            let pending = Some(NoBound::ChangePending);
            assert_eq!(kernel.trust.no_bound(), pending, "{cause}");
            kernel.pass(1);
            let expected = NoBound::Distrusted {
                cause,
                updates_left: AFTER_CHANGE,
            };
            assert_eq!(kernel.trust.no_bound(), Some(expected));
            for left in (0..AFTER_CHANGE).rev() {
                assert!(!kernel.states_bound(), "{cause}: {left}");
                kernel.update();
                assert_eq!(kernel.updates_left(), left, "{cause}");
            }
            assert!(kernel.states_bound(), "{cause}");
        }
    }

    #[test]
    fn a_report_in_the_same_the_previous_or_the_next_interval_explains_a_change() {
        for change in [slew, turn] {
            let mut same = Kernel::new();
            same.change(|now| {
                report(now);
                now.esterror_us += 1;
                change(now);
            });
            assert!(same.states_bound());
            let mut previous = Kernel::new();
            previous.change(|now| now.esterror_us += 1);
            previous.change(change);
            assert!(previous.states_bound());
            let mut next = Kernel::new();
            next.change(change);
            assert!(!next.states_bound());
            next.change(|now| now.esterror_us += 1);
            assert!(next.states_bound());
            for kernel in [&mut same, &mut previous, &mut next] {
                kernel.pass(3);
                assert_eq!(kernel.updates_left(), 0);
            }
        }
    }

    #[test]
    fn a_report_two_intervals_before_or_after_a_change_explains_nothing() {
        let mut before = Kernel::new();
        before.change(|now| now.esterror_us += 1);
        before.pass(1);
        before.change(slew);
        before.pass(1);
        assert_eq!(before.updates_left(), AFTER_CHANGE);
        let mut after = Kernel::new();
        after.change(slew);
        after.pass(1);
        after.change(|now| now.esterror_us += 1);
        assert_eq!(after.updates_left(), AFTER_CHANGE);
    }

    #[test]
    fn a_step_is_explained_by_a_report_after_it_and_by_none_before() {
        let mut after = Kernel::new();
        after.step();
        assert!(!after.states_bound());
        after.change(report);
        assert!(after.states_bound());
        let mut same = Kernel::new();
        same.sample(INTERVAL_NS, true, |now| now.maxerror_us = 1001);
        assert!(same.states_bound());
        let mut before = Kernel::new();
        before.change(|now| now.esterror_us += 1);
        before.step();
        before.pass(1);
        assert_eq!(before.updates_left(), AFTER_CHANGE);
    }

    #[test]
    fn samples_right_after_each_other_belong_to_one_interval() {
        let mut kernel = Kernel::new();
        kernel.step();
        for _ in 0..10 {
            kernel.sample(1_000_000, false, |_| ());
        }
        assert_eq!(kernel.trust.no_bound(), Some(NoBound::ChangePending));
        kernel.change(report);
        assert!(kernel.states_bound());
    }

    #[test]
    fn what_the_kernel_does_by_itself_is_no_change() {
        let mut kernel = Kernel::new();
        kernel.last.single_shot_ns = 1_200_000;
        kernel.last.offset_ns = 800_000;
        for _ in 0..4 {
            kernel.sample(1_000_000_000, false, |now| {
                now.maxerror_us += 500;
                now.single_shot_ns = (now.single_shot_ns - 500_000).max(0);
                now.offset_ns -= now.offset_ns / 4;
                now.frequency_scaled_ppm += 99 << 16;
            });
            assert!(kernel.states_bound());
        }
    }

    #[test]
    fn a_change_of_an_unsynchronized_clock_needs_no_explanation() {
        let mut kernel = Kernel::new();
        forget(&mut kernel.last);
        kernel.step();
        kernel.change(slew);
        kernel.change(turn);
        kernel.pass(2);
        kernel.change(report);
        assert!(kernel.states_bound());
        kernel.pass(2);
        assert!(kernel.states_bound());
    }

    #[test]
    fn an_alarm_that_comes_a_sample_after_the_step_is_not_too_late() {
        let mut kernel = Kernel::new();
        kernel.change(forget);
        assert!(kernel.states_bound());
        kernel.sample(1_000_000, true, |_| ());
        kernel.pass(2);
        assert_eq!(kernel.updates_left(), AFTER_CHANGE);
    }

    #[test]
    fn a_return_to_the_earlier_rate_needs_no_report() {
        let mut kernel = Kernel::new();
        kernel.change(|now| {
            now.frequency_scaled_ppm = 150 << 16;
            now.esterror_us += 1;
        });
        kernel.pass(5);
        kernel.change(|now| now.frequency_scaled_ppm += 20 << 16);
        kernel.pass(5);
        kernel.change(|now| now.frequency_scaled_ppm = 30 << 16);
        kernel.pass(2);
        assert!(kernel.states_bound());
        // Only once: by now the rate has drifted away from the earlier one.
        for _ in 0..3 {
            kernel.change(|now| now.frequency_scaled_ppm += 90 << 16);
        }
        kernel.pass(1);
        assert!(kernel.states_bound());
        kernel.change(|now| now.frequency_scaled_ppm = 0);
        kernel.pass(1);
        assert_eq!(kernel.updates_left(), AFTER_CHANGE);
    }

    #[test]
    fn a_disruption_distrusts_the_clock_for_8_updates_or_restarts_a_longer_count() {
        let mut kernel = Kernel::new();
        kernel.trust.disrupt(Distrust::Suspend);
        let expected = NoBound::Distrusted {
            cause: Distrust::Suspend,
            updates_left: AFTER_DISRUPTION,
        };
        assert_eq!(kernel.trust.no_bound(), Some(expected));
        for left in (0..AFTER_DISRUPTION).rev() {
            kernel.update();
            assert_eq!(kernel.updates_left(), left);
        }
        kernel.pass(2);
        kernel.change(slew);
        kernel.pass(1);
        kernel.update();
        kernel.trust.disrupt(Distrust::Disruption);
        assert_eq!(kernel.updates_left(), AFTER_CHANGE);
    }

    #[test]
    fn a_disruption_leaves_no_change_unexamined() {
        let mut kernel = Kernel::new();
        kernel.change(slew);
        kernel.trust.disrupt(Distrust::Disruption);
        assert_eq!(kernel.updates_left(), AFTER_CHANGE);
    }

    #[test]
    fn a_disruption_right_after_an_explained_change_costs_8_updates() {
        let mut kernel = Kernel::new();
        kernel.change(|now| {
            now.esterror_us += 1;
            slew(now);
        });
        // The next change is of the same interval.
        kernel.sample(1_000_000, false, turn);
        kernel.trust.disrupt(Distrust::Disruption);
        assert_eq!(kernel.updates_left(), AFTER_DISRUPTION);
    }

    #[test]
    fn a_step_of_a_distrusted_clock_restarts_the_count_that_it_is_in() {
        let mut short = Kernel::new();
        short.trust.disrupt(Distrust::TakeOver);
        let mut long = Kernel::new();
        long.step();
        long.pass(1);
        for (kernel, count) in [(&mut short, AFTER_DISRUPTION), (&mut long, AFTER_CHANGE)] {
            for _ in 0..5 {
                kernel.update();
            }
            assert_eq!(kernel.updates_left(), count - 5);
            kernel.step();
            assert_eq!(kernel.updates_left(), count);
            // The daemon's own step restarts it too, and its report explains the step alone.
            kernel.change(report);
            assert_eq!(kernel.updates_left(), count - 1);
            kernel.pass(3);
            assert_eq!(kernel.updates_left(), count - 1);
        }
    }

    #[test]
    fn an_unexplained_change_in_a_count_of_8_begins_a_count_of_64() {
        let changes: [fn(&mut Kernel); 3] = [
            Kernel::step,
            |kernel| kernel.change(slew),
            |kernel| kernel.change(turn),
        ];
        for change in changes {
            let mut kernel = Kernel::new();
            kernel.trust.disrupt(Distrust::Suspend);
            kernel.update();
            kernel.pass(3);
            change(&mut kernel);
            kernel.pass(1);
            assert_eq!(kernel.updates_left(), AFTER_CHANGE);
        }
    }

    #[test]
    fn a_slew_that_ends_by_shorter_slews_needs_no_report() {
        let mut kernel = Kernel::new();
        kernel.change(|now| {
            now.tick_us += 300;
            now.esterror_us += 1;
        });
        kernel.pass(5);
        for tick_us in [9990, 10_004, 10_000] {
            kernel.change(|now| now.tick_us = tick_us);
            kernel.pass(2);
            assert_eq!(kernel.updates_left(), 0, "{tick_us}");
        }
        // Farther away again.
        kernel.change(|now| now.tick_us = 10_004);
        kernel.pass(1);
        assert_eq!(kernel.updates_left(), AFTER_CHANGE);
    }

    #[test]
    fn a_rate_that_lasts_over_a_report_is_the_rate_before_the_next_slew() {
        let mut kernel = Kernel::new();
        kernel.change(|now| {
            now.frequency_scaled_ppm = -150 << 16;
            now.esterror_us += 1;
        });
        kernel.pass(5);
        kernel.update();
        kernel.pass(5);
        for slewed_ppm in [50, -350] {
            kernel.change(|now| {
                now.frequency_scaled_ppm = slewed_ppm << 16;
                now.esterror_us += 1;
            });
            kernel.pass(5);
            kernel.change(|now| now.frequency_scaled_ppm = -150 << 16);
            kernel.pass(2);
            assert_eq!(kernel.updates_left(), 0, "{slewed_ppm}");
        }
    }

    #[test]
    fn a_daemon_that_disowns_the_clock_explains_its_slews_but_no_step() {
        let mut kernel = Kernel::new();
        kernel.last.offset_ns = 2_000_000;
        kernel.change(forget);
        kernel.pass(2);
        assert_eq!(kernel.updates_left(), 0);
        let mut stepped = Kernel::new();
        stepped.change(forget);
        stepped.sample(INTERVAL_NS, true, |_| ());
        stepped.pass(2);
        assert_eq!(stepped.updates_left(), AFTER_CHANGE);
    }

    #[test]
    fn a_maximum_error_of_0_distrusts_the_clock_until_64_updates_were_not_0() {
        let mut kernel = Kernel::new();
        kernel.trust.disrupt(Distrust::Suspend);
        kernel.change(|now| now.maxerror_us = 0);
        let expected = NoBound::Distrusted {
            cause: Distrust::ZeroError,
            updates_left: AFTER_CHANGE,
        };
        assert_eq!(kernel.trust.no_bound(), Some(expected));
        // A zero that no sample saw, and that the kernel has counted up since.
        kernel.change(|now| now.maxerror_us = 2000);
        kernel.change(|now| now.maxerror_us = 500);
        kernel.change(|now| now.maxerror_us = 2500);
        assert_eq!(kernel.updates_left(), AFTER_CHANGE);
        for _ in 0..63 {
            kernel.update();
        }
        assert!(!kernel.states_bound());
        kernel.update();
        assert!(kernel.states_bound());
    }

    #[test]
    fn a_daemon_that_reports_0_is_no_unexplained_change_and_hides_none() {
        let mut kernel = Kernel::new();
        kernel.change(|now| now.maxerror_us = 0);
        kernel.pass(2);
        assert!(!kernel.trust.has_unexplained_change());
        kernel.change(slew);
        kernel.pass(2);
        assert!(kernel.trust.has_unexplained_change());
        kernel.change(|now| now.maxerror_us = 0);
        kernel.pass(2);
        kernel.change(report);
        for _ in 0..AFTER_CHANGE {
            assert!(kernel.trust.has_unexplained_change());
            kernel.update();
        }
        assert!(!kernel.trust.has_unexplained_change());
    }
}
