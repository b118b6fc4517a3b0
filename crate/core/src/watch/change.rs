//! Compares two states of a page, without I/O.

use crate::snapshot::{ClockStatus, LeapIndicator, Maintenance, Snapshot};

/// The part of a page that a watcher compares: what happened to the machine and its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The sequence number, even.
    pub seq_count: u32,
    /// `disruption_marker`.
    pub disruption_marker: u64,
    /// `vm_generation_counter`; `None` if the page has none.
    pub vm_generation: Option<u64>,
    /// The announced disruption.
    pub maintenance: Maintenance,
    /// `clock_status`; `None` if the page ends before it.
    pub status: Option<ClockStatus>,
    /// `leap_indicator`; `None` if the page ends before it.
    pub leap: Option<LeapIndicator>,
}

impl From<&Snapshot> for Watched {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            seq_count: snapshot.seq_count,
            disruption_marker: snapshot.raw.disruption_marker,
            vm_generation: snapshot.vm_generation(),
            maintenance: snapshot.maintenance(),
            status: snapshot.clock_status(),
            leap: snapshot.leap_indicator(),
        }
    }
}

/// The watched figures that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// The disruption marker.
    pub disruption: bool,
    /// The generation counter, or its presence.
    pub generation: bool,
    /// The announced disruption.
    pub maintenance: bool,
    /// The clock's status.
    pub status: bool,
    /// The leap indicator.
    pub leap: bool,
}

impl Kinds {
    /// Returns the differences between two states.
    #[must_use]
    pub fn between(before: &Watched, after: &Watched) -> Self {
        Self {
            disruption: before.disruption_marker != after.disruption_marker,
            generation: before.vm_generation != after.vm_generation,
            maintenance: before.maintenance != after.maintenance,
            status: before.status != after.status,
            leap: before.leap != after.leap,
        }
    }

    /// Returns true if no watched figure changed, as with an update of the time alone.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn or(self, other: Self) -> Self {
        Self {
            disruption: self.disruption || other.disruption,
            generation: self.generation || other.generation,
            maintenance: self.maintenance || other.maintenance,
            status: self.status || other.status,
            leap: self.leap || other.leap,
        }
    }
}

/// One or several changes of the watched figures, reported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state at the previous report, or when watching began.
    pub before: Watched,
    /// The state now.
    pub after: Watched,
    /// The figures that changed in between, including those that changed back.
    pub kinds: Kinds,
    /// The number of the page's updates since `before`: half the distance of the sequence numbers.
    /// Updates of the time alone count too.
    pub updates: u32,
}

impl Change {
    /// Returns the change since `reported`, the state at the previous report. `last` is the state at
    /// the previous look. `None` means that no watched figure changed since that look.
    #[must_use]
    pub fn between(reported: &Watched, last: &Watched, now: &Watched) -> Option<Self> {
        let kinds = Kinds::between(last, now);
        (!kinds.is_empty()).then(|| Self {
            before: *reported,
            after: *now,
            kinds,
            updates: now.seq_count.wrapping_sub(reported.seq_count) / 2,
        })
    }

    /// Merges this change with a later one. A figure that changed and changed back stays reported.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        Self {
            before: self.before,
            after: later.after,
            kinds: self.kinds.or(later.kinds),
            updates: self.updates.saturating_add(later.updates),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{
        VMCLOCK_FLAG_DISRUPTION_IMMINENT, VMCLOCK_FLAG_DISRUPTION_SOON,
        VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
    };
    use crate::snapshot::{Abi, RawFields};

    fn snapshot(seq_count: u32, change: impl FnOnce(&mut RawFields)) -> Snapshot {
        let mut raw = RawFields {
            version: 1,
            ..RawFields::default()
        };
        change(&mut raw);
        Snapshot {
            size_bytes: 0x1000,
            seq_count,
            counter: 0,
            abi: Abi::Uapi,
            raw,
            extension: None,
            age_ns: None,
            reader: None,
        }
    }

