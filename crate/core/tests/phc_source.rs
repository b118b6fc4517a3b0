//! A publisher that takes its time from a PTP clock, on a simulated machine whose true time is known.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected fails"
)]

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use vmclock::counter::Counter;
use vmclock::extension::SourceKind;
use vmclock::no_bound::NoBound;
use vmclock::ptp::PtpReading;
use vmclock::publish::{Cause, From, Publication, PublishOptions};
use vmclock::source::best::Best;
use vmclock::source::kernel::KernelSource;
use vmclock::source::phc::{Card, Cards, Driver, DriverBound, PhcSource, Share};
use vmclock::{Error, Options, Reading, VmClock};
use vmclock_testkit::scene::{INTERVAL_NS, NS_PER_SEC, START_SEC};
use vmclock_testkit::virtual_machine::{Machine, Memory, Random};

const BOUND_NS: u32 = 30_000;

/// The PTP clock of the machine's host.
struct Phc<'machine> {
    machine: &'machine Machine,
    driver: Driver,
    /// Ahead of the truth.
    off_ns: Cell<i64>,
    bound: Cell<DriverBound>,
    is_busy: Cell<bool>,
    share: Share,
    /// The true time of each reading, in nanoseconds.
    readings: RefCell<Vec<i128>>,
}

impl<'machine> Phc<'machine> {
    fn new(machine: &'machine Machine) -> Self {
        Self {
            machine,
            driver: Driver::Ena,
            off_ns: Cell::new(0),
            bound: Cell::new(DriverBound::Ns(BOUND_NS)),
            is_busy: Cell::new(false),
            share: Share::new(),
            readings: RefCell::new(Vec::new()),
        }
    }

    /// Asserts that no second had more than five readings, and forgets them: a migration moves the clock by which
    /// the publisher counts seconds. That clock is at most 400 ppm off here.
    fn require_rate(&self) {
        let readings = self.readings.take();
        for six in readings.windows(6) {
            let took_ns = six.last().unwrap() - six.first().unwrap();
            assert!(took_ns > 999_000_000, "{took_ns} ns");
        }
    }
}

impl Cards for &Phc<'_> {
    type Card = Self;

    fn find(&self, _: bool) -> Result<Self, Error> {
        Ok(self)
    }
}

impl Card for &Phc<'_> {
    fn driver(&self) -> Driver {
        self.driver
    }

    fn reading(&self) -> Result<PtpReading, Error> {
        // The bus takes some microseconds each way.
        self.machine.advance(3_000);
        let truth_ns = self.machine.state.borrow().truth_tai_ns() - 37 * NS_PER_SEC;
        self.machine.advance(9_000);
        self.readings.borrow_mut().push(truth_ns);
        if self.is_busy.get() {
            let busy = std::io::Error::from_raw_os_error(libc::EBUSY);
            return Err(Error::System {
                syscall: "ioctl",
                path: None,
                source: busy,
            });
        }
        Ok(PtpReading {
            device_ns: i64::try_from(truth_ns).unwrap() + self.off_ns.get(),
            attributes: None,
            counters: None,
        })
    }

    fn driver_bound(&self) -> DriverBound {
        self.bound.get()
    }

    fn share(&self) -> &Share {
        &self.share
    }
}

type Source<'world> = Best<KernelSource<&'world Machine>, PhcSource<&'world Phc<'world>>>;

/// A publisher of the machine's page, and a reader.
struct World<'world> {
    machine: &'world Machine,
    publication: Publication<Source<'world>, &'world Machine, &'world Machine>,
    memory: Arc<Memory>,
}

impl<'world> World<'world> {
    fn new(machine: &'world Machine, phc: &'world Phc<'world>, host_error_ns: Option<u64>) -> Self {
        let kernel = KernelSource::new(machine).with_host_error(host_error_ns);
        let source = Best::new(kernel, vec![PhcSource::new(phc, host_error_ns)], From::Auto);
        let options = PublishOptions {
            host_error_ns,
            ..PublishOptions::default()
        };
        let publication = Publication::new(source, machine, machine, options, None, None).unwrap();
        let mut world = Self {
            machine,
            publication,
            memory: Arc::new(Memory::default()),
        };
        world.step();
        while !world.publication.is_settled() {
            machine.advance(world.publication.next_within().as_nanos().cast_signed());
            world.step();
        }
        world
    }

