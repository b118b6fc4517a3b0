//! A counter that is read in no order, on a CPU whose exits are precise.
//!
//! The protocol is the production source: `seqlock::read`, `counter_if_unchanged` and `read_guarded`. The CPU is
//! simulated. The hypervisor moves it to another machine only between two instructions of its program: what precedes
//! the exit is done, and what follows is done afterwards. Within that limit the counter moves freely:
//!
//! - *early*: its value is the one of the program's start, before any load;
//! - *late*: the sequence numbers behind it were loaded before it was read.
//!
//! A value or a load that an exit overtook is discarded and made again. The counter's value is the number of its
//! machine. On a CPU without that rule each model must tear: the tests whose names say so require it.

use std::cell::Cell;

use loom::sync::Mutex;

use super::*;

/// How the counter moves among its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    Early,
    Late,
}

/// The host: its hypervisor, and what it keeps for the machine.
struct Host {
    /// The hypervisor's page.
    device: Arc<Page>,
    /// A page that a maker keeps under the device's guard. Its generation is that of the device at its sample.
    page: Arc<Page>,
    /// The machine that the CPU runs on from its next instruction on.
    machine: Arc<Mutex<u64>>,
}

impl Host {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            device: Page::new(),
            page: Page::new(),
            machine: Arc::new(Mutex::new(0)),
        })
    }

    fn migrate(&self) {
        let hypervisor = Hypervisor {
            writer: Writer::new(&self.device),
            machine: &self.machine,
        };
        seqlock::write(&hypervisor, 1, &[1; WORDS]);
    }

    /// Makes the page anew, on a CPU of its own, if the device shows that the machine was migrated.
    fn follow(&self) {
        // The maker's own counter and looks are the other model's matter.
        let look = seqlock::read(&*self.device, &Machine(Arc::clone(&self.device)), |_| false);
        if look.is_ok_and(|device| device.words[0] == 1) {
            seqlock::write(&Writer::new(&self.page), 1, &[1; WORDS]);
        }
    }
}

/// The device's writer: the CPU is moved while the device's sequence number is odd.
struct Hypervisor<'a> {
    writer: Writer,
    machine: &'a Mutex<u64>,
}

impl SharedWords for Hypervisor<'_> {
    fn load_seq(&self) -> u32 {
        self.writer.load_seq()
    }

    fn load_head(&self) -> u32 {
        self.writer.load_head()
    }

    fn load_words(&self) -> [u64; WORDS] {
        self.writer.load_words()
    }

    fn fence_acquire(&self) {
        self.writer.fence_acquire();
    }
}

impl SharedWordsMut for Hypervisor<'_> {
    fn store_seq(&self, seq: u32) {
        self.writer.store_seq(seq);
    }

    fn store_head(&self, head: u32) {
        self.writer.store_head(head);
    }

    fn store_words(&self, words: &[u64; WORDS]) {
        // Between two instructions of the CPU. Its next one finds everything that the hypervisor did before.
        *self.machine.lock().unwrap() = words[0];
        self.writer.store_words(words);
    }

    fn fence_release(&self) {
        self.writer.fence_release();
    }
}

/// The CPU that reads.
struct Cpu<'a> {
    host: &'a Host,
    is_precise: bool,
    /// The machine at the last instruction.
    machine: Cell<u64>,
    /// The counter's value that was taken ahead, and the machine then.
    taken: Cell<Option<u64>>,
}

impl<'a> Cpu<'a> {
    fn new(host: &'a Host, moved: Moved, is_precise: bool) -> Self {
        let cpu = Self {
            host,
            is_precise,
            machine: Cell::new(0),
            taken: Cell::new(None),
        };
        let now = cpu.step();
        if moved == Moved::Early {
            cpu.taken.set(Some(now));
        }
        cpu
    }

    /// Begins an instruction, and returns the machine that it runs on. An exit before it discards what was done
    /// ahead.
    fn step(&self) -> u64 {
        let now = *self.host.machine.lock().unwrap();
        if self.machine.replace(now) != now && self.is_precise {
            self.taken.set(None);
        }
        now
    }
}

