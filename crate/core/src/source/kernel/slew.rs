//! What the kernel slews in the present second, of which it tells nothing.

use std::collections::VecDeque;

use super::discipline::{Discipline, MAXERROR_GROWTH_US_PER_SEC};
use crate::time::NS_PER_SEC;

/// Between samples closer than this a daemon speaks once at most (ntpd's bursts are 2 s apart), and
/// the kernel begins two seconds at most.
const LONGEST_GAP_NS: i128 = 3 * NS_PER_SEC / 2;

/// What the kernel carries out of an `adjtime` in a second.
const SINGLE_SHOT_NS: u64 = 500_000;

/// The kernel may show the loop's offset in whole microseconds.
const CUT_NS: u64 = 1000;

/// What was to be slewed at the samples of the last second.
#[derive(Debug, Default)]
pub(crate) struct SlewTracker {
    /// (CLOCK_MONOTONIC, the most that the kernel takes off in one second), in order.
    recent: VecDeque<(i128, u128)>,
    last: Discipline,
    /// What was running when the daemon last spoke.
    overlooked_ns: u128,
}

/// What the kernel slews without showing it, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HiddenSlew {
    /// At most so much in the present second.
    pub(crate) running_ns: u128,
    /// So much at most is between the clock and what the daemon wanted: what runs now, and what ran
    /// when it last measured the clock and told the kernel what to slew. The kernel carried out the
    /// rest of that second's share on top.
    pub(crate) owed_ns: u128,
    /// Nobody looked for so long that the kernel may have slewed what no sample shows.
    pub(crate) is_unseen: bool,
}

impl SlewTracker {
    /// Takes note of a sample. A second's share is slewed to the second's end even if a daemon has
    /// given the kernel another offset, or none, meanwhile: so the largest of a second's samples
    /// counts, and the one before them, which was in force when that second began.
    pub(crate) fn look(&mut self, monotonic_ns: i128, discipline: &Discipline) -> HiddenSlew {
        let last_ns = self.recent.back().map(|(at, _)| *at);
        let is_unseen = last_ns.is_none_or(|at| monotonic_ns - at > LONGEST_GAP_NS);
        let since_ns = monotonic_ns - NS_PER_SEC;
        while self.recent.get(1).is_some_and(|(at, _)| *at <= since_ns) {
            self.recent.pop_front();
        }
        let mut share_ns = discipline.running_slew_ns();
        if is_unseen {
            // Nobody can say any more what ran when the daemon last spoke, or what runs now if it
            // spoke in the present second.
            share_ns = share_ns.max(discipline.largest_slew_ns());
            // It may as well not have spoken meanwhile, and an earlier one had another loop.
            self.overlooked_ns = self.overlooked_ns.max(share_ns);
        } else if last_ns.is_some_and(|at| spoke(&self.last, discipline, monotonic_ns - at)) {
            self.overlooked_ns = self.largest_ns();
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

/// Whether what the kernel says is not what it counted and slewed by itself in `elapsed_ns`.
fn spoke(last: &Discipline, now: &Discipline, elapsed_ns: i128) -> bool {
    let grown_us = MAXERROR_GROWTH_US_PER_SEC.saturating_mul(seconds(elapsed_ns));
    let was_set = Set::between(last, now, elapsed_ns);
    now.maxerror_us < last.maxerror_us
        || now.maxerror_us - last.maxerror_us > grown_us
        || was_set.offset
        || was_set.single_shot
}

/// What somebody had the kernel slew, or leave alone, between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// The offset of the phase-locked loop.
    pub(crate) offset: bool,
    /// An `adjtime`.
    pub(crate) single_shot: bool,
}

impl Set {
    /// What is left to be slewed after `elapsed_ns` and was not left by the kernel itself.
    pub(crate) fn between(last: &Discipline, now: &Discipline, elapsed_ns: i128) -> Self {
        // The kernel takes off no more than `share_ns` in a second.
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

/// How many seconds of the kernel's may have begun in `elapsed_ns`.
fn seconds(elapsed_ns: i128) -> u64 {
    u64::try_from(elapsed_ns / NS_PER_SEC + 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{NS_PER_SEC, Set};
    use crate::source::kernel::discipline::Discipline;

    #[test]
    fn what_the_loop_slews_by_itself_is_set_by_nobody_however_it_is_shown() {
        let shown = |offset_ns: i64, is_cut: bool| Discipline {
            // As `system_clock` has it: never understated.
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
