//! The reasons for which a published page states no bound, and the page's extension that carries them.

use std::borrow::Cow;
use std::fmt;

use crate::abi::extension as abi;
use crate::seqlock::EXTENSION_WORDS;

/// The reason for which a published page states no bound on its time.
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
    /// A reason that this release does not know.
    Unknown(u8),
}

/// The event after which the daemon's error figures do not count for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distrust {
    /// Another process set the clock.
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
    /// `change-pending`, or the cause of distrust.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Unsynchronized => "unsynchronized".into(),
            Self::NeverUpdated => "never-updated".into(),
            Self::OffNominal => "off-nominal".into(),
            Self::ChangePending => "change-pending".into(),
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

    fn code(self) -> u8 {
        match self {
            Self::Unsynchronized => abi::UNSYNCHRONIZED,
            Self::NeverUpdated => abi::NEVER_UPDATED,
            Self::OffNominal => abi::OFF_NOMINAL,
            Self::ChangePending => abi::CHANGE_PENDING,
            Self::Distrusted { cause, .. } => cause.code(),
            Self::Unknown(code) => code,
        }
    }

    fn decode(code: u8, updates_left: u8) -> Option<Self> {
        Some(match code {
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

/// The words of the extension for a page that ends its update with `seq`.
pub(crate) fn to_extension(no_bound: Option<NoBound>, seq: u32) -> [u64; EXTENSION_WORDS] {
    let code = no_bound.map_or(abi::BOUND, NoBound::code);
    let updates_left = no_bound.and_then(NoBound::updates_left).unwrap_or(0);
    [
        u64::from(abi::MAGIC) | u64::from(abi::VERSION) << 32 | u64::from(abi::SIZE) << 48,
        u64::from(code) | u64::from(updates_left) << 8 | u64::from(seq) << 32,
    ]
}

/// The reason in an extension, for a page under `seq`. `None` for a reason of another update, or of
/// another version.
pub(crate) fn from_extension(words: [u64; EXTENSION_WORDS], seq: u32) -> Option<NoBound> {
    let [head, body] = words;
    let [code, updates_left, ..] = body.to_le_bytes();
    let is_known = head as u32 == abi::MAGIC
        && (head >> 32) as u16 == abi::VERSION
        && (head >> 48) as u16 >= abi::SIZE;
    let is_current = (body >> 32) as u32 == seq;
    NoBound::decode(code, updates_left).filter(|_| is_known && is_current)
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
            Self::Distrusted {
                cause,
                updates_left,
            } => write!(f, "{cause}: {updates_left} updates left"),
            Self::Unknown(code) => write!(f, "unrecognized ({code})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Distrust, NoBound, abi, from_extension, to_extension};

    #[test]
    fn every_reason_is_read_back_as_it_was_written() {
        for code in 0..=u8::MAX {
            let no_bound = NoBound::decode(code, 7);
            assert_eq!(no_bound.map_or(abi::BOUND, NoBound::code), code);
            assert_eq!(from_extension(to_extension(no_bound, 8), 8), no_bound);
        }
        let step = NoBound::Distrusted {
            cause: Distrust::Step,
            updates_left: 64,
        };
        let expected = [0x0010_0001_584c_4356, 0x0000_0008_0000_4010];
        assert_eq!(to_extension(Some(step), 8), expected);
    }

    #[test]
    fn a_reason_of_another_update_or_version_is_ignored() {
        let words = to_extension(Some(NoBound::OffNominal), 8);
        assert_eq!(from_extension(words, 8), Some(NoBound::OffNominal));
        assert_eq!(from_extension(words, 10), None);
        for bit in 0..48 {
            assert_eq!(from_extension([words[0] ^ 1 << bit, words[1]], 8), None);
        }
        assert_eq!(from_extension([0, 0], 0), None);
    }
}
