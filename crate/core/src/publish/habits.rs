//! How the daemon is known to move its clock, by which it is told apart from another who does.

use super::rate;
use super::sample::Sample;
use super::slew_watch::Set;

/// What was seen of the daemon.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// When it last told an error, the clock was slewed by an `adjtime` in the same interval.
    told_slewing: bool,
    /// That happened twice in a row.
    slews: bool,
    /// Whether the kernel's loop was on when it last told one.
    loops: Option<bool>,
}

impl Habits {
    /// How far another than the daemon may have begun to move the clock between two samples, other than by
    /// setting it, if one has. A daemon that does so tells the kernel an error at the same time. But not every
    /// `adjtime` while one is told is its own, and the kernel goes on with it past what the daemon tells next:
    /// those daemons that slew that way do it time after time. Those that use the kernel's loop leave it on. A
    /// rate that another sets lasts until the daemon sets its own, and the kernel counts for it.
    pub(super) fn moved_by_another_ns(&mut self, last: &Sample, now: &Sample) -> Option<u128> {
        let elapsed_ns = now.monotonic_ns - last.monotonic_ns;
        let (mut last, now) = (last.discipline, &now.discipline);
        if rate::has_forgotten(&last, now) {
            last.offset_ns = 0;
            last.single_shot_ns = 0;
            // Who comes next may be another daemon.
            *self = Self::default();
        }
        let set = Set::between(&last, now, elapsed_ns);
        let is_by_another = if rate::is_told(&last, now) {
            let was_slewed = std::mem::replace(&mut self.told_slewing, set.single_shot);
            self.slews |= set.single_shot && was_slewed;
            let loops = self.loops.replace(now.has_loop).unwrap_or(last.has_loop);
            set.single_shot && !self.slews || set.offset && !loops
        } else {
            set.single_shot || set.offset || rate::has_turned(&last, now)
        };
        is_by_another.then(|| set.moves_ns(&last, now, elapsed_ns))
    }
}
