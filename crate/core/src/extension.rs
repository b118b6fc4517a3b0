//! The extension of a page: what its maker knows beyond the fields of the specification.
//!
//! It is read from regular files and from this process's own memory, never from a device. [`abi::extension`] has
//! its layout.
//!
//! [`abi::extension`]: crate::abi::extension

use crate::abi::extension as abi;
use crate::no_bound::NoBound;
use crate::seqlock::EXTENSION_WORDS;

/// The extension of a page under one sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// The reason for which the page states no bound; `None` if it states one, or has no time.
    pub no_bound: Option<NoBound>,
    /// The boot in which the page was made, as [`crate::machine::boot_id`] returns it; 0 if unknown.
    pub boot_id: u128,
    /// The device that guards the page.
    pub device: DeviceRecord,
    /// The source that the time comes from.
    pub source: SourceKind,
    /// Another process changed the kernel's clock, and its daemon has not caught up. The time need not come from
    /// that clock.
    pub is_kernel_changed: bool,
    /// A maker noticed a disruption in this boot, and the device has not reported one since. So another program's
    /// figures may be of before it.
    pub has_unreported_jump: bool,
    /// The bound includes an error that the operator states of the host's clock.
    pub has_host_error: bool,
    /// The operator's part in the bound.
    pub stated_error: StatedError,
    /// The age in nanoseconds from which the page states no bound; 0 for never.
    pub void_after_ns: u64,
    /// CLOCK_REALTIME at which the maker began, in nanoseconds since 1970.
    pub began_ns: i64,
}

/// A maker's record of the device that reports disruptions of its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceRecord {
    /// The machine has no such device.
    #[default]
    None,
    /// The machine has one, and the maker cannot look at it.
    Unavailable,
    /// The device as it was before the page's reference was taken.
    Seen(DeviceState),
}

/// A device, and the state in which it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// `st_rdev` of the device.
    pub number: u64,
    /// Its disruption marker.
    pub disruption_marker: u64,
    /// Its generation counter; `None` if it has none.
    pub vm_generation: Option<u64>,
}

/// A source of time, as pages name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceKind {
    /// The page does not say.
    #[default]
    Unknown,
    /// The kernel's clock.
    Kernel,
    /// A PTP hardware clock.
    Phc,
    /// ClockBound's shared memory.
    ClockBound,
}

impl SourceKind {
    /// A short name that does not change: `unknown`, `kernel`, `phc` or `clockbound`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Kernel => "kernel",
            Self::Phc => "phc",
            Self::ClockBound => "clockbound",
        }
    }
}

/// The operator's part in the bound of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatedError {
    /// None: the source gives the error.
    #[default]
    None,
    /// The operator states the error of the time.
    Holds,
    /// The operator stated an error, and a disruption voided it.
    Void,
}

impl Extension {
    /// Returns the words for a page that ends its update with `seq`.
    #[must_use]
    pub fn to_words(self, seq: u32) -> [u64; EXTENSION_WORDS] {
        let code = self.no_bound.map_or(abi::BOUND, NoBound::code);
        let updates_left = self.no_bound.and_then(NoBound::updates_left).unwrap_or(0);
        let source = match self.source {
            SourceKind::Unknown => abi::SOURCE_UNKNOWN,
            SourceKind::Kernel => abi::SOURCE_KERNEL,
            SourceKind::Phc => abi::SOURCE_PHC,
            SourceKind::ClockBound => abi::SOURCE_CLOCKBOUND,
        };
        let state = match self.device {
            DeviceRecord::Seen(state) => state,
            DeviceRecord::None | DeviceRecord::Unavailable => DeviceState {
                number: 0,
                disruption_marker: 0,
                vm_generation: None,
            },
        };
        [
            u64::from(abi::MAGIC) | u64::from(abi::VERSION) << 32 | u64::from(abi::SIZE) << 48,
            u64::from(code)
                | u64::from(updates_left) << 8
                | u64::from(self.flags()) << 16
                | u64::from(source) << 24
                | u64::from(seq) << 32,
            self.boot_id as u64,
            (self.boot_id >> 64) as u64,
            state.number,
            state.disruption_marker,
            state.vm_generation.unwrap_or(0),
            self.void_after_ns,
            self.began_ns.cast_unsigned(),
        ]
    }

    fn flags(&self) -> u8 {
        let device = match self.device {
            DeviceRecord::None => 0,
            DeviceRecord::Unavailable => abi::DEVICE_UNAVAILABLE,
            DeviceRecord::Seen(DeviceState {
                vm_generation: None,
                ..
            }) => abi::HAS_DEVICE,
            DeviceRecord::Seen(_) => abi::HAS_DEVICE | abi::HAS_DEVICE_GENERATION,
        };
        let stated = match self.stated_error {
            StatedError::None => 0,
            StatedError::Holds => abi::STATED_ERROR,
            StatedError::Void => abi::STATED_ERROR_VOID,
        };
        let changed = if self.is_kernel_changed {
            abi::KERNEL_CHANGED
        } else {
            0
        };
        let host = if self.has_host_error {
            abi::HOST_ERROR
        } else {
            0
        };
        let jump = if self.has_unreported_jump {
            abi::UNREPORTED_JUMP
        } else {
            0
        };
        device | stated | changed | host | jump
    }

