//! Tracks the kernel's leap seconds, in the page's terms.

use crate::abi;
use crate::source::kernel::discipline::LeapState;
use crate::source::kernel::leap_seconds::LeapSeconds;
use crate::time::leap::utc_month;
use crate::time::{NS_PER_SEC, SEC_PER_DAY};

/// A page reports a past leap second until the 15th of the month after it.
const REPORTED_FOR_SEC: i128 = 14 * SEC_PER_DAY;
/// Longer than the time between two updates.
const TORN_SEC: i128 = 5;

/// The leap second nearest to the last sample.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeapTracker {
    state: LeapState,
    /// Announced at the last sample. At the next one it may be over, and the kernel's flag withdrawn.
    announced: Option<Leap>,
    happened: Option<Leap>,
}

/// A leap second that is announced or over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leap {
    inserted: bool,
    /// The first second of the month that begins with it.
    edge_sec: i128,
}

/// One reading of CLOCK_REALTIME with the kernel's leap second carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// CLOCK_REALTIME, corrected by a leap second that the vDSO had not followed yet.
    pub(crate) realtime_ns: i128,
    /// `leap_indicator`.
    pub(crate) indicator: u8,
    /// The change of TAI - UTC since the last sample, in seconds.
    pub(crate) tai_change_sec: i16,
    /// True in the inserted second.
    pub(crate) inserting: bool,
}

/// Returns `leap_indicator` of a page that begins at a second of UTC: the leap second at the start of its month, by
/// tzdata's list.
///
/// The kernel forgets a leap second when its announcement is withdrawn, but the smear goes on for 12 hours.
pub(crate) fn past_indicator(list: &LeapSeconds, utc_sec: i128) -> u8 {
    match list.change_at(utc_month(utc_sec).0) {
        1 => abi::VMCLOCK_LEAP_POST_POS,
        -1 => abi::VMCLOCK_LEAP_POST_NEG,
        _ => abi::VMCLOCK_LEAP_NONE,
    }
}

impl LeapTracker {
    /// Continues from the page of another publisher, whose reference was `utc_sec`.
    pub(crate) fn resume(leap_indicator: u8, utc_sec: i128) -> Self {
        let (month_start, month_end) = utc_month(utc_sec);
        let leap = |inserted, edge_sec| Some(Leap { inserted, edge_sec });
        // A publisher that died in its update at the leap second left the time of one side of it with the
        // indicator of the other side.
        let is_just_after = utc_sec - month_start < TORN_SEC;
        let is_just_before = month_end - utc_sec < TORN_SEC;
        let coming = if is_just_after {
            month_start
        } else {
            month_end
        };
        let past = if is_just_before {
            month_end
        } else {
            month_start
        };
        let (announced, happened) = match leap_indicator {
            abi::VMCLOCK_LEAP_PRE_POS => (leap(true, coming), None),
            abi::VMCLOCK_LEAP_PRE_NEG => (leap(false, coming), None),
            abi::VMCLOCK_LEAP_POS => (None, leap(true, coming)),
            abi::VMCLOCK_LEAP_POST_POS => (None, leap(true, past)),
            abi::VMCLOCK_LEAP_POST_NEG => (None, leap(false, past)),
            _ => (None, None),
        };
        Self {
            state: LeapState::None,
            announced,
            happened,
        }
    }

    /// Returns whether a reading lies in the second that the kernel left out.
    fn was_deleted(&self, realtime_ns: i128) -> bool {
        let utc_sec = realtime_ns.div_euclid(NS_PER_SEC);
        let left_out_sec = match self.happened {
            Some(happened) if happened.inserted => return false,
            Some(happened) => happened.edge_sec - 1,
            // The first sample of a publisher that begins at this instant.
            None => utc_month(utc_sec).1 - 1,
        };
        utc_sec == left_out_sec
    }

