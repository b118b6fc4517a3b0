//! Makes the page's marker and generation counter from the device's and the maker's own.
//!
//! The page's marker is the sum of two parts, and its generation counter likewise:
//!
//! ```text
//! page's marker = disruptions that the maker noticed by itself + the device's marker   (modulo 2^64)
//! ```
//!
//! A page without a generation counter has the device's in its marker's sum.
//!
//! So the page's marker moves by exactly the amount that the device's moves by. A reader that sees the device
//! before the maker does predicts what the maker is going to publish.

use super::takeover::OldPage;
use crate::abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
use crate::extension::{DeviceRecord, DeviceState};

/// A report of the disruptions of the machine that a page is made on.
pub trait DisruptionSource {
    /// Looks at the machine's device. A device that is stuck in an update gives its last state again.
    fn look(&mut self) -> DeviceRecord;

    /// Returns the identifier of this boot; 0 if it is unknown.
    fn boot_id(&self) -> u128;
}

/// A sample is taken again so often while the device reports disruptions.
const TRIES: usize = 8;

/// A maker, as far as the order of looks and samples concerns it.
pub trait Guarded {
    /// The error of a sample.
    type Error;

    /// Looks at the device, and returns whether it reports a disruption since the last look. The page records
    /// this look.
    fn look(&mut self) -> bool;

    /// Takes a sample.
    ///
    /// # Errors
    ///
    /// Those of the source.
    fn sample(&mut self) -> Result<(), Self::Error>;

    /// Follows a disruption: withdraws the time, and forgets everything about the counter.
    fn follow(&mut self);
}

/// Takes a sample between two looks at the device that show the same.
///
/// If the second look shows a disruption, it may lie before the sample or after it, so the sample does not count.
/// If the device changes each time, the time stays withdrawn.
///
/// # Errors
///
/// Those of [`Guarded::sample`].
pub fn sample_between_looks<M: Guarded>(maker: &mut M) -> Result<(), M::Error> {
    if maker.look() {
        maker.follow();
    }
    for _ in 0..TRIES {
        maker.sample()?;
        if !maker.look() {
            break;
        }
        maker.follow();
    }
    Ok(())
}

/// The relation of a page to the one that it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lineage {
    /// It continues none of this boot.
    New,
    /// It continues one, and nothing reports a disruption since.
    Same,
    /// It continues one, and the machine was disrupted since, or nothing is left to compare.
    Disrupted,
    /// It continues one, and nobody looked at the present device since.
    Unknown,
}

/// The parts of marker and generation counter that do not come from the device.
#[derive(Clone, Copy, Debug)]
struct OwnParts {
    marker: u64,
    generation: u64,
}

/// The device as it was looked at last, and the maker's own parts.
#[derive(Debug)]
pub(super) struct Guard<D> {
    source: D,
    seen: DeviceRecord,
    own: OwnParts,
    /// The page never has a generation counter, so that its marker shows the device's too.
    hides_generation: bool,
    /// The maker was told of a restore, so its own part of the generation counter means something.
    was_told: bool,
}

impl<D: DisruptionSource> Guard<D> {
    /// Looks for the first time. `seed` is the marker's own part where no page is continued.
    pub(super) fn new(mut source: D, seed: u64, hides_generation: bool) -> Self {
        Self {
            seen: source.look(),
            source,
            own: OwnParts {
                marker: seed,
                generation: 0,
            },
            hides_generation,
            was_told: false,
        }
    }

    /// Returns the source of the reports.
    pub(super) fn source(&self) -> &D {
        &self.source
    }

    /// Returns whether the device differs from the last look. That look remains the last.
    pub(super) fn sees_disruption(&mut self) -> bool {
        self.source.look() != self.seen
    }

    /// Returns the device as it was looked at last.
    pub(super) fn record(&self) -> DeviceRecord {
        self.seen
    }

    /// Returns the identifier of this boot; 0 if it is unknown.
    pub(super) fn boot_id(&self) -> u128 {
        self.source.boot_id()
    }

    /// Returns whether there is a source of a generation counter: the device has one, or the maker was told of a
    /// restore. A source that has never told may be one that never does.
    pub(super) fn has_generation(&self) -> bool {
        self.was_told || generation_of(&self.seen).is_some()
    }

    /// Returns the page's marker.
    pub(super) fn marker(&self) -> u64 {
        self.own.marker.wrapping_add(self.marker_of(&self.seen))
    }

    /// Returns the page's generation counter.
    pub(super) fn generation(&self) -> u64 {
        let of_device = generation_of(&self.seen).unwrap_or(0);
        self.own.generation.wrapping_add(of_device)
    }

    /// Takes back so many disruptions that the maker noticed, because the device accounts for them.
    pub(super) fn take_back(&mut self, disruptions: u64) {
        self.own.marker = self.own.marker.wrapping_sub(disruptions);
    }

