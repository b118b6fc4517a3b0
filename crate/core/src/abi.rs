//! The layout of the page: its fields, their offsets and sizes, and the constants that they may hold.
//!
//! Names are those of the Linux header `include/uapi/linux/vmclock-abi.h`. QEMU and Firecracker use that
//! header too, and the UAPI group's specification UAPI.13 "VMClock" v1.1 follows it. All fields are
//! little-endian and naturally aligned. Values are raw integers here: another program writes the page,
//! and an enum made from a value that it does not list is undefined behaviour. [`crate::snapshot`]
//! decodes them.

use std::ops::RangeInclusive;

/// `magic`: the bytes `VCLK`.
pub const VMCLOCK_MAGIC: u32 = 0x4b4c_4356;
/// `version`: the only one that exists. RFC PATCH v4 pages have it too.
pub const VMCLOCK_VERSION: u16 = 1;

/// Bytes of the smallest legal structure, which ends before `pad`. It has marker and flags only.
pub const SIZE_MIN: u32 = 0x20;
/// Bytes of the whole released structure.
pub const SIZE_FULL: u32 = 0x70;
/// Bytes of the structure in RFC PATCH v4, which had no generation counter.
pub const SIZE_RFC_V4: u32 = 0x68;
/// Bytes of the region that providers typically announce in `size`.
pub const SIZE_REGION: u32 = 0x1000;

/// The values of TAI − UTC, in seconds, that can be meant by a page, the kernel or an operator.
///
/// TAI has been ahead of UTC by 10 s or more since 1972. A kernel that was never given the offset counts leap
/// seconds from 0, so a smaller value means "unknown".
pub const TAI_MINUS_UTC_RANGE_SEC: RangeInclusive<i16> = 10..=255;

/// Calls the macro `$build` with the page's fields, in the order in which the page has them.
///
/// This is the only list of them. Four fields are absent, because each is handled in a way of its own:
/// `magic`, `size`, `seq_count` and `pad`. A row is
///
/// ```text
/// name CONSTANT: type in the page as type that Node-API takes = offset, "documentation";
/// ```
///
/// The documentation is that of the JavaScript interface too. It is a string, because the generator of the
/// TypeScript declarations does not understand comments that passed through a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! page_fields {
    ($build:ident) => {
        $build! {
            in_every_page {
                version VERSION: u16 as u32 = 0x08, "Unsigned 16-bit; 1.";
                counter_id COUNTER_ID: u8 as u32 = 0x0a,
                    "Unsigned 8-bit: 0 is Arm's virtual counter, 1 the x86 TSC, 255 none.";
                time_type TIME_TYPE: u8 as u32 = 0x0b,
                    "Unsigned 8-bit: 0 is UTC, 1 TAI, 2 monotonic, 3 and 4 smeared.";
                disruption_marker DISRUPTION_MARKER: u64 as BigInt = 0x10,
                    "Unsigned 64-bit; changes when the counter was disrupted.";
                flags FLAGS: u64 as BigInt = 0x18, "Unsigned 64-bit: the bits `VMCLOCK_FLAG_…`.";
            }
            where_size_covers_them {
                clock_status CLOCK_STATUS: u8 as u32 = 0x22,
                    "Unsigned 8-bit: 0 is unknown, 1 initializing, 2 synchronized, 3 free-running, 4 unreliable.";
                leap_second_smearing_hint LEAP_SECOND_SMEARING_HINT: u8 as u32 = 0x23,
                    "Unsigned 8-bit: 0 is strict, 1 noon-linear, 2 UTC-SLS.";
                tai_offset_sec TAI_OFFSET_SEC: i16 as i32 = 0x24,
                    "Signed 16-bit, in seconds. Documents disagree about its sign: use `Snapshot.taiMinusUtcSec`.";
                leap_indicator LEAP_INDICATOR: u8 as u32 = 0x26,
                    "Unsigned 8-bit: 0 is none; the other values depend on the page's ABI.";
                counter_period_shift COUNTER_PERIOD_SHIFT: u8 as u32 = 0x27,
                    "Unsigned 8-bit, 0 to 127: the unit of the period is 2^-(64 + this) s.";
                counter_value COUNTER_VALUE: u64 as BigInt = 0x28,
                    "Unsigned 64-bit: the counter at the reference time.";
                counter_period_frac_sec COUNTER_PERIOD_FRAC_SEC: u64 as BigInt = 0x30,
                    "Unsigned 64-bit: the period, which is one tick, in 2^-(64 + shift) s.";
                counter_period_esterror_rate_frac_sec COUNTER_PERIOD_ESTERROR_RATE_FRAC_SEC: u64 as BigInt = 0x38,
                    "Unsigned 64-bit: the period's estimated error per tick, in the period's unit.";
                counter_period_maxerror_rate_frac_sec COUNTER_PERIOD_MAXERROR_RATE_FRAC_SEC: u64 as BigInt = 0x40,
                    "Unsigned 64-bit: the period's maximum error per tick, in the period's unit.";
                time_sec TIME_SEC: u64 as BigInt = 0x48,
                    "Unsigned 64-bit: the reference time in seconds since the epoch of `timeType`.";
                time_frac_sec TIME_FRAC_SEC: u64 as BigInt = 0x50,
                    "Unsigned 64-bit: the fraction of the reference time, in 2^-64 s.";
                time_esterror_nanosec TIME_ESTERROR_NANOSEC: u64 as BigInt = 0x58,
                    "Unsigned 64-bit: the estimated error at the reference time, in nanoseconds (picoseconds in RFC PATCH v4).";
                time_maxerror_nanosec TIME_MAXERROR_NANOSEC: u64 as BigInt = 0x60,
                    "Unsigned 64-bit: the maximum error at the reference time, in nanoseconds (picoseconds in RFC PATCH v4).";
                vm_generation_counter VM_GENERATION_COUNTER: u64 as BigInt = 0x68,
                    "Unsigned 64-bit; changes when the machine was restored from a snapshot or cloned.";
            }
        }
    };
}
pub use page_fields;

