//! The page as it lies in memory: offsets, sizes and constants, and nothing else.
//!
//! Names are those of the Linux header `include/uapi/linux/vmclock-abi.h`, which QEMU and
//! Firecracker use too and which the UAPI group's specification UAPI.13 "VMClock" v1.1 follows.
//! All fields are little-endian and naturally aligned. Values stay raw integers here: an enum made
//! from a byte that somebody else writes would be undefined behaviour for every value that it does
//! not list. [`crate::snapshot`] decodes them.

/// `magic`: the bytes `VCLK`.
pub const VMCLOCK_MAGIC: u32 = 0x4b4c_4356;
/// `version`: the only one there is. RFC PATCH v4 pages say 1 as well.
pub const VMCLOCK_VERSION: u16 = 1;

/// Bytes of the smallest legal structure: it ends before `pad`, with marker and flags alone.
pub const SIZE_MIN: u32 = 0x20;
/// Bytes of the whole released structure.
pub const SIZE_FULL: u32 = 0x70;
/// Bytes of the structure in RFC PATCH v4, which knew no generation counter.
pub const SIZE_RFC_V4: u32 = 0x68;
/// Bytes of the region that providers typically announce in `size`.
pub const SIZE_REGION: u32 = 0x1000;

/// Byte offsets of the fields from the start of the page.
pub mod offset {
    /// `magic`, u32.
    pub const MAGIC: usize = 0x00;
    /// `size`, u32: bytes of the region that holds the structure.
    pub const SIZE: usize = 0x04;
    /// `version`, u16.
    pub const VERSION: usize = 0x08;
    /// `counter_id`, u8.
    pub const COUNTER_ID: usize = 0x0a;
    /// `time_type`, u8.
    pub const TIME_TYPE: usize = 0x0b;
    /// `seq_count`, u32: odd while an update is in progress.
    pub const SEQ_COUNT: usize = 0x0c;
    /// `disruption_marker`, u64.
    pub const DISRUPTION_MARKER: usize = 0x10;
    /// `flags`, u64.
    pub const FLAGS: usize = 0x18;
    /// `pad`, two bytes.
    pub const PAD: usize = 0x20;
    /// `clock_status`, u8.
    pub const CLOCK_STATUS: usize = 0x22;
    /// `leap_second_smearing_hint`, u8.
    pub const LEAP_SECOND_SMEARING_HINT: usize = 0x23;
    /// `tai_offset_sec`, i16.
    pub const TAI_OFFSET_SEC: usize = 0x24;
    /// `leap_indicator`, u8.
    pub const LEAP_INDICATOR: usize = 0x26;
    /// `counter_period_shift`, u8.
    pub const COUNTER_PERIOD_SHIFT: usize = 0x27;
    /// `counter_value`, u64: the counter at the reference time.
    pub const COUNTER_VALUE: usize = 0x28;
    /// `counter_period_frac_sec`, u64: one tick in 2^-(64 + shift) s.
    pub const COUNTER_PERIOD_FRAC_SEC: usize = 0x30;
    /// `counter_period_esterror_rate_frac_sec`, u64: the same unit, per tick.
    pub const COUNTER_PERIOD_ESTERROR_RATE_FRAC_SEC: usize = 0x38;
    /// `counter_period_maxerror_rate_frac_sec`, u64: the same unit, per tick.
    pub const COUNTER_PERIOD_MAXERROR_RATE_FRAC_SEC: usize = 0x40;
    /// `time_sec`, u64: the reference time in seconds since the epoch of `time_type`.
    pub const TIME_SEC: usize = 0x48;
    /// `time_frac_sec`, u64, in 2^-64 s.
    pub const TIME_FRAC_SEC: usize = 0x50;
    /// `time_esterror_nanosec`, u64: ± nanoseconds (picoseconds in RFC PATCH v4).
    pub const TIME_ESTERROR_NANOSEC: usize = 0x58;
    /// `time_maxerror_nanosec`, u64: ± nanoseconds (picoseconds in RFC PATCH v4).
    pub const TIME_MAXERROR_NANOSEC: usize = 0x60;
    /// `vm_generation_counter`, u64.
    pub const VM_GENERATION_COUNTER: usize = 0x68;
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
/// `flags`: `vm_generation_counter` is there (its bytes must be covered by `size` as well).
pub const VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT: u64 = 1 << 8;
/// `flags`: the device notifies the guest after an update.
pub const VMCLOCK_FLAG_NOTIFICATION_PRESENT: u64 = 1 << 9;

/// `clock_status`: unknown.
pub const VMCLOCK_STATUS_UNKNOWN: u8 = 0;
/// `clock_status`: initializing.
pub const VMCLOCK_STATUS_INITIALIZING: u8 = 1;
/// `clock_status`: synchronized.
pub const VMCLOCK_STATUS_SYNCHRONIZED: u8 = 2;
/// `clock_status`: free-running; the time is as good as its stated error.
pub const VMCLOCK_STATUS_FREERUNNING: u8 = 3;
/// `clock_status`: unreliable.
pub const VMCLOCK_STATUS_UNRELIABLE: u8 = 4;

/// `leap_second_smearing_hint`: show the leap second as it is.
pub const VMCLOCK_SMEARING_STRICT: u8 = 0;
/// `leap_second_smearing_hint`: smear linearly from noon to noon.
pub const VMCLOCK_SMEARING_NOON_LINEAR: u8 = 1;
/// `leap_second_smearing_hint`: smear over the last 1000 seconds (UTC-SLS).
pub const VMCLOCK_SMEARING_UTC_SLS: u8 = 2;

/// `leap_indicator`: no leap second near.
pub const VMCLOCK_LEAP_NONE: u8 = 0;
/// `leap_indicator`: a second will be inserted at the end of the reference's UTC month.
pub const VMCLOCK_LEAP_PRE_POS: u8 = 1;
/// `leap_indicator`: a second will be deleted at the end of the reference's UTC month.
pub const VMCLOCK_LEAP_PRE_NEG: u8 = 2;
/// `leap_indicator`: the reference lies in the inserted second, 23:59:60.
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

/// The structure as C lays it out, kept only so that the compiler checks the offsets above. The
/// page is never seen through it: others write there, and a reference would promise they do not.
#[repr(C)]
struct Layout {
    magic: u32,
    size: u32,
    version: u16,
    counter_id: u8,
    time_type: u8,
    seq_count: u32,
    disruption_marker: u64,
    flags: u64,
    pad: [u8; 2],
    clock_status: u8,
    leap_second_smearing_hint: u8,
    tai_offset_sec: i16,
    leap_indicator: u8,
    counter_period_shift: u8,
    counter_value: u64,
    counter_period_frac_sec: u64,
    counter_period_esterror_rate_frac_sec: u64,
    counter_period_maxerror_rate_frac_sec: u64,
    time_sec: u64,
    time_frac_sec: u64,
    time_esterror_nanosec: u64,
    time_maxerror_nanosec: u64,
    vm_generation_counter: u64,
}

macro_rules! assert_offsets {
    ($($field:ident = $offset:ident),* $(,)?) => {
        const _: () = {
            $(assert!(core::mem::offset_of!(Layout, $field) == offset::$offset);)*
            assert!(size_of::<Layout>() == SIZE_FULL as usize);
        };
    };
}

assert_offsets! {
    magic = MAGIC,
    size = SIZE,
    version = VERSION,
    counter_id = COUNTER_ID,
    time_type = TIME_TYPE,
    seq_count = SEQ_COUNT,
    disruption_marker = DISRUPTION_MARKER,
    flags = FLAGS,
    pad = PAD,
    clock_status = CLOCK_STATUS,
    leap_second_smearing_hint = LEAP_SECOND_SMEARING_HINT,
    tai_offset_sec = TAI_OFFSET_SEC,
    leap_indicator = LEAP_INDICATOR,
    counter_period_shift = COUNTER_PERIOD_SHIFT,
    counter_value = COUNTER_VALUE,
    counter_period_frac_sec = COUNTER_PERIOD_FRAC_SEC,
    counter_period_esterror_rate_frac_sec = COUNTER_PERIOD_ESTERROR_RATE_FRAC_SEC,
    counter_period_maxerror_rate_frac_sec = COUNTER_PERIOD_MAXERROR_RATE_FRAC_SEC,
    time_sec = TIME_SEC,
    time_frac_sec = TIME_FRAC_SEC,
    time_esterror_nanosec = TIME_ESTERROR_NANOSEC,
    time_maxerror_nanosec = TIME_MAXERROR_NANOSEC,
    vm_generation_counter = VM_GENERATION_COUNTER,
}
