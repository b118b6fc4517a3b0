//! Checks the read protocol with the model checker loom. It runs the production source of `seqlock` through
//! every interleaving of its threads, and through every older value that a relaxed load may still return. A
//! test on real threads sees only a few of them.
//!
//! The memory, the counter and the writer's death are simulated. The protocol is not: readers and writers
//! call `vmclock::seqlock`. Every result must satisfy a relation that only fields, counter and sequence
//! number of one state of the page satisfy.
//!
//! The short form limits how often a thread is preempted, and takes seconds. `VMCLOCK_MODEL=long` lifts the
//! limit and adds updates and threads. `tools/model.mjs` requires that these models reject a seqlock from
//! which any one part is missing.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

#[path = "model/guard.rs"]
mod guard;
#[path = "model/unordered.rs"]
mod unordered;

use std::cell::Cell;
use std::sync::Arc as Uncounted;
use std::sync::atomic::{AtomicU64 as Tally, Ordering::Relaxed};
use std::time::Instant;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use vmclock::counter::Counter;
use vmclock::seqlock::{self, Cached, SharedWords, SharedWordsMut, WORDS};

/// A page, and the counter of the machine that the page was written for.
///
/// The twelve words are two cells: the first six and the last six. That hides nothing. The loads of the words
/// are not ordered among each other, so a torn result is two locations of different generations. For every
/// execution on twelve words that tears there is one on two cells that tears. More cells only multiply the
/// executions. The extension is left out for the same reason: its words are loaded and stored between the
/// same fences.
struct Page {
    seq: AtomicU32,
    head: AtomicU32,
    first: AtomicU64,
    last: AtomicU64,
    /// A migration moves the machine to another counter while the sequence number is odd. So a write of a
    /// new generation changes this among the fields.
    counter: AtomicU64,
}

impl Page {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            seq: AtomicU32::new(0),
            head: AtomicU32::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            counter: AtomicU64::new(0),
        })
    }
}

impl SharedWords for Page {
    fn load_seq(&self) -> u32 {
        self.seq.load(Ordering::Relaxed)
    }

    fn load_head(&self) -> u32 {
        self.head.load(Ordering::Relaxed)
    }

    fn load_words(&self) -> [u64; WORDS] {
        let first = self.first.load(Ordering::Relaxed);
        let last = self.last.load(Ordering::Relaxed);
        std::array::from_fn(|word| if word < WORDS / 2 { first } else { last })
    }

    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
}

/// The counter of the present machine. It is a relaxed load, which has the order that the `Counter` trait
/// promises: after the loads before it, and before the loads behind a fence. So the counter is one more field
/// that must not be torn off.
struct Machine(Arc<Page>);

impl Counter for Machine {
    fn id(&self) -> u8 {
        0
    }

    fn read(&self) -> u64 {
        self.0.counter.load(Ordering::Relaxed)
    }
}

/// The page's writer. It performs `stores_left` stores and then is dead.
///
/// It remembers the sequence number instead of loading it. The only writer reads its own last store in every
/// execution, so that changes nothing. But loom keeps one last access for each cell when it looks for orders
/// to try. It would take the writer's own load for the access that the store races with, and would miss the
/// readers' loads before it.
struct Writer {
    page: Arc<Page>,
    seq: Cell<u32>,
    stores_left: Cell<u32>,
}

impl Writer {
    fn new(page: &Arc<Page>) -> Self {
        Self {
            page: Arc::clone(page),
            seq: Cell::new(0),
            stores_left: Cell::new(u32::MAX),
        }
    }

    /// Returns the writer that takes the page over from this one. The publisher's lock orders it after
    /// everything that the dead writer did, so it sees the sequence number that was left.
    fn successor(self) -> Self {
        Self {
            stores_left: Cell::new(u32::MAX),
            ..self
        }
    }

    fn write(&self, generation: Generation) {
        seqlock::write(self, generation as u32, &[generation; WORDS]);
    }

    /// Counts a store. Returns whether the writer lives to make it.
    fn lives(&self) -> bool {
        let left = self.stores_left.get();
        self.stores_left.set(left.saturating_sub(1));
        left > 0
    }
}

