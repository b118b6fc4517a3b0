//! The sources beside the kernel's clock of a simulated machine: a daemon like ClockBound's, and a PTP clock that the
//! core's own source reads. Both fail, return, and may be wrong.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use vmclock::Error;
use vmclock::counter::Counter;
use vmclock::extension::{DeviceRecord, SourceKind};
use vmclock::no_bound::Distrust;
use vmclock::ptp::PtpReading;
use vmclock::publish::From;
use vmclock::source::best::Best;
use vmclock::source::kernel::KernelSource;
use vmclock::source::kernel::clock::SystemClock;
use vmclock::source::phc::{Card, Cards, Driver, DriverBound, PhcSource, Share};
use vmclock::source::{Candidate, Fix, Scene};

use crate::guest::Host;
use crate::life::Flaw;
use vmclock_testkit::virtual_machine::Random;

/// The sources of a maker.
pub(crate) type Source = Best<KernelSource<Host>, Box<dyn Candidate>>;

/// The names of what the sources did.
pub(crate) type Deeds = Rc<RefCell<BTreeSet<&'static str>>>;

/// The most by which a PTP clock is off, in nanoseconds. An operator states it if the driver states nothing.
const MOST_NS: u32 = 2_000_000;

/// A source like ClockBound's daemon: it knows the time to within its bound, and the device's marker.
pub(crate) struct Other {
    host: Host,
    random: Random,
    is_failing: bool,
    /// The device as the daemon knows it. It follows late.
    device: DeviceRecord,
    /// Figures that are given again and again.
    old: Option<Fix>,
    flaw: Flaw,
}

/// Returns the sources of a maker on a host, some with planted flaws.
pub(crate) fn sources(
    host: Host,
    seed: u64,
    has_others: bool,
    flaw: Flaw,
    deeds: &Deeds,
) -> Source {
    let kernel = KernelSource::new(host.clone());
    let mut others: Vec<Box<dyn Candidate>> = Vec::new();
    if has_others {
        others.push(Box::new(Other {
            host: host.clone(),
            random: Random::new(seed),
            is_failing: false,
            device: DeviceRecord::Unavailable,
            old: None,
            flaw,
        }));
        let phc = Phc(Rc::new(PhcState {
            host,
            random: RefCell::new(Random::new(seed ^ 1)),
            driver: if seed.is_multiple_of(2) {
                Driver::Ena
            } else {
                Driver::Kvm
            },
            mood: Cell::new(Mood::Works),
            bound_ns: Cell::new(MOST_NS),
            share: Share::new(),
            flaw,
            deeds: Rc::clone(deeds),
        }));
        let host_error_ns =
            (phc.0.driver == Driver::Kvm).then(|| u64::from(phc.0.claimed_ns(MOST_NS)));
        let source = PhcSource::new(phc, host_error_ns);
        others.push(if flaw == Flaw::PhcIgnoresDevice {
            Box::new(Blind(source))
        } else {
            Box::new(source)
        });
    }
    Best::new(kernel, others, From::Auto)
}

/// A candidate that learns of no disruption.
struct Blind(PhcSource<Phc>);

impl Candidate for Blind {
    fn kind(&self) -> SourceKind {
        self.0.kind()
    }

    fn sample(&mut self, counter: &dyn Counter, scene: &Scene<'_>) -> Result<Fix, Error> {
        let mut known = *scene.known;
        known.device = DeviceRecord::None;
        let scene = Scene {
            known: &known,
            ..*scene
        };
        self.0.sample(counter, &scene)
    }

    fn disrupt(&mut self, _cause: Distrust) {}
}

/// The present answer of a PTP clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Works,
    /// The clock refuses: EBUSY.
    Busy,
    /// The clock works, and its driver does not know the error.
    Unsure,
    /// The device is gone, and a search finds no other.
    Absent,
}

/// A PTP clock of the host, the same before and after a migration.
#[derive(Clone)]
struct Phc(Rc<PhcState>);

struct PhcState {
    host: Host,
    random: RefCell<Random>,
    driver: Driver,
    mood: Cell<Mood>,
    /// The bound of the last reading.
    bound_ns: Cell<u32>,
    share: Share,
    flaw: Flaw,
    deeds: Deeds,
}

impl PhcState {
    /// The bound that is stated for a true one.
    fn claimed_ns(&self, ns: u32) -> u32 {
        if self.flaw == Flaw::PhcLies {
            ns / 2
        } else {
            ns
        }
    }

    fn error_ns(&self) -> i128 {
        let machine = self.host.seat.machine();
        i128::from(machine.state.borrow().error_ns())
    }

    /// Changes the mood from time to time.
    fn change_mood(&self) {
        let mut random = self.random.borrow_mut();
        if !random.chance(40) {
            return;
        }
        let (mood, deed) = match random.range(0, 5) {
            0 => (Mood::Busy, "PTP clock refuses"),
            1 => (Mood::Unsure, "PTP clock without a known error"),
            2 => (Mood::Absent, "PTP clock goes away"),
            _ if self.mood.get() != Mood::Works => (Mood::Works, "PTP clock returns"),
            _ => return,
        };
        self.mood.set(mood);
        self.deeds.borrow_mut().insert(deed);
    }
}

