//! The guard: a hypervisor that migrates the machine, a maker that follows, and a reader of both.
//!
//! The hypervisor, the clocks and the memory are simulated. The protocol is not: the maker samples by
//! `sample_between_looks` and writes by `seqlock::write_extended`, the reader reads by `seqlock::read_guarded`
//! and `counter_if_unchanged`, and decides by `judge`.
//!
//! The machine's counter holds the number of migrations so far, as does the device's marker. A page's reference
//! is the counter that its maker sampled. So a bound is true exactly if counter and reference are equal, and a
//! token belongs to a counter exactly if they are equal.

use std::cell::Cell;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc as Uncounted;
use std::sync::atomic::AtomicU64 as Tally;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use vmclock::clock::guard::{Guard, GuardDevice, Look, judge};
use vmclock::counter::Counter;
use vmclock::extension::{DeviceRecord, DeviceState, Extension};
use vmclock::no_bound::NoBound;
use vmclock::publish::guard::{Guarded, sample_between_looks};
use vmclock::seqlock::{
    self, Cached, Consistent, EXTENSION_WORDS, FIRST_SEQ, SharedWords, SharedWordsMut, Tried, WORDS,
};
use vmclock::snapshot::{Abi, RawFields, Snapshot};

use super::{long, preemptions};

const SIZE_BYTES: u32 = 0x1000;
const NUMBER: u64 = 1;
const BOOT: u128 = 1;

/// Positions of the words that a model needs: the marker, the reference, the extension's sequence number, and
/// the recorded marker.
const MARKER: usize = 0;
const REFERENCE: usize = 3;
const EXTENSION_SEQ: usize = 1;
const RECORD: usize = 5;

/// The machine: its device, its page, and its counter.
struct Machine {
    device: Page,
    page: Page,
    counter: AtomicU64,
}

/// A page in cells, one for each word that changes.
struct Page {
    seq: AtomicU32,
    marker: AtomicU64,
    /// The part that only a made page has.
    made: Option<Made>,
}

struct Made {
    reference: AtomicU64,
    extension_seq: AtomicU64,
    record: AtomicU64,
}

impl Machine {
    fn new() -> Arc<Self> {
        let body = extension(0).to_words(FIRST_SEQ)[EXTENSION_SEQ];
        let page = |made| Page {
            seq: AtomicU32::new(FIRST_SEQ),
            marker: AtomicU64::new(0),
            made,
        };
        Arc::new(Self {
            device: page(None),
            page: page(Some(Made {
                reference: AtomicU64::new(0),
                extension_seq: AtomicU64::new(body),
                record: AtomicU64::new(0),
            })),
            counter: AtomicU64::new(0),
        })
    }
}

/// The counter of the present machine: see the other model's.
struct MachineCounter<'a>(&'a Machine);

impl Counter for MachineCounter<'_> {
    fn id(&self) -> u8 {
        0
    }

    fn read(&self) -> u64 {
        self.0.counter.load(Ordering::Relaxed)
    }
}

fn extension(record: u64) -> Extension {
    Extension {
        boot_id: BOOT,
        device: DeviceRecord::Seen(DeviceState {
            number: NUMBER,
            disruption_marker: record,
            vm_generation: None,
        }),
        ..Extension::default()
    }
}

fn fields(marker: u64, reference: u64) -> (u32, [u64; WORDS]) {
    RawFields {
        version: 1,
        disruption_marker: marker,
        counter_value: reference,
        ..RawFields::default()
    }
    .to_words()
}

impl SharedWords for Page {
    fn load_seq(&self) -> u32 {
        self.seq.load(Ordering::Relaxed)
    }

    fn load_head(&self) -> u32 {
        fields(0, 0).0
    }

    fn load_words(&self) -> [u64; WORDS] {
        let marker = self.marker.load(Ordering::Relaxed);
        let made = self.made.as_ref();
        fields(
            marker,
            made.map_or(0, |made| made.reference.load(Ordering::Relaxed)),
        )
        .1
    }

    fn load_extension(&self) -> Option<[u64; EXTENSION_WORDS]> {
        let made = self.made.as_ref()?;
        let mut words = extension(0).to_words(0);
        words[EXTENSION_SEQ] = made.extension_seq.load(Ordering::Relaxed);
        words[RECORD] = made.record.load(Ordering::Relaxed);
        Some(words)
    }

    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
}

/// The only writer of a page. It remembers the sequence number, as the other model's writer does.
struct Writer<'a> {
    page: &'a Page,
    /// The hypervisor's counter, which it changes among the fields.
    counter: Option<&'a AtomicU64>,
    seq: Cell<u32>,
}

impl SharedWords for Writer<'_> {
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

