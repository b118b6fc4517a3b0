//! Names of clocks for the C interface: numbers, which anybody can forge, unlike a function of JavaScript.
//!
//! A name is a double, because Node checks an argument of an integer type in JavaScript, which takes longer than the
//! call. Each name is a whole number: 2^52, plus 2^16 times a generation, plus the index of an entry in a table. The
//! entries are never freed. An entry compares all bits of a name and the thread that took it, and has a new
//! generation in each use. So a forged, stale or foreign name finds nothing.

use std::arch::asm;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

const INDEX_BITS: u32 = 16;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
/// A new generation adds this to the bits of a name.
const GENERATION: u64 = 1 << INDEX_BITS;
/// The bits of 2^52. In the doubles from there to 2^53, the lowest bit counts ones.
const FIRST_BITS: u64 = (1023 + 52) << 52;
const LAST_BITS: u64 = FIRST_BITS | ((1 << 52) - 1);
/// Replaces the thread of an entry that has had all its generations.
const RETIRED: usize = usize::MAX;

/// The table. It begins as zeroes, for which the system provides memory page by page when they are first used.
pub(super) struct Names<T> {
    entries: [Entry<T>; 1 << INDEX_BITS],
    /// The search for a free entry begins here, mostly at the first free one. It finds one from any value.
    first: AtomicU64,
}

struct Entry<T> {
    /// The thread whose name this is; 0 if the entry is free. Only that thread writes to the entry.
    thread: AtomicUsize,
    /// The bits of the name. They stay when it is given back, so that the next one differs.
    bits: AtomicU64,
    target: AtomicPtr<T>,
}

impl<T> Names<T> {
    pub(super) const fn new() -> Self {
        Self {
            entries: [const { Entry::free() }; 1 << INDEX_BITS],
            first: AtomicU64::new(0),
        }
    }

    /// Gives `target` a name for this thread. `None` if all names are in use.
    pub(super) fn take(&self, target: *mut T) -> Option<f64> {
        let thread = this_thread();
        let first = self.first.load(Ordering::Relaxed);
        (0..1 << INDEX_BITS).find_map(|distance| {
            let index = first.wrapping_add(distance) & INDEX_MASK;
            let name = self.entry(index)?.take(index, target, thread)?;
            self.first.store(index + 1, Ordering::Relaxed);
            Some(name)
        })
    }

    /// Returns the target of a name of this thread; `None` for any other number.
    #[inline(always)]
    pub(super) fn find(&self, name: f64) -> Option<*mut T> {
        let entry = self.entry(name.to_bits())?;
        // Relaxed: only this thread stores its own number. If the entry still has it, this thread stored the rest too.
        let is_own = entry.thread.load(Ordering::Relaxed) == this_thread();
        let is_same = entry.bits.load(Ordering::Relaxed) == name.to_bits();
        (is_own && is_same).then(|| entry.target.load(Ordering::Relaxed))
    }

    /// Ends the use of a name of this thread. Any other number has no effect.
    pub(super) fn give_back(&self, name: f64) {
        if self.find(name).is_some()
            && let Some(entry) = self.entry(name.to_bits())
        {
            entry.target.store(ptr::null_mut(), Ordering::Relaxed);
            // Release: pairs with the exchange in `Entry::take`.
            entry.thread.store(0, Ordering::Release);
            let index = name.to_bits() & INDEX_MASK;
            self.first.fetch_min(index, Ordering::Relaxed);
        }
    }

    /// The entry of an index, or of the bits of a name.
    #[inline(always)]
    fn entry(&self, bits: u64) -> Option<&Entry<T>> {
        // The mask keeps it within the table, so the compiler leaves out the check.
        self.entries.get((bits & INDEX_MASK) as usize)
    }
}

