//! The CPU's counter: the ordered read, and what is known about it.

use std::hint::black_box;
use std::time::Instant;

pub(crate) mod clocksource;

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

/// How far the counter moves at a time, in ticks: the least advance that a series of reads sees,
/// and one for a step that is no whole number of them. 0 where it does not move at all.
///
/// A counter may tick in a finer unit than it moves in (an Arm counter that is scaled to 1 GHz, a TSC
/// that counts a bus clock's cycles in multiples, an emulated one that counts microseconds), and
/// then what it shows lies up to one such step behind.
#[must_use]
pub fn step_ticks(counter: &impl Counter) -> u64 {
    const ADVANCES: usize = 64;
    // A counter of 1 us a step is read some forty times a step.
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

/// What one read of a counter costs.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReadCost {
    /// Nanoseconds a read in the median batch: what to expect of a read here and now.
    pub median_ns: f64,
    /// Nanoseconds a read in the quickest batch. Other work on the machine only ever adds to a batch,
    /// and a trap adds to every read: this is what tells one from the other.
    pub least_ns: f64,
}

impl ReadCost {
    /// Above this many nanoseconds a read is taken to be one that traps.
    ///
    /// A counter that the CPU reads by itself costs 10 to 50 ns, fences included, and one that QEMU
    /// emulates without KVM some 25 (x86-64) or 70 (aarch64). One that the hypervisor intercepts costs
    /// a thousand cycles and more to leave the guest and come back, which is 300 ns and more before
    /// anything was done for it. An Arm kernel that emulates the counter for user mode does so inside
    /// the guest, and may stay below.
    pub const TRAPPED_NS: f64 = 300.0;

    /// Whether even the quickest reads cost what a trap costs.
    #[must_use]
    pub fn is_trapped(&self) -> bool {
        self.least_ns > Self::TRAPPED_NS
    }
}

/// Measures what a read costs: a thousand reads, which take well under a millisecond, and some
/// milliseconds where each of them traps.
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

    /// A counter that is read every 25 ticks and moves only every `step`.
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
    fn a_step_is_never_taken_for_less_than_it_is() {
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

    /// A counter of which every read takes a while.
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
    fn a_read_that_traps_is_told_from_one_that_does_not() {
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
    fn a_counter_that_stands_still_is_not_waited_for() {
        assert_eq!(
            step_ticks(&Coarse {
                ticks: Cell::new(0),
                step: u64::MAX
            }),
            0
        );
    }
}