impl SharedWordsMut for Writer<'_> {
    fn store_seq(&self, seq: u32) {
        self.seq.set(seq);
        self.page.seq.store(seq, Ordering::Relaxed);
    }

    fn store_head(&self, _head: u32) {}

    fn store_words(&self, words: &[u64; WORDS]) {
        self.page.marker.store(words[MARKER], Ordering::Relaxed);
        if let Some(counter) = self.counter {
            counter.store(words[MARKER], Ordering::Relaxed);
        }
        if let Some(made) = &self.page.made {
            made.reference.store(words[REFERENCE], Ordering::Relaxed);
        }
    }

    fn store_extension(&self, words: &[u64; EXTENSION_WORDS]) {
        if let Some(made) = &self.page.made {
            made.record.store(words[RECORD], Ordering::Relaxed);
            made.extension_seq
                .store(words[EXTENSION_SEQ], Ordering::Relaxed);
        }
    }

    fn fence_release(&self) {
        fence(Ordering::Release);
    }
}

/// Migrates the machine: the counter jumps while the device's sequence number is odd.
fn migrate(machine: &Machine, migrations: impl IntoIterator<Item = u64>) {
    let writer = Writer {
        page: &machine.device,
        counter: Some(&machine.counter),
        seq: Cell::new(FIRST_SEQ),
    };
    for migration in migrations {
        writer.seq.set(FIRST_SEQ + 2 * (migration as u32 - 1));
        let (head, words) = fields(migration, 0);
        seqlock::write(&writer, head, &words);
    }
}

/// Jumps the counter in an update of the page itself, which no device reports: a suspend, for example.
fn jump(machine: &Machine) {
    let writer = Writer {
        page: &machine.page,
        counter: Some(&machine.counter),
        seq: Cell::new(FIRST_SEQ),
    };
    let (head, words) = fields(1, 1);
    seqlock::write_extended(&writer, head, &words, |seq| extension(0).to_words(seq));
}

/// A maker of pages.
struct Maker<'a> {
    machine: &'a Machine,
    /// The device's marker at the last look.
    seen: u64,
    /// The counter at the last sample.
    sampled: u64,
}

impl Guarded for Maker<'_> {
    type Error = Infallible;

    fn look(&mut self) -> bool {
        let counter = MachineCounter(self.machine);
        // A device in an update is as it was at the last look.
        let read = seqlock::read(&self.machine.device, &counter, |_| false);
        let now = read.map_or(self.seen, |seen| seen.words[MARKER]);
        std::mem::replace(&mut self.seen, now) != now
    }

    fn sample(&mut self) -> Result<(), Infallible> {
        self.sampled = MachineCounter(self.machine).read();
        Ok(())
    }

    fn follow(&mut self) {}
}

/// Makes the page `updates` times.
fn make(machine: &Machine, updates: u32) {
    let writer = Writer {
        page: &machine.page,
        counter: None,
        seq: Cell::new(FIRST_SEQ),
    };
    let mut maker = Maker {
        machine,
        seen: 0,
        sampled: 0,
    };
    for _ in 0..updates {
        sample_between_looks(&mut maker).unwrap();
        let (head, words) = fields(maker.seen, maker.sampled);
        seqlock::write_extended(&writer, head, &words, |seq| {
            extension(maker.seen).to_words(seq)
        });
    }
}

/// The counts of a model over all of its executions.
#[derive(Clone, Default)]
struct Seen {
    executions: Uncounted<Tally>,
    /// Bounds before and after the first migration.
    bounds: Uncounted<[Tally; 3]>,
    not_followed: Uncounted<Tally>,
    stuck: Uncounted<Tally>,
    cache_hits: Uncounted<Tally>,
    cache_misses: Uncounted<Tally>,
}

/// The state that a clock keeps of one read of page and device.
#[derive(Clone, Copy)]
struct Cache {
    seq: u32,
    guard_seq: u32,
    reference: u64,
    marker: u64,
    is_in_doubt: bool,
    no_bound: Option<NoBound>,
}

/// The cache from before everything.
const FROM_BEFORE: Cache = Cache {
    seq: FIRST_SEQ,
    guard_seq: FIRST_SEQ,
    reference: 0,
    marker: 0,
    is_in_doubt: false,
    no_bound: None,
};

/// Slow path: reads page and device, and decides as the clock does.
fn read(machine: &Machine, tries: u32, seen: &Seen) -> Option<Cache> {
    let mut tries_left = tries;
    let again = |_: Tried, _| {
        tries_left = tries_left.saturating_sub(1);
        tries_left > 0
    };
    let counter = MachineCounter(machine);
    let read = seqlock::read_guarded(&machine.page, &machine.device, &counter, again).ok()?;
    let look = match read.guard {
        Ok(device) => Look::of(&device, NUMBER, SIZE_BYTES),
        Err(stuck) => Look::Stuck { seq: stuck.seq },
    };
    let cache = decide(&read.page, look);
    check(read.page.counter, cache, seen);
    Some(cache)
}

