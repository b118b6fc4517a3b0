//! An owned, decoded copy of the page.
//!
//! A field exists only where `size` covers all of its bytes; one that does not is `None`, and so is
//! an error figure whose flag is clear.

use std::fmt;

use crate::abi::{self, offset};
use crate::seqlock::{Consistent, FIRST_WORD_OFFSET, WORDS};
use crate::time::TAI_MINUS_UTC_RANGE_SEC;

/// Which document a page follows. Both say version 1, so a page cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abi {
    /// The released header, `vmclock-abi.h`.
    #[default]
    Uapi,
    /// RFC PATCH v4: errors in picoseconds, other leap indicators, no generation counter.
    RfcV4,
}

/// Declares a one-byte code of the page: its known values by name, and all others kept as they are.
macro_rules! code {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $value:path, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// A value that this release does not know.
            Unknown(u8),
        }

        impl $name {
            /// The value as it stands in the page.
            #[must_use]
            pub fn raw(self) -> u8 {
                match self {
                    $(Self::$variant => $value,)*
                    Self::Unknown(raw) => raw,
                }
            }
        }

        impl From<u8> for $name {
            fn from(raw: u8) -> Self {
                match raw {
                    $($value => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Unknown(raw) => write!(f, "unrecognized ({raw})"),
                }
            }
        }
    };
}

code! {
    /// `clock_status`.
    ClockStatus {
        /// The provider does not say. Time is refused.
        NotStated = abi::VMCLOCK_STATUS_UNKNOWN, "unknown";
        /// The clock is being set up. Time is refused.
        Initializing = abi::VMCLOCK_STATUS_INITIALIZING, "initializing";
        /// Time is valid within its bound.
        Synchronized = abi::VMCLOCK_STATUS_SYNCHRONIZED, "synchronized";
        /// Time is valid within its bound, and nothing corrects the clock at present.
        FreeRunning = abi::VMCLOCK_STATUS_FREERUNNING, "free-running";
        /// Time is refused.
        Unreliable = abi::VMCLOCK_STATUS_UNRELIABLE, "unreliable";
    }
}

code! {
    /// `time_type`.
    TimeType {
        /// UTC since 1970.
        Utc = abi::VMCLOCK_TIME_UTC, "utc";
        /// TAI since 1970.
        Tai = abi::VMCLOCK_TIME_TAI, "tai";
        /// Monotonic, of no stated epoch.
        Monotonic = abi::VMCLOCK_TIME_MONOTONIC, "monotonic";
        /// Smeared by an unstated method: no timescale can be had from it.
        Smeared = abi::VMCLOCK_TIME_INVALID_SMEARED, "smeared";
        /// Perhaps smeared: no timescale can be had from it.
        MaybeSmeared = abi::VMCLOCK_TIME_INVALID_MAYBE_SMEARED, "maybe-smeared";
    }
}

code! {
    /// `leap_second_smearing_hint`: what the provider recommends to readers.
    SmearingHint {
        /// Show leap seconds as they are.
        Strict = abi::VMCLOCK_SMEARING_STRICT, "strict";
        /// Smear from noon to noon.
        NoonLinear = abi::VMCLOCK_SMEARING_NOON_LINEAR, "noon-linear";
        /// Smear over 1000 s.
        UtcSls = abi::VMCLOCK_SMEARING_UTC_SLS, "utc-sls";
    }
}

/// `leap_indicator`, in the meaning of the page's ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeapIndicator {
    /// No leap second near.
    None,
    /// A second will be inserted at the end of the reference's month.
    PrePositive,
    /// A second will be deleted at the end of the reference's month.
    PreNegative,
    /// The reference lies in the inserted second.
    Positive,
    /// A second is being deleted (RFC PATCH v4 only).
    Negative,
    /// A second was inserted at the start of the reference's month.
    PostPositive,
    /// A second was deleted before the start of the reference's month.
    PostNegative,
    /// A value that this release does not know.
    Unknown(u8),
}

