//! The memory through which a clock's calls exchange figures with JavaScript.
//!
//! The enums here are the one place where positions and bits get their numbers. The build writes them
//! to `native/index.d.ts`, and `ts/slots.ts` does not compile with any other number.

use napi_derive::napi;
use vmclock::clock::fast::TimePoint;
use vmclock::{Continuity, Reading};

/// Positions of the 64-bit integers. The first thirteen are what `readInto` copies.
#[napi]
pub enum Slot {
    EpochNs,
    MaxErrorNs,
    EstErrorNs,
    EarliestNs,
    LatestNs,
    Counter,
    DisruptionMarker,
    VmGeneration,
    Status,
    LeapSecond,
    TaiMinusUtcSec,
    /// The time of the page's reference. A reading's age is `EpochNs` minus this.
    ReferenceNs,
    /// Which figures are known: bits of [`Known`].
    Known,
    ArgumentCounter,
    ArgumentDisruptionMarker,
    ArgumentVmGeneration,
    /// 1 where the token has a generation, else 0.
    ArgumentHasVmGeneration,
}

/// Bits of [`Slot::Known`]. A figure whose bit is clear is -1 in its slot and means nothing.
#[napi]
pub enum Known {
    /// `MaxErrorNs`, `EarliestNs` and `LatestNs` are known.
    Bound = 1,
    EstError = 2,
    VmGeneration = 4,
    TaiMinusUtc = 8,
}

/// Positions of the doubles, which follow the integers.
#[napi]
pub enum Double {
    /// The result of `nowMs`.
    NowMs,
    /// The whole seconds of `nowHrTime`, rounded towards minus infinity.
    HrSeconds,
    /// The nanoseconds of `nowHrTime` after these seconds: 0 to 10^9 - 1.
    HrNanoseconds,
    /// Counts how often all slots of a reading were written. The figures that are the same in all
    /// readings of one page state have changed only if this has.
    Filled,
}

/// How many integers there are.
pub(super) const SLOTS: usize = Slot::ArgumentHasVmGeneration as usize + 1;
/// How many doubles there are.
pub(super) const DOUBLES: usize = Double::Filled as usize + 1;
/// Byte offset of the doubles.
pub(super) const DOUBLES_OFFSET: usize = SLOTS * size_of::<i64>();
/// Size of all of it, in bytes.
pub(super) const BUFFER_BYTES: usize = DOUBLES_OFFSET + DOUBLES * size_of::<f64>();

/// The value in the slot of an unknown figure.
const UNKNOWN: i64 = -1;

/// The memory itself: [`BUFFER_BYTES`] of an array buffer.
#[derive(Clone, Copy)]
pub(super) struct Slots {
    start: *mut u8,
}

impl Slots {
    /// Wraps the memory of the slots.
    ///
    /// # Safety
    ///
    /// `start` is the start of [`BUFFER_BYTES`] bytes, aligned to 8, which outlive every copy of the
    /// result, and which no other thread touches.
    pub(super) unsafe fn new(start: *mut u8) -> Self {
        Self { start }
    }

    fn address(self, slot: Slot) -> *mut i64 {
        self.start
            .wrapping_add(slot as usize * size_of::<i64>())
            .cast()
    }

    pub(super) fn set(self, slot: Slot, value: i64) {
        // SAFETY: the slot lies within the buffer, which is aligned, alive and of this thread by the
        // contract of `new`.
        unsafe { self.address(slot).write(value) }
    }

    /// Writes `value` as two's complement.
    pub(super) fn set_unsigned(self, slot: Slot, value: u64) {
        self.set(slot, value.cast_signed());
    }

    pub(super) fn set_double(self, double: Double, value: f64) {
        let offset = DOUBLES_OFFSET + double as usize * size_of::<f64>();
        // SAFETY: as in `set`; the doubles follow the slots in the same buffer.
        unsafe { self.start.wrapping_add(offset).cast::<f64>().write(value) }
    }

    fn double(self, double: Double) -> f64 {
        let offset = DOUBLES_OFFSET + double as usize * size_of::<f64>();
        // SAFETY: as in `set_double`.
        unsafe { self.start.wrapping_add(offset).cast::<f64>().read() }
    }