fn decide(page: &Consistent, look: Look) -> Cache {
    let guard = Guard {
        boot_id: Some(BOOT),
        device: GuardDevice::Open {
            memory: Uncounted::new(()),
            number: NUMBER,
            size_bytes: SIZE_BYTES,
            path: PathBuf::new(),
        },
    };
    let snapshot = Snapshot::new(page, SIZE_BYTES, Abi::Uapi);
    let verdict = judge(&snapshot, &guard, look, false, &mut None);
    let guard_seq = match look {
        Look::Seen { seq, .. } | Look::Stuck { seq } => seq,
        Look::None | Look::OtherVersion { .. } => panic!("{look:?}"),
    };
    Cache {
        seq: page.seq,
        guard_seq,
        reference: snapshot.raw.counter_value,
        marker: verdict.continuity.disruption_marker,
        is_in_doubt: verdict.doubt.is_some(),
        no_bound: verdict.no_bound,
    }
}

/// Fast path: reads the counter for a cache.
fn read_counter(machine: &Machine, cache: Cache, seen: &Seen) {
    let (page, guard) = cached(machine, cache);
    match seqlock::counter_if_unchanged(&page, &guard, &MachineCounter(machine)) {
        Some(counter) => {
            seen.cache_hits.fetch_add(1, Relaxed);
            check(counter, cache, seen);
        }
        None => {
            seen.cache_misses.fetch_add(1, Relaxed);
        }
    }
}

/// Checks a token after a capture: if the cache is current, the capture belongs to it.
fn check_token(machine: &Machine, cache: Cache, seen: &Seen) {
    let captured = MachineCounter(machine).read();
    let (page, guard) = cached(machine, cache);
    if seqlock::both_unchanged(&page, &guard) {
        seen.cache_hits.fetch_add(1, Relaxed);
        check(captured, cache, seen);
    } else {
        seen.cache_misses.fetch_add(1, Relaxed);
    }
}

fn cached(machine: &Machine, cache: Cache) -> (Cached<'_, Page>, Cached<'_, Page>) {
    let page = Cached {
        memory: &machine.page,
        seq: cache.seq,
    };
    let guard = Cached {
        memory: &machine.device,
        seq: cache.guard_seq,
    };
    (page, guard)
}

/// Checks what a reading says at `counter`.
fn check(counter: u64, cache: Cache, seen: &Seen) {
    match cache.no_bound {
        None => {
            assert!(
                counter == cache.reference,
                "TORN: a bound at counter {counter} by the reference {}",
                cache.reference,
            );
            seen.bounds[counter as usize].fetch_add(1, Relaxed);
        }
        Some(NoBound::NotFollowed) => {
            seen.not_followed.fetch_add(1, Relaxed);
        }
        Some(NoBound::DeviceStuck) => {
            assert!(cache.is_in_doubt, "TORN: a token from a stuck device");
            seen.stuck.fetch_add(1, Relaxed);
        }
        other => panic!("TORN: {other:?}"),
    }
    assert!(
        cache.is_in_doubt || counter == cache.marker,
        "TORN: a token of {} at counter {counter}",
        cache.marker,
    );
}

/// The threads of a model.
#[derive(Clone, Copy)]
struct Threads {
    /// Migrations before the other threads start, and during their run.
    migrations: (u64, u64),
    /// The counter jumps in an update of the page itself.
    jumps: bool,
    /// Updates of the page by a maker; none for a model without one.
    updates: u32,
    /// A reader; none for a model without one. A last reading follows when all threads have ended.
    reader: Option<fn(&Machine, &Seen)>,
}

/// Runs the threads of a model through all of their executions.
fn explore(name: &str, most: Option<usize>, threads: Threads) -> Seen {
    let started = Instant::now();
    let seen = Seen::default();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = most;
    let within = seen.clone();
    builder.check(move || {
        within.executions.fetch_add(1, Relaxed);
        let machine = Machine::new();
        let (before, during) = threads.migrations;
        migrate(&machine, 1..=before);
        let making = (threads.updates > 0).then(|| {
            let machine = Arc::clone(&machine);
            thread::spawn(move || make(&machine, threads.updates))
        });
        let reading = threads.reader.map(|reader| {
            let (machine, seen) = (Arc::clone(&machine), within.clone());
            thread::spawn(move || reader(&machine, &seen))
        });
        migrate(&machine, before + 1..=before + during);
        if threads.jumps {
            jump(&machine);
        }
        for thread in [making, reading].into_iter().flatten() {
            thread.join().unwrap();
        }
        if threads.reader.is_none() {
            read(&machine, 1, &within);
        }
    });
    println!(
        "model: {name}: {} executions explored ({} preemptions), {:.1} s",
        seen.executions.load(Relaxed),
        most.map_or_else(
            || "any number of".to_owned(),
            |most| format!("up to {most}")
        ),
        started.elapsed().as_secs_f64(),
    );
    seen
}