    /// Takes note of a reading of CLOCK_REALTIME and the state that `adjtimex` gave with it.
    ///
    /// `adjtimex` changes its state in the very second. The vDSO's CLOCK_REALTIME follows at the kernel's
    /// next timer tick, some milliseconds later. Until then this corrects it.
    pub(crate) fn look(&mut self, realtime_ns: i128, state: LeapState) -> Seen {
        let before = std::mem::replace(&mut self.state, state);
        let realtime_ns = realtime_ns + self.owed_sec(realtime_ns, before) * NS_PER_SEC;
        let utc_sec = realtime_ns.div_euclid(NS_PER_SEC);
        let (month_start, month_end) = utc_month(utc_sec);
        let leap = |inserted, edge_sec| Some(Leap { inserted, edge_sec });
        let announced = match state {
            _ if month_end - utc_sec > SEC_PER_DAY => None,
            LeapState::Insert => leap(true, month_end),
            LeapState::Delete => leap(false, month_end),
            _ => None,
        };
        // An announcement that ended after its time was carried out. One that ended before was withdrawn.
        let unseen = std::mem::replace(&mut self.announced, announced)
            .filter(|leap| leap.edge_sec <= utc_sec && announced.is_none());
        self.happened = unseen.or(self.happened);
        let is_new = |announcement| before == announcement || self.happened.is_none();
        match state {
            LeapState::Inserting if utc_sec + 1 == month_end => {
                self.happened = leap(true, month_end);
            }
            LeapState::Inserted if is_new(LeapState::Insert) => {
                self.happened = leap(true, month_start);
            }
            LeapState::Deleted if is_new(LeapState::Delete) => {
                self.happened = leap(false, month_start);
            }
            _ => {}
        }
        Seen {
            realtime_ns,
            indicator: self.indicator(utc_sec),
            tai_change_sec: tai_change_sec(before, state, unseen.is_some()),
            inserting: state == LeapState::Inserting,
        }
    }

    /// Returns the leap second that the vDSO's CLOCK_REALTIME has still to carry out.
    fn owed_sec(&self, realtime_ns: i128, before: LeapState) -> i128 {
        let second_of_day = realtime_ns.div_euclid(NS_PER_SEC).rem_euclid(SEC_PER_DAY);
        match (before, self.state) {
            (_, LeapState::Inserting) if second_of_day == 0 => -1,
            (LeapState::Delete, LeapState::Deleted) if second_of_day == SEC_PER_DAY - 1 => 1,
            // Sampled again before the vDSO has followed.
            (_, LeapState::Deleted) if self.was_deleted(realtime_ns) => 1,
            _ => 0,
        }
    }

    /// Returns `leap_indicator` at a second of UTC.
    fn indicator(&self, utc_sec: i128) -> u8 {
        let (month_start, month_end) = utc_month(utc_sec);
        let is_last_day = month_end - utc_sec <= SEC_PER_DAY;
        let happened = self.happened.filter(|leap| {
            leap.edge_sec == month_start && utc_sec < leap.edge_sec + REPORTED_FOR_SEC
        });
        match (self.state, happened) {
            (LeapState::Insert, _) if is_last_day => abi::VMCLOCK_LEAP_PRE_POS,
            (LeapState::Delete, _) if is_last_day => abi::VMCLOCK_LEAP_PRE_NEG,
            (LeapState::Inserting, _) if utc_sec + 1 == month_end => abi::VMCLOCK_LEAP_POS,
            (_, Some(leap)) if leap.inserted => abi::VMCLOCK_LEAP_POST_POS,
            (_, Some(_)) => abi::VMCLOCK_LEAP_POST_NEG,
            (_, None) => abi::VMCLOCK_LEAP_NONE,
        }
    }
}

/// Returns the change of TAI - UTC between two states. `is_over` if an announced leap second was carried out
/// between them, and its flag withdrawn.
fn tai_change_sec(before: LeapState, state: LeapState, is_over: bool) -> i16 {
    match (before, state) {
        (LeapState::Insert, LeapState::Inserting | LeapState::Inserted) => 1,
        (LeapState::Delete, LeapState::Deleted) => -1,
        (LeapState::Insert, LeapState::None | LeapState::Over) if is_over => 1,
        (LeapState::Delete, LeapState::None | LeapState::Over) if is_over => -1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Leap, LeapTracker};
    use crate::abi;

    #[test]
    fn a_page_whose_writer_died_in_its_update_at_a_leap_second_names_that_second() {
        /// 1 July 2026.
        const EDGE_SEC: i128 = 1_782_864_000;
        for utc_sec in [EDGE_SEC - 1, EDGE_SEC, EDGE_SEC + 1] {
            for indicator in [abi::VMCLOCK_LEAP_POS, abi::VMCLOCK_LEAP_POST_POS] {
                let leap = LeapTracker::resume(indicator, utc_sec).happened;
                let expected = Leap {
                    inserted: true,
                    edge_sec: EDGE_SEC,
                };
                assert_eq!(leap, Some(expected), "{indicator} at {utc_sec}");
            }
            let announced = LeapTracker::resume(abi::VMCLOCK_LEAP_PRE_NEG, utc_sec).announced;
            assert_eq!(announced.map(|leap| leap.edge_sec), Some(EDGE_SEC));
        }
    }
}