/// The place of a field in the structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the page to the field.
    pub offset: usize,
    /// Bytes of the field.
    pub bytes: usize,
}

impl Field {
    const fn new<T>(offset: usize) -> Self {
        Self {
            offset,
            bytes: size_of::<T>(),
        }
    }
}

/// The fields of the structure, by the header's names.
pub mod field {
    use super::Field;

    /// Unsigned 32-bit; 0x4b4c4356, the bytes `VCLK`.
    pub const MAGIC: Field = Field::new::<u32>(0x00);
    /// Unsigned 32-bit: bytes of the region that holds the structure.
    pub const SIZE: Field = Field::new::<u32>(0x04);
    /// Unsigned 32-bit; odd while an update is in progress.
    pub const SEQ_COUNT: Field = Field::new::<u32>(0x0c);
    /// Two unused bytes.
    pub const PAD: Field = Field::new::<[u8; 2]>(0x20);

    macro_rules! constants {
        ($($presence:ident {$(
            $name:ident $constant:ident: $type:ty as $js:ident = $offset:literal, $doc:literal;
        )*})*) => {
            $($(#[doc = $doc] pub const $constant: Field = Field::new::<$type>($offset);)*)*

            /// The fields of `page_fields!`, in its order.
            pub(super) const LISTED: &[Field] = &[$($($constant),*),*];
        };
    }
    page_fields!(constants);
}

/// Adds the bytes of the fields to `taken`, which has a bit for each byte of the structure. Panics if a field
/// is not naturally aligned, does not come after the one before it, or has a byte that is taken.
const fn take(mut taken: u128, mut fields: &[Field]) -> u128 {
    let mut end = 0;
    while let [Field { offset, bytes }, rest @ ..] = fields {
        assert!(offset.is_multiple_of(*bytes) && *offset >= end);
        let own = ((1 << *bytes) - 1) << *offset;
        assert!(taken & own == 0);
        taken |= own;
        end = *offset + *bytes;
        fields = rest;
    }
    taken
}

// The listed fields have the order of the header, are naturally aligned, and fill the structure together
// with the four others, without an overlap.
const _: () = {
    let others = take(
        0,
        &[field::MAGIC, field::SIZE, field::SEQ_COUNT, field::PAD],
    );
    assert!(take(others, field::LISTED) == (1 << SIZE_FULL) - 1);
};

/// The extension that this package's publisher writes behind the structure, into pages of at least
/// [`SIZE_REGION`] bytes. It is not part of the specification. It is little-endian, like the page.
pub mod extension {
    /// The byte offset of the extension from the start of the page. UAPI.13 grows from 0x70 on.
    pub const OFFSET: usize = 0x800;
    /// `magic`, u32 at 0x00: the bytes `VCLX`.
    pub const MAGIC: u32 = 0x584c_4356;
    /// `version`, u16 at 0x04. A reader of one version ignores others.
    pub const VERSION: u16 = 2;
    /// `size`, u16 at 0x06: the bytes of the extension. It may grow.
    pub const SIZE: u16 = 0x48;

    // At 0x08 `no_bound`, u8; at 0x09 `updates_left`, u8; at 0x0a `flags`, u8; at 0x0b `source`, u8; at
    // 0x0c `seq_count`, u32: the page's own after the update that wrote the extension. If they differ, a
    // writer that knows no extension has updated the page since.
    //
    // At 0x10 `boot_id`, u128: the kernel's random identifier of this boot; 0 if unknown. At 0x20
    // `device_number`, u64: `st_rdev` of the device that the maker looked at. At 0x28
    // `device_marker`, u64, and at 0x30 `device_generation`, u64: that device's disruption marker and
    // generation counter before the reference was taken. At 0x38 `void_after_ns`, u64: the age from which
    // the page states no bound; 0 for never. At 0x40 `began_ns`, i64: CLOCK_REALTIME in nanoseconds since
    // 1970 at which the maker began.

    /// `flags`: the three fields of the device are valid but for the generation.
    pub const HAS_DEVICE: u8 = 1 << 0;
    /// `flags`: `device_generation` is valid.
    pub const HAS_DEVICE_GENERATION: u8 = 1 << 1;
    /// `flags`: the machine has a device, and the maker cannot look at it.
    pub const DEVICE_UNAVAILABLE: u8 = 1 << 2;
    /// `flags`: the operator states the error of the time.
    pub const STATED_ERROR: u8 = 1 << 3;
    /// `flags`: the operator stated an error, and a disruption voided it.
    pub const STATED_ERROR_VOID: u8 = 1 << 4;
    /// The bound includes an error that the operator states of the host's clock.
    pub const HOST_ERROR: u8 = 1 << 6;
    /// `flags`: another process changed the kernel's clock, and its daemon has not caught up. The page's time need
    /// not come from that clock.
    pub const KERNEL_CHANGED: u8 = 1 << 5;
    /// `flags`: a maker noticed a disruption in this boot, and the device has not reported one since.
    pub const UNREPORTED_JUMP: u8 = 1 << 7;

    /// `source`: not stated.
    pub const SOURCE_UNKNOWN: u8 = 0;
    /// `source`: the kernel's clock.
    pub const SOURCE_KERNEL: u8 = 1;
    /// `source`: a PTP hardware clock.
    pub const SOURCE_PHC: u8 = 2;
    /// `source`: ClockBound's shared memory.
    pub const SOURCE_CLOCKBOUND: u8 = 3;

    /// `no_bound`: the page states a bound, or has no time.
    pub const BOUND: u8 = 0;
    /// `no_bound`: nothing corrects the clock, or the kernel's maximum error has run out.
    pub const UNSYNCHRONIZED: u8 = 1;
    /// `no_bound`: no daemon has reported an error.
    pub const NEVER_UPDATED: u8 = 2;
    /// `no_bound`: the clock runs more than 500 ppm off nominal.
    pub const OFF_NOMINAL: u8 = 3;
    /// `no_bound`: the clock was just changed, perhaps by its daemon.
    pub const CHANGE_PENDING: u8 = 4;
    /// `no_bound`: the machine has a device that reports disruptions, and the maker cannot look at it.
    pub const UNGUARDED: u8 = 5;
    /// `no_bound`: a disruption voided the error that the operator had stated.
    pub const STATED_ERROR_VOIDED: u8 = 6;
    /// `no_bound`: the source that the operator chose gives no bound, and the time is the kernel's.
    pub const SOURCE_UNAVAILABLE: u8 = 7;
    /// `no_bound`, from here on: the clock is distrusted for `updates_left` updates. Another process
    /// stepped it.
    pub const STEPPED: u8 = 16;
    /// `no_bound`: distrusted, another process slewed the clock.
    pub const SLEWED: u8 = 17;
    /// `no_bound`: distrusted, another process changed the clock's frequency.
    pub const FREQUENCY_CHANGED: u8 = 18;
    /// `no_bound`: distrusted, the machine was suspended.
    pub const SUSPENDED: u8 = 19;
    /// `no_bound`: distrusted, the machine was disrupted.
    pub const DISRUPTED: u8 = 20;
    /// `no_bound`: distrusted, the page that was taken over stated no bound.
    pub const TAKEN_OVER: u8 = 21;
    /// `no_bound`: distrusted, the machine may have been disrupted before the publisher began.
    pub const STARTED: u8 = 22;
    /// `no_bound`: distrusted, a daemon reported a maximum error of 0.
    pub const ZERO_ERROR: u8 = 23;
}

/// `counter_id`: the Arm virtual counter, CNTVCT_EL0.
pub const VMCLOCK_COUNTER_ARM_VCNT: u8 = 0;
/// `counter_id`: the x86 time stamp counter.
pub const VMCLOCK_COUNTER_X86_TSC: u8 = 1;
/// `counter_id`: the page describes no counter, so it carries no time.
pub const VMCLOCK_COUNTER_INVALID: u8 = 0xff;

/// `time_type`: UTC since 1970-01-01, leap seconds not counted.
pub const VMCLOCK_TIME_UTC: u8 = 0;
/// `time_type`: TAI since 1970-01-01.
pub const VMCLOCK_TIME_TAI: u8 = 1;
/// `time_type`: a monotonic time of no stated epoch.
pub const VMCLOCK_TIME_MONOTONIC: u8 = 2;
/// `time_type`: smeared by an unstated method. The specification does not support it.
pub const VMCLOCK_TIME_INVALID_SMEARED: u8 = 3;
/// `time_type`: perhaps smeared. The specification does not support it.
pub const VMCLOCK_TIME_INVALID_MAYBE_SMEARED: u8 = 4;

/// `flags`: `tai_offset_sec` is valid.
pub const VMCLOCK_FLAG_TAI_OFFSET_VALID: u64 = 1 << 0;
/// `flags`: a disruption is expected within about a day.
pub const VMCLOCK_FLAG_DISRUPTION_SOON: u64 = 1 << 1;
/// `flags`: a disruption is expected within about an hour.
pub const VMCLOCK_FLAG_DISRUPTION_IMMINENT: u64 = 1 << 2;
/// `flags`: `counter_period_esterror_rate_frac_sec` is valid.
pub const VMCLOCK_FLAG_PERIOD_ESTERROR_VALID: u64 = 1 << 3;
/// `flags`: `counter_period_maxerror_rate_frac_sec` is valid.
pub const VMCLOCK_FLAG_PERIOD_MAXERROR_VALID: u64 = 1 << 4;
/// `flags`: `time_esterror_nanosec` is valid.
pub const VMCLOCK_FLAG_TIME_ESTERROR_VALID: u64 = 1 << 5;
/// `flags`: `time_maxerror_nanosec` is valid.
pub const VMCLOCK_FLAG_TIME_MAXERROR_VALID: u64 = 1 << 6;
/// `flags`: time computed from the page never steps back from one update to the next.
pub const VMCLOCK_FLAG_TIME_MONOTONIC: u64 = 1 << 7;
/// `flags`: `vm_generation_counter` exists. `size` must cover its bytes too.
pub const VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT: u64 = 1 << 8;
/// `flags`: the device notifies the guest after an update.
pub const VMCLOCK_FLAG_NOTIFICATION_PRESENT: u64 = 1 << 9;

/// `clock_status`: unknown.
pub const VMCLOCK_STATUS_UNKNOWN: u8 = 0;
/// `clock_status`: initializing.
pub const VMCLOCK_STATUS_INITIALIZING: u8 = 1;
/// `clock_status`: synchronized.
pub const VMCLOCK_STATUS_SYNCHRONIZED: u8 = 2;
/// `clock_status`: free-running; the time is valid within its stated error.
pub const VMCLOCK_STATUS_FREERUNNING: u8 = 3;
/// `clock_status`: unreliable.
pub const VMCLOCK_STATUS_UNRELIABLE: u8 = 4;

/// `leap_second_smearing_hint`: show the leap second as it is.
pub const VMCLOCK_SMEARING_STRICT: u8 = 0;
/// `leap_second_smearing_hint`: smear linearly from noon to noon.
pub const VMCLOCK_SMEARING_NOON_LINEAR: u8 = 1;
/// `leap_second_smearing_hint`: smear over the last 1000 seconds (UTC-SLS).
pub const VMCLOCK_SMEARING_UTC_SLS: u8 = 2;

/// `leap_indicator`: no leap second is near.
pub const VMCLOCK_LEAP_NONE: u8 = 0;
/// `leap_indicator`: a second will be inserted at the end of the reference's UTC month.
pub const VMCLOCK_LEAP_PRE_POS: u8 = 1;
/// `leap_indicator`: a second will be deleted at the end of the reference's UTC month.
pub const VMCLOCK_LEAP_PRE_NEG: u8 = 2;
/// `leap_indicator`: the reference is in the inserted second, 23:59:60.
pub const VMCLOCK_LEAP_POS: u8 = 3;
/// `leap_indicator`: a second was inserted at the start of the reference's UTC month.
pub const VMCLOCK_LEAP_POST_POS: u8 = 4;
/// `leap_indicator`: a second was deleted at the end of the month before the reference's.
pub const VMCLOCK_LEAP_POST_NEG: u8 = 5;

/// `leap_indicator` in RFC PATCH v4: a second is being deleted.
pub const RFC_V4_LEAP_NEG: u8 = 4;
/// `leap_indicator` in RFC PATCH v4: as [`VMCLOCK_LEAP_POST_POS`].
pub const RFC_V4_LEAP_POST_POS: u8 = 5;
/// `leap_indicator` in RFC PATCH v4: as [`VMCLOCK_LEAP_POST_NEG`].
pub const RFC_V4_LEAP_POST_NEG: u8 = 6;
