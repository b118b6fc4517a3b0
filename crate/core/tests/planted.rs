//! Holds bugs that a sanitizer has to report. The `sanitizers` suite runs them to show that each sanitizer
//! finds bugs at all.

#![allow(unsafe_code, reason = "safe code cannot have these bugs")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected fails; clippy exempts only the functions marked as tests"
)]

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memmap2::MmapRaw;

/// For the address sanitizer.
#[test]
#[ignore = "a bug: the `sanitizers` suite runs it, and wants it reported"]
fn a_word_is_read_behind_the_last_one() {
    let words = black_box(vec![0_u64; 12]);
    let behind = words.as_ptr().wrapping_add(black_box(words.len()));
    // SAFETY: none; that is the bug.
    black_box(unsafe { behind.read() });
}

/// For the thread sanitizer. Both threads use the same mapping, because it identifies memory by its address.
#[test]
#[ignore = "a bug: the `sanitizers` suite runs it, and wants it reported"]
fn a_mapped_word_is_stored_without_an_atomic_while_another_thread_loads_it() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let map = MmapRaw::map_raw(&file).unwrap();
    let both = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            both.wait();
            for value in 0..1000 {
                // SAFETY: none; that is the bug.
                unsafe { black_box(map.as_mut_ptr().cast::<u64>()).write(value) };
            }
        });
        both.wait();
        for _ in 0..1000 {
            // SAFETY: the word is mapped and aligned. The bug is the other thread's store, which is not
            // atomic.
            let word = unsafe { AtomicU64::from_ptr(map.as_mut_ptr().cast()) };
            black_box(word.load(Ordering::Relaxed));
        }
    });
}
