//! The page's read protocol, and the writer's half of it.
//!
//! A vmclock page is guarded by its sequence number, `seq_count`. The number is odd while the provider
//! rewrites the fields, and two larger after each update. A reader loads the sequence number, then the
//! fields, then the counter, then the sequence number again. If the number changed, the reader discards
//! everything. The protocol is correct only in this order, which neither the compiler nor the CPU keeps by
//! itself.
//!
//! # The rules of this room
//!
//! - Every access to shared words is a *relaxed atomic* load or store. Only the fences order them. The page
//!   is mapped read-only, and the standard library allows relaxed atomic loads of up to 8 bytes on read-only
//!   memory.
//! - Each fence names the fence in the other half that it pairs with. The model in `tests/model.rs` finds a
//!   torn execution if any fence is removed. A stress test does not.
//! - The counter is read *between* the fields and the second load of the sequence number. A live migration
//!   changes counter and page together, so a counter that is not enclosed may belong to another host than
//!   the fields.
//! - A reader may cache values derived from the fields, and use them while the sequence number is unchanged.
//!   It must compare the number *after* it reads the counter: [`counter_if_unchanged`]. A sequence number
//!   repeats after 2^31 updates, which is 24 days at a thousand updates a second. The cache is wrong only if
//!   that many updates pass between two checks by one reader and the number is the very same again.
//!
//! # A counter that is read in no order
//!
//! [`Counter::read_unordered`] reads the counter without a fence before it.
//! The CPU may then take the value earlier than the loads before it, and later than the loads behind it. The protocol
//! stays right. The instruction keeps its place in the program, and two facts replace the fence:
//!
//! - *Exits are precise.* A migration, a restore and a suspend change the counter only while no CPU of the machine runs
//!   its program: after a VM exit or an interrupt. Everything before that point in the program has then been done, and
//!   nothing behind it: what the CPU did ahead is discarded, and done again afterwards. So a counter and a load of a
//!   sequence number are of two machines only if the exit lies between them in the program. The load comes later
//!   in the program, and finds the number that the provider changed at the exit. Both looks of a stamp, at the page and
//!   at its guard, come behind the counter. A younger load never survives an older counter read that is done again.
//! - *A page is right about the counters nearby.* Between two exits the page changes by ordinary updates alone. An older
//!   page's statement about a later counter is true by its bound. A newer page's statement about a slightly earlier
//!   counter is true too: the distance is signed, and the error grows by its magnitude (`time::fixed`). So it
//!   does not matter on which side of an update the value was taken.
//!
//! The instant of a stamp is thus off in the program's order by as much as the CPU looks ahead, and its bound is true for
//! the instant of the counter. On x86-64 the ordered read has no fence behind it either, by the same argument.
//!
//! The order *of the instructions* is indispensable: behind the loads, the counter could be another machine's. The
//! assembly blocks do not claim `nomem`, and the check of the machine code looks at it. `tests/model/unordered.rs` models
//! a counter that moves among its neighbours, and a CPU whose exits are precise.
//!
//! The functions are generic over the memory that they access. So the model checker runs this very source
//! over its own atomics, and a simulation runs it over plain memory.

use crate::counter::Counter;

/// How many words of the structure the sequence number guards, from `disruption_marker` (0x10) to the end
/// (0x70).
pub const WORDS: usize = 12;

/// How many words of the extension the sequence number guards, from
/// [`abi::extension::OFFSET`](crate::abi::extension::OFFSET) on.
pub const EXTENSION_WORDS: usize = 9;

/// The sequence number of a new page. Not 0: see [`end`].
pub const FIRST_SEQ: u32 = 2;

/// Byte offset of the first of these [`WORDS`].
pub const FIRST_WORD_OFFSET: usize = 0x10;

