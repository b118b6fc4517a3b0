//! The reasons for which a time has no bound.
//!
//! The maker of a page gives most of them, in the page's extension. A reader adds its own.

use std::borrow::Cow;
use std::fmt;

use crate::abi::extension as abi;

/// The reason for which a time has no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoBound {
    /// Nothing corrects the clock, or the kernel's maximum error has run out.
    Unsynchronized,
    /// The kernel's maximum error is a multiple of 500 µs: the kernel may have counted it up from 0,
    /// and no daemon reported it.
    NeverUpdated,
    /// The clock runs more than 500 ppm off nominal: its error may grow faster than the kernel counts.
    OffNominal,
    /// The clock was just changed. The next interval shows whether its daemon did that.
    ChangePending,
    /// The daemon's figures do not count before it has updated so many times more.
    Distrusted {
        /// The event that the daemon may not know of.
        cause: Distrust,
        /// Updates that are missing.
        updates_left: u8,
    },
    /// The machine has a device that reports disruptions, and this process or the page's maker cannot look
    /// at it. So nobody here would notice a migration.
    Unguarded,
    /// The machine was disrupted since the page was made, and its maker has not followed yet. Only readers
    /// give this reason.
    NotFollowed,
    /// The device that reports disruptions is stuck in an update. Only readers give this reason.
    DeviceStuck,
    /// The page was not updated for longer than its bound holds. Only readers give this reason.
    Void,
    /// A disruption voided the error that the operator had stated.
    StatedErrorVoided,
    /// The source that the operator or the caller chose gives no bound now, so the time is another's.
    SourceUnavailable,
    /// A reason that this release does not know.
    Unknown(u8),
}

/// The event after which the daemon's error figures do not count for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distrust {
    /// Another process stepped the clock.
    #[default]
    Step,
    /// Another process had the kernel slew the clock, by `adjtime` or by its phase-locked loop.
    Slew,
    /// Another process changed the clock's rate by more than 100 ppm.
    Frequency,
    /// The machine was suspended.
    Suspend,
    /// The machine was disrupted: migrated, restored, or its counter jumped.
    Disruption,
    /// The publisher took over a page that stated no bound.
    TakeOver,
    /// The publisher began, and cannot know whether the machine was disrupted before.
    Start,
    /// A daemon reported a maximum error of 0.
    ZeroError,
    /// A cause that this release does not know.
    Unknown(u8),
}

impl NoBound {
    /// A short name that does not change: `unsynchronized`, `never-updated`, `off-nominal`,
    /// `change-pending`, `unguarded`, `not-followed`, `device-stuck`, `void`, `stated-error-voided`,
    /// `source-unavailable`, or the cause of distrust.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Unsynchronized => "unsynchronized".into(),
            Self::NeverUpdated => "never-updated".into(),
            Self::OffNominal => "off-nominal".into(),
            Self::ChangePending => "change-pending".into(),
            Self::Unguarded => "unguarded".into(),
            Self::NotFollowed => "not-followed".into(),
            Self::DeviceStuck => "device-stuck".into(),
            Self::Void => "void".into(),
            Self::StatedErrorVoided => "stated-error-voided".into(),
            Self::SourceUnavailable => "source-unavailable".into(),
            Self::Distrusted { cause, .. } => cause.name(),
            Self::Unknown(code) => format!("unrecognized ({code})").into(),
        }
    }

    /// The updates that are missing, where the clock is distrusted.
    #[must_use]
    pub fn updates_left(self) -> Option<u8> {
        match self {
            Self::Distrusted { updates_left, .. } => Some(updates_left),
            _ => None,
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            // No maker gives the reasons of readers.
            Self::Unguarded | Self::NotFollowed | Self::DeviceStuck | Self::Void => abi::UNGUARDED,
            Self::StatedErrorVoided => abi::STATED_ERROR_VOIDED,
            Self::SourceUnavailable => abi::SOURCE_UNAVAILABLE,
            Self::Unsynchronized => abi::UNSYNCHRONIZED,
            Self::NeverUpdated => abi::NEVER_UPDATED,
            Self::OffNominal => abi::OFF_NOMINAL,
            Self::ChangePending => abi::CHANGE_PENDING,
            Self::Distrusted { cause, .. } => cause.code(),
            Self::Unknown(code) => code,
        }
    }

    pub(crate) fn decode(code: u8, updates_left: u8) -> Option<Self> {
        Some(match code {
            abi::UNGUARDED => Self::Unguarded,
            abi::STATED_ERROR_VOIDED => Self::StatedErrorVoided,
            abi::SOURCE_UNAVAILABLE => Self::SourceUnavailable,
            abi::BOUND => return None,
            abi::UNSYNCHRONIZED => Self::Unsynchronized,
            abi::NEVER_UPDATED => Self::NeverUpdated,
            abi::OFF_NOMINAL => Self::OffNominal,
            abi::CHANGE_PENDING => Self::ChangePending,
            abi::STEPPED.. => Self::Distrusted {
                cause: Distrust::decode(code),
                updates_left,
            },
            other => Self::Unknown(other),
        })
    }
}