impl Counter for Cpu<'_> {
    fn id(&self) -> u8 {
        0
    }

    fn read(&self) -> u64 {
        let now = self.step();
        self.taken.take().unwrap_or(now)
    }
}

/// Memory as the CPU loads from it.
struct Seen<'a> {
    cpu: &'a Cpu<'a>,
    page: &'a Page,
    /// The sequence number that was loaded ahead, and the machine then.
    ahead: Cell<Option<(u32, u64)>>,
}

impl<'a> Seen<'a> {
    fn new(cpu: &'a Cpu<'a>, page: &'a Page) -> Self {
        Self {
            cpu,
            page,
            ahead: Cell::new(None),
        }
    }

    /// Loads the sequence number of the look behind the counter, before the counter is read.
    fn load_ahead(&self) {
        let machine = self.cpu.step();
        self.ahead.set(Some((self.page.load_seq(), machine)));
    }
}

impl SharedWords for Seen<'_> {
    fn load_seq(&self) -> u32 {
        let now = self.cpu.step();
        match self.ahead.take() {
            Some((seq, machine)) if machine == now || !self.cpu.is_precise => seq,
            _ => self.page.load_seq(),
        }
    }

    fn load_head(&self) -> u32 {
        self.cpu.step();
        self.page.load_head()
    }

    fn load_words(&self) -> [u64; WORDS] {
        self.cpu.step();
        self.page.load_words()
    }

    fn fence_acquire(&self) {
        self.page.fence_acquire();
    }
}

/// The counts of a model over all of its executions.
#[derive(Clone, Default)]
struct Counts {
    executions: Uncounted<Tally>,
    before: Uncounted<Tally>,
    after: Uncounted<Tally>,
    refused: Uncounted<Tally>,
}

impl Counts {
    fn note(&self, machine: Option<u64>) {
        let count = match machine {
            Some(0) => &self.before,
            Some(_) => &self.after,
            None => &self.refused,
        };
        count.fetch_add(1, Relaxed);
    }
}

/// Fails as torn, or by another word on a CPU that must fail: `tools/model.mjs` looks for the first.
fn require_same(is_precise: bool, counter: u64, generation: u64) {
    let found = if is_precise { "TORN" } else { "IMPRECISE" };
    assert!(
        counter == generation,
        "{found}: counter of machine {counter} with fields of {generation}"
    );
}

type Reader = fn(&Host, Moved, bool, &Counts);

/// Fast path with a cache from before the migration, of the device's own page.
fn use_a_cache(host: &Host, moved: Moved, is_precise: bool, counts: &Counts) {
    let cpu = Cpu::new(host, moved, is_precise);
    let device = Seen::new(&cpu, &host.device);
    if moved == Moved::Late {
        device.load_ahead();
    }
    let cached = Cached {
        memory: &device,
        seq: 0,
    };
    let counter = seqlock::counter_if_unchanged(&cached, &NO_GUARD, &cpu);
    if let Some(counter) = counter {
        require_same(is_precise, counter, 0);
    }
    counts.note(counter);
}

/// Fast path with a cache from before the migration, of a page under the device's guard.
fn use_a_guarded_cache(host: &Host, moved: Moved, is_precise: bool, counts: &Counts) {
    let cpu = Cpu::new(host, moved, is_precise);
    let (page, device) = (Seen::new(&cpu, &host.page), Seen::new(&cpu, &host.device));
    if moved == Moved::Late {
        page.load_ahead();
        device.load_ahead();
    }
    let counter = seqlock::counter_if_unchanged(
        &Cached {
            memory: &page,
            seq: 0,
        },
        &Cached {
            memory: &device,
            seq: 0,
        },
        &cpu,
    );
    if let Some(counter) = counter {
        require_same(is_precise, counter, 0);
    }
    counts.note(counter);
}