/// A page's memory, as a reader accesses it: relaxed atomic loads, and a fence.
pub trait SharedWords {
    /// Loads `seq_count`, relaxed.
    fn load_seq(&self) -> u32;
    /// Loads the 32 bits at 0x08 (`version`, `counter_id` and `time_type`), relaxed.
    fn load_head(&self) -> u32;
    /// Loads all [`WORDS`], each by one relaxed 64-bit load.
    fn load_words(&self) -> [u64; WORDS];
    /// Loads all [`EXTENSION_WORDS`], each by one relaxed 64-bit load. `None` for memory without an
    /// extension, such as a device's.
    #[inline(always)]
    fn load_extension(&self) -> Option<[u64; EXTENSION_WORDS]> {
        None
    }
    /// Acquire fence: no load before it is performed after a load or store behind it.
    fn fence_acquire(&self);
}

/// A page's memory, as its only writer accesses it.
pub trait SharedWordsMut: SharedWords {
    /// Stores `seq_count`, relaxed.
    fn store_seq(&self, seq: u32);
    /// Stores the 32 bits at 0x08, relaxed.
    fn store_head(&self, head: u32);
    /// Stores all [`WORDS`], each by one relaxed 64-bit store.
    fn store_words(&self, words: &[u64; WORDS]);
    /// Stores all [`EXTENSION_WORDS`], each by one relaxed 64-bit store. Does nothing for memory without an
    /// extension.
    #[inline(always)]
    fn store_extension(&self, _words: &[u64; EXTENSION_WORDS]) {}
    /// Release fence: no load or store before it is performed after a store behind it.
    fn fence_release(&self);
}

/// The page and the counter, as of one sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consistent {
    /// The sequence number, even, at which all of it was read.
    pub seq: u32,
    /// The 32 bits at 0x08.
    pub head: u32,
    /// The words from 0x10 on.
    pub words: [u64; WORDS],
    /// The extension, if the memory has one.
    pub extension: Option<[u64; EXTENSION_WORDS]>,
    /// The counter, read while the page held these fields.
    pub counter: u64,
}

/// The page was being updated at every try that the caller allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The sequence number that was loaded last. Odd: an update began and did not end.
    pub seq: u32,
}

/// Reads fields and counter as of one sequence number.
///
/// After each failed try `again` receives the sequence number that was loaded, and decides whether to try
/// once more. It holds the caller's deadline. A first try that succeeds never calls it.
///
/// # Errors
///
/// [`Stuck`] when `again` returned false.
#[inline]
pub fn read<M: SharedWords, C: Counter>(
    memory: &M,
    counter: &C,
    mut again: impl FnMut(u32) -> bool,
) -> Result<Consistent, Stuck> {
    read_loop(memory, counter, &mut again)
}

/// [`read`], compiled once for all its callers, so that one function's machine code can be checked.
#[inline(never)]
fn read_loop<M: SharedWords, C: Counter>(
    memory: &M,
    counter: &C,
    again: &mut dyn FnMut(u32) -> bool,
) -> Result<Consistent, Stuck> {
    loop {
        let seq = memory.load_seq();
        if seq & 1 == 0 {
            // Pairs with the fence before `end` stores the even number: a reader that loaded that number
            // loads the fields that were stored before it.
            memory.fence_acquire();
            let head = memory.load_head();
            let words = memory.load_words();
            let extension = memory.load_extension();
            let now = counter.read();
            // Pairs with the fence after `begin` stores the odd number: a reader that loaded any later
            // field (or a counter that jumped with them) now loads another sequence number.
            memory.fence_acquire();
            if memory.load_seq() == seq {
                return Ok(Consistent {
                    seq,
                    head,
                    words,
                    extension,
                    counter: now,
                });
            }
        }
        if !again(seq) {
            return Err(Stuck { seq });
        }
    }
}

/// A page and the device that guards it, read at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// The page. Its counter was read while the device was as `guard` has it, if that is not stuck.
    pub page: Consistent,
    /// The device.
    pub guard: Result<Consistent, Stuck>,
}

