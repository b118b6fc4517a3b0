//! The kernel's interface to its PTP clocks: `include/uapi/linux/ptp_clock.h`.
//!
//! # The rules of this room
//!
//! - Each request passes the structure that its number was computed from, so the kernel writes no more
//!   than the structure holds. Every structure consists of integers, for which all bytes are valid.
//! - Each structure is zero except for the request's own fields, because later kernels give a meaning to
//!   fields that are reserved today.

#![allow(
    unsafe_code,
    reason = "ioctl, clock_getres and a clock_gettime without retry have no safe wrapper in the libraries that this crate uses"
)]

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// PTP_MAX_SAMPLES.
pub(super) const MAX_SAMPLES: u32 = 25;
const SAMPLES: usize = MAX_SAMPLES as usize;
/// PTP_CLK_MAGIC.
const GROUP: u8 = b'=';

/// `struct ptp_clock_time`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RawTime {
    pub(super) sec: i64,
    pub(super) nsec: u32,
    reserved: u32,
}

impl RawTime {
    pub(super) fn new(sec: i64, nsec: u32) -> Self {
        Self {
            sec,
            nsec,
            reserved: 0,
        }
    }
}

/// `struct ptp_clock_caps`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawCapabilities {
    pub(super) max_adj: i32,
    pub(super) n_alarm: i32,
    pub(super) n_ext_ts: i32,
    pub(super) n_per_out: i32,
    pub(super) pps: i32,
    pub(super) n_pins: i32,
    pub(super) cross_timestamping: i32,
    pub(super) adjust_phase: i32,
    pub(super) max_phase_adj: i32,
    pub(super) extended_attrs: i32,
    pub(super) precise_attrs: i32,
    rsv: [i32; 9],
}

/// `struct ptp_sys_offset_precise`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawPrecise {
    pub(super) device: RawTime,
    pub(super) sys_realtime: RawTime,
    pub(super) sys_monoraw: RawTime,
    rsv: [u32; 4],
}

/// `struct ptp_sys_offset_extended`: system, clock, system, `n_samples` times.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawExtended {
    pub(super) n_samples: u32,
    /// Reserved, and so 0, before Linux 6.12; 0 is CLOCK_REALTIME.
    pub(super) clockid: i32,
    rsv: [u32; 2],
    pub(super) ts: [[RawTime; 3]; SAMPLES],
}

impl RawExtended {
    pub(super) fn new(n_samples: u32, clockid: i32) -> Self {
        Self {
            n_samples,
            clockid,
            ..Self::default()
        }
    }
}

/// `struct ptp_sys_time`: system clocks, and the counter that the kernel computed them from.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawSystemTime {
    /// The requested clock, in nanoseconds.
    pub(super) time: i64,
    /// CLOCK_MONOTONIC_RAW, in nanoseconds.
    pub(super) monotonic_raw: i64,
    pub(super) counter: u64,
    /// `enum ptp_counter_id`.
    pub(super) counter_id: u32,
    rsv: u32,
}

/// `struct ptp_clock_attrs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawAttributes {
    /// PTP_ATTRS_VALID_ERROR_BOUND, PTP_ATTRS_VALID_TIMESCALE, PTP_ATTRS_VALID_STATUS.
    pub(super) valid: u32,
    pub(super) error_bound: u32,
    pub(super) timescale: u32,
    pub(super) status: u32,
    rsv: [u32; 4],
}

/// `struct ptp_timestamp`, with `struct ptp_dev_time` in the middle.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawTimestamp {
    /// `pre_systime`; in a precise request `systime`, the instant of the clock itself.
    pub(super) before: RawSystemTime,
    pub(super) device: RawTime,
    pub(super) attributes: RawAttributes,
    /// 0 in a precise request.
    pub(super) after: RawSystemTime,
}

/// `struct ptp_attrs_request`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawAttributesRequest {
    valid: u32,
    pub(super) clock_id: i32,
    pub(super) num_samples: u32,
    rsv: [u32; 3],
}

/// `struct ptp_sys_offset_attrs`, with room for [`MAX_SAMPLES`]. The kernel writes `num_samples` of them, and
/// refuses a request for more.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawOffsetAttributes {
    pub(super) request: RawAttributesRequest,
    pub(super) timestamps: [RawTimestamp; SAMPLES],
}

impl RawOffsetAttributes {
    pub(super) fn new(num_samples: u32, clock_id: i32) -> Self {
        let request = RawAttributesRequest {
            clock_id,
            num_samples,
            ..RawAttributesRequest::default()
        };
        Self {
            request,
            ..Self::default()
        }
    }
}

