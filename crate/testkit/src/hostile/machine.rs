//! A page and a counter that a writer changes between any two loads of the reader.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use vmclock::abi::VMCLOCK_COUNTER_X86_TSC;
use vmclock::counter::Counter;
use vmclock::seqlock::{SharedWords, WORDS};

use super::{Bytes, take};

/// The same on every architecture, so that an input means the same everywhere.
pub(super) const COUNTER_ID: u8 = VMCLOCK_COUNTER_X86_TSC;

pub(super) struct Update {
    /// The reader's loads until the odd sequence number, from there to the change, and to the even number.
    pub(super) loads_left: [u8; 3],
    pub(super) page: Bytes,
    pub(super) counter: u64,
}

pub(super) struct Machine {
    seq: Cell<u32>,
    page: Cell<Bytes>,
    counter: Cell<u64>,
    updates: RefCell<VecDeque<Update>>,
}

impl Machine {
    pub(super) fn new(page: Bytes, counter: u64) -> Self {
        Self {
            seq: Cell::new(0),
            page: Cell::new(page),
            counter: Cell::new(counter),
            updates: RefCell::default(),
        }
    }

    /// Schedules updates from the next load on.
    pub(super) fn expect(&self, updates: VecDeque<Update>) {
        self.updates.replace(updates);
    }

    fn load<T>(&self, value: impl FnOnce() -> T) -> T {
        self.move_on();
        value()
    }

    fn move_on(&self) {
        let mut updates = self.updates.borrow_mut();
        let Some(next) = updates.front_mut() else {
            return;
        };
        let Some(step) = next.loads_left.iter().position(|left| *left > 0) else {
            // The even number was stored with the last load.
            updates.pop_front();
            return;
        };
        next.loads_left[step] -= 1;
        if next.loads_left[step] > 0 {
            return;
        }
        if step == 1 {
            self.page.set(next.page);
            self.counter.set(next.counter);
        } else {
            self.seq.set(self.seq.get().wrapping_add(1));
        }
    }

    pub(super) fn end_updates(&self) {
        while !self.updates.borrow().is_empty() {
            self.move_on();
        }
    }

    fn word<const N: usize>(&self, at: usize) -> [u8; N] {
        self.load(|| take(&self.page.get(), at))
    }
}

pub(super) struct Memory(pub(super) Rc<Machine>);

impl SharedWords for Memory {
    fn load_seq(&self) -> u32 {
        self.0.load(|| self.0.seq.get())
    }

    fn load_head(&self) -> u32 {
        u32::from_le_bytes(self.0.word(8))
    }

    fn load_words(&self) -> [u64; WORDS] {
        std::array::from_fn(|word| u64::from_le_bytes(self.0.word(0x10 + 8 * word)))
    }

    fn fence_acquire(&self) {}
}

pub(super) struct MachineCounter(pub(super) Rc<Machine>);

impl Counter for MachineCounter {
    fn id(&self) -> u8 {
        COUNTER_ID
    }

    fn read(&self) -> u64 {
        self.0.load(|| self.0.counter.get())
    }
}