/// The memory that a failed try was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The page.
    Page,
    /// The device that guards it.
    Guard,
}

/// Reads a page, then the device that guards it, and returns both and the counter as of one instant.
///
/// The device is read while the page holds the fields that were read, and the counter while both hold
/// theirs. `again` decides as in [`read`].
///
/// # Errors
///
/// [`Stuck`] where `again` allowed no more tries to read the page.
#[inline]
pub fn read_guarded<M: SharedWords, G: SharedWords, C: Counter>(
    page: &M,
    guard: &G,
    counter: &C,
    mut again: impl FnMut(Tried, u32) -> bool,
) -> Result<Guarded, Stuck> {
    loop {
        let of_page = read(page, counter, |seq| again(Tried::Page, seq))?;
        let of_guard = read(guard, counter, |seq| again(Tried::Guard, seq));
        // The counter that was read with the device is enclosed by the two looks at the page too.
        if unchanged(page, of_page.seq) {
            let counter = of_guard.map_or(of_page.counter, |of_guard| of_guard.counter);
            return Ok(Guarded {
                page: Consistent { counter, ..of_page },
                guard: of_guard,
            });
        }
        if !again(Tried::Page, of_page.seq) {
            return Err(Stuck { seq: of_page.seq });
        }
    }
}

/// Memory with the sequence number under which a caller caches its fields.
#[derive(Debug)]
pub struct Cached<'a, M> {
    /// The memory.
    pub memory: &'a M,
    /// The number that [`read`] or [`read_guarded`] returned with the fields.
    pub seq: u32,
}

impl<M: SharedWords> Cached<'_, M> {
    #[inline(always)]
    fn is_current(&self) -> bool {
        self.memory.load_seq() == self.seq
    }
}

/// Reads the counter, and returns it if the sequence numbers of the page and of the device that guards it are
/// still the cached ones.
#[inline(always)]
pub fn counter_if_unchanged<M: SharedWords, G: SharedWords, C: Counter>(
    page: &Cached<'_, M>,
    guard: &Cached<'_, G>,
    counter: &C,
) -> Option<u64> {
    let now = counter.read();
    // Pairs with the fence after `begin` stores the odd number: a counter that jumped in an update is never
    // returned for a cache from before that update. The device's provider has the same fence.
    page.memory.fence_acquire();
    (page.is_current() && guard.is_current()).then_some(now)
}

/// Returns whether both sequence numbers are still the cached ones, now and at everything loaded before the
/// call.
#[inline(always)]
pub fn both_unchanged<M: SharedWords, G: SharedWords>(
    page: &Cached<'_, M>,
    guard: &Cached<'_, G>,
) -> bool {
    // Pairs as in `counter_if_unchanged`.
    page.memory.fence_acquire();
    page.is_current() && guard.is_current()
}

/// Returns whether the sequence number is still `seq`, now and at everything loaded before the call.
#[inline(always)]
pub fn unchanged<M: SharedWords>(memory: &M, seq: u32) -> bool {
    // Pairs as in `counter_if_unchanged`: nothing that the caller loaded before is newer than the page that
    // it caches.
    memory.fence_acquire();
    memory.load_seq() == seq
}

/// Begins an update as the page's only writer, and returns the odd sequence number of the update. A number
/// that a dead writer left odd is taken over.
#[inline]
pub fn begin<M: SharedWordsMut>(memory: &M) -> u32 {
    let odd = memory.load_seq() | 1;
    memory.store_seq(odd);
    // Pairs with the reader's fence before its second load of the sequence number.
    memory.fence_release();
    odd
}

/// Ends the update for which [`begin`] returned `odd`.
#[inline]
pub fn end<M: SharedWordsMut>(memory: &M, odd: u32) {
    // Pairs with the reader's fence after its first load of the sequence number.
    memory.fence_release();
    memory.store_seq(after(odd));
}

