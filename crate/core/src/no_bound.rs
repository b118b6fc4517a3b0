//! Why a published page states no bound on its time.

use std::fmt;

/// Why a published page states no bound on its time.
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
        /// What happened.
        cause: Distrust,
        /// Updates that are missing.
        updates_left: u8,
    },
}

/// Why the daemon's error figures do not count for a while.
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
}

impl NoBound {
    /// A short name that does not change: `unsynchronized`, `never-updated`, `off-nominal`,
    /// `change-pending`, or the cause of distrust.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsynchronized => "unsynchronized",
            Self::NeverUpdated => "never-updated",
            Self::OffNominal => "off-nominal",
            Self::ChangePending => "change-pending",
            Self::Distrusted { cause, .. } => cause.name(),
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
}

impl Distrust {
    /// A short name that does not change.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "stepped",
            Self::Slew => "slewed",
            Self::Frequency => "frequency-changed",
            Self::Suspend => "suspended",
            Self::Disruption => "disrupted",
            Self::TakeOver => "taken-over",
            Self::Start => "started",
            Self::ZeroError => "zero-error",
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
        }
    }
}