/// Slow path: the device's own page. The counter moves ahead of the fields.
fn read_page(host: &Host, moved: Moved, is_precise: bool, counts: &Counts) {
    let cpu = Cpu::new(host, moved, is_precise);
    let device = Seen::new(&cpu, &host.device);
    let read = seqlock::read(&device, &cpu, |_| false);
    if let Ok(read) = read {
        require_same(is_precise, read.counter, read.words[0]);
    }
    counts.note(read.ok().map(|read| read.counter));
}

/// Slow path: a page and the device that guards it. A bound is given only if both are of one generation.
fn read_both(host: &Host, moved: Moved, is_precise: bool, counts: &Counts) {
    let cpu = Cpu::new(host, moved, is_precise);
    let (page, device) = (Seen::new(&cpu, &host.page), Seen::new(&cpu, &host.device));
    let read = seqlock::read_guarded(&page, &device, &cpu, |_, _| false);
    let bounded = read.ok().and_then(|read| {
        let guard = read.guard.ok()?;
        (guard.words[0] == read.page.words[0]).then_some(read.page)
    });
    if let Some(page) = &bounded {
        require_same(is_precise, page.counter, page.words[0]);
    }
    counts.note(bounded.map(|page| page.counter));
}

/// Runs a reader beside a migration, and a maker that follows it, through all of their executions.
fn explore(name: &str, reader: Reader, moved: Moved, has_maker: bool, is_precise: bool) -> Counts {
    let started = Instant::now();
    let counts = Counts::default();
    let within = counts.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = if has_maker {
        preemptions(1, Some(3))
    } else {
        preemptions(3, Some(5))
    };
    builder.check(move || {
        within.executions.fetch_add(1, Relaxed);
        let host = Host::new();
        let reading = {
            let (host, counts) = (Arc::clone(&host), within.clone());
            thread::spawn(move || reader(&host, moved, is_precise, &counts))
        };
        let making = has_maker.then(|| {
            let host = Arc::clone(&host);
            thread::spawn(move || host.follow())
        });
        host.migrate();
        for thread in [Some(reading), making].into_iter().flatten() {
            thread.join().unwrap();
        }
    });
    println!(
        "model: {name}, {moved:?}: {} executions explored, {:.1} s",
        counts.executions.load(Relaxed),
        started.elapsed().as_secs_f64(),
    );
    counts
}

fn require(count: &Tally, what: &str) {
    assert!(count.load(Relaxed) > 0, "VACUOUS: {what} never happened");
}

#[test]
fn an_unordered_counter_is_never_used_with_the_cache_of_another_machine() {
    for moved in [Moved::Early, Moved::Late] {
        let name = "an unordered counter, a cache";
        let counts = explore(name, use_a_cache, moved, false, true);
        require(&counts.before, "a use of the cache");
        require(&counts.refused, "a stale cache");
    }
}

#[test]
fn an_unordered_counter_is_never_used_with_the_guarded_cache_of_another_machine() {
    for moved in [Moved::Early, Moved::Late] {
        let name = "an unordered counter, a guarded cache, a maker";
        let counts = explore(name, use_a_guarded_cache, moved, true, true);
        require(&counts.before, "a use of the cache");
        require(&counts.refused, "a stale cache");
    }
}

#[test]
fn a_read_with_an_unordered_counter_is_never_torn() {
    let counts = explore(
        "an unordered counter, a read",
        read_page,
        Moved::Early,
        false,
        true,
    );
    require(&counts.before, "a read before the migration");
    require(&counts.after, "a read after the migration");
    let name = "an unordered counter, a guarded read, a maker";
    let counts = explore(name, read_both, Moved::Early, true, true);
    require(&counts.before, "a bound before the migration");
}

#[test]
#[should_panic(expected = "IMPRECISE")]
fn a_cpu_that_keeps_a_counter_across_an_exit_would_tear_a_read() {
    explore(
        "imprecise exits, a read",
        read_page,
        Moved::Early,
        false,
        false,
    );
}

#[test]
#[should_panic(expected = "IMPRECISE")]
fn a_cpu_that_keeps_a_younger_load_across_an_exit_would_tear_a_cache() {
    explore(
        "imprecise exits, a cache",
        use_a_cache,
        Moved::Late,
        false,
        false,
    );
}