impl Cards for Phc {
    type Card = Self;

    fn find(&self, _: bool) -> Result<Self, Error> {
        self.0.change_mood();
        if self.0.mood.get() == Mood::Absent {
            return Err(refusal("there is none", Some(libc::ENOENT)));
        }
        Ok(self.clone())
    }
}

impl Card for Phc {
    fn driver(&self) -> Driver {
        self.0.driver
    }

    fn reading(&self) -> Result<PtpReading, Error> {
        let state = &*self.0;
        state.change_mood();
        match state.mood.get() {
            Mood::Busy => {
                return Err(Error::System {
                    syscall: "ioctl",
                    path: None,
                    source: io::Error::from_raw_os_error(libc::EBUSY),
                });
            }
            Mood::Absent => {
                return Err(Error::Vanished {
                    path: PathBuf::from("/dev/ptp0"),
                });
            }
            Mood::Works | Mood::Unsure => {}
        }
        // The kernel's clock may be slewed while it is read, by as much as its error changes.
        let before_ns = state.error_ns();
        let bracket = state.host.bracket(&state.host);
        let after_ns = state.error_ns();
        let slewed_ns = (after_ns - before_ns).abs();
        let mut random = state.random.borrow_mut();
        let most_ns =
            i64::from(MOST_NS) - i64::try_from(slewed_ns).unwrap_or(i64::MAX).min(1_000_000);
        let bound_ns = match state.driver {
            Driver::Kvm => most_ns,
            _ => random.range(1_000, most_ns),
        };
        let error_ns = random.range(-bound_ns, bound_ns);
        let stated_ns = u32::try_from(i128::from(bound_ns) + slewed_ns).unwrap_or(u32::MAX);
        state.bound_ns.set(state.claimed_ns(stated_ns));
        let utc_ns = bracket.realtime_ns - after_ns + i128::from(error_ns);
        Ok(PtpReading {
            device_ns: i64::try_from(utc_ns).unwrap(),
            attributes: None,
            counters: None,
        })
    }

    fn driver_bound(&self) -> DriverBound {
        match (self.0.mood.get(), self.0.driver) {
            (Mood::Unsure, _) => DriverBound::Unknown,
            (_, Driver::Ena) => DriverBound::Ns(self.0.bound_ns.get()),
            _ => DriverBound::None,
        }
    }

    fn share(&self) -> &Share {
        &self.0.share
    }
}

fn refusal(reason: &str, errno: Option<i32>) -> Error {
    Error::NoSource {
        source_name: "simulated",
        path: None,
        reason: reason.to_owned(),
        remedy: "none",
        errno,
    }
}

impl Other {
    fn refuse(&mut self, reason: &str) -> Error {
        self.old = None;
        refusal(reason, None)
    }

    fn fresh(&mut self) -> Fix {
        // The kernel's clock may be slewed while it is read, by as much as its error changes.
        let system_error_ns = || {
            let machine = self.host.seat.machine();
            i128::from(machine.state.borrow().error_ns())
        };
        let before_ns = system_error_ns();
        let bracket = self.host.bracket(&self.host);
        let after_ns = system_error_ns();
        let slewed_ns = (after_ns - before_ns).unsigned_abs();
        let bound_ns = self.random.range(1_000, 2_000_000);
        let error_ns = self.random.range(-bound_ns, bound_ns);
        let claim_ns =
            u128::from(bound_ns.unsigned_abs()) / if self.flaw == Flaw::SourceLies { 2 } else { 1 };
        Fix {
            counter: bracket.counter.wrapping_add(bracket.width_ticks / 2),
            half_width_ticks: bracket.width_ticks / 2 + 1,
            utc_ns: bracket.realtime_ns - after_ns + i128::from(error_ns),
            max_error_ns: claim_ns + slewed_ns,
            estimate_ns: None,
            is_synchronized: true,
            is_operators: false,
        }
    }
}

impl Candidate for Other {
    fn kind(&self) -> SourceKind {
        SourceKind::ClockBound
    }

    fn sample(&mut self, _counter: &dyn Counter, scene: &Scene<'_>) -> Result<Fix, Error> {
        // It stays as it is for some 50 samples: often longer than the hold-down, and often not.
        if self.random.chance(50) {
            self.is_failing = !self.is_failing;
        }
        if self.is_failing {
            return Err(self.refuse("it fails"));
        }
        if scene.known.device != self.device && self.flaw != Flaw::DaemonIgnoresDevice {
            if self.random.chance(4) {
                self.device = scene.known.device;
            }
            return Err(self.refuse("its daemon has not followed the device"));
        }
        // Between two of its own updates it gives the same figures.
        if let Some(old) = self.old.filter(|_| !self.random.chance(3)) {
            return Ok(old);
        }
        let fix = self.fresh();
        self.old = Some(fix);
        Ok(fix)
    }

    fn disrupt(&mut self, _cause: Distrust) {
        if self.flaw != Flaw::DaemonIgnoresDevice {
            self.old = None;
        }
    }
}