    /// Changes the marker, for a disruption that the maker noticed or was told.
    pub(super) fn disrupt(&mut self) {
        self.own.marker = self.own.marker.wrapping_add(1);
    }

    /// Changes the generation counter, because the operator declares a clone.
    pub(super) fn bump_generation(&mut self) {
        self.own.generation = self.own.generation.wrapping_add(1);
    }

    /// Changes marker and generation counter, for a restore that the maker was told of.
    pub(super) fn restore(&mut self) {
        self.was_told = true;
        self.disrupt();
        self.bump_generation();
    }

    /// Looks at the device, and returns whether it reports a disruption since the last look.
    pub(super) fn look(&mut self) -> bool {
        let now = self.source.look();
        let before = std::mem::replace(&mut self.seen, now);
        if now == before {
            return false;
        }
        if !is_one_device(&before, &now) {
            let own = self.own;
            self.own = OwnParts {
                marker: own.marker.wrapping_add(self.marker_of(&before)),
                generation: own
                    .generation
                    .wrapping_add(generation_of(&before).unwrap_or(0)),
            };
            self.change_device(&before);
        }
        true
    }

    /// Continues a page's marker and generation counter, and returns how this page is related to it.
    pub(super) fn continue_page(&mut self, old: &OldPage) -> Lineage {
        let (lineage, recorded) = self.lineage(old);
        let has_generation = old.fields.flags & VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT != 0;
        self.own.marker = old.fields.disruption_marker;
        if has_generation && lineage != Lineage::New {
            self.own.generation = old.fields.vm_generation_counter;
        }
        match recorded.filter(|recorded| is_one_device(recorded, &self.seen)) {
            Some(recorded) => {
                self.own.marker = self.own.marker.wrapping_sub(self.marker_of(&recorded));
                if has_generation {
                    let of_device = generation_of(&recorded).unwrap_or(0);
                    self.own.generation = self.own.generation.wrapping_sub(of_device);
                }
            }
            None if lineage == Lineage::New => {
                self.own.marker =
                    (self.own.marker.wrapping_add(1)).wrapping_sub(self.marker_of(&self.seen));
            }
            None => self.change_device(&recorded.unwrap_or_default()),
        }
        lineage
    }

    /// Returns a device's part of the page's marker.
    fn marker_of(&self, record: &DeviceRecord) -> u64 {
        let marker = state_of(record).map_or(0, |state| state.disruption_marker);
        let generation = generation_of(record).filter(|_| self.hides_generation);
        marker.wrapping_add(generation.unwrap_or(0))
    }

    /// Returns the relation to a page, and the device that it records in this boot.
    fn lineage(&self, old: &OldPage) -> (Lineage, Option<DeviceRecord>) {
        if old.is_torn {
            return (Lineage::Disrupted, None);
        }
        let Some(extension) = &old.extension else {
            return (Lineage::Unknown, None);
        };
        match (extension.boot_id, self.boot_id()) {
            (0, _) | (_, 0) => return (Lineage::Unknown, None),
            (before, now) if before != now => return (Lineage::New, None),
            _ => {}
        }
        let lineage = match (extension.device, self.seen) {
            (before, now) if before == now => Lineage::Same,
            (DeviceRecord::Seen(_), _) => Lineage::Disrupted,
            _ => Lineage::Unknown,
        };
        (lineage, Some(extension.device))
    }

    /// Changes marker and generation counter, because another device, or none, accounts for them from now on.
    /// The own parts are those of the page.
    fn change_device(&mut self, before: &DeviceRecord) {
        let now = &self.seen;
        self.own.marker = (self.own.marker.wrapping_add(1)).wrapping_sub(self.marker_of(now));
        let generations = (generation_of(before), generation_of(now));
        // Without a device's generation only the operator changes the counter.
        if generations != (None, None) {
            let of_device = generations.1.unwrap_or(0);
            self.own.generation = (self.own.generation.wrapping_add(1)).wrapping_sub(of_device);
        }
    }
}

/// Returns whether two records are of one device, or both of none, so that their difference has a meaning.
fn is_one_device(one: &DeviceRecord, other: &DeviceRecord) -> bool {
    match (one, other) {
        (DeviceRecord::Seen(one), DeviceRecord::Seen(other)) => one.number == other.number,
        _ => one == other,
    }
}

fn state_of(record: &DeviceRecord) -> Option<&DeviceState> {
    match record {
        DeviceRecord::Seen(state) => Some(state),
        DeviceRecord::None | DeviceRecord::Unavailable => None,
    }
}

fn generation_of(record: &DeviceRecord) -> Option<u64> {
    state_of(record)?.vm_generation
}
