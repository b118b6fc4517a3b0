//! Reads the CPU's counter, in order or not, and measures how it behaves.

use std::hint::black_box;
use std::time::Instant;

pub(crate) mod clocksource;

/// A counter that time is computed from.
///
/// The clock and the publisher are generic over this trait and compiled for one concrete counter, so
/// the trait costs nothing. A simulation passes a virtual counter.
pub trait Counter {
    /// Returns the page's number for this counter: `counter_id`.
    fn id(&self) -> u8;

    /// Reads the counter.
    ///
    /// The read has the order that the kernel's vDSO gives it. It comes after every load that precedes
    /// it in the program, and before every load that follows a later acquire fence.
    fn read(&self) -> u64;

    /// Reads the counter without waiting for what precedes, which takes half the time.
    ///
    /// The CPU may take the value before it performs the loads that precede this call in the program, and after
    /// those that follow it, by as much as it looks ahead: some hundred nanoseconds. The instruction itself keeps
    /// its place among the loads, so an interrupt or a VM exit between it and one of them separates the two. By
    /// default this is [`Counter::read`].
    #[inline(always)]
    fn read_unordered(&self) -> u64 {
        self.read()
    }
}

impl<C: Counter + ?Sized> Counter for &C {
    fn id(&self) -> u8 {
        (**self).id()
    }

    #[inline(always)]
    fn read(&self) -> u64 {
        (**self).read()
    }

    #[inline(always)]
    fn read_unordered(&self) -> u64 {
        (**self).read_unordered()
    }
}

/// A counter whose every read is [`Counter::read_unordered`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Unordered<C>(pub C);

impl<C: Counter> Counter for Unordered<C> {
    #[inline(always)]
    fn id(&self) -> u8 {
        self.0.id()
    }

    #[inline(always)]
    fn read(&self) -> u64 {
        self.0.read_unordered()
    }
}

/// The facts about a counter that need no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CounterFacts {
    /// The page's number for this counter: `counter_id`.
    pub id: u8,
    /// The frequency that the hardware states, in hertz; `None` if it states none.
    pub frequency_hz: Option<u64>,
    /// True if the hardware promises a constant rate that no sleep state stops. On x86 that is CPUID
    /// leaf 0x8000_0007, EDX bit 8; the Arm architecture always promises it.
    pub invariant: bool,
}

/// Measures the counter's step in ticks: the smallest advance that a series of reads sees, plus one.
/// Returns 0 if the counter does not move.
///
/// The extra tick covers a step that is not a whole number of ticks. Some counters advance by several
/// ticks at a time: an Arm counter scaled to 1 GHz, a TSC that counts multiples of a bus clock, an
/// emulated counter of microseconds. The counter's value then lags by up to one step.
#[must_use]
pub fn step_ticks(counter: &impl Counter) -> u64 {
    const ADVANCES: usize = 64;
    // A counter with steps of 1 us is read about forty times a step.
    const READS: usize = 100_000;
    let mut last = counter.read();
    let advances = (0..READS).filter_map(|_| {
        let now = counter.read();
        let advance = now.wrapping_sub(last);
        last = now;
        (advance != 0).then_some(advance)
    });
    advances
        .take(ADVANCES)
        .min()
        .map_or(0, |least| least.saturating_add(1))
}

/// The cost of one read of a counter.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReadCost {
    /// Nanoseconds per read in the median batch: the cost to expect of a read now.
    pub median_ns: f64,
    /// Nanoseconds per read in the fastest batch. Other work on the machine slows some batches, and a
    /// trap slows every read, so this figure distinguishes the two.
    pub least_ns: f64,
}

impl ReadCost {
    /// The cost in nanoseconds above which a read counts as trapped.
    ///
    /// A read that the CPU does itself costs 10 to 50 ns, fences included. A read that QEMU emulates
    /// without KVM costs about 25 ns on x86-64 and 70 ns on aarch64. A read that the hypervisor
    /// intercepts leaves the guest and returns. That alone takes a thousand cycles or more, so 300 ns
    /// or more. An Arm kernel that emulates the counter for user mode does so inside the guest, and
    /// may stay below this limit.
    pub const TRAPPED_NS: f64 = 300.0;

    /// Returns true if even the fastest reads cost as much as a trap.
    #[must_use]
    pub fn is_trapped(&self) -> bool {
        self.least_ns > Self::TRAPPED_NS
    }
}

/// Measures the cost of a read by a thousand reads. They take well under a millisecond, and some
/// milliseconds if each of them traps.
#[must_use]
pub fn read_cost(counter: &impl Counter) -> ReadCost {
    const READS: u32 = 64;
    let mut batches: [f64; 15] = std::array::from_fn(|_| {
        let start = Instant::now();
        for _ in 0..READS {
            black_box(counter.read());
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(READS)
    });
    batches.sort_by(f64::total_cmp);
    let [least_ns, .., _] = batches;
    let median_ns = batches.get(batches.len() / 2).copied().unwrap_or(least_ns);
    ReadCost {
        median_ns,
        least_ns,
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::CpuCounter;
#[cfg(target_arch = "x86_64")]
pub use x86_64::CpuCounter;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    /// A counter that is read every 25 ticks and advances in steps of `step` ticks.
    struct Coarse {
        ticks: Cell<u64>,
        step: u64,
    }

    impl Counter for Coarse {
        fn id(&self) -> u8 {
            0
        }

        fn read(&self) -> u64 {
            self.ticks.set(self.ticks.get().wrapping_add(25));
            self.ticks.get() / self.step * self.step
        }
    }

    #[test]
    fn step_ticks_never_understates_the_step() {
        for step in [1, 25, 62, 1000] {
            let counter = Coarse {
                ticks: Cell::new(0),
                step,
            };
            let found = step_ticks(&counter);
            assert!(
                (step + 1..=step.max(25) + 1).contains(&found),
                "{found} for {step}"
            );
        }
    }

    /// A counter whose reads each take this long.
    struct Slow(Duration);

    impl Counter for Slow {
        fn id(&self) -> u8 {
            0
        }

        fn read(&self) -> u64 {
            let start = Instant::now();
            while start.elapsed() < self.0 {}
            0
        }
    }

    #[test]
    fn read_cost_distinguishes_a_trapped_read_from_a_slow_machine() {
        let slow = read_cost(&Slow(Duration::from_micros(2)));
        assert!(slow.least_ns >= 2000.0);
        assert!(slow.median_ns >= slow.least_ns);
        assert!(slow.is_trapped());
        let quick = ReadCost {
            median_ns: 2000.0,
            least_ns: 40.0,
        };
        assert!(!quick.is_trapped());
    }

    #[test]
    fn step_ticks_of_a_stopped_counter_is_0_without_a_wait() {
        assert_eq!(
            step_ticks(&Coarse {
                ticks: Cell::new(0),
                step: u64::MAX
            }),
            0
        );
    }
}
