//! A page in plain memory, and a counter that a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vmclock::counter::{Counter, CpuCounter};
use vmclock::seqlock;
use vmclock::snapshot::RawFields;
use vmclock::{Continuity, Options, VmClock};

use crate::virtual_machine::Memory;

/// A counter that changes only when a test sets it. It has this machine's counter id.
#[derive(Clone, Debug, Default)]
pub struct VirtualCounter(Arc<AtomicU64>);

impl VirtualCounter {
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Counter for VirtualCounter {
    fn id(&self) -> u8 {
        CpuCounter.id()
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub type VirtualClock = VmClock<Memory, VirtualCounter>;

/// A page, its counter, and clocks that read both.
#[derive(Debug, Default)]
pub struct Bench {
    pub page: Arc<Memory>,
    pub counter: VirtualCounter,
}

impl Bench {
    pub fn with(fields: &RawFields) -> Self {
        let bench = Self::default();
        bench.publish(fields);
        bench
    }

    pub fn publish(&self, fields: &RawFields) {
        let (head, words) = fields.to_words();
        seqlock::write(&*self.page, head, &words);
    }

    pub fn clock(&self, size_bytes: u32, options: Options) -> VirtualClock {
        VmClock::new(
            Arc::clone(&self.page),
            size_bytes,
            self.counter.clone(),
            options,
        )
    }
}

/// The continuity token of `fields`, on a page that covers the whole structure.
pub fn token(fields: &RawFields) -> Continuity {
    const GENERATION_PRESENT: u64 = 1 << 8;
    Continuity {
        disruption_marker: fields.disruption_marker,
        vm_generation: (fields.flags & GENERATION_PRESENT != 0)
            .then_some(fields.vm_generation_counter),
    }
}