    /// Reads the extension of a page under `seq`. `None` for words of another update, or of another version.
    #[must_use]
    pub fn from_words(words: &[u64; EXTENSION_WORDS], seq: u32) -> Option<Self> {
        let [
            head,
            body,
            boot_low,
            boot_high,
            number,
            marker,
            generation,
            void_after_ns,
            began_ns,
        ] = *words;
        let is_known = head as u32 == abi::MAGIC
            && (head >> 32) as u16 == abi::VERSION
            && (head >> 48) as u16 >= abi::SIZE;
        let is_current = (body >> 32) as u32 == seq;
        if !is_known || !is_current {
            return None;
        }
        let [code, updates_left, flags, source, ..] = body.to_le_bytes();
        let has = |flag: u8| flags & flag != 0;
        Some(Self {
            no_bound: NoBound::decode(code, updates_left),
            boot_id: u128::from(boot_low) | u128::from(boot_high) << 64,
            device: if has(abi::HAS_DEVICE) {
                DeviceRecord::Seen(DeviceState {
                    number,
                    disruption_marker: marker,
                    vm_generation: has(abi::HAS_DEVICE_GENERATION).then_some(generation),
                })
            } else if has(abi::DEVICE_UNAVAILABLE) {
                DeviceRecord::Unavailable
            } else {
                DeviceRecord::None
            },
            source: match source {
                abi::SOURCE_KERNEL => SourceKind::Kernel,
                abi::SOURCE_PHC => SourceKind::Phc,
                abi::SOURCE_CLOCKBOUND => SourceKind::ClockBound,
                _ => SourceKind::Unknown,
            },
            is_kernel_changed: has(abi::KERNEL_CHANGED),
            has_unreported_jump: has(abi::UNREPORTED_JUMP),
            has_host_error: has(abi::HOST_ERROR),
            stated_error: if has(abi::STATED_ERROR_VOID) {
                StatedError::Void
            } else if has(abi::STATED_ERROR) {
                StatedError::Holds
            } else {
                StatedError::None
            },
            void_after_ns,
            began_ns: began_ns.cast_signed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceRecord, DeviceState, Extension, SourceKind, StatedError, abi};
    use crate::no_bound::{Distrust, NoBound};

    fn example() -> Extension {
        Extension {
            no_bound: Some(NoBound::Distrusted {
                cause: Distrust::Step,
                updates_left: 64,
            }),
            boot_id: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
            device: DeviceRecord::Seen(DeviceState {
                number: 0xa7d,
                disruption_marker: 7,
                vm_generation: Some(9),
            }),
            source: SourceKind::Kernel,
            is_kernel_changed: false,
            has_unreported_jump: false,
            has_host_error: false,
            stated_error: StatedError::Holds,
            void_after_ns: 1_000_000_000_000,
            began_ns: -1,
        }
    }

    #[test]
    fn every_reason_is_read_back_as_it_was_written() {
        for code in 0..=u8::MAX {
            let extension = Extension {
                no_bound: NoBound::decode(code, 7),
                ..example()
            };
            assert_eq!(extension.no_bound.map_or(abi::BOUND, NoBound::code), code);
            assert_eq!(
                Extension::from_words(&extension.to_words(8), 8),
                Some(extension)
            );
        }
    }

    #[test]
    fn the_words_have_the_documented_layout() {
        let expected = [
            0x0048_0002_584c_4356,
            0x0000_0008_010b_4010,
            0x0011_2233_4455_6677,
            0x0123_4567_89ab_cdef,
            0xa7d,
            7,
            9,
            1_000_000_000_000,
            u64::MAX,
        ];
        assert_eq!(example().to_words(8), expected);
    }

    #[test]
    fn every_device_record_and_stated_error_is_read_back() {
        let mut seen = example();
        for device in [
            DeviceRecord::None,
            DeviceRecord::Unavailable,
            DeviceRecord::Seen(DeviceState {
                number: 1,
                disruption_marker: u64::MAX,
                vm_generation: None,
            }),
        ] {
            for stated_error in [StatedError::None, StatedError::Holds, StatedError::Void] {
                seen.device = device;
                seen.stated_error = stated_error;
                seen.has_host_error = stated_error == StatedError::None;
                assert_eq!(Extension::from_words(&seen.to_words(4), 4), Some(seen));
            }
        }
    }

    #[test]
    fn every_source_is_read_back_with_and_without_a_changed_kernel_clock() {
        for source in [
            SourceKind::Unknown,
            SourceKind::Kernel,
            SourceKind::Phc,
            SourceKind::ClockBound,
        ] {
            for is_kernel_changed in [false, true] {
                let written = Extension {
                    source,
                    is_kernel_changed,
                    has_unreported_jump: !is_kernel_changed,
                    ..example()
                };
                assert_eq!(
                    Extension::from_words(&written.to_words(4), 4),
                    Some(written)
                );
            }
        }
    }

    #[test]
    fn an_extension_of_another_update_or_version_is_ignored() {
        let words = example().to_words(8);
        assert_eq!(Extension::from_words(&words, 8), Some(example()));
        assert_eq!(Extension::from_words(&words, 10), None);
        for bit in 0..48 {
            let mut other = words;
            other[0] ^= 1 << bit;
            assert_eq!(Extension::from_words(&other, 8), None);
        }
        assert_eq!(Extension::from_words(&[0; 9], 0), None);
    }
}
