//! aarch64: the virtual counter, CNTVCT_EL0.

#![allow(
    unsafe_code,
    reason = "the counter is read by an instruction that has no safe intrinsic"
)]

use core::arch::asm;

use super::{Counter, CounterFacts};
use crate::abi::VMCLOCK_COUNTER_ARM_VCNT;

/// The counter of the CPU that this code runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuCounter;

impl Counter for CpuCounter {
    #[inline(always)]
    fn id(&self) -> u8 {
        VMCLOCK_COUNTER_ARM_VCNT
    }

    /// `isb; mrs cntvct_el0`, then a load whose address depends on the value.
    ///
    /// The `isb` prevents an early, speculative read of the counter (Arm ARM, "Accesses to the System
    /// Counter"). The load depends on the counter's value, and the caller's acquire fence
    /// (`dmb ishld`) orders that load before the later ones. A bare `mrs` would not be ordered. The
    /// kernel's vDSO does the same.
    #[inline(always)]
    fn read(&self) -> u64 {
        let value: u64;
        // Without `nomem` the compiler moves no memory access across the block.
        // SAFETY: Linux lets user space read CNTVCT_EL0 (CNTKCTL_EL1.EL0VCTEN), directly or
        // emulated. The offset is zero for every value, and the word at the stack pointer is
        // mapped, readable memory. Its content goes to the zero register.
        unsafe {
            asm!(
                "isb",
                "mrs {value}, cntvct_el0",
                "eor {zero}, {value}, {value}",
                "ldr xzr, [sp, {zero}]",
                value = out(reg) value,
                zero = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
        value
    }

    /// `mrs cntvct_el0` alone.
    #[inline(always)]
    fn read_unordered(&self) -> u64 {
        let value: u64;
        // Without `nomem` the compiler moves no memory access across the block: the instruction keeps its place.
        // SAFETY: as in `read`.
        unsafe {
            asm!("mrs {}, cntvct_el0", out(reg) value, options(nostack, preserves_flags));
        }
        value
    }
}

impl CpuCounter {
    /// Returns the facts that the architecture states about the counter.
    #[must_use]
    pub fn facts(&self) -> CounterFacts {
        let frequency_hz: u64;
        // SAFETY: user mode can read CNTFRQ_EL0 on every machine on which it can read the counter.
        unsafe {
            asm!("mrs {}, cntfrq_el0", out(reg) frequency_hz, options(nostack, preserves_flags));
        }
        CounterFacts {
            id: VMCLOCK_COUNTER_ARM_VCNT,
            // Firmware writes this register; 0 means that it did not.
            frequency_hz: (frequency_hz != 0).then_some(frequency_hz),
            invariant: true,
        }
    }
}
