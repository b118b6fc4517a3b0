//! A PTP hardware clock (PHC) as a source of time.
//!
//! The counter is read before and after one reading of the clock. The clock's error bound comes from its driver, or
//! from the operator. The kernel's clock has no part in it, so nothing that steps or slews that clock matters.
//!
//! The rules:
//!
//! - A process reads a clock at most [`READINGS_PER_SEC`] times in any second, however many pages it makes. EC2's card
//!   serves 125 readings per second for all programs together, and refuses everybody for a while beyond that. A reading
//!   counts from the time at which its step began, so a thread that is held up in between may exceed it once.
//! - The fix with the narrowest bound of the last [`FIX_AGE_NS`] counts. An interrupt can widen a single one.
//! - After a refusal the clock rests, twice as long after each further one.
//! - A time without a bound, or in a timescale that nobody states, is no time. The reason is told.

mod card;
mod find;

use crate::counter::Counter;
use crate::error::Error;
use crate::extension::{DeviceRecord, SourceKind};
use crate::no_bound::Distrust;
use crate::ptp::{Attributes, CounterBracket, CounterKind, PtpReading, PtpStatus, PtpTimescale};
use crate::source::{Candidate, Fix, Scene, half_width_ticks};
use crate::time::{NS_PER_SEC, fixed, period};

pub use card::{Card, Driver, DriverBound, Share};
pub use find::{Cards, MachineCards};

/// The most readings of a clock in any second, of all makers of a process together.
pub const READINGS_PER_SEC: usize = 5;
/// The readings at once where there is no fix. So a disruption soon after finds some left of the second's.
const FIRST_READINGS: usize = 2;
/// The age up to which a fix is used: the longest interval of a publisher. A page shows it for one more interval, and
/// readers take a page of 3 s for abandoned.
pub const FIX_AGE_NS: i128 = NS_PER_SEC;
/// The age up to which a figure of a driver's file counts.
const FIGURE_AGE_NS: i128 = 2 * NS_PER_SEC;
/// The shortest time between two readings of a single maker while it has a fix, and the first rest after a refusal.
pub const SPACING_NS: i128 = NS_PER_SEC / READINGS_PER_SEC as i128;
/// The longest rest after refusals.
pub const LONGEST_REST_NS: i128 = 128 * SPACING_NS;
/// The time between two searches for a clock.
pub const SEARCH_NS: i128 = 10 * NS_PER_SEC;
/// The largest distance of a clock from CLOCK_REALTIME: one day. A clock that is farther away was never set, or counts
/// from another epoch than its timescale's. The kernel's header says 1958 of TAI, and drivers count from 1970.
const FARTHEST_NS: u128 = 86_400 * NS_PER_SEC.unsigned_abs();

/// The name of the source in errors.
const NAME: &str = "a PTP clock";

/// A PTP hardware clock of this machine, the first that gives a time with a bound.
#[derive(Debug)]
pub struct PhcSource<M: Cards> {
    cards: M,
    /// The error that no driver states, in nanoseconds, as the operator states it.
    host_error_ns: Option<u64>,
    card: Option<M::Card>,
    searched_ns: Option<i128>,
    /// Why the last search found none.
    missed: Option<Missed>,
    /// CLOCK_MONOTONIC of this maker's last reading.
    asked_ns: Option<i128>,
    rest: Rest,
    taken: Vec<Taken>,
    /// The figures of the driver's file, each with CLOCK_MONOTONIC. Another program may read the clock between our
    /// reading and our look at the file, which then describes that program's reading. So the largest of the last
    /// [`FIGURE_AGE_NS`] counts.
    file_bounds: Vec<(i128, u32)>,
}

/// A fix, and the machine on which it was taken.
#[derive(Clone, Copy, Debug)]
struct Taken {
    at_ns: i128,
    device: DeviceRecord,
    fix: Fix,
}

/// A search that found no clock.
#[derive(Clone, Debug)]
struct Missed {
    reason: String,
    errno: Option<i32>,
}

/// The rest of a clock that refused.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    until_ns: i128,
    /// 0 if the last reading succeeded.
    length_ns: i128,
}

