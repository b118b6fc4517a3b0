//! A publication that changes between the kernel's clock and a better source, on a machine whose true time is known.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected fails"
)]

use std::cell::Cell;
use std::sync::Arc;

use vmclock::counter::Counter;
use vmclock::extension::SourceKind;
use vmclock::no_bound::{Distrust, NoBound};
use vmclock::publish::{Cause, From, OldPage, Publication, PublishOptions};
use vmclock::source::best::Best;
use vmclock::source::kernel::KernelSource;
use vmclock::source::kernel::clock::SystemClock;
use vmclock::source::{Candidate, Fix, Scene};
use vmclock::{Error, Options, VmClock};
use vmclock_testkit::virtual_machine::{Machine, Memory};

const NS_PER_SEC: i128 = 1_000_000_000;
const INTERVAL_NS: i128 = 250_000_000;
const START_SEC: i128 = 1_795_392_000;

/// A source that knows the true time to within its bound, if it works.
struct Other<'a> {
    machine: &'a Machine,
    /// The error and the bound in nanoseconds; `None` while it fails.
    works: &'a Cell<Option<(i128, u128)>>,
}

impl Candidate for Other<'_> {
    fn kind(&self) -> SourceKind {
        SourceKind::ClockBound
    }

    fn sample(&mut self, _counter: &dyn Counter, _scene: &Scene<'_>) -> Result<Fix, Error> {
        let (error_ns, max_error_ns) = self.works.get().ok_or(Error::NoSource {
            source_name: "staged",
            path: None,
            reason: "it fails".to_owned(),
            remedy: "none",
            errno: None,
        })?;
        let bracket = self.machine.bracket(&self.machine);
        let system_error_ns = i128::from(self.machine.state.borrow().error_ns());
        Ok(Fix {
            counter: bracket.counter.wrapping_add(bracket.width_ticks / 2),
            half_width_ticks: bracket.width_ticks / 2 + 1,
            utc_ns: bracket.realtime_ns - system_error_ns + error_ns,
            max_error_ns,
            estimate_ns: None,
            is_synchronized: true,
            is_operators: false,
        })
    }

    fn disrupt(&mut self, _cause: Distrust) {}
}

type Source<'a> = Best<KernelSource<&'a Machine>, Other<'a>>;

struct Guest<'a> {
    machine: &'a Machine,
    publication: Publication<Source<'a>, &'a Machine, &'a Machine>,
    memory: Arc<Memory>,
}

impl<'a> Guest<'a> {
    fn new(
        machine: &'a Machine,
        works: &'a Cell<Option<(i128, u128)>>,
        old: Option<OldPage>,
    ) -> Self {
        let others = vec![Other { machine, works }];
        let source = Best::new(KernelSource::new(machine), others, From::Auto);
        let options = PublishOptions::default();
        let publication = Publication::new(source, machine, machine, options, None, old).unwrap();
        let mut guest = Self {
            machine,
            publication,
            memory: Arc::new(Memory::default()),
        };
        guest.step(Cause::Interval);
        while !guest.publication.is_settled() {
            machine.advance(10_000_000);
            guest.step(Cause::Interval);
        }
        guest
    }

    fn step(&mut self, cause: Cause) {
        let fields = self.publication.step(cause).unwrap();
        self.memory.show(&fields, &self.publication.extension());
    }

    fn run(&mut self, seconds: i128) {
        for _ in 0..seconds * NS_PER_SEC / INTERVAL_NS {
            self.machine.advance(INTERVAL_NS);
            self.step(Cause::Interval);
            self.check();
        }
    }

    /// Reads, and checks that the interval holds the true time. Returns the bound, if one is stated.
    fn check(&self) -> Option<u64> {
        let options = Options::default();
        let memory = Arc::clone(&self.memory);
        let reading = VmClock::new(memory, 0x1000, self.machine, options)
            .read()
            .unwrap();
        let truth_ns = self.machine.truth_tai_ns_at_read() - 37 * NS_PER_SEC;
        let off_ns = (truth_ns - i128::from(reading.epoch_ns)).unsigned_abs();
        let bound_ns = reading.max_error_ns?;
        assert!(
            off_ns <= bound_ns.into(),
            "off by {off_ns}, bound {bound_ns}"
        );
        Some(bound_ns)
    }

