//! Reads the history of TAI - UTC that tzdata provides.

use std::path::Path;

/// The history of TAI - UTC, from tzdata's `leap-seconds.list`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeapSeconds {
    /// (first second of UTC since 1970, TAI - UTC from then on), in order of time.
    entries: Vec<(i64, i16)>,
    /// Seconds of UTC since 1970 at which the list expires.
    expires_sec: i64,
}

impl LeapSeconds {
    /// The path of the list on Debian, Fedora, Alpine and others.
    pub const PATH: &str = "/usr/share/zoneinfo/leap-seconds.list";

    /// Reads the system's list; `None` if there is none that can be read whole.
    #[must_use]
    pub fn load() -> Option<Self> {
        Self::load_from(Path::new(Self::PATH))
    }

    /// Reads the list at `path`.
    #[must_use]
    pub fn load_from(path: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(path).ok()?)
    }

    /// Parses a list: lines of NTP seconds (since 1900) and TAI - UTC, and its expiry behind `#@`. Returns
    /// `None` for a list without an expiry, or with another kind of line.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const NTP_EPOCH_SEC: i64 = 2_208_988_800;
        let mut list = Self::default();
        let mut expires_sec = None;
        for line in text.lines() {
            if let Some(expiry) = line.strip_prefix("#@") {
                expires_sec = Some(expiry.trim().parse::<i64>().ok()? - NTP_EPOCH_SEC);
                continue;
            }
            let content = line.split('#').next().unwrap_or_default();
            let mut words = content.split_ascii_whitespace();
            let Some(since) = words.next() else { continue };
            let since_sec = since.parse::<i64>().ok()? - NTP_EPOCH_SEC;
            list.entries.push((since_sec, words.next()?.parse().ok()?));
        }
        list.expires_sec = expires_sec?;
        list.entries.sort_unstable();
        (!list.entries.is_empty()).then_some(list)
    }

    /// Returns TAI - UTC in seconds at a second of UTC since 1970; `None` before the first entry, and after
    /// the list has expired.
    #[must_use]
    pub fn tai_minus_utc_sec(&self, utc_sec: i64) -> Option<i16> {
        if utc_sec >= self.expires_sec {
            return None;
        }
        self.entries
            .iter()
            .rev()
            .find(|(since_sec, _)| *since_sec <= utc_sec)
            .map(|(_, offset_sec)| *offset_sec)
    }

    /// Returns by how much TAI - UTC changed at a second of UTC since 1970; 0 if the list has no change there. A
    /// change that is over remains true after the list has expired.
    pub(crate) fn change_at(&self, utc_sec: i128) -> i16 {
        let changes = self.entries.windows(2).find_map(|pair| match pair {
            [(_, before), (since_sec, after)] if i128::from(*since_sec) == utc_sec => {
                Some(after.saturating_sub(*before))
            }
            _ => None,
        });
        changes.unwrap_or(0)
    }
}