fn require(count: &Tally, what: &str) {
    assert!(count.load(Relaxed) > 0, "VACUOUS: {what} never happened");
}

fn read_once(machine: &Machine, seen: &Seen) {
    read(machine, 1, seen);
}

fn use_a_cache_from_before(machine: &Machine, seen: &Seen) {
    read_counter(machine, FROM_BEFORE, seen);
}

fn use_a_cache_from_now(machine: &Machine, seen: &Seen) {
    if let Some(cache) = read(machine, 1, seen) {
        read_counter(machine, cache, seen);
    }
}

fn use_a_token(machine: &Machine, seen: &Seen) {
    check_token(machine, FROM_BEFORE, seen);
}

/// A page that nobody makes anew.
const UNMADE: Threads = Threads {
    migrations: (0, 1),
    jumps: false,
    updates: 0,
    reader: None,
};

#[test]
fn a_reading_during_a_migration_has_no_false_bound_and_no_other_counters_token() {
    let threads = Threads {
        reader: Some(read_once),
        ..UNMADE
    };
    let seen = explore(
        "a guarded reading, a migration",
        preemptions(4, None),
        threads,
    );
    require(&seen.bounds[0], "a bound before the migration");
    require(&seen.not_followed, "a reading after the migration");
    require(&seen.stuck, "a reading during the device's update");
}

#[test]
fn a_cache_gives_no_false_bound_across_a_migration() {
    for (name, reader) in [
        (
            "a guarded cache from before, a migration",
            use_a_cache_from_before as fn(&_, &_),
        ),
        ("a guarded cache, a migration", use_a_cache_from_now),
    ] {
        let threads = Threads {
            reader: Some(reader),
            ..UNMADE
        };
        let seen = explore(name, preemptions(3, Some(5)), threads);
        require(&seen.cache_hits, "a use of the cache");
        require(&seen.cache_misses, "a stale cache");
    }
}

#[test]
fn a_current_token_under_a_guard_covers_what_was_captured_before() {
    let threads = Threads {
        reader: Some(use_a_token),
        ..UNMADE
    };
    let seen = explore(
        "a guarded token, a migration",
        preemptions(4, None),
        threads,
    );
    require(&seen.cache_hits, "a current token");
    require(&seen.cache_misses, "a stale token");
}

#[test]
fn a_page_that_is_made_during_a_migration_states_no_false_bound() {
    let threads = Threads {
        updates: 1,
        ..UNMADE
    };
    let seen = explore("a maker, a migration", preemptions(3, Some(5)), threads);
    require(&seen.bounds[1], "a page after the migration");
    require(&seen.not_followed, "a page from before the migration");
}

#[test]
fn a_guarded_reading_is_not_torn_by_a_jump_that_only_the_page_reports() {
    let threads = Threads {
        migrations: (0, 0),
        jumps: true,
        reader: Some(use_a_cache_from_now),
        ..UNMADE
    };
    let seen = explore("a guarded cache, a jump", preemptions(3, Some(5)), threads);
    require(&seen.bounds[0], "a bound before the jump");
    require(&seen.bounds[1], "a bound after the jump");
    require(&seen.cache_misses, "a stale cache");
}

#[test]
fn a_reading_while_the_maker_follows_has_no_false_bound() {
    let threads = Threads {
        migrations: (1, 0),
        updates: 1,
        reader: Some(use_a_cache_from_now),
        ..UNMADE
    };
    let seen = explore("a guarded cache, a maker", preemptions(2, Some(4)), threads);
    require(&seen.not_followed, "a reading before the maker followed");
    require(&seen.bounds[1], "a bound after the maker followed");
}

#[test]
fn a_reader_a_maker_and_a_migration_give_no_false_bound_together() {
    let threads = Threads {
        updates: 1,
        reader: Some(read_once),
        ..UNMADE
    };
    let name = "a guarded reading, a maker, a migration";
    if !long() {
        return;
    }
    let seen = explore(name, Some(1), threads);
    require(&seen.bounds[0], "a bound before the migration");
    require(&seen.not_followed, "a reading before the maker followed");
}
