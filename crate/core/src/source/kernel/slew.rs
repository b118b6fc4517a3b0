//! Tracks the part of a slew that the kernel carries out in the present second, and does not show.

use std::collections::VecDeque;

use super::discipline::{Discipline, MAXERROR_GROWTH_US_PER_SEC};
use crate::time::NS_PER_SEC;

/// Between samples closer than this a daemon reports at most once (ntpd's bursts are 2 s apart), and
/// the kernel begins at most two seconds.
const LONGEST_GAP_NS: i128 = 3 * NS_PER_SEC / 2;

/// The kernel carries out so much of an `adjtime` in a second.
const SINGLE_SHOT_NS: u64 = 500_000;

/// The kernel may show the loop's offset in whole microseconds.
const CUT_NS: u64 = 1000;

/// Remembers the slews that the samples of the last second showed.
#[derive(Debug, Default)]
pub(crate) struct SlewTracker {
    /// (CLOCK_MONOTONIC, the most that the kernel takes off in one second), in order.
    recent: VecDeque<(i128, u128)>,
    last: Discipline,
    /// The largest slew that ran since the daemon was last seen to report.
    overlooked_ns: u128,
}

/// The slews that the kernel does not show, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HiddenSlew {
    /// The most that the kernel slews in the present second.
    pub(crate) running_ns: u128,
    /// The most by which the clock differs from the daemon's wish: the slew that runs now, and the one that
    /// ran when the daemon last gave the kernel an offset. The kernel carried out the rest of that second's
    /// share on top of it.
    pub(crate) owed_ns: u128,
    /// No sample was taken for so long that the kernel may have begun and ended slews meanwhile.
    pub(crate) is_unseen: bool,
}

impl SlewTracker {
    /// Takes note of a sample, and returns the hidden slews.
    ///
    /// The kernel slews a second's share to the second's end, even if a daemon gives it another offset
    /// meanwhile, or none. So the largest share of the last second's samples counts, and that of the sample
    /// before them, which was in force when the second began.
    pub(crate) fn look(&mut self, monotonic_ns: i128, discipline: &Discipline) -> HiddenSlew {
        let last_ns = self.recent.back().map(|(at, _)| *at);
        let is_unseen = last_ns.is_none_or(|at| monotonic_ns - at > LONGEST_GAP_NS);
        let since_ns = monotonic_ns - NS_PER_SEC;
        while self.recent.get(1).is_some_and(|(at, _)| *at <= since_ns) {
            self.recent.pop_front();
        }
        let mut share_ns = discipline.running_slew_ns();
        if is_unseen {
            // The slew that ran when the daemon last reported is unknown. So is the one that runs now, if the
            // daemon reported in the present second.
            share_ns = share_ns.max(discipline.largest_slew_ns());
            // Or the daemon has not reported meanwhile, and the figure of an earlier one still holds.
            self.overlooked_ns = self.overlooked_ns.max(share_ns);
        } else if last_ns.is_some_and(|at| has_report(&self.last, discipline, monotonic_ns - at)) {
            self.overlooked_ns = self.largest_ns();
        } else {
            // A report can look as if the kernel had only counted.
            self.overlooked_ns = self.overlooked_ns.max(self.largest_ns());
        }
        self.last = *discipline;
        self.recent.push_back((monotonic_ns, share_ns));
        let running_ns = self.largest_ns();
        HiddenSlew {
            running_ns,
            owed_ns: running_ns + self.overlooked_ns,
            is_unseen,
        }
    }

    fn largest_ns(&self) -> u128 {
        let shares = self.recent.iter().map(|(_, share_ns)| *share_ns);
        shares.max().unwrap_or_default()
    }
}

/// Returns whether a daemon reported an error or gave the kernel something to slew in `elapsed_ns`. If not, the
/// kernel only counted and slewed by itself.
fn has_report(last: &Discipline, now: &Discipline, elapsed_ns: i128) -> bool {
    let grown_us = MAXERROR_GROWTH_US_PER_SEC.saturating_mul(seconds(elapsed_ns));
    let was_set = Set::between(last, now, elapsed_ns);
    now.maxerror_us < last.maxerror_us
        || now.esterror_us != last.esterror_us
        || now.maxerror_us - last.maxerror_us > grown_us
        || was_set.offset
        || was_set.single_shot
}

