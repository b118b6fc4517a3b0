//! How far others than the daemon moved the clock, of which the daemon need not know yet.
//!
//! What a daemon tells is about the clock as its measurements saw it. When another moves that clock by less
//! than they differ among themselves, it takes the daemon many of them to notice: chrony has told 1.45 ms
//! of a clock that an `adjtime` of 2 ms had put off by 1.65. Until the daemon has forgotten all that it
//! measured before, the clock is off by no more than what it tells and the way that it was moved.
//!
//! A step that is larger than what daemon and page may be off together cannot be missed: while the daemon does
//! not know of it the two disagree, and the [`Witness`](super::witness::Witness) holds the bound. Once they
//! have agreed often enough, such a step needs no place in the bound any more.

use super::sample::Sample;
use super::slew_watch::{self, SINGLE_SHOT_NS, Set};

/// So many measurements a daemon may go by: chrony's, which keeps the most.
const REMEMBERED: u8 = 64;

/// The way that the clock was moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meddling {
    slewed_ns: u128,
    set: Places,
    measured: u8,
}

/// Where the clock has been set to, as seen from where it was.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    now_ns: i128,
    lowest_ns: i128,
    highest_ns: i128,
    /// How far all of that may be off.
    within_ns: u128,
}

impl Meddling {
    /// The clock may be off by so much more than its daemon tells, as it was slewed.
    pub(super) fn slewed_ns(&self) -> u128 {
        self.slewed_ns
    }

    /// And by so much more, as it was set: the daemon may take it to be anywhere that it has been.
    pub(super) fn set_ns(&self) -> u128 {
        let Places {
            lowest_ns,
            highest_ns,
            within_ns,
            ..
        } = self.set;
        lowest_ns.abs_diff(highest_ns) + within_ns
    }

    /// Another may have begun to slew the clock between two samples.
    pub(super) fn slew(&mut self, last: &Sample, now: &Sample) {
        let elapsed_ns = now.monotonic_ns - last.monotonic_ns;
        let (was, is) = (&last.discipline, &now.discipline);
        let set = Set::between(was, is, elapsed_ns);
        // Of each second that began meanwhile, the kernel took its share off what it shows.
        let seconds = u128::from(slew_watch::seconds(elapsed_ns));
        let moved_ns = |was_left_ns: i64, left_ns: i64, share_ns: u128| {
            u128::from(left_ns.abs_diff(was_left_ns)) + seconds * share_ns
        };
        if set.single_shot {
            let share_ns = u128::from(SINGLE_SHOT_NS);
            self.slewed_ns += moved_ns(was.single_shot_ns, is.single_shot_ns, share_ns);
            self.measured = 0;
        }
        if set.offset {
            let share_ns = now.hidden_slew.running_ns;
            self.slewed_ns += moved_ns(was.offset_ns, is.offset_ns, share_ns);
            self.measured = 0;
        }
    }

    /// The clock was set, by whomever: by so much, give or take `within_ns`, from where the daemon takes it
    /// to be.
    pub(super) fn set(&mut self, by_ns: i128, within_ns: u128) {
        let places = &mut self.set;
        places.now_ns += by_ns;
        places.lowest_ns = places.lowest_ns.min(places.now_ns);
        places.highest_ns = places.highest_ns.max(places.now_ns);
        places.within_ns += within_ns;
        self.measured = 0;
    }

    /// The daemon has measured the clock.
    pub(super) fn hear(&mut self) {
        self.measured += 1;
        if self.measured >= REMEMBERED {
            *self = Self::default();
        }
    }

    /// Daemon and page agree, and would not if it had missed a step of more than `masked_ns`.
    pub(super) fn see_through(&mut self, masked_ns: u128) {
        if self.set_ns() > masked_ns {
            self.set = Places::default();
        }
    }
}