    fn source(&self) -> SourceKind {
        self.publication.extension().source
    }

    fn marker(&self) -> u64 {
        self.publication.fields().disruption_marker
    }

    fn left(&self) -> OldPage {
        let (fields, extension) = self.memory.shown();
        OldPage {
            fields,
            extension,
            is_torn: false,
        }
    }
}

/// The kernel's clock is off by 40 ms, and its daemon says so honestly.
fn machine(seed: u64) -> Machine {
    let machine = Machine::new(seed, START_SEC);
    report(&machine, 3, 40_000_000);
    machine
}

/// The daemon reports an honest error, and leaves the clock off by `error_ns`.
fn report(machine: &Machine, uncertainty_us: i64, error_ns: i64) {
    let mut state = machine.state.borrow_mut();
    let now_ns = state.error_ns();
    state.step(error_ns - now_ns);
    state.synchronize(uncertainty_us);
    state.discipline.maxerror_us = error_ns.unsigned_abs() / 1000 + 11;
}

#[test]
fn a_change_of_source_is_no_disruption_and_every_bound_holds() {
    for seed in 0..32 {
        let machine = machine(seed);
        let works = Cell::new(None);
        let mut guest = Guest::new(&machine, &works, None);
        let marker = guest.marker();
        let (mut changes, mut last) = (0, guest.source());
        assert_eq!(last, SourceKind::Kernel);
        for _ in 0..60 {
            let (error_us, is_working) = {
                let random = &mut machine.state.borrow_mut().random;
                (random.range(-50, 50), !random.chance(3))
            };
            works.set(is_working.then_some((i128::from(error_us) * 1000, 50_000)));
            guest.run(5);
            assert!(guest.check().is_some());
            assert_eq!(guest.marker(), marker, "seed {seed}");
            changes += u32::from(guest.source() != last);
            last = guest.source();
        }
        assert!(changes >= 4, "seed {seed}: {changes}");
    }
}

#[test]
fn a_better_source_has_a_small_bound_beside_a_bad_kernel_clock_from_the_first_page_on() {
    let machine = machine(1);
    let works = Cell::new(Some((20_000, 50_000)));
    let mut guest = Guest::new(&machine, &works, None);
    assert_eq!(guest.source(), SourceKind::ClockBound);
    assert!(guest.check().unwrap() < 100_000);
    guest.run(60);
    // Its baseline replaces the kernel's ceiling.
    machine.advance(NS_PER_SEC);
    assert!(guest.check().unwrap() < 100_000);
}

#[test]
fn a_step_of_the_kernels_clock_leaves_a_better_source_as_it_is() {
    let machine = machine(2);
    let works = Cell::new(Some((0, 50_000)));
    let mut guest = Guest::new(&machine, &works, None);
    guest.run(20);
    let marker = guest.marker();
    machine.state.borrow_mut().step(3_000_000_000);
    guest.step(Cause::ClockStep);
    assert!(guest.check().unwrap() < 200_000);
    guest.run(20);
    assert!(guest.check().unwrap() < 100_000);
    assert_eq!(
        (guest.marker(), guest.source()),
        (marker, SourceKind::ClockBound)
    );
}

#[test]
fn a_counter_that_jumps_is_a_disruption_whatever_source_gives_the_time() {
    let machine = machine(3);
    let works = Cell::new(Some((0, 50_000)));
    let mut guest = Guest::new(&machine, &works, None);
    guest.run(5);
    let marker = guest.marker();
    machine.state.borrow_mut().move_counter(2_900_000_000);
    guest.step(Cause::Interval);
    assert_eq!(guest.marker(), marker.wrapping_add(1));
    machine.advance(10_000_000);
    guest.step(Cause::Interval);
    guest.run(5);
    assert!(guest.check().is_some());
    machine.state.borrow_mut().suspend(5 * NS_PER_SEC, 0);
    guest.step(Cause::Interval);
    assert_eq!(guest.marker(), marker.wrapping_add(2));
}