impl Rest {
    fn begin(&mut self, now_ns: i128) {
        self.length_ns = (2 * self.length_ns).clamp(SPACING_NS, LONGEST_REST_NS);
        self.until_ns = now_ns + self.length_ns;
    }
}

impl<M: Cards> PhcSource<M> {
    /// Makes a source of a machine's clocks. Nothing is opened yet.
    pub fn new(cards: M, host_error_ns: Option<u64>) -> Self {
        Self {
            cards,
            host_error_ns,
            card: None,
            searched_ns: None,
            missed: None,
            asked_ns: None,
            rest: Rest::default(),
            taken: Vec::new(),
            file_bounds: Vec::new(),
        }
    }

    /// Finds a clock, unless that was tried a short time ago.
    fn search(&mut self, now_ns: i128) -> Result<(), Error> {
        if self.card.is_some() {
            return Ok(());
        }
        let is_recent = |searched_ns| now_ns - searched_ns < SEARCH_NS;
        if let Some(Missed { reason, errno }) = &self.missed
            && self.searched_ns.is_some_and(is_recent)
        {
            return Err(Error::NoSource {
                source_name: NAME,
                path: None,
                errno: *errno,
                reason: format!("{reason} (the machine is searched every 10 s)"),
                remedy: "see `vmclock ptp` and `vmclock doctor`, or leave the source out",
            });
        }
        self.searched_ns = Some(now_ns);
        self.missed = None;
        match self.cards.find(self.host_error_ns.is_some()) {
            Ok(card) => self.card = Some(card),
            Err(error) => {
                let reason = match &error {
                    Error::NoSource { reason, .. } => reason.clone(),
                    other => other.to_string(),
                };
                let errno = error.errno();
                self.missed = Some(Missed { reason, errno });
                return Err(error);
            }
        }
        self.rest = Rest::default();
        self.file_bounds.clear();
        Ok(())
    }

