//! An owned, decoded copy of the page.
//!
//! A field exists only if `size` covers all of its bytes. One that does not exist is `None`, and so is an
//! error figure whose flag is clear.

use std::fmt;

use crate::abi::{self, Field, field, page_fields};
use crate::extension::Extension;
use crate::no_bound::NoBound;
use crate::seqlock::{Consistent, FIRST_WORD_OFFSET, WORDS};

/// The document that a page follows. Both have version 1, so the page does not say which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abi {
    /// The released header, `vmclock-abi.h`.
    #[default]
    Uapi,
    /// RFC PATCH v4: errors in picoseconds, other leap indicators, no generation counter.
    RfcV4,
}

/// Declares a one-byte code of the page. Values without a name keep their number.
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
            /// Returns the value as it is in the page.
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
        /// The provider does not state it. Time is refused.
        NotStated = abi::VMCLOCK_STATUS_UNKNOWN, "unknown";
        /// The clock is initializing. Time is refused.
        Initializing = abi::VMCLOCK_STATUS_INITIALIZING, "initializing";
        /// Time is valid within its bound.
        Synchronized = abi::VMCLOCK_STATUS_SYNCHRONIZED, "synchronized";
        /// Time is valid within its bound, but nothing corrects the clock at present.
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
        /// Smeared by an unstated method: no timescale can be computed from it.
        Smeared = abi::VMCLOCK_TIME_INVALID_SMEARED, "smeared";
        /// Perhaps smeared: no timescale can be computed from it.
        MaybeSmeared = abi::VMCLOCK_TIME_INVALID_MAYBE_SMEARED, "maybe-smeared";
    }
}

code! {
    /// `leap_second_smearing_hint`: the provider's recommendation to readers.
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
    /// No leap second is near.
    None,
    /// A second will be inserted at the end of the reference's month.
    PrePositive,
    /// A second will be deleted at the end of the reference's month.
    PreNegative,
    /// The reference is in the inserted second.
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

/// Returns TAI - UTC in seconds from a page's raw `tai_offset_sec`. `None` if it is not marked valid or is
/// impossible.
///
/// The released ABI writes UTC - TAI, which is -37 today, and other providers write +37. RFC PATCH v4
/// computed UTC as TAI + offset. TAI has been ahead since 1961, so the magnitude suffices. A magnitude below
/// 10, its value when leap seconds began in 1972, or above 255 is no offset.
#[must_use]
pub fn tai_minus_utc_sec(raw: i16, flagged_valid: bool) -> Option<i16> {
    let sec = raw.checked_abs().filter(|_| flagged_valid)?;
    abi::TAI_MINUS_UTC_RANGE_SEC.contains(&sec).then_some(sec)
}

/// The structure's bytes.
type Image = [u8; abi::SIZE_FULL as usize];

/// Returns `N` bytes of the structure.
#[allow(
    clippy::indexing_slicing,
    reason = "callers give fields and words, all of which are within the structure"
)]
fn bytes_at<const N: usize>(image: &Image, offset: usize) -> [u8; N] {
    std::array::from_fn(|index| image[offset + index])
}

/// Overwrites bytes of the structure.
fn set_bytes_at(image: &mut Image, offset: usize, bytes: &[u8]) {
    for (to, from) in image.iter_mut().skip(offset).zip(bytes) {
        *to = *from;
    }
}

