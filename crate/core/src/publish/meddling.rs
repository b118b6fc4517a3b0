//! How far another than the daemon slewed the clock, of which the daemon need not know yet.
//!
//! What a daemon tells is about the clock as its measurements saw it. When another slews that clock by less
//! than they differ among themselves, it takes the daemon many of them to notice: chrony has told 1.45 ms
//! of a clock that an `adjtime` of 2 ms had put off by 1.65. Until the daemon has forgotten all that it
//! measured before, the clock is off by no more than what it tells and the way that it was slewed.

use super::rate::{self, NS_PER_SEC};
use super::sample::Sample;
use super::slew_watch::SINGLE_SHOT_NS;

/// So many measurements a daemon may go by: chrony's, which keeps the most.
const REMEMBERED: u8 = 64;

/// The way that the clock was slewed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meddling {
    moved_ns: u128,
    measured: u8,
}

impl Meddling {
    /// The clock may be off by so much more than its daemon tells.
    pub(super) fn moved_ns(&self) -> u128 {
        self.moved_ns
    }

    /// Another began to move the clock between two samples.
    pub(super) fn begin(&mut self, last: &Sample, now: &Sample) {
        if !rate::is_slewed(&last.discipline, &now.discipline) {
            return;
        }
        let [was_left_ns, left_ns] = [last, now].map(|sample| sample.discipline.single_shot_ns);
        let shown_ns = u128::from(left_ns.abs_diff(was_left_ns));
        // Of each second that began meanwhile, the kernel took its share off what it shows.
        let elapsed_ns = (now.monotonic_ns - last.monotonic_ns).unsigned_abs();
        let seconds = elapsed_ns / NS_PER_SEC.unsigned_abs() + 1;
        self.moved_ns += shown_ns + seconds * u128::from(SINGLE_SHOT_NS);
        self.measured = 0;
    }

    /// The daemon has measured the clock.
    pub(super) fn hear(&mut self) {
        self.measured += 1;
        if self.measured >= REMEMBERED {
            *self = Self::default();
        }
    }
}
