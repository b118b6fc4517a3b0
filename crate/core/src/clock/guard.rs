//! The guard: the machine's vmclock device, to which a clock compares what the maker of its page saw there.
//!
//! A page in a file says what its maker knew when it took the time. The machine may have been migrated since.
//! The hypervisor's device says so at once, so a clock looks at both:
//!
//! ```text
//! maker    look at the device ─► sample the clocks ─► look again ─► page: reference and first look
//! reader   counter ─► page ─► device
//! ```
//!
//! The reader takes the counter before it looks at the device. So a device that is as recorded was so at the
//! counter and at the page's reference, and both are of one machine. Otherwise the reader reports what the
//! maker will publish next, which moves by exactly what the device moved, and a time without a bound.
//!
//! [`judge`] decides, without I/O. The fast path compares two sequence numbers. A clock without a guard
//! compares its page's twice, so there is no branch.

use std::path::PathBuf;
use std::sync::Arc;

use super::RetryDeadline;
use crate::abi::VMCLOCK_VERSION;
use crate::counter::CpuCounter;
use crate::device::{Device, Unavailable};
use crate::error::Error;
use crate::extension::{DeviceRecord, DeviceState, Extension};
use crate::machine;
use crate::no_bound::NoBound;
use crate::page::Page;
use crate::seqlock::{self, Consistent, Stuck};
use crate::snapshot::{Abi, Snapshot};
use crate::time::reading::Continuity;

/// A clock's machine, as far as it decides whether the bound of a page can be believed.
#[derive(Debug)]
pub struct Guard<M> {
    /// This boot, as [`machine::boot_id`] returns it.
    pub boot_id: Option<u128>,
    /// The device that reports the machine's disruptions.
    pub device: GuardDevice<M>,
}

/// The device that reports the disruptions of a clock's machine.
#[derive(Debug)]
pub enum GuardDevice<M> {
    /// The clock's own page reports them. The extension's record is ignored.
    Own,
    /// The machine has none.
    None,
    /// Another page.
    Open {
        /// The device's memory.
        memory: Arc<M>,
        /// `st_rdev` of the device.
        number: u64,
        /// The device's `size`, in bytes.
        size_bytes: u32,
        /// The device's path.
        path: PathBuf,
    },
    /// The machine has one, and this process cannot look at it.
    Unavailable(Unavailable),
}

impl<M> Clone for Guard<M> {
    fn clone(&self) -> Self {
        Self {
            boot_id: self.boot_id,
            device: self.device.clone(),
        }
    }
}

impl<M> Clone for GuardDevice<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Own => Self::Own,
            Self::None => Self::None,
            Self::Open {
                memory,
                number,
                size_bytes,
                path,
            } => Self::Open {
                memory: Arc::clone(memory),
                number: *number,
                size_bytes: *size_bytes,
                path: path.clone(),
            },
            Self::Unavailable(unavailable) => Self::Unavailable(unavailable.clone()),
        }
    }
}

impl<M> Guard<M> {
    /// The guard of a page that reports its machine's disruptions itself.
    pub const OWN: Self = Self {
        boot_id: None,
        device: GuardDevice::Own,
    };

    /// Returns the device's memory, if the clock has to look at it.
    pub(crate) fn memory(&self) -> Option<&Arc<M>> {
        match &self.device {
            GuardDevice::Open { memory, .. } => Some(memory),
            _ => None,
        }
    }

    /// Returns what one consistent read of the device says, or the number that it is stuck at.
    pub(crate) fn look(&self, read: &Result<Consistent, Stuck>) -> Look {
        let GuardDevice::Open {
            number, size_bytes, ..
        } = &self.device
        else {
            return Look::None;
        };
        match read {
            Ok(seen) => Look::of(seen, *number, *size_bytes),
            Err(Stuck { seq }) => Look::Stuck { seq: *seq },
        }
    }
}