    /// Reads the clock if its rate allows: once, or twice if there is no fix yet.
    fn read(&mut self, counter: &dyn Counter, scene: &Scene<'_>) -> Result<(), Error> {
        let now_ns = scene.kernel.monotonic_ns;
        if now_ns < self.rest.until_ns {
            return Err(refusal(
                "the clock refused a reading a short time ago, and rests",
                "let fewer programs read the clock: EC2's serves 125 readings per second",
            ));
        }
        let spacing_ns = self
            .card
            .as_ref()
            .map_or(SPACING_NS, |card| card.share().spacing_ns());
        let wanted = match (self.taken.is_empty(), self.asked_ns) {
            (true, _) => FIRST_READINGS,
            (false, Some(asked_ns)) if now_ns - asked_ns < spacing_ns => 0,
            (false, _) => 1,
        };
        for _ in 0..wanted {
            let is_allowed = |card: &M::Card| card.share().take(now_ns);
            if !self.card.as_ref().is_some_and(is_allowed) {
                break;
            }
            self.asked_ns = Some(now_ns);
            match self.take(counter, scene) {
                Ok(fix) => {
                    self.rest.length_ns = 0;
                    let last = self
                        .taken
                        .last()
                        .filter(|taken| taken.device == scene.known.device);
                    if last.is_some_and(|last| !agree(&last.fix, &fix, scene)) {
                        // One of both bounds is false, and nobody knows which.
                        self.taken.clear();
                        return Err(refusal(
                            "its time contradicts the reading before, beyond both bounds",
                            "find out what set the clock: its driver's bound did not hold",
                        ));
                    }
                    self.taken.push(Taken {
                        at_ns: now_ns,
                        device: scene.known.device,
                        fix,
                    });
                }
                Err(error) => {
                    if matches!(error, Error::Vanished { .. }) {
                        self.card = None;
                        self.searched_ns = None;
                    }
                    self.rest.begin(now_ns);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Reads the clock once, between two reads of the counter.
    fn take(&mut self, counter: &dyn Counter, scene: &Scene<'_>) -> Result<Fix, Error> {
        let Some(card) = &self.card else {
            return Err(refusal("there is no clock", "wait"));
        };
        let before = counter.read();
        let reading = card.reading()?;
        let after = counter.read();
        if fixed::distance_ticks(after, before) < 0 {
            return Err(refusal(
                "the counter went back during a reading",
                "wait until the machine has settled",
            ));
        }
        let stated = match stated_bound_ns(reading.attributes.as_ref())? {
            Some(ns) => Some(ns),
            // After the reading: the file describes the last one.
            None => driver_bound_ns(card.driver_bound())?
                .map(|ns| largest(&mut self.file_bounds, scene.kernel.monotonic_ns, ns)),
        };
        let is_operators = stated.is_none();
        let max_error_ns = stated
            .map(u64::from)
            .or(self.host_error_ns)
            .ok_or_else(|| {
                refusal(
                    "its driver states no bound",
                    "state the host's error (`hostErrorNs`, --host-error)",
                )
            })?;
        let utc_ns = utc_ns(&reading, card.driver(), scene)?;
        if (utc_ns - scene.kernel.realtime_ns).unsigned_abs() > FARTHEST_NS {
            return Err(refusal(
                "it is more than a day from the system's clock",
                "set the clock that is wrong: a PTP clock that nobody set counts from 1970 or from its start",
            ));
        }
        let (low, high) = narrower(reading.counters, counter.id(), before, after);
        let width_ticks = high.wrapping_sub(low);
        let status = reading.attributes.and_then(|attributes| attributes.status);
        Ok(Fix {
            counter: low.wrapping_add(width_ticks / 2),
            half_width_ticks: half_width_ticks(width_ticks, scene.known.step_ticks),
            utc_ns,
            max_error_ns: max_error_ns.into(),
            estimate_ns: None,
            is_synchronized: status != Some(PtpStatus::FreeRunning),
            is_operators,
        })
    }

    /// Returns the fix with the narrowest bound as of now.
    fn narrowest(&mut self, scene: &Scene<'_>) -> Option<Fix> {
        let now_ns = scene.kernel.monotonic_ns;
        let device = scene.known.device;
        self.taken.retain(|taken| {
            (0..=FIX_AGE_NS).contains(&(now_ns - taken.at_ns)) && taken.device == device
        });
        let error_ns = |taken: &Taken| {
            let age_ns = (now_ns - taken.at_ns).unsigned_abs();
            let width_ns = scene
                .known
                .period
                .map_or(0, |period| period.ticks_ns(taken.fix.half_width_ticks));
            taken.fix.max_error_ns + width_ns + period::share(age_ns, scene.known.period_error_ppb)
        };
        // The first of equals is the newest.
        let newest_first = self.taken.iter().rev();
        newest_first
            .min_by_key(|taken| error_ns(taken))
            .map(|taken| taken.fix)
    }
}

impl<M: Cards> Candidate for PhcSource<M> {
    fn kind(&self) -> SourceKind {
        SourceKind::Phc
    }

    fn sample(&mut self, counter: &dyn Counter, scene: &Scene<'_>) -> Result<Fix, Error> {
        // Drops the fixes that are too old.
        self.narrowest(scene);
        self.search(scene.kernel.monotonic_ns)?;
        let result = self.read(counter, scene);
        match self.narrowest(scene) {
            Some(fix) => Ok(fix),
            None => {
                result?;
                Err(refusal(
                    "it was read too often in the last second",
                    "wait: it is read again within a second",
                ))
            }
        }
    }

    fn disrupt(&mut self, _: Distrust) {
        // The counter of these is another one. The clock itself is the host's, and has no part in the disruption.
        self.taken.clear();
    }
}

/// Returns whether two fixes are of one clock within their bounds. Before there is a period nobody can tell.
fn agree(earlier: &Fix, later: &Fix, scene: &Scene<'_>) -> bool {
    let Some(period) = scene.known.period else {
        return true;
    };
    let elapsed_ns = period.elapsed_ns(fixed::distance_ticks(later.counter, earlier.counter));
    let off_ns = (later.utc_ns - earlier.utc_ns - elapsed_ns).unsigned_abs();
    let of = |fix: &Fix| fix.max_error_ns + period.ticks_ns(fix.half_width_ticks) + 1;
    let drift_ns = period::share(elapsed_ns.unsigned_abs(), scene.known.period_error_ppb);
    off_ns <= of(earlier) + of(later) + drift_ns
}

/// Adds a figure of the driver's file, and returns the largest of those that are not too old.
fn largest(figures: &mut Vec<(i128, u32)>, now_ns: i128, ns: u32) -> u32 {
    figures.retain(|(at_ns, _)| now_ns - at_ns <= FIGURE_AGE_NS);
    figures.push((now_ns, ns));
    figures.iter().map(|(_, ns)| *ns).max().unwrap_or(ns)
}

/// Returns the bound of the attributes. None of it counts while the status forbids that.
fn stated_bound_ns(attributes: Option<&Attributes>) -> Result<Option<u32>, Error> {
    let Some(attributes) = attributes else {
        return Ok(None);
    };
    let is_forbidden = attributes.status.is_some_and(|status| {
        !matches!(
            status,
            PtpStatus::Synchronized | PtpStatus::Holdover | PtpStatus::FreeRunning
        )
    });
    if is_forbidden {
        return Err(refusal(
            "its driver says that its clock is not synchronized",
            "wait until it is: `vmclock ptp` shows its status",
        ));
    }
    match attributes.trusted_error_ns() {
        Some(0) => Err(no_zero()),
        bound => Ok(bound),
    }
}

/// Returns the bound of the driver's file; `None` if the driver has no such file.
fn driver_bound_ns(bound: DriverBound) -> Result<Option<u32>, Error> {
    match bound {
        DriverBound::None => Ok(None),
        DriverBound::Ns(0) => Err(no_zero()),
        DriverBound::Ns(ns) => Ok(Some(ns)),
        DriverBound::Unknown => Err(refusal(
            "its driver does not know its error now",
            "wait until the card has synchronized its clock",
        )),
        DriverBound::Off => Err(refusal(
            "its driver has it switched off",
            "switch the PTP clock of the card on: `vmclock doctor` prints the command",
        )),
    }
}

fn no_zero() -> Error {
    refusal(
        "its driver states an error of 0, which says nothing",
        "update the driver, or state the host's error (`hostErrorNs`, --host-error)",
    )
}

/// Returns the UTC of a reading.
fn utc_ns(reading: &PtpReading, driver: Driver, scene: &Scene<'_>) -> Result<i128, Error> {
    let device_ns = i128::from(reading.device_ns);
    let stated = reading
        .attributes
        .and_then(|attributes| attributes.timescale);
    match stated {
        Some(PtpTimescale::Utc | PtpTimescale::Posix) => Ok(device_ns),
        Some(PtpTimescale::Tai) => match scene.kernel.tai_minus_utc_sec {
            Some(seconds) => Ok(device_ns - i128::from(seconds) * NS_PER_SEC),
            None => Err(refusal(
                "it gives TAI, and the kernel does not know the offset from UTC",
                "have the time daemon set it (chrony.conf: leapsectz right/UTC)",
            )),
        },
        Some(_) => Err(refusal(
            "its driver states a timescale that gives no UTC",
            "synchronize the system's clock from it, and use that",
        )),
        None if driver.gives_utc() => Ok(device_ns),
        None => Err(refusal(
            "nobody states its timescale",
            "synchronize the system's clock from it, and use that",
        )),
    }
}

/// Returns the narrowest bracket around a reading: the kernel's own counters, if they are this machine's and lie
/// within ours.
fn narrower(
    counters: Option<CounterBracket>,
    counter_id: u8,
    before: u64,
    after: u64,
) -> (u64, u64) {
    let is_ours = |kind| match kind {
        CounterKind::X86Tsc => counter_id == crate::abi::VMCLOCK_COUNTER_X86_TSC,
        CounterKind::ArmVirtualCounter => counter_id == crate::abi::VMCLOCK_COUNTER_ARM_VCNT,
        CounterKind::Unrecognized(_) => false,
    };
    let in_order = |a, b| fixed::distance_ticks(b, a) >= 0;
    match counters {
        Some(CounterBracket {
            kind,
            before: low,
            after: high,
        }) if is_ours(kind)
            && in_order(before, low)
            && in_order(low, high)
            && in_order(high, after) =>
        {
            (low, high)
        }
        _ => (before, after),
    }
}

/// Returns the error for a machine without a clock that could serve.
fn absent(reason: &str) -> Error {
    Error::NoSource {
        source_name: NAME,
        path: None,
        errno: Some(libc::ENOENT),
        reason: reason.to_owned(),
        remedy: "leave the source out to take the best that works; on EC2 `vmclock doctor` says how to enable the \
                 network card's clock",
    }
}

fn refusal(reason: &str, remedy: &'static str) -> Error {
    Error::NoSource {
        source_name: NAME,
        path: None,
        errno: None,
        reason: reason.to_owned(),
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use super::*;
    use crate::source::kernel::slew::HiddenSlew;
    use crate::source::{Event, Known, Sample};

    const START_NS: i128 = 1_800_000_000 * NS_PER_SEC;

    /// A machine whose counter counts nanoseconds, and its only PTP clock.
    struct Machine {
        now_ns: Cell<u64>,
        driver: Cell<Driver>,
        /// Ahead of the truth.
        off_ns: Cell<i64>,
        attributes: Cell<Option<Attributes>>,
        counters: Cell<Option<CounterBracket>>,
        bound: Cell<DriverBound>,
        share: Share,
        refusal: Cell<Option<i32>>,
        /// The true time of each reading.
        readings: RefCell<Vec<u64>>,
        searches: Cell<u32>,
    }

    #[derive(Clone)]
    struct Staged(Rc<Machine>);

    impl Staged {
        fn new() -> Self {
            Self(Rc::new(Machine {
                now_ns: Cell::new(1_000_000_000),
                driver: Cell::new(Driver::Ena),
                off_ns: Cell::new(0),
                attributes: Cell::new(None),
                counters: Cell::new(None),
                bound: Cell::new(DriverBound::Ns(20_000)),
                share: Share::new(),
                refusal: Cell::new(None),
                readings: RefCell::new(Vec::new()),
                searches: Cell::new(0),
            }))
        }

        fn pass_ms(&self, ms: u64) {
            self.0.now_ns.set(self.0.now_ns.get() + ms * 1_000_000);
        }

        fn states(&self, valid: (Option<u32>, Option<PtpTimescale>, Option<PtpStatus>)) {
            let (error_bound_ns, timescale, status) = valid;
            self.0.attributes.set(Some(Attributes {
                error_bound_ns,
                timescale,
                status,
            }));
        }

        /// Makes another maker, a second after the last one's readings.
        fn source(&self, host_error_ns: Option<u64>) -> PhcSource<Self> {
            if !self.0.readings.borrow().is_empty() {
                self.pass_ms(1_000);
            }
            PhcSource::new(self.clone(), host_error_ns)
        }

        fn sample_with(
            &self,
            source: &mut PhcSource<Self>,
            tai: Option<i16>,
        ) -> Result<Fix, Error> {
            let known = Known {
                period: crate::time::period::Period::measured(1 << 40, 1 << 40),
                period_error_ppb: 15_000,
                ..Known::default()
            };
            let kernel = Sample {
                source: SourceKind::Kernel,
                monotonic_ns: i128::from(self.0.now_ns.get()),
                counter: self.0.now_ns.get(),
                half_width_ticks: 1,
                realtime_ns: START_NS + i128::from(self.0.now_ns.get()),
                claim_ns: None,
                estimate_ns: None,
                no_bound: None,
                is_synchronized: false,
                ceiling_ppb: 600_000,
                hidden_slew: HiddenSlew::default(),
                tai_minus_utc_sec: tai,
                tai_change_sec: 0,
                leap_indicator: 0,
                is_in_leap_second: false,
                event: Event::Nothing,
                has_unexplained_change: false,
                suspended_ns: 0,
                is_free_at_other_rate: false,
                is_operators: false,
            };
            let scene = Scene {
                known: &known,
                kernel: &kernel,
            };
            source.sample(self, &scene)
        }

        fn sample(&self, source: &mut PhcSource<Self>) -> Result<Fix, Error> {
            self.sample_with(source, None)
        }

        /// Samples every 250 ms for so long, and returns the last result.
        fn run(&self, source: &mut PhcSource<Self>, ms: u64) -> Result<Fix, Error> {
            let mut last = self.sample(source);
            for _ in 0..ms / 250 {
                self.pass_ms(250);
                last = self.sample(source);
            }
            last
        }
    }

    /// Each read of the counter and of the clock takes 1 µs.
    impl Counter for Staged {
        fn read(&self) -> u64 {
            self.0.now_ns.set(self.0.now_ns.get() + 1_000);
            self.0.now_ns.get()
        }

        fn id(&self) -> u8 {
            crate::abi::VMCLOCK_COUNTER_X86_TSC
        }
    }

    impl Cards for Staged {
        type Card = Self;

        fn find(&self, _: bool) -> Result<Self, Error> {
            self.0.searches.set(self.0.searches.get() + 1);
            Ok(self.clone())
        }
    }

    impl Card for Staged {
        fn driver(&self) -> Driver {
            self.0.driver.get()
        }

        fn reading(&self) -> Result<PtpReading, Error> {
            let now_ns = self.read();
            self.0.readings.borrow_mut().push(now_ns);
            if let Some(errno) = self.0.refusal.get() {
                let error = std::io::Error::from_raw_os_error(errno);
                return Err(Error::system("ioctl", None, error));
            }
            Ok(PtpReading {
                device_ns: i64::try_from(START_NS).unwrap()
                    + now_ns.cast_signed()
                    + self.0.off_ns.get(),
                attributes: self.0.attributes.get(),
                counters: self.0.counters.get(),
            })
        }

        fn driver_bound(&self) -> DriverBound {
            self.0.bound.get()
        }

        fn share(&self) -> &Share {
            &self.0.share
        }
    }

    /// How far a fix is off, less what it allows for; the counter is the true time.
    fn excess_ns(fix: &Fix) -> i128 {
        let off_ns = fix.utc_ns - START_NS - i128::from(fix.counter);
        let allowed_ns = fix.max_error_ns + u128::from(fix.half_width_ticks);
        i128::try_from(off_ns.unsigned_abs()).unwrap() - i128::try_from(allowed_ns).unwrap()
    }

    #[track_caller]
    fn reason(result: Result<Fix, Error>) -> String {
        let error = result.unwrap_err();
        assert!(error.remedy().is_some(), "{error}");
        error.to_string()
    }

    #[test]
    fn a_fix_is_true_with_the_bound_of_the_drivers_file() {
        let machine = Staged::new();
        for off_ns in [-20_000, 0, 20_000] {
            machine.0.off_ns.set(off_ns);
            let fix = machine.sample(&mut machine.source(None)).unwrap();
            assert!(excess_ns(&fix) <= 0, "{fix:?}");
            assert_eq!((fix.max_error_ns, fix.is_operators), (20_000, false));
        }
    }

    #[test]
    fn a_clock_is_read_never_more_than_five_times_in_a_second() {
        let machine = Staged::new();
        let mut source = machine.source(None);
        machine.sample(&mut source).unwrap();
        assert_eq!(machine.0.readings.borrow().len(), FIRST_READINGS);
        for step_ms in [1, 100, 250, 7, 333, 1_000] {
            for at in 0..60 {
                machine.pass_ms(step_ms);
                if at % 20 == 7 {
                    source.disrupt(Distrust::Disruption);
                }
                let _ = machine.sample(&mut source);
            }
        }
        let readings = machine.0.readings.borrow();
        for six in readings.windows(6) {
            // The window counts from the sample, some microseconds before the first reading.
            assert!(six[5] - six[0] > 999_900_000, "{six:?}");
        }
    }

    #[test]
    fn three_makers_of_a_process_each_keep_a_fix_with_five_readings_in_a_second() {
        let machine = Staged::new();
        let mut makers: Vec<_> = (0..3).map(|_| machine.source(None)).collect();
        for _ in 0..3 {
            machine.0.share.join();
        }
        for step in 0..200 {
            machine.pass_ms(83);
            // The counter of a staged machine is its clock, so each maker runs at another time.
            let maker = makers.get_mut(step % 3).unwrap();
            machine.sample(maker).unwrap();
        }
        let readings = machine.0.readings.borrow();
        for six in readings.windows(READINGS_PER_SEC + 1) {
            assert!(six[READINGS_PER_SEC] - six[0] > 999_900_000, "{six:?}");
        }
    }

    #[test]
    fn the_narrowest_fix_of_the_last_second_counts() {
        let machine = Staged::new();
        let mut source = machine.source(None);
        let by_attributes = |ns| {
            let utc = Some(PtpTimescale::Utc);
            machine.states((Some(ns), utc, Some(PtpStatus::Synchronized)));
        };
        by_attributes(30_000);
        machine.run(&mut source, 2_000).unwrap();
        by_attributes(10);
        machine.pass_ms(250);
        let narrow = machine.sample(&mut source).unwrap();
        assert_eq!(narrow.max_error_ns, 10);
        by_attributes(90_000);
        machine.pass_ms(250);
        assert_eq!(machine.sample(&mut source).unwrap(), narrow);
        let wide = machine.run(&mut source, 2_500).unwrap();
        assert_eq!(wide.max_error_ns, 90_000);
    }

    #[test]
    fn the_largest_figure_of_the_drivers_file_counts_for_two_seconds() {
        let machine = Staged::new();
        let mut source = machine.source(None);
        machine.0.bound.set(DriverBound::Ns(30_000));
        machine.run(&mut source, 2_000).unwrap();
        // Another program's reading may hide ours.
        machine.0.bound.set(DriverBound::Ns(10));
        assert_eq!(
            machine.run(&mut source, 1_500).unwrap().max_error_ns,
            30_000
        );
        assert_eq!(machine.run(&mut source, 2_500).unwrap().max_error_ns, 10);
    }

    #[test]
    fn a_clock_that_contradicts_its_reading_before_gives_no_time_at_that_step() {
        let machine = Staged::new();
        let mut source = machine.source(None);
        machine.run(&mut source, 2_000).unwrap();
        machine.0.off_ns.set(10_000_000);
        machine.pass_ms(250);
        let told = reason(machine.sample(&mut source));
        assert!(told.contains("contradicts"), "{told}");
        // It is another time from then on.
        machine.pass_ms(1_000);
        let fix = machine.sample(&mut source).unwrap();
        assert!(fix.utc_ns - START_NS - i128::from(fix.counter) > 9_900_000);
    }

    #[test]
    fn ebusy_rests_the_clock_twice_as_long_each_time_and_a_fix_outlives_the_first() {
        const EBUSY: i32 = libc::EBUSY;
        let machine = Staged::new();
        let mut source = machine.source(None);
        machine.run(&mut source, 2_000).unwrap();
        let before = machine.0.readings.borrow().len();
        machine.0.refusal.set(Some(EBUSY));
        machine.pass_ms(250);
        machine.sample(&mut source).unwrap();
        // At 0, 0.2, 0.6, 1.4, 3 and 6.2 s, and not between.
        machine.run(&mut source, 10_000).unwrap_err();
        let refused = machine.0.readings.borrow().len() - before;
        assert_eq!(refused, 6);
        machine.0.refusal.set(None);
        machine.run(&mut source, 13_000).unwrap();
    }

    #[test]
    fn a_disruption_drops_the_fixes_and_a_new_one_follows_at_once() {
        let machine = Staged::new();
        let mut source = machine.source(None);
        let before = machine.run(&mut source, 3_000).unwrap();
        // The counter goes on elsewhere.
        machine.0.off_ns.set(5_000_000_000);
        source.disrupt(Distrust::Disruption);
        let after = machine.sample(&mut source).unwrap();
        assert!(after.counter > before.counter);
        assert_eq!(
            after.utc_ns - START_NS - i128::from(after.counter),
            5_000_000_000
        );
    }

    #[test]
    fn a_bound_that_the_driver_does_not_know_is_no_bound_and_the_reason_is_told() {
        for (bound, words) in [
            (DriverBound::Unknown, "does not know its error"),
            (DriverBound::Off, "switched off"),
            (DriverBound::Ns(0), "an error of 0"),
            (DriverBound::None, "states no bound"),
        ] {
            let machine = Staged::new();
            machine.0.bound.set(bound);
            let told = reason(machine.sample(&mut machine.source(None)));
            assert!(told.contains(words), "{told}");
        }
        // The operator answers where the driver has no figure, and not where it has none now.
        let machine = Staged::new();
        machine.0.bound.set(DriverBound::Unknown);
        reason(machine.sample(&mut machine.source(Some(5))));
        machine.0.bound.set(DriverBound::None);
        let fix = machine.sample(&mut machine.source(Some(5_000))).unwrap();
        assert_eq!((fix.max_error_ns, fix.is_operators), (5_000, true));
    }

    #[test]
    fn attributes_take_precedence_over_the_file_and_forbid_an_untrusted_bound() {
        let machine = Staged::new();
        let utc = Some(PtpTimescale::Utc);
        machine.states((Some(700), utc, Some(PtpStatus::Synchronized)));
        let fix = machine.sample(&mut machine.source(Some(5))).unwrap();
        assert_eq!((fix.max_error_ns, fix.is_operators), (700, false));
        for status in [
            PtpStatus::Unknown,
            PtpStatus::Initializing,
            PtpStatus::Unreliable,
            PtpStatus::Unrecognized(6),
        ] {
            machine.states((Some(700), utc, Some(status)));
            let told = reason(machine.sample(&mut machine.source(Some(5))));
            assert!(told.contains("not synchronized"), "{told}");
        }
        machine.states((Some(700), utc, Some(PtpStatus::FreeRunning)));
        assert!(
            !machine
                .sample(&mut machine.source(None))
                .unwrap()
                .is_synchronized
        );
    }

    #[test]
    fn a_timescale_comes_from_the_attributes_or_the_driver_and_is_refused_otherwise() {
        let machine = Staged::new();
        machine.states((Some(700), Some(PtpTimescale::Tai), None));
        machine.0.off_ns.set(37_000_000_000);
        let fix = machine
            .sample_with(&mut machine.source(None), Some(37))
            .unwrap();
        assert!(excess_ns(&fix) <= 0);
        let told = reason(machine.sample(&mut machine.source(None)));
        assert!(told.contains("TAI"), "{told}");
        machine.0.off_ns.set(0);
        for other in [
            PtpTimescale::Gps,
            PtpTimescale::Monotonic,
            PtpTimescale::Unknown,
        ] {
            machine.states((Some(700), Some(other), None));
            let told = reason(machine.sample(&mut machine.source(None)));
            assert!(told.contains("timescale"), "{told}");
        }
        machine.states((Some(700), None, None));
        machine.sample(&mut machine.source(None)).unwrap();
        machine.0.driver.set(Driver::Other);
        let told = reason(machine.sample(&mut machine.source(None)));
        assert!(told.contains("timescale"), "{told}");
    }

    #[test]
    fn a_clock_that_nobody_set_is_refused() {
        let machine = Staged::new();
        machine.0.off_ns.set(-86_401_000_000_000);
        let told = reason(machine.sample(&mut machine.source(None)));
        assert!(told.contains("a day"), "{told}");
    }

    #[test]
    fn counters_of_the_same_instant_narrow_a_fix_only_within_the_own_bracket() {
        let machine = Staged::new();
        // The first reading is between the counters 1_000_001_000 and 1_000_003_000.
        let of = |kind, before, after| {
            Some(CounterBracket {
                kind,
                before,
                after,
            })
        };
        let tsc = CounterKind::X86Tsc;
        for (counters, narrowed) in [
            (of(tsc, 1_000_001_900, 1_000_002_100), true),
            (
                of(CounterKind::ArmVirtualCounter, 1_000_001_900, 1_000_002_100),
                false,
            ),
            (of(tsc, 1_000_000_900, 1_000_002_100), false),
            (of(tsc, 1_000_001_900, 1_000_003_100), false),
            (of(tsc, 1_000_002_100, 1_000_001_900), false),
        ] {
            let machine = Staged::new();
            machine.0.counters.set(counters);
            let fix = machine.sample(&mut machine.source(None)).unwrap();
            let width = if narrowed { 100 } else { 1_000 };
            assert_eq!(fix.half_width_ticks, width + 1, "{counters:?}");
        }
        drop(machine);
    }

    #[test]
    fn a_machine_without_a_clock_is_searched_every_ten_seconds() {
        struct None(Cell<u32>);
        impl Cards for None {
            type Card = Staged;
            fn find(&self, _: bool) -> Result<Staged, Error> {
                self.0.set(self.0.get() + 1);
                Err(refusal("there is none", "wait"))
            }
        }
        let mut source = PhcSource::new(None(Cell::new(0)), Option::None);
        for at in 0..100 {
            assert!(source.search(at * 250_000_000).is_err());
        }
        assert_eq!(source.cards.0.get(), 3);
    }
}