impl SharedWords for Writer {
    fn load_seq(&self) -> u32 {
        self.seq.get()
    }

    fn load_head(&self) -> u32 {
        self.page.load_head()
    }

    fn load_words(&self) -> [u64; WORDS] {
        self.page.load_words()
    }

    fn fence_acquire(&self) {
        self.page.fence_acquire();
    }
}

impl SharedWordsMut for Writer {
    fn store_seq(&self, seq: u32) {
        if self.lives() {
            self.seq.set(seq);
            self.page.seq.store(seq, Ordering::Relaxed);
        }
    }

    fn store_head(&self, head: u32) {
        if self.lives() {
            self.page.head.store(head, Ordering::Relaxed);
        }
    }

    fn store_words(&self, words: &[u64; WORDS]) {
        if self.lives() {
            self.page.first.store(words[0], Ordering::Relaxed);
        }
        if self.lives() {
            self.page.counter.store(words[0], Ordering::Relaxed);
        }
        if self.lives() {
            self.page.last.store(words[WORDS - 1], Ordering::Relaxed);
        }
    }

    fn fence_release(&self) {
        fence(Ordering::Release);
    }
}

/// The number of a state of the page. Everything that one update writes holds this number, and the sequence
/// number at its end is twice that.
type Generation = u64;

/// The generation that a dying writer was about to publish. No sequence number belongs to it.
const NEVER_PUBLISHED: Generation = 3;

/// The counts of one model over all of its executions. A model that never reached the interesting states
/// must not pass.
#[derive(Clone, Default)]
struct Seen {
    executions: Uncounted<Tally>,
    reads: Uncounted<[Tally; 4]>,
    failed_reads: Uncounted<Tally>,
    cache_hits: Uncounted<[Tally; 4]>,
    cache_misses: Uncounted<Tally>,
}

impl Seen {
    fn require_reads(&self, generations: impl IntoIterator<Item = Generation>) {
        for generation in generations {
            let times = self.reads[generation as usize].load(Relaxed);
            assert!(times > 0, "VACUOUS: no read of generation {generation}");
        }
        let failed = self.failed_reads.load(Relaxed);
        assert!(failed > 0, "VACUOUS: no read of the page was disturbed");
    }

    fn require_cache_hits(&self, generations: impl IntoIterator<Item = Generation>) {
        for generation in generations {
            let times = self.cache_hits[generation as usize].load(Relaxed);
            assert!(
                times > 0,
                "VACUOUS: no use of a cache of generation {generation}"
            );
        }
        let missed = self.cache_misses.load(Relaxed);
        assert!(missed > 0, "VACUOUS: the cache never went stale");
    }
}

/// The cache that a reader keeps of one read, as the clock does.
#[derive(Clone, Copy)]
struct Cache {
    seq: u32,
    generation: Generation,
}

impl Cache {
    fn of(self, page: &Arc<Page>) -> Cached<'_, Page> {
        Cached {
            memory: page,
            seq: self.seq,
        }
    }
}

/// The guard of a page that nothing guards. It needs no atomic, so it adds no execution.
struct Still;

const NO_GUARD: Cached<'static, Still> = Cached {
    memory: &Still,
    seq: 0,
};

impl SharedWords for Still {
    fn load_seq(&self) -> u32 {
        0
    }

    fn load_head(&self) -> u32 {
        0
    }

    fn load_words(&self) -> [u64; WORDS] {
        [0; WORDS]
    }

    fn fence_acquire(&self) {}
}

/// Reads the page with at most `tries` tries. Everything that it returns must be of one generation.
fn read(page: &Arc<Page>, tries: u32, seen: &Seen) -> Option<Cache> {
    let mut tries_left = tries;
    let result = seqlock::read(&**page, &Machine(Arc::clone(page)), |_| {
        tries_left -= 1;
        tries_left > 0
    });
    let Ok(got) = result else {
        seen.failed_reads.fetch_add(1, Relaxed);
        return None;
    };
    let generation = got.words[0];
    assert!(
        u64::from(got.seq) == 2 * generation
            && u64::from(got.head) == generation
            && got.words == [generation; WORDS]
            && got.counter == generation,
        "TORN: head {}, first word {}, last word {} and counter {} at sequence number {}",
        got.head,
        got.words[0],
        got.words[WORDS - 1],
        got.counter,
        got.seq,
    );
    seen.reads[generation as usize].fetch_add(1, Relaxed);
    Some(Cache {
        seq: got.seq,
        generation,
    })
}