    fn watched(seq_count: u32, change: impl FnOnce(&mut RawFields)) -> Watched {
        Watched::from(&snapshot(seq_count, change))
    }

    type Edit = fn(&mut RawFields);

    #[test]
    fn each_watched_figure_has_its_own_kind() {
        let none = Kinds::default();
        let cases: [(Edit, Kinds); 9] = [
            (
                |raw| raw.disruption_marker = 1,
                Kinds {
                    disruption: true,
                    ..none
                },
            ),
            (
                |raw| raw.flags = VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
                Kinds {
                    generation: true,
                    ..none
                },
            ),
            (
                |raw| raw.flags = VMCLOCK_FLAG_DISRUPTION_SOON,
                Kinds {
                    maintenance: true,
                    ..none
                },
            ),
            (
                |raw| raw.flags = VMCLOCK_FLAG_DISRUPTION_IMMINENT,
                Kinds {
                    maintenance: true,
                    ..none
                },
            ),
            (
                |raw| raw.clock_status = 4,
                Kinds {
                    status: true,
                    ..none
                },
            ),
            (|raw| raw.leap_indicator = 1, Kinds { leap: true, ..none }),
            // Without its flag there is no generation. The other fields belong to the time.
            (|raw| raw.vm_generation_counter = 1, none),
            (|raw| raw.counter_value = 1, none),
            (|raw| raw.time_sec = 1, none),
        ];
        let before = watched(2, |_| {});
        for (edit, expected) in cases {
            let after = watched(4, edit);
            assert_eq!(Kinds::between(&before, &after), expected, "{after:?}");
            let change = Change::between(&before, &before, &after);
            assert_eq!(
                change.map(|change| change.kinds).unwrap_or_default(),
                expected
            );
        }
    }

    #[test]
    fn fields_that_the_page_does_not_have_never_change() {
        let small = |status, leap| {
            let mut small = snapshot(2, |raw| {
                raw.clock_status = status;
                raw.leap_indicator = leap;
            });
            small.size_bytes = 0x20;
            Watched::from(&small)
        };
        assert!(Kinds::between(&small(0, 0), &small(2, 1)).is_empty());
    }

    #[test]
    fn imminent_takes_precedence_over_soon() {
        let both = VMCLOCK_FLAG_DISRUPTION_SOON | VMCLOCK_FLAG_DISRUPTION_IMMINENT;
        assert_eq!(
            watched(2, |raw| raw.flags = both).maintenance,
            Maintenance::Imminent
        );
    }

    #[test]
    fn updates_count_from_the_previous_report_and_across_the_wrap() {
        let reported = watched(u32::MAX - 3, |_| {});
        let last = watched(u32::MAX - 1, |_| {});
        let now = watched(2, |raw| raw.disruption_marker = 1);
        assert_eq!(
            Change::between(&reported, &last, &now).map(|change| change.updates),
            Some(3)
        );
    }

    #[test]
    fn a_merged_change_keeps_every_kind_and_update() {
        let first = watched(2, |_| {});
        let second = watched(6, |raw| raw.flags = VMCLOCK_FLAG_DISRUPTION_SOON);
        let third = watched(8, |raw| {
            raw.flags = VMCLOCK_FLAG_DISRUPTION_SOON;
            raw.disruption_marker = 1;
        });
        let fourth = watched(10, |raw| raw.disruption_marker = 1);
        let step = |before: &Watched, after: &Watched| Change::between(before, before, after);
        let kinds = Kinds {
            disruption: true,
            maintenance: true,
            ..Kinds::default()
        };
        let both = step(&first, &second)
            .unwrap()
            .then(step(&second, &third).unwrap());
        assert_eq!((both.before, both.after), (first, third));
        assert_eq!((both.kinds, both.updates), (kinds, 3));
        // The announcement is withdrawn.
        let all = both.then(step(&third, &fourth).unwrap());
        assert_eq!((all.kinds, all.updates), (kinds, 4));
    }
}