/// `struct ptp_sys_offset`: readings of system clock and PTP clock in turn, `2 * n_samples + 1` in all.
/// The header has one array, which has the same layout as these pairs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawOffset {
    pub(super) n_samples: u32,
    rsv: [u32; 3],
    pub(super) pairs: [[RawTime; 2]; SAMPLES],
    /// The last reading of the system clock if the request is for [`MAX_SAMPLES`].
    pub(super) last: RawTime,
}

impl RawOffset {
    pub(super) fn new(n_samples: u32) -> Self {
        Self {
            n_samples,
            ..Self::default()
        }
    }
}

const _: () = assert!(size_of::<RawTime>() == 16);
const _: () = assert!(size_of::<RawCapabilities>() == 80);
const _: () = assert!(size_of::<RawPrecise>() == 64);
const _: () = assert!(size_of::<RawExtended>() == 1216);
const _: () = assert!(size_of::<RawOffset>() == 832);
const _: () = assert!(size_of::<RawSystemTime>() == 32);
const _: () = assert!(size_of::<RawAttributes>() == 32);
const _: () = assert!(size_of::<RawTimestamp>() == 112);
const _: () = assert!(size_of::<RawAttributesRequest>() == 24);
const _: () = assert!(size_of::<RawOffsetAttributes>() == 24 + 25 * 112);

/// One of the two numbers of each request. Linux 5.4 added the second ones, whose reserved fields must be
/// 0 so that later kernels can give them a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    First,
    Second,
}

const GETCAPS: Opcode = opcode::read::<RawCapabilities>(GROUP, 1);
const GETCAPS2: Opcode = opcode::read::<RawCapabilities>(GROUP, 10);
// The header declares these two as written to the kernel only, but the kernel answers in them too.
const SYS_OFFSET: Opcode = opcode::write::<RawOffset>(GROUP, 5);
const SYS_OFFSET2: Opcode = opcode::write::<RawOffset>(GROUP, 14);
const SYS_OFFSET_PRECISE: Opcode = opcode::read_write::<RawPrecise>(GROUP, 8);
const SYS_OFFSET_PRECISE2: Opcode = opcode::read_write::<RawPrecise>(GROUP, 17);
const SYS_OFFSET_EXTENDED: Opcode = opcode::read_write::<RawExtended>(GROUP, 9);
const SYS_OFFSET_EXTENDED2: Opcode = opcode::read_write::<RawExtended>(GROUP, 18);

// The structure of these ends in an array of unknown length, so their size is that of the part before it.
const SYS_OFFSET_PRECISE_ATTRS: Opcode = opcode::read_write::<RawAttributesRequest>(GROUP, 23);
const SYS_OFFSET_EXTENDED_ATTRS: Opcode = opcode::read_write::<RawAttributesRequest>(GROUP, 24);
const _: () = assert!(SYS_OFFSET_PRECISE_ATTRS == 0xc018_3d17);
const _: () = assert!(SYS_OFFSET_EXTENDED_ATTRS == 0xc018_3d18);
const _: () = assert!(
    std::mem::offset_of!(RawOffsetAttributes, timestamps)
        == opcode_bytes(SYS_OFFSET_EXTENDED_ATTRS)
);

/// The calls that a PTP clock answers. Each returns the system's error number unchanged.
pub(super) trait Device {
    /// `clock_getres`, which the kernel answers for every PTP clock without its driver. The error is
    /// EINVAL for any other file and ENODEV for a removed clock.
    fn resolution(&self) -> Result<(), Errno>;

    /// `clock_gettime`.
    fn time(&self) -> Result<RawTime, Errno>;

    /// PTP_CLOCK_GETCAPS.
    fn capabilities(&self, number: Number, caps: &mut RawCapabilities) -> Result<(), Errno>;

    /// PTP_SYS_OFFSET_PRECISE.
    fn precise(&self, number: Number, stamps: &mut RawPrecise) -> Result<(), Errno>;

    /// PTP_SYS_OFFSET_EXTENDED.
    fn extended(&self, number: Number, stamps: &mut RawExtended) -> Result<(), Errno>;

    /// PTP_SYS_OFFSET.
    fn offset(&self, number: Number, stamps: &mut RawOffset) -> Result<(), Errno>;

    /// PTP_SYS_OFFSET_PRECISE_ATTRS, whose request is for one sample.
    fn precise_attributes(&self, stamps: &mut RawOffsetAttributes) -> Result<(), Errno>;