/// Fast path: reads the counter for cached fields. Returns whether the cache was current.
fn read_counter(page: &Arc<Page>, cache: Cache, seen: &Seen) -> bool {
    let machine = Machine(Arc::clone(page));
    let counter = seqlock::counter_if_unchanged(&cache.of(page), &NO_GUARD, &machine);
    check(cache, counter, seen)
}

/// Checks a token after a capture. If the cache is current, the capture belongs to it.
fn check_token(page: &Arc<Page>, cache: Cache, seen: &Seen) -> bool {
    let captured = Machine(Arc::clone(page)).read();
    let counter = seqlock::both_unchanged(&cache.of(page), &NO_GUARD).then_some(captured);
    check(cache, counter, seen)
}

fn check(cache: Cache, counter: Option<u64>, seen: &Seen) -> bool {
    let Some(counter) = counter else {
        seen.cache_misses.fetch_add(1, Relaxed);
        return false;
    };
    assert!(
        counter == cache.generation,
        "TORN: counter {counter} with fields {} cached at sequence number {}",
        cache.generation,
        cache.seq,
    );
    seen.cache_hits[cache.generation as usize].fetch_add(1, Relaxed);
    true
}

fn long() -> bool {
    std::env::var_os("VMCLOCK_MODEL").is_some_and(|form| form == "long")
}

/// Returns how often a thread may be preempted in this form of the model. `None` means without limit.
fn preemptions(short: usize, long_form: Option<usize>) -> Option<usize> {
    if long() { long_form } else { Some(short) }
}

/// Everything that a writer does until it ends or dies.
type Life = fn(Writer);

/// Runs `readers` threads of `reader` against `writer`, through all of their executions.
fn explore(
    name: &str,
    preemptions: Option<usize>,
    readers: usize,
    reader: fn(&Arc<Page>, &Seen),
    writer: Life,
) -> Seen {
    let started = Instant::now();
    let seen = Seen::default();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    let within = seen.clone();
    builder.check(move || {
        within.executions.fetch_add(1, Relaxed);
        let page = Page::new();
        let readers: Vec<_> = (0..readers)
            .map(|_| {
                let (page, seen) = (Arc::clone(&page), within.clone());
                thread::spawn(move || reader(&page, &seen))
            })
            .collect();
        writer(Writer::new(&page));
        for reader in readers {
            reader.join().unwrap();
        }
    });
    println!(
        "model: {name}: {} executions explored ({} preemptions), {:.1} s",
        seen.executions.load(Relaxed),
        preemptions.map_or_else(
            || "any number of".to_owned(),
            |most| format!("up to {most}")
        ),
        started.elapsed().as_secs_f64(),
    );
    seen
}

fn one_update(writer: Writer) {
    writer.write(1);
}

fn two_updates(writer: Writer) {
    writer.write(1);
    writer.write(2);
}

fn three_updates(writer: Writer) {
    writer.write(1);
    writer.write(2);
    writer.write(3);
}

fn read_once(page: &Arc<Page>, seen: &Seen) {
    read(page, 1, seen);
}

fn read_twice(page: &Arc<Page>, seen: &Seen) {
    read(page, 2, seen);
}

/// The cache of a reader from before the first update.
const CACHE_FROM_BEFORE: Cache = Cache {
    seq: 0,
    generation: 0,
};

fn use_a_cache_from_before(page: &Arc<Page>, seen: &Seen) {
    // As the clock does: the fast path, and a read if the cache is not current.
    if read_counter(page, CACHE_FROM_BEFORE, seen) {
        read_counter(page, CACHE_FROM_BEFORE, seen);
    } else if let Some(cache) = read(page, 1, seen) {
        read_counter(page, cache, seen);
    }
}

fn use_a_cache_from_during_the_update(page: &Arc<Page>, seen: &Seen) {
    if let Some(cache) = read(page, 1, seen) {
        read_counter(page, cache, seen);
        read_counter(page, cache, seen);
    }
}