/// Returns the sequence number that ends an update under `odd`. It is never 0: a page of zeros has that
/// number, which is what a forked child finds in place of its parent's page, and other readers take it for
/// a page that was never written.
#[inline]
fn after(odd: u32) -> u32 {
    let next = odd.wrapping_add(1);
    if next == 0 { FIRST_SEQ } else { next }
}

/// Rewrites the page as its only writer. A sequence number that a dead writer left odd is taken over: it
/// becomes the next even one.
#[inline]
pub fn write<M: SharedWordsMut>(memory: &M, head: u32, words: &[u64; WORDS]) {
    let odd = begin(memory);
    memory.store_head(head);
    memory.store_words(words);
    end(memory, odd);
}

/// Rewrites the page and its extension as its only writer, in one update. `extension` gets the even
/// sequence number that the update ends with.
#[inline]
pub fn write_extended<M: SharedWordsMut>(
    memory: &M,
    head: u32,
    words: &[u64; WORDS],
    extension: impl FnOnce(u32) -> [u64; EXTENSION_WORDS],
) {
    let odd = begin(memory);
    memory.store_head(head);
    memory.store_words(words);
    memory.store_extension(&extension(after(odd)));
    end(memory, odd);
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Memory that records the accesses to it.
    #[derive(Default)]
    struct Recorder {
        seq: Cell<u32>,
        accesses: RefCell<Vec<&'static str>>,
    }

    impl Recorder {
        fn note(&self, access: &'static str) {
            self.accesses.borrow_mut().push(access);
        }
    }

    impl SharedWords for Recorder {
        fn load_seq(&self) -> u32 {
            self.note("load seq");
            self.seq.get()
        }

        fn load_head(&self) -> u32 {
            0
        }

        fn load_words(&self) -> [u64; WORDS] {
            [0; WORDS]
        }

        fn load_extension(&self) -> Option<[u64; EXTENSION_WORDS]> {
            self.note("load extension");
            Some([1; EXTENSION_WORDS])
        }

        fn fence_acquire(&self) {
            self.note("fence");
        }
    }

    impl SharedWordsMut for Recorder {
        fn store_seq(&self, seq: u32) {
            self.note("store seq");
            self.seq.set(seq);
        }

        fn store_head(&self, _head: u32) {}

        fn store_words(&self, _words: &[u64; WORDS]) {}

        fn store_extension(&self, words: &[u64; EXTENSION_WORDS]) {
            self.note("store extension");
            // It is given the number that ends the update.
            assert_eq!(words[0], u64::from(after(self.seq.get())));
        }

        fn fence_release(&self) {
            self.note("fence");
        }
    }

    struct NoCounter;

    impl Counter for NoCounter {
        fn id(&self) -> u8 {
            0
        }

        fn read(&self) -> u64 {
            0
        }
    }

    #[test]
    fn no_update_ends_at_sequence_number_0() {
        let memory = Recorder::default();
        memory.seq.set(u32::MAX - 1);
        write_extended(&memory, 0, &[0; WORDS], |seq| [seq.into(); EXTENSION_WORDS]);
        assert_eq!(memory.seq.get(), FIRST_SEQ);
    }

    #[test]
    fn the_extension_is_accessed_within_the_protocol_like_the_words() {
        let memory = Recorder::default();
        write_extended(&memory, 0, &[0; WORDS], |seq| [seq.into(); EXTENSION_WORDS]);
        let written = memory.accesses.take();
        let expected = [
            "store seq",
            "fence",
            "store extension",
            "fence",
            "store seq",
        ];
        assert_eq!(written[1..], expected);
        let seen = read(&memory, &NoCounter, |_| false).unwrap();
        assert_eq!(seen.extension, Some([1; EXTENSION_WORDS]));
        let expected = ["load seq", "fence", "load extension", "fence", "load seq"];
        assert_eq!(memory.accesses.take(), expected);
    }
}