    /// PTP_SYS_OFFSET_EXTENDED_ATTRS.
    fn extended_attributes(&self, stamps: &mut RawOffsetAttributes) -> Result<(), Errno>;

    /// `clock_gettime` of a system clock.
    fn system_time(&self, clock: libc::clockid_t) -> Result<RawTime, Errno>;
}

/// An open `/dev/ptpN`.
#[derive(Debug)]
pub(super) struct KernelDevice {
    file: OwnedFd,
}

impl KernelDevice {
    pub(super) fn new(file: OwnedFd) -> Self {
        Self { file }
    }

    /// Returns the clock id of the open file: FD_TO_CLOCKID, `clock_getres(2)`.
    fn clock_id(&self) -> libc::clockid_t {
        (!self.file.as_raw_fd() << 3) | 3
    }

    /// Sends a request by one of its two numbers, both of which were computed from `T`.
    fn request<const FIRST: Opcode, const SECOND: Opcode, T>(
        &self,
        number: Number,
        structure: &mut T,
    ) -> Result<(), Errno> {
        // The header numbers every second request 9 above its first.
        const { assert!(SECOND == FIRST + 9) };
        match number {
            Number::First => self.ioctl::<FIRST, T>(structure),
            Number::Second => self.ioctl::<SECOND, T>(structure),
        }
    }

    fn ioctl<const OPCODE: Opcode, T>(&self, structure: &mut T) -> Result<(), Errno> {
        const { assert!(opcode_bytes(OPCODE) == size_of::<T>()) };
        self.send::<OPCODE, T>(structure)
    }

    fn attributes<const OPCODE: Opcode>(
        &self,
        stamps: &mut RawOffsetAttributes,
    ) -> Result<(), Errno> {
        // The kernel writes so many timestamps, and refuses more than the structure has room for.
        if stamps.request.num_samples > MAX_SAMPLES {
            return Err(Errno::INVAL);
        }
        const { assert!(opcode_bytes(OPCODE) == size_of::<RawAttributesRequest>()) };
        self.send::<OPCODE, RawOffsetAttributes>(stamps)
    }

    /// Sends a request whose number says how much of the structure the kernel reads, and after which at most
    /// the rest of it is written.
    fn send<const OPCODE: Opcode, T>(&self, structure: &mut T) -> Result<(), Errno> {
        // SAFETY: `OPCODE` is one of the requests above, and was computed from the structure that it
        // is used with, or from its first part. The assertions of both callers compare the sizes.
        let update = unsafe { Updater::<OPCODE, T>::new(structure) };
        // SAFETY: the kernel reads and writes a `T`, for which all bytes are valid. The file is a PTP
        // clock (`PtpClock::open` checked that), so the number means this request and no other.
        unsafe { ioctl(&self.file, update) }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Returns the structure's size from a request's number (`include/uapi/asm-generic/ioctl.h`).
const fn opcode_bytes(opcode: Opcode) -> usize {
    ((opcode >> 16) & 0x3fff) as usize
}

impl Device for KernelDevice {
    fn resolution(&self) -> Result<(), Errno> {
        let clock = self.clock_id();
        let mut resolution = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: the pointer is to this function's own `timespec`, which the kernel fills. It accepts
        // any number as a clock's.
        match unsafe { libc::clock_getres(clock, resolution.as_mut_ptr()) } {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    }

    fn time(&self) -> Result<RawTime, Errno> {
        self.system_time(self.clock_id())
    }

    fn system_time(&self, clock: libc::clockid_t) -> Result<RawTime, Errno> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // This makes the system call itself. Libraries call the vDSO's function first, which makes the
        // system call for these clocks. After an error they repeat it, so they wait twice for a driver.
        // SAFETY: the pointer is to this function's own `timespec`, which the kernel fills and which has
        // this layout on all 64-bit systems. The kernel accepts any number as a clock's.
        match unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) } {
            0 => {}
            _ => return Err(last_errno()),
        }
        // A value outside the range stays outside, and `RawTime::epoch_ns` refuses it.
        let nsec = u32::try_from(time.tv_nsec).unwrap_or(u32::MAX);
        Ok(RawTime::new(time.tv_sec, nsec))
    }

    fn capabilities(&self, number: Number, caps: &mut RawCapabilities) -> Result<(), Errno> {
        self.request::<GETCAPS, GETCAPS2, _>(number, caps)
    }

    fn precise(&self, number: Number, stamps: &mut RawPrecise) -> Result<(), Errno> {
        self.request::<SYS_OFFSET_PRECISE, SYS_OFFSET_PRECISE2, _>(number, stamps)
    }