impl LeapIndicator {
    /// Decodes the raw value by the page's ABI.
    #[must_use]
    pub fn decode(raw: u8, abi: Abi) -> Self {
        match (raw, abi) {
            (abi::VMCLOCK_LEAP_NONE, _) => Self::None,
            (abi::VMCLOCK_LEAP_PRE_POS, _) => Self::PrePositive,
            (abi::VMCLOCK_LEAP_PRE_NEG, _) => Self::PreNegative,
            (abi::VMCLOCK_LEAP_POS, _) => Self::Positive,
            (abi::VMCLOCK_LEAP_POST_POS, Abi::Uapi) | (abi::RFC_V4_LEAP_POST_POS, Abi::RfcV4) => {
                Self::PostPositive
            }
            (abi::VMCLOCK_LEAP_POST_NEG, Abi::Uapi) | (abi::RFC_V4_LEAP_POST_NEG, Abi::RfcV4) => {
                Self::PostNegative
            }
            (abi::RFC_V4_LEAP_NEG, Abi::RfcV4) => Self::Negative,
            (other, _) => Self::Unknown(other),
        }
    }
}

impl fmt::Display for LeapIndicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::PrePositive => "pre-positive",
            Self::PreNegative => "pre-negative",
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::PostPositive => "post-positive",
            Self::PostNegative => "post-negative",
            Self::Unknown(raw) => return write!(f, "unrecognized ({raw})"),
        })
    }
}

/// How far TAI is ahead of UTC by a page's raw `tai_offset_sec`.
///
/// The released ABI writes UTC - TAI (-37 today), other providers +37, and RFC PATCH v4 computed
/// with the other sign again. TAI has been ahead since 1961, so the magnitude says it all; below 10
/// (its value when leap seconds began, in 1972) or above 255 it is no offset at all.
#[must_use]
pub fn tai_minus_utc_sec(raw: i16, flagged_valid: bool) -> Option<i16> {
    let sec = raw.checked_abs().filter(|_| flagged_valid)?;
    TAI_MINUS_UTC_RANGE_SEC.contains(&sec).then_some(sec)
}

/// Every field of the structure from 0x08 on, raw, as loaded in one consistent look. Bytes that
/// `size` does not cover are there too and mean nothing: [`Snapshot`] leaves them out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the fields are those of the header, described in `abi::offset`"
)]
pub struct RawFields {
    pub version: u16,
    pub counter_id: u8,
    pub time_type: u8,
    pub disruption_marker: u64,
    pub flags: u64,
    pub clock_status: u8,
    pub leap_second_smearing_hint: u8,
    pub tai_offset_sec: i16,
    pub leap_indicator: u8,
    pub counter_period_shift: u8,
    pub counter_value: u64,
    pub counter_period_frac_sec: u64,
    pub counter_period_esterror_rate_frac_sec: u64,
    pub counter_period_maxerror_rate_frac_sec: u64,
    pub time_sec: u64,
    pub time_frac_sec: u64,
    pub time_esterror_nanosec: u64,
    pub time_maxerror_nanosec: u64,
    pub vm_generation_counter: u64,
}

impl RawFields {
    /// Takes the words of the page apart.
    #[must_use]
    pub fn from_words(head: u32, words: &[u64; WORDS]) -> Self {
        let [v0, v1, counter_id, time_type] = head.to_le_bytes();
        let [
            disruption_marker,
            flags,
            packed,
            counter_value,
            counter_period_frac_sec,
            counter_period_esterror_rate_frac_sec,
            counter_period_maxerror_rate_frac_sec,
            time_sec,
            time_frac_sec,
            time_esterror_nanosec,
            time_maxerror_nanosec,
            vm_generation_counter,
        ] = *words;
        // 0x20: two bytes of padding, then five small fields.
        let [
            _,
            _,
            clock_status,
            leap_second_smearing_hint,
            t0,
            t1,
            leap_indicator,
            shift,
        ] = packed.to_le_bytes();
        Self {
            version: u16::from_le_bytes([v0, v1]),
            counter_id,
            time_type,
            disruption_marker,
            flags,
            clock_status,
            leap_second_smearing_hint,
            tai_offset_sec: i16::from_le_bytes([t0, t1]),
            leap_indicator,
            counter_period_shift: shift,
            counter_value,
            counter_period_frac_sec,
            counter_period_esterror_rate_frac_sec,
            counter_period_maxerror_rate_frac_sec,
            time_sec,
            time_frac_sec,
            time_esterror_nanosec,
            time_maxerror_nanosec,
            vm_generation_counter,
        }
    }