macro_rules! raw_fields {
    ($($presence:ident {$(
        $name:ident $constant:ident: $type:ty as $js:ident = $offset:literal, $doc:literal;
    )*})*) => {
        /// The fields of the structure as they are in the page, from one consistent read. It includes
        /// fields that `size` does not cover, which mean nothing. [`Snapshot`] leaves those out.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct RawFields {
            $($(#[doc = $doc] pub $name: $type,)*)*
        }

        impl RawFields {
            fn from_image(image: &Image) -> Self {
                Self {
                    $($($name: <$type>::from_le_bytes(bytes_at(image, field::$constant.offset)),)*)*
                }
            }

            fn to_image(self) -> Image {
                let mut image = [0; abi::SIZE_FULL as usize];
                $($(set_bytes_at(&mut image, field::$constant.offset, &self.$name.to_le_bytes());)*)*
                image
            }
        }
    };
}
page_fields!(raw_fields);

impl RawFields {
    /// Splits the words of the page into fields.
    #[must_use]
    pub fn from_words(head: u32, words: &[u64; WORDS]) -> Self {
        let mut image = [0; abi::SIZE_FULL as usize];
        set_bytes_at(&mut image, field::VERSION.offset, &head.to_le_bytes());
        for (index, word) in words.iter().enumerate() {
            set_bytes_at(
                &mut image,
                FIRST_WORD_OFFSET + 8 * index,
                &word.to_le_bytes(),
            );
        }
        Self::from_image(&image)
    }

    /// Joins the fields to the words of the page. It reverses [`RawFields::from_words`].
    #[must_use]
    pub fn to_words(&self) -> (u32, [u64; WORDS]) {
        let image = self.to_image();
        let head = u32::from_le_bytes(bytes_at(&image, field::VERSION.offset));
        let words = std::array::from_fn(|index| {
            u64::from_le_bytes(bytes_at(&image, FIRST_WORD_OFFSET + 8 * index))
        });
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

/// A consistent state of the page, at one sequence number.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The page's `size`: bytes of the region that holds it.
    pub size_bytes: u32,
    /// The sequence number, even.
    pub seq_count: u32,
    /// This machine's counter, read while the page was in this state.
    pub counter: u64,
    /// The document by which the fields are decoded.
    pub abi: Abi,
    /// The fields as they are in the page, including those that `size` does not cover.
    pub raw: RawFields,
    /// The page's extension, if its maker wrote one in the same update.
    pub extension: Option<Extension>,
    /// The age of the page's reference at `counter`, in nanoseconds; negative for a counter from before it.
    /// `None` if the page has no time for this machine's counter, and in a snapshot that no clock took.
    pub age_ns: Option<i64>,
    /// The reader's own reason for a time without a bound; `None` in a snapshot that no clock took.
    pub reader: Option<NoBound>,
}

impl Snapshot {
    /// Makes a snapshot of one consistent read of a page of `size_bytes`.
    #[must_use]
    pub fn new(seen: &Consistent, size_bytes: u32, abi: Abi) -> Self {
        let raw = RawFields::from_words(seen.head, &seen.words);
        Self {
            size_bytes,
            seq_count: seen.seq,
            counter: seen.counter,
            abi,
            raw,
            extension: seen
                .extension
                .and_then(|words| Extension::from_words(&words, seen.seq)),
            age_ns: None,
            reader: None,
        }
    }

    /// Returns the reason for a time without a bound. The publisher's reason comes first, then the reader's.
    /// `None` if the time has a bound or the page has no usable time, and where nobody knows the reason.
    #[must_use]
    pub fn no_bound(&self) -> Option<NoBound> {
        let is_usable = matches!(
            self.clock_status(),
            Some(ClockStatus::Synchronized | ClockStatus::FreeRunning)
        );
        let of_maker = self
            .extension
            .and_then(|extension| extension.no_bound)
            .filter(|_| self.time_max_error_ns().is_none());
        of_maker.or(self.reader).filter(|_| is_usable)
    }

    /// Returns whether `size` covers a field.
    #[must_use]
    pub fn covers(&self, field: Field) -> bool {
        let structure = match self.abi {
            Abi::Uapi => abi::SIZE_FULL,
            Abi::RfcV4 => abi::SIZE_RFC_V4,
        };
        field.offset + field.bytes <= self.size_bytes.min(structure) as usize
    }

    /// Returns whether `size` covers all fields that a time needs, the last of which is `time_frac_sec`.
    #[must_use]
    pub fn covers_time(&self) -> bool {
        self.covers(field::TIME_FRAC_SEC)
    }

    fn flag(&self, bit: u64) -> bool {
        // RFC PATCH v4 had no bits above TIME_MONOTONIC.
        let known = match self.abi {
            Abi::Uapi => u64::MAX,
            Abi::RfcV4 => (abi::VMCLOCK_FLAG_TIME_MONOTONIC << 1) - 1,
        };
        self.raw.flags & known & bit != 0
    }

    /// Decodes `time_type`.
    #[must_use]
    pub fn time_type(&self) -> TimeType {
        self.raw.time_type.into()
    }

    /// Decodes `clock_status`, if `size` covers it.
    #[must_use]
    pub fn clock_status(&self) -> Option<ClockStatus> {
        self.covers(field::CLOCK_STATUS)
            .then(|| self.raw.clock_status.into())
    }

    /// Decodes `leap_second_smearing_hint`, if `size` covers it.
    #[must_use]
    pub fn smearing_hint(&self) -> Option<SmearingHint> {
        self.covers(field::LEAP_SECOND_SMEARING_HINT)
            .then(|| self.raw.leap_second_smearing_hint.into())
    }

    /// Decodes `leap_indicator`, if `size` covers it.
    #[must_use]
    pub fn leap_indicator(&self) -> Option<LeapIndicator> {
        self.covers(field::LEAP_INDICATOR)
            .then(|| LeapIndicator::decode(self.raw.leap_indicator, self.abi))
    }

    /// Returns whether the page marks `tai_offset_sec` valid and covers it.
    #[must_use]
    pub fn tai_offset_flagged(&self) -> bool {
        self.flag(abi::VMCLOCK_FLAG_TAI_OFFSET_VALID) && self.covers(field::TAI_OFFSET_SEC)
    }

    /// Returns TAI - UTC in seconds at the page's reference, if the page states it.
    #[must_use]
    pub fn tai_minus_utc_sec(&self) -> Option<i16> {
        tai_minus_utc_sec(self.raw.tai_offset_sec, self.tai_offset_flagged())
    }

    /// Returns the maximum error at the reference, in nanoseconds; `None` if the page states none.
    #[must_use]
    pub fn time_max_error_ns(&self) -> Option<u64> {
        let stated = self.flag(abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID)
            && self.covers(field::TIME_MAXERROR_NANOSEC);
        stated.then(|| self.error_ns(self.raw.time_maxerror_nanosec))
    }

    /// Returns the estimated error at the reference, in nanoseconds; `None` if the page states none.
    #[must_use]
    pub fn time_est_error_ns(&self) -> Option<u64> {
        let stated = self.flag(abi::VMCLOCK_FLAG_TIME_ESTERROR_VALID)
            && self.covers(field::TIME_ESTERROR_NANOSEC);
        stated.then(|| self.error_ns(self.raw.time_esterror_nanosec))
    }

    fn error_ns(&self, raw: u64) -> u64 {
        match self.abi {
            Abi::Uapi => raw,
            Abi::RfcV4 => raw.div_ceil(1000),
        }
    }

    /// Returns the period's maximum error per tick, in the period's unit; `None` if the page states none.
    #[must_use]
    pub fn period_max_error(&self) -> Option<u64> {
        (self.flag(abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID)
            && self.covers(field::COUNTER_PERIOD_MAXERROR_RATE_FRAC_SEC))
        .then_some(self.raw.counter_period_maxerror_rate_frac_sec)
    }

    /// Returns the period's estimated error per tick, in the period's unit; `None` if the page states none.
    #[must_use]
    pub fn period_est_error(&self) -> Option<u64> {
        (self.flag(abi::VMCLOCK_FLAG_PERIOD_ESTERROR_VALID)
            && self.covers(field::COUNTER_PERIOD_ESTERROR_RATE_FRAC_SEC))
        .then_some(self.raw.counter_period_esterror_rate_frac_sec)
    }

    /// Returns `vm_generation_counter`. The page has it if flag bit 8 is set and `size` covers the bytes.
    #[must_use]
    pub fn vm_generation(&self) -> Option<u64> {
        (self.flag(abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT)
            && self.covers(field::VM_GENERATION_COUNTER))
        .then_some(self.raw.vm_generation_counter)
    }

    /// Returns whether a disruption is announced for about the next day.
    #[must_use]
    pub fn is_disruption_soon(&self) -> bool {
        self.flag(abi::VMCLOCK_FLAG_DISRUPTION_SOON)
    }

    /// Returns whether a disruption is announced for about the next hour.
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

    /// Returns whether a caller's assumption can complete the bound of this page. That page has a synchronized clock
    /// and states no maximum error of its time, and its maker does not say why.
    ///
    /// A page with an extension is this package's. If it states no bound, then its maker knows of none.
    #[must_use]
    pub fn may_assume_time_error(&self) -> bool {
        self.extension.is_none()
            && self.time_max_error_ns().is_none()
            && self.clock_status() == Some(ClockStatus::Synchronized)
    }

    /// Returns whether the provider promises that time computed from the page never steps back.
    ///
    /// Nothing here relies on it: the proposed host driver promises it for a clock that its operator can set back.
    #[must_use]
    pub fn is_time_monotonic(&self) -> bool {
        self.flag(abi::VMCLOCK_FLAG_TIME_MONOTONIC)
    }

    /// Returns whether the device notifies the guest after an update.
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