    fn step(&mut self) {
        let fields = self.publication.step(Cause::Interval).unwrap();
        self.memory.show(&fields, &self.publication.extension());
    }

    fn run(&mut self, ms: i128) {
        for _ in 0..(ms * 1_000_000).div_euclid(INTERVAL_NS) {
            self.machine.advance(INTERVAL_NS);
            self.step();
        }
    }

    fn read(&self) -> Result<Reading, Error> {
        let options = Options::default();
        VmClock::new(Arc::clone(&self.memory), 0x1000, self.machine, options).read()
    }

    /// Reads, and checks that the interval holds the true time. Returns the bound, if one is stated.
    fn check(&self, context: &str) -> Option<u64> {
        let reading = self.read().ok()?;
        let truth_ns = self.machine.truth_tai_ns_at_read() - 37 * NS_PER_SEC;
        let (earliest, latest) = reading.earliest_ns.zip(reading.latest_ns)?;
        assert!(
            (i128::from(earliest)..=i128::from(latest)).contains(&truth_ns),
            "{context}: {} ns off, and {:?} stated",
            truth_ns - i128::from(reading.epoch_ns),
            reading.max_error_ns
        );
        reading.max_error_ns
    }

    fn source(&self) -> SourceKind {
        self.publication.source_kind()
    }
}

/// A machine that a device guards, and whose daemon has no time yet.
fn guarded(seed: u64) -> Machine {
    let machine = Machine::new(seed, START_SEC);
    machine.plug_in();
    machine
}

#[test]
fn a_bound_returns_within_a_second_of_a_migration_from_a_ptp_clock() {
    let mut slowest_ms = 0;
    for seed in 0..50 {
        let machine = guarded(seed);
        let phc = Phc::new(&machine);
        let mut world = World::new(&machine, &phc, None);
        world.run(3_000);
        let bound_ns = world.check("before").unwrap();
        assert!(bound_ns < 200_000, "{bound_ns}");
        machine.migrate(2 * NS_PER_SEC, -1_000_000_000);
        // The page of the maker that has not followed.
        assert!(world.memory_is_stale());
        let began_ns = machine.state.borrow().truth_tai_ns();
        world.step();
        while world.check("after").is_none() {
            machine.advance(world.publication.next_within().as_nanos().cast_signed());
            world.step();
        }
        let took_ms = (machine.state.borrow().truth_tai_ns() - began_ns) / 1_000_000;
        slowest_ms = slowest_ms.max(took_ms);
        assert_eq!(world.source(), SourceKind::Phc);
    }
    assert!(slowest_ms < 1_000, "{slowest_ms} ms");
}

impl World<'_> {
    /// Returns whether the device has changed since the page was made, so that no reader states its bound.
    fn memory_is_stale(&self) -> bool {
        let (_, extension) = self.memory.shown();
        extension.unwrap().device != self.machine.device.get()
    }
}

#[test]
fn a_bound_is_true_whatever_steps_and_slews_the_kernels_clock() {
    let mut stated = 0;
    for seed in 0..20 {
        let machine = guarded(seed);
        let phc = Phc::new(&machine);
        let mut random = Random::new(seed ^ 0x5eed);
        let mut world = World::new(&machine, &phc, None);
        for at in 0..400 {
            match random.range(0, 60) {
                0 => machine
                    .state
                    .borrow_mut()
                    .step(random.range(-3_000_000_000, 3_000_000_000)),
                1 => machine
                    .state
                    .borrow_mut()
                    .set_frequency_ppb(random.range(-400_000, 400_000)),
                2 => {
                    phc.require_rate();
                    let paused_ns = random.range(0, 3_000_000_000);
                    machine.migrate(paused_ns.into(), random.range(-1 << 33, 1 << 33).into());
                }
                3 => {
                    phc.require_rate();
                    let slept_ns = random.range(0, 1 << 34);
                    machine
                        .state
                        .borrow_mut()
                        .suspend(slept_ns.into(), 700_000_000);
                }
                4 => phc.is_busy.set(true),
                5 | 6 => phc.is_busy.set(false),
                7 => phc.bound.set(DriverBound::Unknown),
                8 | 9 => phc.bound.set(DriverBound::Ns(BOUND_NS)),
                _ => {}
            }
            // As far off as the driver's bound allows, now this way and now that.
            let most_ns = i64::from(BOUND_NS);
            phc.off_ns.set(random.range(-most_ns, most_ns));
            machine.advance(random.range(1_000_000, 400_000_000).into());
            world.step();
            let context = format!("seed {seed}, step {at}, {:?}", world.source());
            stated += u32::from(world.check(&context).is_some());
        }
        phc.require_rate();
    }
    // It can fail: many steps state a bound.
    assert!(stated > 1_000, "{stated} of 8000");
}