    /// Reads an argument, which JavaScript wrote.
    pub(super) fn argument(self, slot: Slot) -> i64 {
        // SAFETY: as in `set`.
        unsafe { self.address(slot).read() }
    }

    /// Writes every figure of a reading: the slots up to `Known`.
    pub(super) fn set_reading(self, reading: &Reading) {
        let mut known = 0;
        let mut set_optional = |slot, value: Option<i64>, bit: Known| {
            if value.is_some() {
                known |= bit as i64;
            }
            self.set(slot, value.unwrap_or(UNKNOWN));
        };
        // Error figures are at most 2^63 - 1, so as signed they are the same.
        let max_error_ns = reading.max_error_ns.map(u64::cast_signed);
        let est_error_ns = reading.est_error_ns.map(u64::cast_signed);
        let vm_generation = reading.vm_generation.map(u64::cast_signed);
        let tai_minus_utc_sec = reading.tai_minus_utc_sec.map(i64::from);
        set_optional(Slot::MaxErrorNs, max_error_ns, Known::Bound);
        set_optional(Slot::EarliestNs, reading.earliest_ns, Known::Bound);
        set_optional(Slot::LatestNs, reading.latest_ns, Known::Bound);
        set_optional(Slot::EstErrorNs, est_error_ns, Known::EstError);
        set_optional(Slot::VmGeneration, vm_generation, Known::VmGeneration);
        set_optional(Slot::TaiMinusUtcSec, tai_minus_utc_sec, Known::TaiMinusUtc);
        self.set(Slot::EpochNs, reading.epoch_ns);
        // Wraps where the reference does not fit, and JavaScript's subtraction wraps back.
        let reference_ns = reading.epoch_ns.wrapping_sub(reading.age_ns);
        self.set(Slot::ReferenceNs, reference_ns);
        self.set_unsigned(Slot::Counter, reading.counter);
        self.set_unsigned(Slot::DisruptionMarker, reading.disruption_marker);
        self.set(Slot::Status, i64::from(reading.status.raw()));
        self.set(Slot::LeapSecond, i64::from(reading.leap_second));
        self.set(Slot::Known, known);
        self.set_double(Double::Filled, self.double(Double::Filled) + 1.0);
    }

    /// Writes the figures of a reading that change with the counter, over an earlier reading of the
    /// same page state. Which figures are known is the same in all readings of one state.
    #[inline(always)]
    pub(super) fn set_time_point(self, point: &TimePoint) {
        let epoch_ns = point.epoch_ns;
        self.set(Slot::EpochNs, epoch_ns);
        self.set_unsigned(Slot::Counter, point.counter);
        if let Some(max_error_ns) = point.max_error_ns.map(u64::cast_signed) {
            self.set(Slot::MaxErrorNs, max_error_ns);
            // Neither overflows: the fast path ends in the year 2106 and at an error of 36 years.
            self.set(Slot::EarliestNs, epoch_ns.wrapping_sub(max_error_ns));
            self.set(Slot::LatestNs, epoch_ns.wrapping_add(max_error_ns));
        }
        if let Some(est_error_ns) = point.est_error_ns {
            self.set_unsigned(Slot::EstErrorNs, est_error_ns);
        }
    }

    /// Writes a token: `DisruptionMarker`, `VmGeneration` and `Known`.
    pub(super) fn set_continuity(self, token: &Continuity) {
        let known = token
            .vm_generation
            .map_or(0, |_| Known::VmGeneration as i64);
        let vm_generation = token.vm_generation.map_or(UNKNOWN, u64::cast_signed);
        self.set_unsigned(Slot::DisruptionMarker, token.disruption_marker);
        self.set(Slot::VmGeneration, vm_generation);
        self.set(Slot::Known, known);
    }

    /// Reads the token among the arguments.
    pub(super) fn argument_token(self) -> Continuity {
        let disruption_marker = self.argument(Slot::ArgumentDisruptionMarker);
        let vm_generation = self.argument(Slot::ArgumentVmGeneration);
        let has_vm_generation = self.argument(Slot::ArgumentHasVmGeneration) != 0;
        Continuity {
            disruption_marker: disruption_marker.cast_unsigned(),
            vm_generation: has_vm_generation.then_some(vm_generation.cast_unsigned()),
        }
    }
}