impl Distrust {
    /// A short name that does not change.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Step => "stepped".into(),
            Self::Slew => "slewed".into(),
            Self::Frequency => "frequency-changed".into(),
            Self::Suspend => "suspended".into(),
            Self::Disruption => "disrupted".into(),
            Self::TakeOver => "taken-over".into(),
            Self::Start => "started".into(),
            Self::ZeroError => "zero-error".into(),
            Self::Unknown(code) => format!("unrecognized ({code})").into(),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Step => abi::STEPPED,
            Self::Slew => abi::SLEWED,
            Self::Frequency => abi::FREQUENCY_CHANGED,
            Self::Suspend => abi::SUSPENDED,
            Self::Disruption => abi::DISRUPTED,
            Self::TakeOver => abi::TAKEN_OVER,
            Self::Start => abi::STARTED,
            Self::ZeroError => abi::ZERO_ERROR,
            Self::Unknown(code) => code,
        }
    }

    fn decode(code: u8) -> Self {
        match code {
            abi::STEPPED => Self::Step,
            abi::SLEWED => Self::Slew,
            abi::FREQUENCY_CHANGED => Self::Frequency,
            abi::SUSPENDED => Self::Suspend,
            abi::DISRUPTED => Self::Disruption,
            abi::TAKEN_OVER => Self::TakeOver,
            abi::STARTED => Self::Start,
            abi::ZERO_ERROR => Self::ZeroError,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "another process stepped the clock",
            Self::Slew => "another process slewed the clock",
            Self::Frequency => "another process changed the clock's frequency",
            Self::Suspend => "the machine was suspended",
            Self::Disruption => "the machine was disrupted",
            Self::TakeOver => "the page that was taken over stated no bound",
            Self::Start => "the machine may have been disrupted before the publisher began",
            Self::ZeroError => "a daemon reported a maximum error of 0",
            Self::Unknown(code) => return write!(f, "unrecognized ({code})"),
        })
    }
}

impl fmt::Display for NoBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsynchronized => f.write_str("no daemon synchronizes the clock"),
            Self::NeverUpdated => f.write_str("no daemon has reported an error of the clock"),
            Self::OffNominal => f.write_str("the clock runs more than 500 ppm off nominal"),
            Self::ChangePending => f.write_str("the clock was changed just now"),
            Self::Unguarded => f.write_str(
                "nobody looks at the machine's vmclock device, so a migration would go unnoticed",
            ),
            Self::NotFollowed => f.write_str(
                "the machine was disrupted, and the maker of the page has not followed yet",
            ),
            Self::DeviceStuck => f.write_str("the machine's vmclock device is stuck in an update"),
            Self::Void => f.write_str("nobody has updated the page for too long"),
            Self::StatedErrorVoided => {
                f.write_str("the machine was disrupted, and the stated error held only until then")
            }
            Self::SourceUnavailable => f.write_str(
                "the chosen source of time gives no bound now, so the time is the kernel's",
            ),
            Self::Distrusted {
                cause,
                updates_left,
            } => write!(f, "{cause}: {updates_left} updates left"),
            Self::Unknown(code) => write!(f, "unrecognized ({code})"),
        }
    }
}
