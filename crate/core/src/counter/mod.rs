//! The CPU's counter: the ordered read, and what is known about it.

/// A counter that time is computed from.
///
/// The clock and the publisher take theirs through this trait and are compiled for one concrete
/// counter, so it costs nothing; a simulation gives them a virtual one.
pub trait Counter {
    /// The page's name for this counter: `counter_id`.
    fn id(&self) -> u8;

    /// The counter now.
    ///
    /// The read is ordered as the kernel's vDSO orders it: after every load that precedes it in the
    /// program, and before every load that follows an acquire fence below it.
    fn read(&self) -> u64;
}

/// What is known about a counter without measuring it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CounterFacts {
    /// The page's name for this counter: `counter_id`.
    pub id: u8,
    /// The frequency that the hardware states, in hertz. Unknown where it states none.
    pub frequency_hz: Option<u64>,
    /// Whether the hardware promises a constant rate that no sleep state stops: on x86 CPUID leaf
    /// 0x8000_0007, EDX bit 8; on Arm the architecture itself.
    pub invariant: bool,
}

#[cfg(all(feature = "machine", target_arch = "aarch64"))]
mod aarch64;
#[cfg(all(feature = "machine", target_arch = "x86_64"))]
mod x86_64;

#[cfg(all(feature = "machine", target_arch = "aarch64"))]
pub use aarch64::CpuCounter;
#[cfg(all(feature = "machine", target_arch = "x86_64"))]
pub use x86_64::CpuCounter;
