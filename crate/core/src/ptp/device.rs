//! The kernel's interface to its PTP clocks, as `include/uapi/linux/ptp_clock.h` has it.
//!
//! # The rules of this room
//!
//! - A request is made with the structure that its number was computed from, so the kernel writes no
//!   more than there is. All structures are integers throughout, and any bytes are values of theirs.
//! - A structure goes to the kernel as its default, all zero, but for what is asked for: later kernels
//!   give meaning to what is reserved today.

#![allow(
    unsafe_code,
    reason = "ioctl, clock_getres and a clock_gettime that asks once have no safe wrapper in the libraries that this crate uses"
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
    rsv: [i32; 11],
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

/// `struct ptp_sys_offset`: system and clock in turn, `2 * n_samples + 1` in all. The header has one
/// array; the pairs are the same memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawOffset {
    pub(super) n_samples: u32,
    rsv: [u32; 3],
    pub(super) pairs: [[RawTime; 2]; SAMPLES],
    /// The last reading of the system clock where all of the samples were asked for.
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

/// Which of the two numbers that each request has. The second ones came with Linux 5.4: their reserved
/// fields must be 0, so that they can come to mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    First,
    Second,
}

const GETCAPS: Opcode = opcode::read::<RawCapabilities>(GROUP, 1);
const GETCAPS2: Opcode = opcode::read::<RawCapabilities>(GROUP, 10);
// The header declares that these are only written to the kernel, and yet the kernel answers in them.
const SYS_OFFSET: Opcode = opcode::write::<RawOffset>(GROUP, 5);
const SYS_OFFSET2: Opcode = opcode::write::<RawOffset>(GROUP, 14);
const SYS_OFFSET_PRECISE: Opcode = opcode::read_write::<RawPrecise>(GROUP, 8);
const SYS_OFFSET_PRECISE2: Opcode = opcode::read_write::<RawPrecise>(GROUP, 17);
const SYS_OFFSET_EXTENDED: Opcode = opcode::read_write::<RawExtended>(GROUP, 9);
const SYS_OFFSET_EXTENDED2: Opcode = opcode::read_write::<RawExtended>(GROUP, 18);

/// What a PTP clock answers. Each call gives the system's error number as it came.
pub(super) trait Device {
    /// `clock_getres`, which the kernel answers for every PTP clock without asking its driver: EINVAL
    /// for any other file, ENODEV for a clock that is gone.
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

    /// FD_TO_CLOCKID, `clock_getres(2)`.
    fn clock_id(&self) -> libc::clockid_t {
        (!self.file.as_raw_fd() << 3) | 3
    }

    /// Sends the request `OPCODE`, whose structure must be `T`.
    fn request<const OPCODE: Opcode, T>(&self, structure: &mut T) -> Result<(), Errno> {
        const { assert!(opcode_bytes(OPCODE) == size_of::<T>()) };
        // SAFETY: `OPCODE` is one of the requests above, each computed from the structure that it is
        // used with here, whose size is compared once more at compile time.
        let update = unsafe { Updater::<OPCODE, T>::new(structure) };
        // SAFETY: the kernel reads and writes a `T`, of which all bytes are values. Only files that
        // turned out to be PTP clocks get here, so the request is not taken for another.
        unsafe { ioctl(&self.file, update) }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// The size that is part of a request's number (`include/uapi/asm-generic/ioctl.h`).
const fn opcode_bytes(opcode: Opcode) -> usize {
    ((opcode >> 16) & 0x3fff) as usize
}

impl Device for KernelDevice {
    fn resolution(&self) -> Result<(), Errno> {
        let clock = self.clock_id();
        let mut resolution = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: the kernel writes a `timespec` where the pointer, to one of this function's own,
        // says, and takes any number for a clock's.
        match unsafe { libc::clock_getres(clock, resolution.as_mut_ptr()) } {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    }

    fn time(&self) -> Result<RawTime, Errno> {
        let clock = self.clock_id();
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // The system call itself: the vDSO's function, by which libraries begin, makes it for these clocks,
        // and where the driver's wait ended in an error they would make it again, and wait twice.
        // SAFETY: the kernel writes a `timespec`, which is this one on all 64-bit systems, where the
        // pointer says, and takes any number for a clock's.
        match unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) } {
            0 => {}
            _ => return Err(last_errno()),
        }
        // Out of its range on purpose where the kernel's is: whoever reads it looks.
        let nsec = u32::try_from(time.tv_nsec).unwrap_or(u32::MAX);
        Ok(RawTime::new(time.tv_sec, nsec))
    }

    fn capabilities(&self, number: Number, caps: &mut RawCapabilities) -> Result<(), Errno> {
        match number {
            Number::First => self.request::<GETCAPS, _>(caps),
            Number::Second => self.request::<GETCAPS2, _>(caps),
        }
    }

    fn precise(&self, number: Number, stamps: &mut RawPrecise) -> Result<(), Errno> {
        match number {
            Number::First => self.request::<SYS_OFFSET_PRECISE, _>(stamps),
            Number::Second => self.request::<SYS_OFFSET_PRECISE2, _>(stamps),
        }
    }

    fn extended(&self, number: Number, stamps: &mut RawExtended) -> Result<(), Errno> {
        match number {
            Number::First => self.request::<SYS_OFFSET_EXTENDED, _>(stamps),
            Number::Second => self.request::<SYS_OFFSET_EXTENDED2, _>(stamps),
        }
    }

    fn offset(&self, number: Number, stamps: &mut RawOffset) -> Result<(), Errno> {
        match number {
            Number::First => self.request::<SYS_OFFSET, _>(stamps),
            Number::Second => self.request::<SYS_OFFSET2, _>(stamps),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn requests_have_the_numbers_that_the_header_gives_them() {
        // As a C compiler computes them from the header, which libc repeats.
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
    fn structures_lie_as_the_header_lays_them_out() {
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
            ],
            [0, 20, 24, 32]
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
            [offset_of!(RawOffset, pairs), offset_of!(RawOffset, last)],
            [16, 16 + 2 * 25 * 16]
        );
    }
}