#[test]
fn a_ptp_clock_that_stops_is_left_and_taken_up_again_after_ten_seconds() {
    let machine = guarded(7);
    machine.state.borrow_mut().synchronize(500);
    let phc = Phc::new(&machine);
    let mut world = World::new(&machine, &phc, None);
    assert_eq!(world.source(), SourceKind::Phc);
    let marker = world.publication.fields().disruption_marker;
    phc.is_busy.set(true);
    world.run(3_000);
    assert_eq!(world.source(), SourceKind::Kernel);
    let passed_over = world.publication.passed_over();
    assert_eq!(
        passed_over.first().map(|over| over.kind),
        Some(SourceKind::Phc)
    );
    phc.is_busy.set(false);
    world.run(60_000);
    assert_eq!(world.source(), SourceKind::Phc);
    assert!(world.check("returned").is_some());
    assert_eq!(world.publication.fields().disruption_marker, marker);
}

#[test]
fn a_hosts_error_is_the_bound_of_a_ptp_clock_whose_driver_states_none() {
    let machine = guarded(9);
    let mut phc = Phc::new(&machine);
    phc.driver = Driver::Kvm;
    phc.bound.set(DriverBound::None);
    phc.off_ns.set(900_000);
    let world = World::new(&machine, &phc, Some(1_000_000));
    assert_eq!(world.source(), SourceKind::Phc);
    let bound_ns = world.check("stated").unwrap();
    assert!(bound_ns > 1_000_000, "{bound_ns}");
    assert!(world.publication.extension().has_host_error);
    let phc = Phc {
        driver: Driver::Kvm,
        bound: Cell::new(DriverBound::None),
        ..Phc::new(&machine)
    };
    let world = World::new(&machine, &phc, None);
    assert_eq!(world.check("not stated"), None);
    assert_eq!(world.source(), SourceKind::Kernel);
    assert!(matches!(
        world.publication.no_bound(),
        Some(NoBound::Unsynchronized | NoBound::Distrusted { .. })
    ));
}

#[test]
fn a_ptp_clocks_bound_includes_half_the_time_that_a_reading_takes() {
    let machine = guarded(11);
    let phc = Phc::new(&machine);
    let world = World::new(&machine, &phc, None);
    let bound_ns = world.check("at once").unwrap();
    assert!(bound_ns > u64::from(BOUND_NS) + 6_000, "{bound_ns}");
    assert_eq!((&machine).id(), 1);
}

#[test]
fn a_healthy_publishers_page_from_a_ptp_clock_is_never_older_than_two_intervals() {
    let machine = guarded(79);
    let phc = Phc::new(&machine);
    let mut world = World::new(&machine, &phc, None);
    let mut oldest_ns = 0;
    for at in 0..200 {
        // The narrowest fix is now the newest, and now the oldest.
        let bound_ns = if at % 5 < 2 { 5_000 } else { 60_000 };
        phc.bound.set(DriverBound::Ns(bound_ns));
        machine.advance(NS_PER_SEC - 2_000_000);
        if let Ok(reading) = world.read() {
            oldest_ns = oldest_ns.max(reading.age_ns);
        }
        world.step();
    }
    assert!((1..=2_000_000_000).contains(&oldest_ns), "{oldest_ns}");
}