/// The slews that somebody began or ended between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// The offset of the phase-locked loop.
    pub(crate) offset: bool,
    /// An `adjtime`.
    pub(crate) single_shot: bool,
}

impl Set {
    /// Compares two samples that are `elapsed_ns` apart with what the kernel does by itself.
    pub(crate) fn between(last: &Discipline, now: &Discipline, elapsed_ns: i128) -> Self {
        // In a second the kernel takes off at most `share_ns`.
        let by_itself = |last: i64, now: i64, share_ns: u64| {
            let (most, left) = (last.unsigned_abs(), now.unsigned_abs());
            let least = most.saturating_sub(share_ns.saturating_mul(seconds(elapsed_ns)));
            (now == 0 || now.signum() == last.signum()) && (least..=most).contains(&left)
        };
        let loop_share_ns = last.offset_ns.unsigned_abs() >> last.clamped_loop_shift();
        Self {
            offset: !by_itself(last.offset_ns, now.offset_ns, loop_share_ns + CUT_NS),
            single_shot: !by_itself(last.single_shot_ns, now.single_shot_ns, SINGLE_SHOT_NS),
        }
    }
}

/// Returns the most seconds of the kernel's that can begin in `elapsed_ns`.
fn seconds(elapsed_ns: i128) -> u64 {
    u64::try_from(elapsed_ns / NS_PER_SEC + 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{NS_PER_SEC, Set, SlewTracker};
    use crate::source::kernel::discipline::Discipline;

    #[test]
    fn a_report_that_looks_like_counting_still_owes_the_slew_that_ran() {
        let mut tracker = SlewTracker::default();
        // (milliseconds, maxerror, what is left of an `adjtime`): the kernel slews the last 455,795 ns in
        // the second that begins at 4.0 s. The daemon reports at 4.1 s, and counts on the clock as it is.
        let samples = [
            (0, 5_001, 0),
            (1_200, 5_501, 0),
            // A report that is seen, of a clock that nobody slews.
            (2_400, 173, 0),
            (2_900, 173, 955_795),
            (3_300, 673, 455_795),
            (3_800, 673, 455_795),
            (4_200, 775, 0),
        ];
        let mut owed = |ms: i128, maxerror_us, single_shot_ns| {
            let discipline = Discipline {
                maxerror_us,
                single_shot_ns,
                ..Discipline::default()
            };
            let hidden = tracker.look(ms * 1_000_000, &discipline);
            hidden.owed_ns - hidden.running_ns
        };
        for (ms, maxerror_us, single_shot_ns) in samples {
            owed(ms, maxerror_us, single_shot_ns);
        }
        // The slew has ended, and the rest of it is in no figure of the kernel's.
        assert!(owed(5_500, 1_275, 0) >= 455_795);
        // The next report is seen, and is of a clock that nobody slews.
        assert_eq!(owed(6_600, 300, 0), 0);
    }

    #[test]
    fn the_kernels_own_progress_with_an_offset_is_no_new_offset() {
        let shown = |offset_ns: i64, is_cut: bool| Discipline {
            // Never understated, as `clock` decodes it.
            offset_ns: if is_cut {
                (offset_ns / 1000 + 1) * 1000
            } else {
                offset_ns
            },
            loop_shift: 2,
            ..Discipline::default()
        };
        for is_cut in [false, true] {
            for first_ns in 90_000..100_000 {
                let later_ns = first_ns - first_ns / 4;
                let [last, now] = [first_ns, later_ns].map(|ns| shown(ns, is_cut));
                let set = Set::between(&last, &now, NS_PER_SEC / 4);
                assert!(!set.offset, "{first_ns}, cut {is_cut}");
            }
        }
        let [last, now] = [90_000, 60_000].map(|ns| shown(ns, false));
        assert!(Set::between(&last, &now, NS_PER_SEC / 4).offset);
    }
}
