//! What a page said before its clock was moved, which the counter still holds against the clock.
//!
//! A daemon answers for a clock that only it moves. When another sets it, the daemon goes on to tell the
//! kernel a small error until it has measured the clock often enough to believe what it sees: chrony has
//! told 95 ms of a clock that was 919 ms off. And of a clock that is turned by more than the kernel counts the
//! kernel's figures say nothing until the next measurement.
//!
//! The counter goes on through both. What the page stated before, carried on by the counter, holds the
//! truth, so the clock is off by no more than its distance from the middle of that, and half of it.

use super::sample::Sample;
use super::takeover::utc_at;
use crate::abi;
use crate::snapshot::RawFields;
use crate::time::fixed;

/// So many measurements of the daemon's in a row have to agree before its word alone counts again.
const AGREEMENTS: u8 = 8;

/// The page before the clock was moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Witness {
    page: RawFields,
    /// What TAI - UTC has changed by since.
    tai_change_sec: i16,
    agreements: u8,
    /// The largest step that all of them may have missed.
    masked_ns: u128,
}

impl Witness {
    /// `None` where the page stated no bound: it knows nothing better.
    pub(super) fn new(page: &RawFields) -> Option<Self> {
        let stated = page.flags & abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID != 0;
        stated.then_some(Self {
            page: *page,
            tai_change_sec: 0,
            agreements: 0,
            masked_ns: 0,
        })
    }

    /// The clock was moved again: what the daemon measured before says nothing about that.
    pub(super) fn doubt(&mut self) {
        self.agreements = 0;
        self.masked_ns = 0;
    }

    /// Daemon and page have agreed, and may have done so although the daemon missed steps that come to this:
    /// so far they are apart, and each may be off its own way.
    pub(super) fn masked_ns(&self) -> u128 {
        self.masked_ns
    }

    pub(super) fn note_leap(&mut self, tai_change_sec: i16) {
        self.tai_change_sec += tai_change_sec;
    }

    /// How far CLOCK_REALTIME can be off at a sample.
    pub(super) fn claim_ns(&self, now: &Sample) -> u128 {
        let (distance_ns, half_ns) = self.distance_ns(now);
        distance_ns + half_ns
    }

    /// Takes note of what the daemon says, `has_measured` since the last sample. Returns whether its word
    /// alone counts from now on.
    pub(super) fn hear(&mut self, now: &Sample, said_ns: u128, has_measured: bool) -> bool {
        let (distance_ns, half_ns) = self.distance_ns(now);
        if distance_ns > said_ns + half_ns {
            self.doubt();
        } else if has_measured {
            self.agreements += 1;
            self.masked_ns = self.masked_ns.max(distance_ns + said_ns + half_ns);
        }
        self.agreements >= AGREEMENTS
    }

    /// From CLOCK_REALTIME to the middle of what the page holds true at a sample, and half of that.
    fn distance_ns(&self, now: &Sample) -> (u128, u128) {
        let (utc_ns, growth_ns) = utc_at(&self.page, now.counter);
        let utc_ns = utc_ns - i128::from(self.tai_change_sec) * crate::time::NS_PER_SEC;
        let half_ns = fixed::bound_ns(self.page.time_maxerror_nanosec, growth_ns);
        ((now.realtime_ns - utc_ns).unsigned_abs(), half_ns)
    }
}
