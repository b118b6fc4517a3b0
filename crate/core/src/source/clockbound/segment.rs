//! The layout of ClockBound's shared memory, and how it is read.
//!
//! The layouts are those of the crates `clock-bound-shm` 2.0.3 and `clock-bound` 3.0.0-rc.0. All fields are
//! little-endian. A header of 16 bytes precedes both:
//!
//! | offset | field |
//! |---|---|
//! | 0x00 | magic, two u32: 0x414d5a4e, 0x43420200 |
//! | 0x08 | u32 size of the segment |
//! | 0x0c | u16 version: 2, or 0x0303 |
//! | 0x0e | u16 generation: 0 before the first update, odd during an update |
//!
//! The file is read and not mapped: a truncated file is an error of the call, and no signal. An update replaces the
//! bytes between two changes of the generation. The reads of the generation before and after the others pair with
//! the writer's stores. The kernel copies with loads of this thread, and a fence orders the loads of a thread.

use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};

use rustix::io::Errno;

use crate::time::{NS_PER_SEC, fixed};

const MAGIC: [u32; 2] = [0x414d_5a4e, 0x4342_0200];
const BYTES_V2: usize = 80;
const BYTES_V3: usize = 104;
const VERSION_V2: u16 = 2;
/// The lowest and the highest version that the segment fits, a byte each.
const VERSION_V3: u16 = 0x0303;
/// A segment is read again so often while it is being updated.
const TRIES: usize = 8;
/// A larger `max_drift_ppb` is refused, as the clients refuse it.
const MAX_DRIFT_PPB: u32 = 1_000_000_000;

/// The status that the daemon gives its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Unknown,
    Synchronized,
    FreeRunning,
    Disrupted,
}

/// The content of a segment as of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The bound at `as_of`, in nanoseconds.
    pub(super) bound_ns: u128,
    /// The growth of the bound since then.
    pub(super) max_drift_ppb: u32,
    pub(super) status: Status,
    /// The disruption marker of the device that the daemon knows of. `None` if it looks at no device.
    pub(super) marker: Option<u64>,
    /// In nanoseconds of CLOCK_MONOTONIC_COARSE in version 2, and of UTC in version 3.
    pub(super) as_of_ns: i128,
    pub(super) void_after_ns: i128,
    /// The counter and its period, in version 3.
    pub(super) counter: Option<CounterAsOf>,
}

/// The counter at `as_of`, and its period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CounterAsOf {
    pub(super) counter: u64,
    /// In 2^-(64 + shift) s.
    pub(super) period: u64,
    pub(super) period_shift: u8,
    /// The relative error of the period, in 2^-(64 + shift).
    pub(super) error: u64,
    pub(super) error_shift: u8,
}

/// The fault of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is shorter than its version needs.
    Short,
    /// It begins with other bytes.
    Magic,
    /// It has a version that no reader here knows.
    Version(u16),
    /// The daemon has not written it yet.
    Empty,
    /// It was being updated each time.
    Torn,
    /// A field has a value that it cannot have.
    Field(&'static str),
    /// The system refused to read it.
    Refused(Errno),
}

/// Reads a segment as of one generation.
pub(super) fn read(file: &impl AsFd) -> Result<Segment, Fault> {
    for _ in 0..TRIES {
        let before = generation(file)?;
        if before & 1 == 1 {
            std::thread::yield_now();
            continue;
        }
        // Pairs with the writer's fence between the odd generation and the fields.
        fence(Ordering::Acquire);
        let mut bytes = [0; BYTES_V3];
        let length = read_at(file, &mut bytes, 0)?;
        // Pairs with the writer's release of the even generation.
        fence(Ordering::Acquire);
        if generation(file)? == before {
            return decode(bytes.get(..length).unwrap_or_default());
        }
    }
    Err(Fault::Torn)
}

fn generation(file: &impl AsFd) -> Result<u16, Fault> {
    let mut bytes = [0; 2];
    if read_at(file, &mut bytes, 0x0e)? < bytes.len() {
        return Err(Fault::Short);
    }
    Ok(u16::from_le_bytes(bytes))
}

/// Fills `bytes` from an offset of the file, and returns how many the file had.
fn read_at(file: &impl AsFd, bytes: &mut [u8], offset: u64) -> Result<usize, Fault> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Fault::Refused(errno)),
        }
    }
    Ok(done)
}

/// Decodes and validates a segment. `bytes` may be longer than it is.
pub(super) fn decode(bytes: &[u8]) -> Result<Segment, Fault> {
    let mut fields = Fields(bytes);
    if [fields.u32()?, fields.u32()?] != MAGIC {
        return Err(Fault::Magic);
    }
    let size = fields.u32()?;
    let version = fields.u16()?;
    let generation = fields.u16()?;
    let needed = match version {
        VERSION_V2 => BYTES_V2,
        VERSION_V3 => BYTES_V3,
        // The writer sets the version last.
        0 => return Err(Fault::Empty),
        other => return Err(Fault::Version(other)),
    };
    if size as usize != needed || bytes.len() < needed {
        return Err(Fault::Short);
    }
    match generation {
        0 => return Err(Fault::Empty),
        odd if odd & 1 == 1 => return Err(Fault::Torn),
        _ => {}
    }
    let has_counter = version == VERSION_V3;
    let counter = if has_counter { fields.u64()? } else { 0 };
    let as_of_ns = fields.time_ns()?;
    let void_after_ns = fields.time_ns()?;
    let (period, error) = if has_counter {
        (fields.u64()?, fields.u64()?)
    } else {
        (0, 0)
    };
    let bound_ns = u128::try_from(fields.i64()?).map_err(|_| Fault::Field("bound"))?;
    let marker = fields.u64()?;
    let max_drift_ppb = fields.u32()?;
    let status = match fields.u32()? {
        0 => Status::Unknown,
        1 => Status::Synchronized,
        2 => Status::FreeRunning,
        3 => Status::Disrupted,
        _ => return Err(Fault::Field("clock status")),
    };
    let marker = match fields.u8()? {
        0 => None,
        1 => Some(marker),
        _ => return Err(Fault::Field("disruption support")),
    };
    let counter = if has_counter {
        let (period_shift, error_shift) = (fields.u8()?, fields.u8()?);
        if period == 0 || period_shift > fixed::MAX_SHIFT {
            return Err(Fault::Field("period"));
        }
        if error_shift > 63 {
            return Err(Fault::Field("period error"));
        }
        Some(CounterAsOf {
            counter,
            period,
            period_shift,
            error,
            error_shift,
        })
    } else {
        None
    };
    if max_drift_ppb >= MAX_DRIFT_PPB {
        return Err(Fault::Field("maximum drift"));
    }
    if void_after_ns < as_of_ns || as_of_ns < 0 {
        return Err(Fault::Field("times"));
    }
    Ok(Segment {
        bound_ns,
        max_drift_ppb,
        status,
        marker,
        as_of_ns,
        void_after_ns,
        counter,
    })
}

/// The fields that are left, in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Fault> {
        self.take().map(i64::from_le_bytes)
    }

    fn time_ns(&mut self) -> Result<i128, Fault> {
        let (sec, nsec) = (self.i64()?, self.i64()?);
        if !(0..1_000_000_000).contains(&nsec) {
            return Err(Fault::Field("times"));
        }
        Ok(i128::from(sec) * NS_PER_SEC + i128::from(nsec))
    }
}