impl Guard<Page> {
    /// Finds the guard of `page`. It is the device that the page was made under, or the machine's first. A clock
    /// keeps it, also where a device appears later.
    #[must_use]
    pub fn find(page: &Page) -> Self {
        if page.device_number().is_some() {
            return Self::OWN;
        }
        let record = recorded(page).map(|extension| extension.device);
        let number = match record {
            Some(DeviceRecord::Seen(state)) => Some(state.number),
            _ => None,
        };
        let device = match Device::find(number) {
            Device::None => GuardDevice::None,
            Device::Unavailable(unavailable) => GuardDevice::Unavailable(unavailable),
            Device::Open(device) => GuardDevice::Open {
                number: device.device_number().unwrap_or_default(),
                size_bytes: device.size_bytes(),
                path: device.path().map(PathBuf::from).unwrap_or_default(),
                memory: Arc::new(device),
            },
        };
        Self {
            boot_id: machine::boot_id(),
            device,
        }
    }
}

/// Returns the page's extension as it is now; `None` for a page that is stuck in an update. The choice of the
/// guard remains, and every reading makes its own check.
fn recorded(page: &Page) -> Option<Extension> {
    let mut deadline = RetryDeadline::default();
    let seen = seqlock::read(page, &CpuCounter, |_| deadline.allows_spin()).ok()?;
    Extension::from_words(&seen.extension?, seen.seq)
}

/// A look at the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is no device to look at.
    None,
    /// The device under one sequence number.
    Seen {
        /// The sequence number, even.
        seq: u32,
        /// The device.
        state: DeviceState,
    },
    /// The device was in an update for too long.
    Stuck {
        /// The sequence number, odd.
        seq: u32,
    },
    /// The device's version is unknown, so no field of it has a known meaning.
    OtherVersion {
        /// The sequence number, even.
        seq: u32,
        /// The version.
        found: u16,
    },
}

impl Look {
    /// Decodes a consistent read of the device `number`.
    #[must_use]
    pub fn of(seen: &Consistent, number: u64, size_bytes: u32) -> Self {
        let snapshot = Snapshot::new(seen, size_bytes, Abi::Uapi);
        if snapshot.raw.version != VMCLOCK_VERSION {
            return Self::OtherVersion {
                seq: seen.seq,
                found: snapshot.raw.version,
            };
        }
        Self::Seen {
            seq: seen.seq,
            state: DeviceState {
                number,
                disruption_marker: snapshot.raw.disruption_marker,
                vm_generation: snapshot.vm_generation(),
            },
        }
    }

    /// Returns the device's sequence number, if there is a device.
    pub(crate) fn seq(self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Seen { seq, .. } | Self::Stuck { seq } | Self::OtherVersion { seq, .. } => {
                Some(seq)
            }
        }
    }
}

/// The state of a clock's guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardState {
    /// The clock reads the device itself.
    Device,
    /// The machine has no device, so nothing on it can notice a migration. The bound holds.
    None,
    /// The clock looks at the device that the page was made under.
    Guarded {
        /// The device's path.
        path: PathBuf,
    },
    /// The machine has a device, and the page's maker or this process cannot look at it. The time has no
    /// bound, unless [`Options::allow_unguarded`](crate::Options::allow_unguarded) is set.
    Unavailable {
        /// The fault.
        reason: String,
        /// The remedy, in the imperative.
        remedy: String,
    },
}

/// The verdict of a clock on one state of the page and of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which machine and which clock this is: the page's own figures, moved by what the device moved.
    pub continuity: Continuity,
    /// The reason for which nobody knows whether that is so.
    pub doubt: Option<Doubt>,
    /// The reason for which the reader takes the bound away.
    pub no_bound: Option<NoBound>,
    /// How the page is guarded.
    pub guarding: Guarding,
}

/// The reason for which continuity is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The device is stuck in the update with this sequence number.
    Stuck(u32),
    /// The device has another version.
    OtherVersion(u16),
    /// The page was made in another boot.
    OtherBoot,
}

