//! The quality that a driver states for a PTP clock's time, and the CPU's counter at the same instant.

use std::fmt;

use super::device::{RawAttributes, RawSystemTime};

const VALID_ERROR_BOUND: u32 = 1 << 0;
const VALID_TIMESCALE: u32 = 1 << 1;
const VALID_STATUS: u32 = 1 << 2;
/// The vmclock driver marks this figure valid for a page that states no maximum error, and for any larger one.
const UNKNOWN_ERROR_BOUND: u32 = u32::MAX;

/// The quality of a PTP clock's time: `struct ptp_clock_attrs`. The driver need not state each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// How far the clock may be off its timescale, in nanoseconds. `None`: the driver states none, or 2^32 - 1,
    /// which stands for unknown.
    ///
    /// See [`Attributes::trusted_error_ns`] for whether it holds.
    pub error_bound_ns: Option<u32>,
    /// The clock's timescale.
    pub timescale: Option<PtpTimescale>,
    /// The state of the clock's synchronization.
    pub status: Option<PtpStatus>,
}

impl Attributes {
    /// Decodes the kernel's structure; `None` if the driver states nothing.
    pub(super) fn decode(raw: &RawAttributes) -> Option<Self> {
        let stated = |bit, value: u32| (raw.valid & bit != 0).then_some(value);
        let decoded = Self {
            error_bound_ns: stated(VALID_ERROR_BOUND, raw.error_bound)
                .filter(|ns| *ns != UNKNOWN_ERROR_BOUND),
            timescale: stated(VALID_TIMESCALE, raw.timescale).map(PtpTimescale::from),
            status: stated(VALID_STATUS, raw.status).map(PtpStatus::from),
        };
        let states_any = raw.valid & (VALID_ERROR_BOUND | VALID_TIMESCALE | VALID_STATUS) != 0;
        states_any.then_some(decoded)
    }

    /// Returns the error bound if the clock's status lets it count, in nanoseconds.
    ///
    /// The header forbids to trust it while the status is unknown or unreliable. A clock that is initializing has
    /// no reference yet, and a status that this release does not know says nothing. A driver that states no
    /// status vouches for its bound (ENA).
    #[must_use]
    pub fn trusted_error_ns(&self) -> Option<u32> {
        let is_trusted = matches!(
            self.status,
            None | Some(PtpStatus::Synchronized | PtpStatus::Holdover | PtpStatus::FreeRunning)
        );
        self.error_bound_ns.filter(|_| is_trusted)
    }
}

macro_rules! named {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $value:literal, $word:literal;)* }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// A value that this release does not know.
            Unrecognized(u32),
        }

        impl From<u32> for $name {
            fn from(value: u32) -> Self {
                match value {
                    $($value => Self::$variant,)*
                    other => Self::Unrecognized(other),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($word),)*
                    Self::Unrecognized(value) => write!(f, "unrecognized ({value})"),
                }
            }
        }
    };
}

named! {
    /// The timescale that a driver states for its clock: `enum ptp_clock_timescale`.
    PtpTimescale {
        /// The driver does not know it.
        Unknown = 0, "unknown";
        /// International Atomic Time.
        Tai = 1, "tai";
        /// Terrestrial Time.
        Tt = 2, "tt";
        /// GPS time.
        Gps = 3, "gps";
        /// UTC since 1970, without a smear.
        Utc = 4, "utc";
        /// POSIX time.
        Posix = 5, "posix";
        /// CLOCK_MONOTONIC.
        Monotonic = 6, "monotonic";
        /// CLOCK_MONOTONIC_RAW.
        MonotonicRaw = 7, "monotonic-raw";
        /// CLOCK_BOOTTIME.
        Boottime = 8, "boottime";
        /// The vendor's own.
        Proprietary = 9, "proprietary";
    }
}

named! {
    /// The state of a PTP clock's synchronization: `enum ptp_clock_status`. The numbers are not the page's.
    PtpStatus {
        /// The driver does not know it.
        Unknown = 0, "unknown";
        /// The clock is being synchronized for the first time.
        Initializing = 1, "initializing";
        /// The clock is synchronized.
        Synchronized = 2, "synchronized";
        /// The clock drifts, and its error bound counts that.
        Holdover = 3, "holdover";
        /// Nothing corrects the clock, and its error bound counts that.
        FreeRunning = 4, "free-running";
        /// The clock is broken.
        Unreliable = 5, "unreliable";
    }
}

named! {
    /// The CPU's counter that the kernel computed its clocks from: `enum ptp_counter_id`.
    CounterKind {
        /// The TSC of x86.
        X86Tsc = 1, "x86-tsc";
        /// The virtual counter of Arm, CNTVCT_EL0.
        ArmVirtualCounter = 2, "arm-virtual-counter";
    }
}

/// The CPU's counter at the instant of a cross timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCounter {
    /// The kind of counter.
    pub kind: CounterKind,
    /// The counter's value.
    pub value: u64,
}

impl SystemCounter {
    /// Decodes the kernel's structure; `None` if the system's clocks run on no counter of the CPU.
    pub(super) fn decode(raw: &RawSystemTime) -> Option<Self> {
        (raw.counter_id != 0).then(|| Self {
            kind: CounterKind::from(raw.counter_id),
            value: raw.counter,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(valid: u32, error_bound: u32, status: u32) -> Option<Attributes> {
        let mut raw = RawAttributes::default();
        (raw.valid, raw.error_bound, raw.timescale, raw.status) = (valid, error_bound, 4, status);
        Attributes::decode(&raw)
    }

    #[test]
    fn each_attribute_counts_only_under_its_flag() {
        assert_eq!(decoded(0, 5, 2), None);
        assert_eq!(decoded(1 << 5, 5, 2), None);
        let only = |valid| decoded(valid, 5, 2).unwrap();
        let none = Attributes {
            error_bound_ns: None,
            timescale: None,
            status: None,
        };
        let error_bound_ns = Some(5);
        assert_eq!(
            only(1),
            Attributes {
                error_bound_ns,
                ..none
            }
        );
        let timescale = Some(PtpTimescale::Utc);
        assert_eq!(only(2), Attributes { timescale, ..none });
        let status = Some(PtpStatus::Synchronized);
        assert_eq!(only(4), Attributes { status, ..none });
    }

    #[test]
    fn an_error_bound_of_all_ones_is_unknown() {
        assert_eq!(decoded(1, u32::MAX, 2).unwrap().error_bound_ns, None);
        let largest = decoded(1, u32::MAX - 1, 2).unwrap();
        assert_eq!(largest.error_bound_ns, Some(u32::MAX - 1));
    }

    #[test]
    fn an_error_bound_is_trusted_only_in_a_status_that_vouches_for_it() {
        for (status, is_trusted) in [
            (0, false),
            (1, false),
            (2, true),
            (3, true),
            (4, true),
            (5, false),
            (6, false),
        ] {
            let attributes = decoded(5, 7, status).unwrap();
            let expected = is_trusted.then_some(7);
            assert_eq!(attributes.trusted_error_ns(), expected, "{status}");
        }
        assert_eq!(decoded(1, 7, 0).unwrap().trusted_error_ns(), Some(7));
    }

    #[test]
    fn a_counter_of_unknown_kind_is_none() {
        let mut raw = RawSystemTime::default();
        (raw.counter, raw.counter_id) = (9, 0);
        assert_eq!(SystemCounter::decode(&raw), None);
        raw.counter_id = 2;
        let kind = CounterKind::ArmVirtualCounter;
        assert_eq!(
            SystemCounter::decode(&raw),
            Some(SystemCounter { kind, value: 9 })
        );
    }
}
