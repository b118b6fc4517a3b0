//! The page's read protocol and its writer twin.
//!
//! A vmclock page is guarded by `seq_count`: odd while its provider rewrites the fields, and two
//! larger after each update. A reader takes the sequence number, the fields and the counter, looks
//! at the sequence number again and throws all of it away if that moved. What makes this right is
//! the order of those steps, which neither the compiler nor the CPU keeps by itself.
//!
//! # The rules of this room
//!
//! - Every access to shared words is a *relaxed atomic* load or store; order comes from the fences
//!   alone. The page is mapped read-only, and relaxed loads of up to 8 bytes are the atomic accesses
//!   that the standard library allows on read-only memory.
//! - Each fence names the fence in the other half that it pairs with. Take one away and the model
//!   in `tests/model.rs` finds an execution that tears; a stress test does not.
//! - The counter is read *between* the fields and the last look at the sequence number. A live
//!   migration changes counter and page together, so a counter that is not enclosed may belong to
//!   another host than the fields do.
//! - What was derived from the fields may be kept and used again while the sequence number is
//!   unchanged, provided that it is compared *after* the counter is read: [`counter_if_unchanged`].
//!   A sequence number comes round after 2^31 updates, which at a thousand a second is 24 days
//!   between two looks by the same reader, and then it must hit the very same number.
//!
//! The functions are generic over the memory that they touch, so that the model checker runs this
//! very source over its own atomics, and a simulation over plain memory.

use crate::counter::Counter;

/// Words of the structure that readers take under the sequence number, from `disruption_marker`
/// (0x10) to the end (0x70).
pub const WORDS: usize = 12;

/// Words of the extension, from [`abi::extension::OFFSET`](crate::abi::extension::OFFSET) on.
pub const EXTENSION_WORDS: usize = 2;

/// Byte offset of the first of the [`WORDS`].
pub const FIRST_WORD_OFFSET: usize = 0x10;

/// A page's memory as a reader sees it: relaxed atomic loads, and a fence.
pub trait SharedWords {
    /// `seq_count`, a relaxed load.
    fn load_seq(&self) -> u32;
    /// The 32 bits at 0x08: `version`, `counter_id` and `time_type`; a relaxed load.
    fn load_head(&self) -> u32;
    /// All [`WORDS`], each by one relaxed 64-bit load.
    fn load_words(&self) -> [u64; WORDS];
    /// All [`EXTENSION_WORDS`], each by one relaxed 64-bit load; `None` for memory without an
    /// extension, such as a device's.
    #[inline(always)]
    fn load_extension(&self) -> Option<[u64; EXTENSION_WORDS]> {
        None
    }
    /// An acquire fence: no load above it is performed after a load or store below it.
    fn fence_acquire(&self);
}

/// A page's memory as its only writer sees it.
pub trait SharedWordsMut: SharedWords {
    /// `seq_count`, a relaxed store.
    fn store_seq(&self, seq: u32);
    /// The 32 bits at 0x08, a relaxed store.
    fn store_head(&self, head: u32);
    /// All [`WORDS`], each by one relaxed 64-bit store.
    fn store_words(&self, words: &[u64; WORDS]);
    /// All [`EXTENSION_WORDS`], each by one relaxed 64-bit store; nothing for memory without an
    /// extension.
    #[inline(always)]
    fn store_extension(&self, _words: &[u64; EXTENSION_WORDS]) {}
    /// A release fence: no load or store above it is performed after a store below it.
    fn fence_release(&self);
}

/// What one undisturbed look at the page saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consistent {
    /// The sequence number, even, under which all of it stood.
    pub seq: u32,
    /// The 32 bits at 0x08.
    pub head: u32,
    /// The structure from 0x10 on.
    pub words: [u64; WORDS],
    /// The extension, if the memory has one.
    pub extension: Option<[u64; EXTENSION_WORDS]>,
    /// The counter, read while the fields were as they are here.
    pub counter: u64,
}

/// The page was never still within the time that the caller allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The sequence number that was seen last. Odd: an update was begun and never ended.
    pub seq: u32,
}

/// Reads fields and counter as of one sequence number.
///
/// `again` is called after each failed look with the sequence number seen, and decides whether to
/// look once more: the caller's deadline. A successful first look never calls it.
///
/// # Errors
///
/// [`Stuck`] when `again` said no.
#[inline]
pub fn read<M: SharedWords, C: Counter>(
    memory: &M,
    counter: &C,
    mut again: impl FnMut(u32) -> bool,
) -> Result<Consistent, Stuck> {
    loop {
        let seq = memory.load_seq();
        if seq & 1 == 0 {
            // Pairs with the fence before `end` stores the even number: who sees that number
            // sees the fields stored before it.
            memory.fence_acquire();
            let head = memory.load_head();
            let words = memory.load_words();
            let extension = memory.load_extension();
            let now = counter.read();
            // Pairs with the fence after `begin` stores the odd number: who sees any later field
            // (or a counter that jumped with them) sees the sequence number moved.
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

/// Reads the counter, and returns it if the page still stands under `seq`, which must be the even
/// number that [`read`] returned with the fields that the caller kept.
#[inline(always)]
pub fn counter_if_unchanged<M: SharedWords, C: Counter>(
    memory: &M,
    counter: &C,
    seq: u32,
) -> Option<u64> {
    let now = counter.read();
    // Pairs with the fence after `begin` stores the odd number: a counter that jumped in an update
    // is never returned with what was kept from before that update.
    memory.fence_acquire();
    (memory.load_seq() == seq).then_some(now)
}

/// Whether the page still stands under `seq`, as of now and of everything loaded before the call.
#[inline(always)]
pub fn unchanged<M: SharedWords>(memory: &M, seq: u32) -> bool {
    // Pairs as in `counter_if_unchanged`: whatever the caller loaded before is not newer than the
    // page that it kept.
    memory.fence_acquire();
    memory.load_seq() == seq
}

/// Begins an update as the page's only writer, and returns the odd number under which it runs. A
/// number that a dead writer left odd is taken over.
#[inline]
pub fn begin<M: SharedWordsMut>(memory: &M) -> u32 {
    let odd = memory.load_seq() | 1;
    memory.store_seq(odd);
    // Pairs with the reader's fence before its last look at the sequence number.
    memory.fence_release();
    odd
}

/// Ends the update that [`begin`] began under `odd`.
#[inline]
pub fn end<M: SharedWordsMut>(memory: &M, odd: u32) {
    // Pairs with the reader's fence after its first look at the sequence number.
    memory.fence_release();
    memory.store_seq(odd.wrapping_add(1));
}

/// Rewrites the page as its only writer. A sequence number that a dead writer left odd is taken
/// over: it goes on to the next even one.
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
    memory.store_extension(&extension(odd.wrapping_add(1)));
    end(memory, odd);
}
