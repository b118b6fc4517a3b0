//! Leap seconds as the kernel carries them out, put into the page's terms.

use crate::abi;
use crate::source::kernel::discipline::LeapState;
use crate::time::leap::utc_month;
use crate::time::{NS_PER_SEC, SEC_PER_DAY};

/// A leap second that has happened is told until the 15th of the month that it began.
const TOLD_FOR_SEC: i128 = 14 * SEC_PER_DAY;
/// Longer than from one update to the next.
const TORN_SEC: i128 = 5;

/// What is known about the leap second nearest to now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeapTracker {
    state: LeapState,
    /// Announced when last looked at. It may be over, and the kernel's flag taken back, at the next
    /// look.
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

/// What the kernel's state means for one reading of CLOCK_REALTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// CLOCK_REALTIME, with the leap second that the kernel owed it.
    pub(crate) realtime_ns: i128,
    /// `leap_indicator`.
    pub(crate) indicator: u8,
    /// What TAI - UTC has changed by since the last look, in seconds.
    pub(crate) tai_change_sec: i16,
    /// Whether this is the inserted second.
    pub(crate) inserting: bool,
}

impl LeapTracker {
    /// Goes on from a page that another publisher left behind, whose reference was `utc_sec`.
    pub(crate) fn resume(leap_indicator: u8, utc_sec: i128) -> Self {
        let (month_start, month_end) = utc_month(utc_sec);
        let leap = |inserted, edge_sec| Some(Leap { inserted, edge_sec });
        // A publisher that died in the update at the leap second left the time of one side of it with the
        // indicator of the other.
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

    /// Whether a reading lies in the second that the kernel left out.
    fn was_deleted(&self, realtime_ns: i128) -> bool {
        let utc_sec = realtime_ns.div_euclid(NS_PER_SEC);
        let left_out_sec = match self.happened {
            Some(happened) if happened.inserted => return false,
            Some(happened) => happened.edge_sec - 1,
            // The first look of a publisher that begins in this very point.
            None => utc_month(utc_sec).1 - 1,
        };
        utc_sec == left_out_sec
    }

    /// Takes note of the state that `adjtimex` gave with a reading of CLOCK_REALTIME.
    ///
    /// `adjtimex` knows the very second, but CLOCK_REALTIME as the vDSO gives it steps only at the
    /// kernel's next timer tick: for some milliseconds it still has to be taken back or forward.
    pub(crate) fn look(&mut self, realtime_ns: i128, state: LeapState) -> Seen {
        let before = std::mem::replace(&mut self.state, state);
        let second_of_day = realtime_ns.div_euclid(NS_PER_SEC).rem_euclid(SEC_PER_DAY);
        let owed_sec = match (before, state) {
            (_, LeapState::Inserting) if second_of_day == 0 => -1,
            (LeapState::Delete, LeapState::Deleted) if second_of_day == SEC_PER_DAY - 1 => 1,
            // Looked at again before the vDSO has followed.
            (_, LeapState::Deleted) if self.was_deleted(realtime_ns) => 1,
            _ => 0,
        };
        let realtime_ns = realtime_ns + owed_sec * NS_PER_SEC;
        let utc_sec = realtime_ns.div_euclid(NS_PER_SEC);
        let (month_start, month_end) = utc_month(utc_sec);
        let last_day = month_end - utc_sec <= SEC_PER_DAY;
        let announced = match state {
            LeapState::Insert | LeapState::Delete if last_day => Some(Leap {
                inserted: state == LeapState::Insert,
                edge_sec: month_end,
            }),
            _ => None,
        };
        // What is no longer announced when its time has come happened; before that, it was called off.
        let unseen = std::mem::replace(&mut self.announced, announced)
            .filter(|leap| leap.edge_sec <= utc_sec && announced.is_none());
        self.happened = unseen.or(self.happened);
        match state {
            LeapState::Inserting if utc_sec + 1 == month_end => {
                self.happened = Some(Leap {
                    inserted: true,
                    edge_sec: month_end,
                });
            }
            LeapState::Inserted | LeapState::Deleted if self.happened.is_none() => {
                self.happened = Some(Leap {
                    inserted: state == LeapState::Inserted,
                    edge_sec: month_start,
                });
            }
            LeapState::Deleted if before == LeapState::Delete => {
                self.happened = Some(Leap {
                    inserted: false,
                    edge_sec: month_start,
                });
            }
            LeapState::Inserted if before == LeapState::Insert => {
                self.happened = Some(Leap {
                    inserted: true,
                    edge_sec: month_start,
                });
            }
            _ => {}
        }
        let indicator = match state {
            LeapState::Insert if last_day => abi::VMCLOCK_LEAP_PRE_POS,
            LeapState::Delete if last_day => abi::VMCLOCK_LEAP_PRE_NEG,
            LeapState::Inserting if utc_sec + 1 == month_end => abi::VMCLOCK_LEAP_POS,
            _ => match self.happened {
                Some(Leap { inserted, edge_sec })
                    if edge_sec == month_start && utc_sec < edge_sec + TOLD_FOR_SEC =>
                {
                    if inserted {
                        abi::VMCLOCK_LEAP_POST_POS
                    } else {
                        abi::VMCLOCK_LEAP_POST_NEG
                    }
                }
                _ => abi::VMCLOCK_LEAP_NONE,
            },
        };
        let tai_change_sec = match (before, state) {
            (LeapState::Insert, LeapState::Inserting | LeapState::Inserted) => 1,
            (LeapState::Delete, LeapState::Deleted) => -1,
            (LeapState::Insert, LeapState::None | LeapState::Over) if unseen.is_some() => 1,
            (LeapState::Delete, LeapState::None | LeapState::Over) if unseen.is_some() => -1,
            _ => 0,
        };
        Seen {
            realtime_ns,
            indicator,
            tai_change_sec,
            inserting: state == LeapState::Inserting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Leap, LeapTracker};
    use crate::abi;

    #[test]
    fn a_page_whose_writer_died_in_the_update_at_a_leap_second_names_that_one() {
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
