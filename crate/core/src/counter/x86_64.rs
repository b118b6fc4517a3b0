//! x86-64: the time stamp counter.

#![allow(
    unsafe_code,
    reason = "the counter is read by an instruction that has no safe intrinsic"
)]

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

use super::{Counter, CounterFacts};
use crate::abi::VMCLOCK_COUNTER_X86_TSC;

/// The counter of the CPU that this code runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuCounter;

impl Counter for CpuCounter {
    #[inline(always)]
    fn id(&self) -> u8 {
        VMCLOCK_COUNTER_X86_TSC
    }

    /// `lfence; rdtsc`, as in the kernel's vDSO. The `lfence` delays RDTSC until "all previous loads are
    /// globally visible" (Intel SDM vol. 2B, RDTSC).
    ///
    /// No fence follows. The CPU may therefore perform the seqlock's later loads before the counter
    /// read, by as much as it looks ahead. That is harmless in both cases that matter:
    ///
    /// - A migration or restore interrupts this CPU at an instruction boundary. Instructions that had
    ///   not retired run again afterwards, and the later loads are among them.
    /// - A writer on another CPU updates the page within that window. The reading then belongs to the
    ///   page of a few nanoseconds earlier, and an older page is right about the present within its
    ///   own bound.
    #[inline(always)]
    fn read(&self) -> u64 {
        let low: u32;
        let high: u32;
        // Without `nomem` the compiler moves no memory access across the block.
        // SAFETY: both instructions exist on every x86-64 and touch only EAX and EDX. Linux leaves
        // RDTSC enabled in user mode unless a process disabled it for itself (PR_SET_TSC).
        unsafe {
            asm!(
                "lfence",
                "rdtsc",
                out("eax") low,
                out("edx") high,
                options(nostack, preserves_flags)
            );
        }
        (u64::from(high) << 32) | u64::from(low)
    }

    /// `rdtsc` alone.
    #[inline(always)]
    fn read_unordered(&self) -> u64 {
        let low: u32;
        let high: u32;
        // Without `nomem` the compiler moves no memory access across the block: the instruction keeps its place.
        // SAFETY: as in `read`.
        unsafe {
            asm!(
                "rdtsc",
                out("eax") low,
                out("edx") high,
                options(nostack, preserves_flags)
            );
        }
        (u64::from(high) << 32) | u64::from(low)
    }
}

impl CpuCounter {
    /// Returns the facts that CPUID states about the counter.
    #[must_use]
    pub fn facts(&self) -> CounterFacts {
        const INVARIANT_TSC: u32 = 1 << 8;
        let extended_leaves = __cpuid(0x8000_0000).eax;
        let invariant =
            extended_leaves >= 0x8000_0007 && __cpuid(0x8000_0007).edx & INVARIANT_TSC != 0;
        CounterFacts {
            id: VMCLOCK_COUNTER_X86_TSC,
            frequency_hz: frequency_hz(),
            invariant,
        }
    }
}

/// Returns the frequency from CPUID leaf 0x15 (crystal frequency and ratio), else from the
/// hypervisors' leaf 0x4000_0010 (kilohertz).
fn frequency_hz() -> Option<u64> {
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if __cpuid(0).eax >= 0x15 {
        let ratio = __cpuid_count(0x15, 0);
        if ratio.eax != 0 && ratio.ebx != 0 && ratio.ecx != 0 {
            return Some(u64::from(ratio.ecx) * u64::from(ratio.ebx) / u64::from(ratio.eax));
        }
    }
    if __cpuid(1).ecx & HYPERVISOR_PRESENT != 0 {
        // The range's first leaf states the last leaf that the hypervisor answers. A larger number
        // would return another leaf's registers.
        let last = __cpuid(0x4000_0000).eax;
        if (0x4000_0010..=0x4000_00ff).contains(&last) {
            let kilohertz = __cpuid(0x4000_0010).eax;
            return (kilohertz != 0).then(|| u64::from(kilohertz) * 1000);
        }
    }
    None
}
