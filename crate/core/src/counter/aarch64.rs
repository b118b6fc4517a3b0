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
    /// The `isb` keeps the counter from being read early (Arm ARM, "Accesses to the System
    /// Counter": such reads may be speculative). The load makes the counter read part of a
    /// dependency that the caller's acquire fence (`dmb ishld`) orders before the loads below it,
    /// which a bare `mrs` is not. The kernel's vDSO keeps order the same way.
    #[inline(always)]
    fn read(&self) -> u64 {
        let value: u64;
        // `nomem` is not claimed, so the compiler moves no memory access across the block.
        // SAFETY: Linux lets user space read CNTVCT_EL0 (CNTKCTL_EL1.EL0VCTEN), directly or
        // emulated. The offset is zero whatever the value, and the word at the stack pointer is
        // mapped, readable memory; its content goes to the zero register.
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
}

impl CpuCounter {
    /// What the architecture says about the counter.
    #[must_use]
    pub fn facts(&self) -> CounterFacts {
        let frequency_hz: u64;
        // SAFETY: CNTFRQ_EL0 is readable from user mode wherever the counter is.
        unsafe {
            asm!("mrs {}, cntfrq_el0", out(reg) frequency_hz, options(nostack, preserves_flags));
        }
        CounterFacts {
            id: VMCLOCK_COUNTER_ARM_VCNT,
            // Firmware writes this register; zero means that it did not.
            frequency_hz: (frequency_hz != 0).then_some(frequency_hz),
            invariant: true,
        }
    }
}