    /// Puts the fields together as the words of the page: [`RawFields::from_words`] undone.
    #[must_use]
    pub fn to_words(&self) -> (u32, [u64; WORDS]) {
        let [v0, v1] = self.version.to_le_bytes();
        let [t0, t1] = self.tai_offset_sec.to_le_bytes();
        let head = u32::from_le_bytes([v0, v1, self.counter_id, self.time_type]);
        let packed = u64::from_le_bytes([
            0,
            0,
            self.clock_status,
            self.leap_second_smearing_hint,
            t0,
            t1,
            self.leap_indicator,
            self.counter_period_shift,
        ]);
        let words = [
            self.disruption_marker,
            self.flags,
            packed,
            self.counter_value,
            self.counter_period_frac_sec,
            self.counter_period_esterror_rate_frac_sec,
            self.counter_period_maxerror_rate_frac_sec,
            self.time_sec,
            self.time_frac_sec,
            self.time_esterror_nanosec,
            self.time_maxerror_nanosec,
            self.vm_generation_counter,
        ];
        (head, words)
    }
}

/// An announcement of a disruption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Maintenance {
    /// No disruption is announced.
    #[default]
    None,
    /// A disruption within about a day: DISRUPTION_SOON.
    Soon,
    /// A disruption within about an hour: DISRUPTION_SOON and DISRUPTION_IMMINENT.
    Imminent,
}

/// The page at one sequence number.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The page's `size`: bytes of the region that holds it.
    pub size_bytes: u32,
    /// The sequence number, even.
    pub seq_count: u32,
    /// This machine's counter, read while the fields were as they are here.
    pub counter: u64,
    /// Which document the fields are read by.
    pub abi: Abi,
    /// The fields as they stand, whether `size` covers them or not.
    pub raw: RawFields,
}

impl Snapshot {
    /// Keeps what one look at a page of `size_bytes` saw.
    #[must_use]
    pub fn new(seen: &Consistent, size_bytes: u32, abi: Abi) -> Self {
        let raw = RawFields::from_words(seen.head, &seen.words);
        Self {
            size_bytes,
            seq_count: seen.seq,
            counter: seen.counter,
            abi,
            raw,
        }
    }

    /// Whether `size` covers a field of `bytes` at `offset`.
    #[must_use]
    pub fn covers(&self, offset: usize, bytes: usize) -> bool {
        let structure = match self.abi {
            Abi::Uapi => abi::SIZE_FULL,
            Abi::RfcV4 => abi::SIZE_RFC_V4,
        };
        offset + bytes <= self.size_bytes.min(structure) as usize
    }

    /// Whether `size` covers all that a time needs: up to and with `time_frac_sec`.
    #[must_use]
    pub fn covers_time(&self) -> bool {
        self.covers(offset::TIME_FRAC_SEC, 8)
    }

    fn flag(&self, bit: u64) -> bool {
        // RFC PATCH v4 had no bits above TIME_MONOTONIC.
        let known = match self.abi {
            Abi::Uapi => u64::MAX,
            Abi::RfcV4 => (abi::VMCLOCK_FLAG_TIME_MONOTONIC << 1) - 1,
        };
        self.raw.flags & known & bit != 0
    }

    /// `time_type`, decoded.
    #[must_use]
    pub fn time_type(&self) -> TimeType {
        self.raw.time_type.into()
    }

    /// `clock_status`, where `size` covers it.
    #[must_use]
    pub fn clock_status(&self) -> Option<ClockStatus> {
        self.covers(offset::CLOCK_STATUS, 1)
            .then(|| self.raw.clock_status.into())
    }

    /// `leap_second_smearing_hint`, where `size` covers it.
    #[must_use]
    pub fn smearing_hint(&self) -> Option<SmearingHint> {
        self.covers(offset::LEAP_SECOND_SMEARING_HINT, 1)
            .then(|| self.raw.leap_second_smearing_hint.into())
    }

    /// `leap_indicator`, where `size` covers it.
    #[must_use]
    pub fn leap_indicator(&self) -> Option<LeapIndicator> {
        self.covers(offset::LEAP_INDICATOR, 1)
            .then(|| LeapIndicator::decode(self.raw.leap_indicator, self.abi))
    }

    /// Whether the page marks `tai_offset_sec` valid, and covers it.
    #[must_use]
    pub fn tai_offset_flagged(&self) -> bool {
        self.flag(abi::VMCLOCK_FLAG_TAI_OFFSET_VALID) && self.covers(offset::TAI_OFFSET_SEC, 2)
    }