impl<T> Entry<T> {
    const fn free() -> Self {
        Self {
            thread: AtomicUsize::new(0),
            bits: AtomicU64::new(0),
            target: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn take(&self, index: u64, target: *mut T, thread: usize) -> Option<f64> {
        // Acquire: pairs with the store in `Names::give_back`.
        self.thread
            .compare_exchange(0, thread, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        let last = self.bits.load(Ordering::Relaxed).max(FIRST_BITS | index);
        let bits = last.wrapping_add(GENERATION);
        if bits > LAST_BITS {
            self.thread.store(RETIRED, Ordering::Relaxed);
            return None;
        }
        self.bits.store(bits, Ordering::Relaxed);
        self.target.store(target, Ordering::Relaxed);
        Some(f64::from_bits(bits))
    }
}

/// Returns a number of this thread that no other living thread has: its thread pointer, which is never 0.
#[inline(always)]
fn this_thread() -> usize {
    let thread: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the first word of a thread's control block is its own address, by the ABI for thread-local storage.
    unsafe {
        asm!("mov {}, fs:0", out(reg) thread, options(pure, readonly, nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: any program may read this register, which holds the address of the thread's control block.
    unsafe {
        asm!("mrs {}, tpidr_el0", out(reg) thread, options(pure, nomem, nostack, preserves_flags));
    }
    thread
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A table of its own, which is too large for a thread's stack.
    macro_rules! table {
        () => {{
            static TABLE: Names<u64> = Names::new();
            &TABLE
        }};
    }

    /// Values of every kind that no table gave out.
    const FORGED: [f64; 11] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        f64::MAX,
        (1_u64 << 52) as f64,
        (1_u64 << 53) as f64,
    ];

    #[test]
    fn every_name_is_a_whole_number_that_javascript_can_hold() {
        let names = table!();
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let name = names.take(ptr::null_mut()).unwrap();
            assert_eq!(name.fract(), 0.0);
            assert!((2_f64.powi(52)..2_f64.powi(53)).contains(&name), "{name}");
            assert!(seen.insert(name.to_bits()));
        }
    }

    #[test]
    fn a_forged_name_finds_nothing() {
        let mut value = 7;
        let names = table!();
        let of_empty = |name| assert_eq!(names.find(name), None, "{name}");
        FORGED.into_iter().for_each(of_empty);
        let name = names.take(&raw mut value).unwrap();
        assert_eq!(names.find(name), Some(&raw mut value));
        FORGED.into_iter().for_each(of_empty);
        for bit in 0..u64::BITS {
            of_empty(f64::from_bits(name.to_bits() ^ (1 << bit)));
        }
        // To give a forged name back has no effect either.
        FORGED
            .into_iter()
            .for_each(|forged| names.give_back(forged));
        assert_eq!(names.find(name), Some(&raw mut value));
    }

    #[test]
    fn a_name_that_was_given_back_never_finds_the_next_target_of_its_entry() {
        let (mut first, mut second) = (1, 2);
        let names = table!();
        let stale = names.take(&raw mut first).unwrap();
        names.give_back(stale);
        assert_eq!(names.find(stale), None);
        let name = names.take(&raw mut second).unwrap();
        assert_eq!(stale.to_bits() & INDEX_MASK, name.to_bits() & INDEX_MASK);
        assert_eq!(names.find(stale), None);
        names.give_back(stale);
        assert_eq!(names.find(name), Some(&raw mut second));
    }

    #[test]
    fn a_hundred_thousand_uses_take_one_entry() {
        let names = table!();
        let mut seen = HashSet::new();
        for _ in 0..100_000 {
            let name = names.take(ptr::null_mut()).unwrap();
            assert_eq!(name.to_bits() & INDEX_MASK, 0);
            assert!(seen.insert(name.to_bits()));
            names.give_back(name);
        }
    }

    #[test]
    fn a_full_table_refuses_and_an_entry_without_generations_is_left_out() {
        let names = table!();
        let all: Vec<_> = std::iter::from_fn(|| names.take(ptr::null_mut())).collect();
        assert_eq!(all.len(), 1 << INDEX_BITS);
        let (first, second) = (all[0], all[1]);
        names.entries[0]
            .bits
            .store(LAST_BITS - INDEX_MASK, Ordering::Relaxed);
        names.give_back(f64::from_bits(LAST_BITS - INDEX_MASK));
        assert_eq!(names.take(ptr::null_mut()), None);
        assert_eq!(names.find(first), None);
        names.give_back(second);
        let again = names.take(ptr::null_mut()).unwrap();
        assert_eq!(again.to_bits(), second.to_bits() + GENERATION);
    }

    #[test]
    fn a_name_of_another_thread_finds_nothing_while_threads_take_and_give_back() {
        const THREADS: usize = 4;
        const ROUNDS: u64 = 20_000;
        // The newest name of each thread, for the others to try.
        let shown = [const { AtomicU64::new(0) }; THREADS];
        let (names, shown) = (table!(), &shown);
        std::thread::scope(|scope| {
            for (own, of_own) in shown.iter().enumerate() {
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let mut value = round;
                        let name = names.take(&raw mut value).unwrap();
                        of_own.store(name.to_bits(), Ordering::Relaxed);
                        for (other, of_other) in shown.iter().enumerate() {
                            if other == own {
                                continue;
                            }
                            let name = f64::from_bits(of_other.load(Ordering::Relaxed));
                            assert_eq!(names.find(name), None);
                            names.give_back(name);
                        }
                        assert_eq!(names.find(name), Some(&raw mut value));
                        names.give_back(name);
                        assert_eq!(names.find(name), None);
                    }
                });
            }
        });
    }
}