impl Doubt {
    /// Returns the error of a call that depends on continuity.
    #[must_use]
    pub fn error(self) -> Error {
        match self {
            Self::Stuck(seq) => Error::Timeout { seq },
            Self::OtherVersion(found) => Error::VersionChanged { found },
            Self::OtherBoot => Error::OtherBoot,
        }
    }
}

/// How a page is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarding {
    /// It reports disruptions itself.
    Device,
    /// Its machine has no device.
    None,
    /// By the device that it was made under.
    Guarded,
    /// Its machine has a device that this process cannot look at.
    NoAccess,
    /// Its machine has a device, and the page does not say whether its maker looks at it.
    NotRecorded,
    /// The maker cannot look at the device.
    MakerCannotLook,
    /// The maker saw no device, and this process sees one.
    MakerSawNone,
    /// The page was made under another device.
    OtherDevice,
    /// The page or this process cannot tell its boot.
    BootUnknown,
}

impl Guarding {
    fn is_unavailable(self) -> bool {
        !matches!(self, Self::Device | Self::None | Self::Guarded)
    }

    /// Describes the state to the caller.
    pub(crate) fn state<M>(self, device: &GuardDevice<M>) -> GuardState {
        let path = match device {
            GuardDevice::Open { path, .. } => path.clone(),
            GuardDevice::Unavailable(unavailable) => unavailable.path.clone(),
            GuardDevice::Own | GuardDevice::None => PathBuf::new(),
        };
        let (reason, remedy) = match self {
            Self::Device => return GuardState::Device,
            Self::None => return GuardState::None,
            Self::Guarded => return GuardState::Guarded { path },
            Self::NoAccess => {
                if let GuardDevice::Unavailable(unavailable) = device {
                    return GuardState::Unavailable {
                        reason: unavailable.reason.clone(),
                        remedy: unavailable.remedy.clone(),
                    };
                }
                (
                    "the page was made under a vmclock device, and this clock found none when it was opened",
                    "open the clock again",
                )
            }
            Self::NotRecorded => (
                "the page does not say which device it was made under, because another program or an older \
                 release made it",
                "publish the page with this release (`vmclock publish`)",
            ),
            Self::MakerCannotLook => (
                "what publishes the page cannot look at the machine's vmclock device",
                "let its user read the device (`vmclock doctor --udev-rule` prints a rule; in a container \
                 pass the device with --device), and restart it",
            ),
            Self::MakerSawNone => (
                "what publishes the page saw no vmclock device, and this process sees one",
                "restart what publishes the page where it can read the device",
            ),
            Self::OtherDevice => (
                "the page was made under another vmclock device than the one that this clock looks at",
                "open the clock again; if that does not help, restart what publishes the page",
            ),
            Self::BootUnknown => (
                "the page or this process cannot tell its boot (/proc/sys/kernel/random/boot_id)",
                "let this process and what publishes the page read /proc",
            ),
        };
        GuardState::Unavailable {
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

/// The device as a clock saw it last, and the record that it was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastLook {
    record: DeviceState,
    device: DeviceState,
}

/// Decides what one state of a page and one look at the device mean. `last` is the clock's own memory of the
/// last look.
pub fn judge<M>(
    snapshot: &Snapshot,
    guard: &Guard<M>,
    look: Look,
    allow_unguarded: bool,
    last: &mut Option<LastLook>,
) -> Verdict {
    let page = Continuity {
        disruption_marker: snapshot.raw.disruption_marker,
        vm_generation: snapshot.vm_generation(),
    };
    let (guarding, record) = guarding(snapshot.extension.as_ref(), guard);
    let mut verdict = Verdict {
        continuity: page,
        doubt: None,
        no_bound: (guarding.is_unavailable() && !allow_unguarded).then_some(NoBound::Unguarded),
        guarding,
    };
    if let Some(record) = record {
        let (device, doubt, no_bound) = match look {
            Look::Seen { state, .. } => {
                *last = Some(LastLook {
                    record,
                    device: state,
                });
                let moved = (state != record).then_some(NoBound::NotFollowed);
                (state, None, moved)
            }
            Look::Stuck { seq } => {
                let known = last.filter(|last| last.record == record);
                let device = known.map_or(record, |last| last.device);
                (device, Some(Doubt::Stuck(seq)), Some(NoBound::DeviceStuck))
            }
            // A version changes only with the host.
            Look::OtherVersion { found, .. } => {
                let doubt = Some(Doubt::OtherVersion(found));
                (record, doubt, Some(NoBound::NotFollowed))
            }
            // Without a device to look at there is no record to compare.
            Look::None => (record, None, None),
        };
        verdict.continuity = moved_by(page, &record, &device);
        verdict.doubt = doubt;
        verdict.no_bound = no_bound.or(verdict.no_bound);
    }
    if is_other_boot(snapshot.extension.as_ref(), guard) {
        verdict.doubt = Some(Doubt::OtherBoot);
    }
    verdict
}

/// Returns how a page is guarded, and the record to compare the device with.
fn guarding<M>(extension: Option<&Extension>, guard: &Guard<M>) -> (Guarding, Option<DeviceState>) {
    if matches!(guard.device, GuardDevice::Own) {
        return (Guarding::Device, None);
    }
    let Some(extension) = extension else {
        return match guard.device {
            GuardDevice::Own | GuardDevice::None => (Guarding::None, None),
            GuardDevice::Open { .. } => (Guarding::NotRecorded, None),
            GuardDevice::Unavailable(_) => (Guarding::NoAccess, None),
        };
    };
    let (guarding, record) = match (extension.device, &guard.device) {
        (DeviceRecord::None, GuardDevice::None) => (Guarding::None, None),
        (DeviceRecord::Unavailable, _) => (Guarding::MakerCannotLook, None),
        (DeviceRecord::None, GuardDevice::Open { .. }) => (Guarding::MakerSawNone, None),
        (DeviceRecord::Seen(record), GuardDevice::Open { number, .. }) => {
            if record.number == *number {
                (Guarding::Guarded, Some(record))
            } else {
                (Guarding::OtherDevice, None)
            }
        }
        (DeviceRecord::None | DeviceRecord::Seen(_), _) => (Guarding::NoAccess, None),
    };
    if extension.boot_id == 0 || guard.boot_id.is_none() {
        return (Guarding::BootUnknown, record);
    }
    (guarding, record)
}

fn is_other_boot<M>(extension: Option<&Extension>, guard: &Guard<M>) -> bool {
    let is_own = matches!(guard.device, GuardDevice::Own);
    extension
        .map(|extension| extension.boot_id)
        .filter(|page| *page != 0 && !is_own)
        .zip(guard.boot_id)
        .is_some_and(|(page, own)| page != own)
}

/// Returns the page's figures moved by what the device moved since the record: what the maker will publish.
fn moved_by(page: Continuity, record: &DeviceState, device: &DeviceState) -> Continuity {
    let by = device
        .disruption_marker
        .wrapping_sub(record.disruption_marker);
    let vm_generation = match (record.vm_generation, device.vm_generation) {
        (None, None) => page.vm_generation,
        (Some(before), Some(now)) => page
            .vm_generation
            .map(|page| page.wrapping_add(now.wrapping_sub(before))),
        // The device's counter appeared: the maker adds it to its own part.
        (None, Some(now)) => Some(page.vm_generation.unwrap_or(0).wrapping_add(now)),
        (Some(_), None) => None,
    };
    // A page that keeps the device's generation to itself shows its changes in the marker.
    let by_generation = match (page.vm_generation, record.vm_generation) {
        (None, Some(before)) => device.vm_generation.unwrap_or(0).wrapping_sub(before),
        _ => 0,
    };
    Continuity {
        disruption_marker: page
            .disruption_marker
            .wrapping_add(by)
            .wrapping_add(by_generation),
        vm_generation,
    }
}