    fn extended(&self, number: Number, stamps: &mut RawExtended) -> Result<(), Errno> {
        self.request::<SYS_OFFSET_EXTENDED, SYS_OFFSET_EXTENDED2, _>(number, stamps)
    }

    fn offset(&self, number: Number, stamps: &mut RawOffset) -> Result<(), Errno> {
        self.request::<SYS_OFFSET, SYS_OFFSET2, _>(number, stamps)
    }

    fn precise_attributes(&self, stamps: &mut RawOffsetAttributes) -> Result<(), Errno> {
        self.attributes::<SYS_OFFSET_PRECISE_ATTRS>(stamps)
    }

    fn extended_attributes(&self, stamps: &mut RawOffsetAttributes) -> Result<(), Errno> {
        self.attributes::<SYS_OFFSET_EXTENDED_ATTRS>(stamps)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn requests_have_the_headers_numbers() {
        // A C compiler computes the second column from the header; libc repeats it.
        for (ours, written, libcs) in [
            (GETCAPS, 0x8050_3d01, libc::PTP_CLOCK_GETCAPS),
            (GETCAPS2, 0x8050_3d0a, libc::PTP_CLOCK_GETCAPS2),
            (SYS_OFFSET, 0x4340_3d05, libc::PTP_SYS_OFFSET),
            (SYS_OFFSET2, 0x4340_3d0e, libc::PTP_SYS_OFFSET2),
            (
                SYS_OFFSET_PRECISE,
                0xc040_3d08,
                libc::PTP_SYS_OFFSET_PRECISE,
            ),
            (
                SYS_OFFSET_PRECISE2,
                0xc040_3d11,
                libc::PTP_SYS_OFFSET_PRECISE2,
            ),
            (
                SYS_OFFSET_EXTENDED,
                0xc4c0_3d09,
                libc::PTP_SYS_OFFSET_EXTENDED,
            ),
            (
                SYS_OFFSET_EXTENDED2,
                0xc4c0_3d12,
                libc::PTP_SYS_OFFSET_EXTENDED2,
            ),
        ] {
            assert_eq!(ours, written, "{ours:#x}");
            assert_eq!(ours, libcs as Opcode, "{ours:#x}");
        }
        assert_eq!(MAX_SAMPLES, libc::PTP_MAX_SAMPLES);
    }

    #[test]
    fn structures_have_the_headers_layout() {
        assert_eq!(
            [offset_of!(RawTime, sec), offset_of!(RawTime, nsec)],
            [0, 8]
        );
        assert_eq!(
            [
                offset_of!(RawCapabilities, max_adj),
                offset_of!(RawCapabilities, n_pins),
                offset_of!(RawCapabilities, cross_timestamping),
                offset_of!(RawCapabilities, max_phase_adj),
                offset_of!(RawCapabilities, extended_attrs),
                offset_of!(RawCapabilities, precise_attrs),
            ],
            [0, 20, 24, 32, 36, 40]
        );
        assert_eq!(
            [
                offset_of!(RawPrecise, device),
                offset_of!(RawPrecise, sys_realtime),
                offset_of!(RawPrecise, sys_monoraw),
            ],
            [0, 16, 32]
        );
        assert_eq!(
            [
                offset_of!(RawExtended, n_samples),
                offset_of!(RawExtended, clockid),
                offset_of!(RawExtended, ts),
            ],
            [0, 4, 16]
        );
        assert_eq!(
            [
                offset_of!(RawSystemTime, monotonic_raw),
                offset_of!(RawSystemTime, counter),
                offset_of!(RawSystemTime, counter_id),
            ],
            [8, 16, 24]
        );
        assert_eq!(
            [
                offset_of!(RawAttributes, valid),
                offset_of!(RawAttributes, error_bound),
                offset_of!(RawAttributes, timescale),
                offset_of!(RawAttributes, status),
            ],
            [0, 4, 8, 12]
        );
        assert_eq!(
            [
                offset_of!(RawTimestamp, before),
                offset_of!(RawTimestamp, device),
                offset_of!(RawTimestamp, attributes),
                offset_of!(RawTimestamp, after),
            ],
            [0, 32, 48, 80]
        );
        assert_eq!(
            [
                offset_of!(RawAttributesRequest, clock_id),
                offset_of!(RawAttributesRequest, num_samples),
                offset_of!(RawOffsetAttributes, timestamps),
            ],
            [4, 8, 24]
        );
        assert_eq!(
            [offset_of!(RawOffset, pairs), offset_of!(RawOffset, last)],
            [16, 16 + 2 * 25 * 16]
        );
    }
}