    /// TAI - UTC in seconds at the page's reference, where the page tells it.
    #[must_use]
    pub fn tai_minus_utc_sec(&self) -> Option<i16> {
        tai_minus_utc_sec(self.raw.tai_offset_sec, self.tai_offset_flagged())
    }

    /// The maximum error at the reference, in nanoseconds; `None` where the page states none.
    #[must_use]
    pub fn time_max_error_ns(&self) -> Option<u64> {
        let stated = self.flag(abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID)
            && self.covers(offset::TIME_MAXERROR_NANOSEC, 8);
        stated.then(|| self.error_ns(self.raw.time_maxerror_nanosec))
    }

    /// The estimated error at the reference, in nanoseconds; `None` where the page states none.
    #[must_use]
    pub fn time_est_error_ns(&self) -> Option<u64> {
        let stated = self.flag(abi::VMCLOCK_FLAG_TIME_ESTERROR_VALID)
            && self.covers(offset::TIME_ESTERROR_NANOSEC, 8);
        stated.then(|| self.error_ns(self.raw.time_esterror_nanosec))
    }

    fn error_ns(&self, raw: u64) -> u64 {
        match self.abi {
            Abi::Uapi => raw,
            Abi::RfcV4 => raw.div_ceil(1000),
        }
    }

    /// The period's maximum error in the period's unit per tick; `None` where the page states none.
    #[must_use]
    pub fn period_max_error(&self) -> Option<u64> {
        (self.flag(abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID)
            && self.covers(offset::COUNTER_PERIOD_MAXERROR_RATE_FRAC_SEC, 8))
        .then_some(self.raw.counter_period_maxerror_rate_frac_sec)
    }

    /// The period's estimated error in the period's unit per tick; `None` where the page states
    /// none.
    #[must_use]
    pub fn period_est_error(&self) -> Option<u64> {
        (self.flag(abi::VMCLOCK_FLAG_PERIOD_ESTERROR_VALID)
            && self.covers(offset::COUNTER_PERIOD_ESTERROR_RATE_FRAC_SEC, 8))
        .then_some(self.raw.counter_period_esterror_rate_frac_sec)
    }

    /// `vm_generation_counter`, where the page has it: flag bit 8 and the bytes themselves.
    #[must_use]
    pub fn vm_generation(&self) -> Option<u64> {
        (self.flag(abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT)
            && self.covers(offset::VM_GENERATION_COUNTER, 8))
        .then_some(self.raw.vm_generation_counter)
    }

    /// Whether a disruption is announced for about the next day.
    #[must_use]
    pub fn is_disruption_soon(&self) -> bool {
        self.flag(abi::VMCLOCK_FLAG_DISRUPTION_SOON)
    }

    /// Whether a disruption is announced for about the next hour.
    #[must_use]
    pub fn is_disruption_imminent(&self) -> bool {
        self.flag(abi::VMCLOCK_FLAG_DISRUPTION_IMMINENT)
    }

    /// Returns what the page announces. A disruption within an hour takes precedence over one
    /// within a day.
    #[must_use]
    pub fn maintenance(&self) -> Maintenance {
        if self.is_disruption_imminent() {
            Maintenance::Imminent
        } else if self.is_disruption_soon() {
            Maintenance::Soon
        } else {
            Maintenance::None
        }
    }

    /// Whether the provider promises that time computed from the page never steps back.
    #[must_use]
    pub fn is_time_monotonic(&self) -> bool {
        self.flag(abi::VMCLOCK_FLAG_TIME_MONOTONIC)
    }

    /// Whether the device notifies the guest after an update.
    #[must_use]
    pub fn has_notification(&self) -> bool {
        self.flag(abi::VMCLOCK_FLAG_NOTIFICATION_PRESENT)
    }
}

const _: () = assert!(FIRST_WORD_OFFSET + 8 * WORDS == abi::SIZE_FULL as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plausible_magnitude_marked_valid_is_an_offset() {
        for (raw, expected) in [
            (-37, Some(37)),
            (37, Some(37)),
            (10, Some(10)),
            (-255, Some(255)),
            (9, None),
            (0, None),
            (256, None),
            (i16::MIN, None),
            (i16::MAX, None),
        ] {
            assert_eq!(tai_minus_utc_sec(raw, true), expected, "{raw}");
            assert_eq!(tai_minus_utc_sec(raw, false), None, "{raw}");
        }
    }
}
