//! The timescales that a clock can be asked for.

use std::fmt;

use crate::snapshot::TimeType;

/// The timescale that a clock is asked for. UTC and TAI count nanoseconds since 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timescale {
    /// UTC as POSIX counts it: an inserted leap second repeats the second before it.
    #[default]
    Utc,
    /// TAI, which has no leap seconds and is 37 s ahead of UTC since 2017.
    Tai,
    /// The page's own monotonic time, of no stated epoch (`time_type` 2 only).
    Monotonic,
    /// UTC with a leap second spread evenly from noon before to noon after it.
    UtcNoonLinear,
    /// UTC with a leap second spread over the 1000 s before its end (UTC-SLS).
    UtcSls,
    /// The page's own: UTC, TAI or monotonic, by the page's `time_type` when the clock is made. Only a
    /// request: a clock and its readings have the timescale that it became.
    Page,
}

impl Timescale {
    /// The timescales that a reading can have.
    pub const ALL: [Self; 5] = [
        Self::Utc,
        Self::Tai,
        Self::Monotonic,
        Self::UtcNoonLinear,
        Self::UtcSls,
    ];

    /// The name that options and messages use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Utc => "utc",
            Self::Tai => "tai",
            Self::Monotonic => "monotonic",
            Self::UtcNoonLinear => "utc-noon-linear",
            Self::UtcSls => "utc-sls",
            Self::Page => "page",
        }
    }

    /// Returns the timescale of that name; `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .chain([Self::Page])
            .find(|timescale| timescale.name() == name)
    }

    /// Returns what a request becomes on a page of this type: itself, or for [`Timescale::Page`] the page's
    /// own timescale. A page of no known timescale makes it UTC, which such a page then refuses.
    #[must_use]
    pub fn on_page(self, time_type: TimeType) -> Self {
        match (self, time_type) {
            (Self::Page, TimeType::Tai) => Self::Tai,
            (Self::Page, TimeType::Monotonic) => Self::Monotonic,
            (Self::Page, _) => Self::Utc,
            (timescale, _) => timescale,
        }
    }

    /// Returns whether the timescale follows UTC, so that a calendar date belongs to it.
    #[must_use]
    pub fn is_utc(self) -> bool {
        matches!(self, Self::Utc | Self::UtcNoonLinear | Self::UtcSls)
    }
}

impl fmt::Display for Timescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
