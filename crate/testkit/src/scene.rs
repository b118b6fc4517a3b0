//! A publisher on a simulated machine, and a reader that is checked against the true time.

use std::sync::Arc;

use vmclock::publish::{Cause, OldPage, Publication, PublishOptions};
use vmclock::snapshot::RawFields;
use vmclock::source::kernel::KernelSource;
use vmclock::source::kernel::discipline::Discipline;
use vmclock::source::kernel::leap_seconds::LeapSeconds;
use vmclock::{Error, Options, Reading, Timescale, VmClock};

use crate::virtual_machine::{Machine, Memory};

pub const NS_PER_SEC: i128 = 1_000_000_000;
pub const INTERVAL_NS: i128 = 250_000_000;
/// Monday, 23 November 2026.
pub const START_SEC: i128 = 1_795_392_000;

/// Updates without a bound after an unexplained change, and after a disruption.
pub const AFTER_CHANGE: u8 = 64;
pub const AFTER_DISRUPTION: u8 = 8;

/// A machine, its publication, and a reader of the page.
pub struct Scene<'machine> {
    pub machine: &'machine Machine,
    pub publication:
        Publication<KernelSource<&'machine Machine>, &'machine Machine, &'machine Machine>,
    pub memory: Arc<Memory>,
}

impl<'machine> Scene<'machine> {
    pub fn new(machine: &'machine Machine, options: PublishOptions) -> Self {
        Self::taking_over(machine, options, None)
    }

    pub fn taking_over(
        machine: &'machine Machine,
        options: PublishOptions,
        old: Option<OldPage>,
    ) -> Self {
        Self::beginning(machine, options, None, old)
    }

    pub fn beginning(
        machine: &'machine Machine,
        options: PublishOptions,
        list: Option<LeapSeconds>,
        old: Option<OldPage>,
    ) -> Self {
        let source = KernelSource::new(machine).with_host_error(options.host_error_ns);
        let publication = Publication::new(source, machine, machine, options, list, old).unwrap();
        let mut scene = Self {
            machine,
            publication,
            memory: Arc::new(Memory::default()),
        };
        scene.settle();
        scene
    }

    pub fn settle(&mut self) {
        self.step(Cause::Interval);
        while !self.publication.is_settled() {
            self.machine
                .advance(self.publication.next_within().as_nanos().cast_signed());
            self.step(Cause::Interval);
        }
    }

    pub fn step(&mut self, cause: Cause) -> RawFields {
        let fields = self.publication.step(cause).unwrap();
        self.memory.show(&fields, &self.publication.extension());
        fields
    }

    /// Returns the page as its next publisher finds it.
    pub fn left(&self) -> OldPage {
        let (fields, extension) = self.memory.shown();
        OldPage {
            fields,
            extension,
            is_torn: false,
        }
    }

    /// Updates the page for a while, as the publisher's thread does.
    pub fn run(&mut self, seconds: i128) {
        for _ in 0..seconds * NS_PER_SEC / INTERVAL_NS {
            self.machine.advance(INTERVAL_NS);
            self.step(Cause::Interval);
        }
    }

    /// The daemon reports an error, whatever the truth is, and changes what else it wants to.
    /// Returns the bound that the page then states.
    pub fn report_with(
        &mut self,
        maxerror_us: u64,
        change: impl FnOnce(&mut Discipline),
    ) -> Option<u64> {
        self.run(1);
        {
            let mut state = self.machine.state.borrow_mut();
            let discipline = &mut state.discipline;
            discipline.unsynchronized = false;
            discipline.maxerror_us = maxerror_us;
            // No two reports in a row are the same.
            discipline.esterror_us = 50 + discipline.esterror_us % 2;
            discipline.esterror_us ^= 1;
            change(discipline);
        }
        self.step(Cause::Interval);
        self.check("after a report")
    }

    /// The daemon reports an error, whatever the truth is. Returns the bound that the page then
    /// states.
    pub fn report(&mut self, maxerror_us: u64) -> Option<u64> {
        self.report_with(maxerror_us, |_| ())
    }

    /// Asserts that the page states a bound again after so many reports, and none before.
    pub fn assert_bound_after(&mut self, updates: u8, maxerror_us: u64, context: &str) {
        self.assert_no_bound_for(updates - 1, maxerror_us, context);
        let bound_ns = self.report(maxerror_us);
        assert!(bound_ns.is_some(), "{context}: after {updates} updates");
    }

    /// Asserts that the page states no bound during so many reports.
    pub fn assert_no_bound_for(&mut self, updates: u8, maxerror_us: u64, context: &str) {
        for update in 1..=updates {
            let bound_ns = self.report(maxerror_us);
            assert_eq!(bound_ns, None, "{context}: update {update}");
        }
    }

    pub fn reader(&self, timescale: Timescale) -> VmClock<Memory, &'machine Machine> {
        let options = Options {
            timescale,
            ..Options::default()
        };
        VmClock::new(Arc::clone(&self.memory), 0x1000, self.machine, options)
    }

    pub fn read(&self) -> Result<Reading, Error> {
        self.reader(Timescale::Utc).read()
    }

    pub fn marker(&self) -> u64 {
        self.publication.fields().disruption_marker
    }

    /// Reads, and checks that the interval holds the true time. Returns the bound, if one is stated.
    pub fn check(&self, context: &str) -> Option<u64> {
        let reading = self.read().unwrap();
        let truth_ns = self.machine.truth_tai_ns_at_read() - 37 * NS_PER_SEC;
        let (earliest, latest) = reading.earliest_ns.zip(reading.latest_ns)?;
        assert!(
            (i128::from(earliest)..=i128::from(latest)).contains(&truth_ns),
            "{context}: the true time is {} ns from {}, and the bound {:?}",
            truth_ns - i128::from(reading.epoch_ns),
            reading.epoch_ns,
            reading.max_error_ns
        );
        reading.max_error_ns
    }
}

/// Checks that the page's period is within its bound of the oscillator's.
pub fn assert_period_holds(scene: &Scene<'_>, context: &str) {
    let fields = scene.publication.fields();
    let oscillator_ppb = scene.machine.state.borrow().oscillator_ppb;
    let true_hz = 2_900_000_000.0 * (1.0 + oscillator_ppb as f64 / 1e9);
    let scale = 2_f64.powi(64 + i32::from(fields.counter_period_shift));
    let period = fields.counter_period_frac_sec as f64 / scale;
    let bound = fields.counter_period_maxerror_rate_frac_sec as f64 / scale;
    let off = (period - 1.0 / true_hz).abs();
    assert!(
        off <= bound,
        "{context}: {} ppm off, {} ppm stated",
        off * true_hz * 1e6,
        bound * true_hz * 1e6
    );
}