#[test]
fn a_page_of_an_unsynchronized_clock_is_taken_over_by_a_better_source_without_a_disruption() {
    let machine = Machine::new(4, START_SEC);
    machine.state.borrow_mut().step(300_000_000);
    let works = Cell::new(None);
    let mut guest = Guest::new(&machine, &works, None);
    guest.run(2);
    assert_eq!((guest.check(), guest.source()), (None, SourceKind::Kernel));
    let (marker, old) = (guest.marker(), guest.left());
    works.set(Some((0, 50_000)));
    let guest = Guest::new(&machine, &works, Some(old));
    assert_eq!(
        (guest.marker(), guest.source()),
        (marker, SourceKind::ClockBound)
    );
    assert!(guest.check().is_some());
}

#[test]
fn a_change_of_the_kernels_clock_under_a_better_source_is_known_to_the_next_publisher() {
    let machine = machine(5);
    let works = Cell::new(Some((0, 50_000)));
    let mut guest = Guest::new(&machine, &works, None);
    guest.run(5);
    // Somebody slews the clock, and no report explains it.
    machine.state.borrow_mut().discipline.single_shot_ns = 2_000_000;
    guest.run(2);
    assert!(guest.publication.extension().is_kernel_changed);
    assert!(guest.check().is_some());
    let old = guest.left();
    works.set(None);
    let guest = Guest::new(&machine, &works, Some(old));
    assert_eq!((guest.check(), guest.source()), (None, SourceKind::Kernel));
    let no_bound = guest.publication.no_bound();
    let left = no_bound.and_then(NoBound::updates_left);
    assert_eq!(left, Some(64), "{no_bound:?}");
}

#[test]
fn a_source_that_corrects_itself_leaves_no_false_rate_behind() {
    for correction_ns in [1_000_000, 100_000_000] {
        let machine = machine(7);
        // Its old claims were false; the new ones are true.
        let works = Cell::new(Some((correction_ns, 20_000)));
        let mut guest = Guest::new(&machine, &works, None);
        for _ in 0..400 {
            machine.advance(INTERVAL_NS);
            guest.step(Cause::Interval);
        }
        let marker = guest.marker();
        works.set(Some((5_000, 20_000)));
        machine.advance(INTERVAL_NS);
        guest.step(Cause::Interval);
        assert_eq!(guest.source(), SourceKind::Kernel);
        guest.run(9);
        assert_eq!(guest.source(), SourceKind::Kernel);
        guest.run(60);
        assert_eq!(guest.source(), SourceKind::ClockBound);
        assert_eq!(guest.marker(), marker);
    }
}

#[test]
fn a_correction_before_there_is_a_period_leaves_no_false_rate_behind() {
    let machine = machine(8);
    let works = Cell::new(Some((10_000_000, 20_000)));
    let others = vec![Other {
        machine: &machine,
        works: &works,
    }];
    let source = Best::new(KernelSource::new(&machine), others, From::Auto);
    let options = PublishOptions::default();
    let mut guest = Guest {
        machine: &machine,
        publication: Publication::new(source, &machine, &machine, options, None, None).unwrap(),
        memory: Arc::new(Memory::default()),
    };
    guest.step(Cause::Interval);
    assert!(!guest.publication.is_settled());
    works.set(Some((5_000, 20_000)));
    machine.advance(10_000_000);
    guest.step(Cause::Interval);
    guest.run(60);
    machine.advance(NS_PER_SEC);
    assert!(guest.check().is_some());
}

#[test]
fn a_stated_error_is_refused_with_another_source_than_the_kernels_clock() {
    for (from, is_allowed) in [
        (From::Auto, true),
        (From::Kernel, true),
        (From::Phc, false),
        (From::ClockBound, false),
    ] {
        let machine = machine(6);
        let works = Cell::new(None);
        let others = vec![Other {
            machine: &machine,
            works: &works,
        }];
        let source = Best::new(KernelSource::new(&machine), others, from);
        let options = PublishOptions {
            from,
            max_error_ns: Some(50_000_000),
            ..PublishOptions::default()
        };
        let result = Publication::new(source, &machine, &machine, options, None, None);
        let code = result.err().map(|error| error.code());
        assert_eq!(code.is_none(), is_allowed, "{from:?}: {code:?}");
    }
}
