//! How the daemon is known to move its clock, by which it is told apart from another who does.

use super::sample::Sample;
use crate::publish::period;
use crate::source::kernel::clock::Discipline;
use crate::source::kernel::slew::Set;

/// Whoever is seen to do something so many times in a row does it out of habit.
const OFTEN: u8 = 3;

/// What was seen of the daemon.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// So many of its words in a row came in an interval in which an `adjtime` began, up to what is often.
    slews: u8,
    /// So many of its words came in an interval in which the kernel's loop was handed an offset, since the
    /// loop was last seen off at one. `None` before the first.
    loops: Option<u8>,
    /// The rate that the clock had before and after one of its words.
    rest: Option<Discipline>,
}

impl Habits {
    /// How far another than the daemon may have begun to move the clock between two samples, other than by
    /// setting it, if one has. A daemon that does so tells the kernel an error at the same time. But not every
    /// `adjtime` while one is told is its own, and the kernel goes on with it past what the daemon tells next:
    /// that a daemon slews so, or by the loop, has to be seen time after time. A rate that another sets lasts
    /// until the daemon sets its own, and the kernel counts for it. chrony ends what it corrects by its rate
    /// without a word: then the clock is back at the rate that it had before.
    pub(super) fn moved_by_another_ns(&mut self, last: &Sample, now: &Sample) -> Option<u128> {
        let elapsed_ns = now.monotonic_ns - last.monotonic_ns;
        let (mut last, now) = (last.discipline, &now.discipline);
        let has_forgotten = period::has_forgotten(&last, now);
        if has_forgotten {
            last.offset_ns = 0;
            last.single_shot_ns = 0;
            // Who comes next may be another daemon.
            *self = Self::default();
        }
        let set = Set::between(&last, now, elapsed_ns);
        let is_by_another = if has_forgotten {
            set.single_shot || set.offset
        } else if period::is_told(&last, now) {
            self.hear(set, &last, now)
        } else {
            let is_back = |rest| !period::has_turned(rest, now);
            let is_turned =
                period::has_turned(&last, now) && !self.rest.as_ref().is_some_and(is_back);
            set.single_shot || set.offset || is_turned
        };
        is_by_another.then(|| set.moves_ns(&last, now, elapsed_ns))
    }

    /// Takes note of what came with a word of the daemon's. Returns whether some of that may be another's.
    fn hear(&mut self, set: Set, last: &Discipline, now: &Discipline) -> bool {
        let does_slew = self.slews >= OFTEN;
        self.slews = match set.single_shot {
            _ if does_slew => OFTEN,
            true => self.slews + 1,
            false => 0,
        };
        // One that ran before the publisher has the loop on already.
        let looped = self.loops.unwrap_or(if last.has_loop { OFTEN } else { 0 });
        self.loops = Some(if now.has_loop {
            looped.saturating_add(u8::from(set.offset))
        } else {
            0
        });
        if !period::has_turned(last, now) {
            self.rest = Some(*now);
        }
        set.single_shot && !does_slew || set.offset && looped < OFTEN
    }
}