fn use_a_token(page: &Arc<Page>, seen: &Seen) {
    check_token(page, CACHE_FROM_BEFORE, seen);
    if let Some(cache) = read(page, 1, seen) {
        check_token(page, cache, seen);
    }
}

#[test]
fn a_read_during_an_update_is_never_torn() {
    let most = preemptions(4, None);
    explore("a read during one update", most, 1, read_once, one_update).require_reads(0..=1);
    let most = preemptions(2, None);
    explore(
        "a read with a retry during one update",
        most,
        1,
        read_twice,
        one_update,
    )
    .require_reads(0..=1);
}

#[test]
fn a_read_during_several_updates_is_never_torn() {
    let most = preemptions(2, Some(4));
    explore("a read during two updates", most, 1, read_once, two_updates).require_reads(0..=2);
    if long() {
        let most = preemptions(2, Some(3));
        explore(
            "a read with a retry during two updates",
            most,
            1,
            read_twice,
            two_updates,
        )
        .require_reads(0..=2);
        explore(
            "a read during three updates",
            most,
            1,
            read_once,
            three_updates,
        )
        .require_reads(0..=3);
        let most = preemptions(2, Some(2));
        explore(
            "two readers during one update",
            most,
            2,
            read_once,
            one_update,
        )
        .require_reads(0..=1);
    }
}

#[test]
fn a_cache_is_used_only_with_the_counter_of_its_own_machine() {
    let most = preemptions(3, Some(4));
    let seen = explore(
        "a cache from before one update",
        most,
        1,
        use_a_cache_from_before,
        one_update,
    );
    seen.require_cache_hits(0..=1);
    let seen = explore(
        "a cache from the middle of one update",
        most,
        1,
        use_a_cache_from_during_the_update,
        one_update,
    );
    seen.require_cache_hits(0..=1);
    if long() {
        let most = preemptions(2, Some(3));
        let seen = explore(
            "a cache from before two updates",
            most,
            1,
            use_a_cache_from_before,
            two_updates,
        );
        seen.require_cache_hits(0..=2);
        let seen = explore(
            "a cache from the middle of two updates",
            most,
            1,
            use_a_cache_from_during_the_update,
            two_updates,
        );
        seen.require_cache_hits(0..=2);
    }
}

#[test]
fn a_token_that_is_current_covers_what_was_loaded_before_the_check() {
    let most = preemptions(2, Some(4));
    let seen = explore(
        "a token during one update",
        most,
        1,
        use_a_token,
        one_update,
    );
    seen.require_cache_hits(0..=1);
    if long() {
        let most = preemptions(2, Some(3));
        let seen = explore(
            "a token during two updates",
            most,
            1,
            use_a_token,
            two_updates,
        );
        seen.require_cache_hits(0..=2);
    }
}

/// Dies after `STORES` stores, which are those of the sequence number, the head, the first words, the
/// counter and the last words. Then another writer takes the page over.
fn die_and_be_succeeded<const STORES: u32>(writer: Writer) {
    writer.stores_left.set(STORES);
    writer.write(NEVER_PUBLISHED);
    writer.successor().write(1);
}

#[test]
fn a_page_whose_writer_died_is_never_seen_half_written() {
    let most = preemptions(2, Some(3));
    let deaths: [(&str, Life); 5] = [
        ("at the first words", die_and_be_succeeded::<3>),
        ("at the sequence number", die_and_be_succeeded::<1>),
        ("at the head", die_and_be_succeeded::<2>),
        ("at the counter", die_and_be_succeeded::<4>),
        ("at the last words", die_and_be_succeeded::<5>),
    ];
    let deaths_tried = if long() { deaths.len() } else { 1 };
    for (place, death) in deaths.into_iter().take(deaths_tried) {
        let name = format!("a takeover from a writer that died {place}");
        explore(&name, most, 1, read_once, death).require_reads(0..=1);
        let name = format!("a cache during a takeover from one that died {place}");
        explore(&name, most, 1, use_a_cache_from_before, death).require_cache_hits(0..=1);
    }
}
