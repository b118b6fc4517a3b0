//! The life of one guest: its hosts, daemons, publishers and events. Every reading of the guest is compared
//! with the true time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use moves::Saved;
use vmclock::clock::guard::Guard;
use vmclock::publish::{Cause, Publication, PublishOptions};

use crate::daemon::{Daemon, Kind};
use crate::guest::{self, Capture, GuestMemory, Held, Host, Seat};
use crate::other::{Deeds, Source};
use crate::tally::Tally;
use crate::truth::{self, TAI_MINUS_UTC_SEC};
use vmclock_testkit::virtual_machine::{Leap, Machine, ONE, Random};

mod events;
mod hosts;
mod looking;
mod moves;
mod publishing;

const NS_PER_SEC: i128 = 1_000_000_000;
const NS_PER_MS: i128 = 1_000_000;
/// 1 July 2026 and 1 January 2027.
const EDGES_SEC: [i128; 2] = [1_782_864_000, 1_798_761_600];
/// Within this distance of a leap second, time passes in small steps.
const NEAR_NS: i128 = 40 * NS_PER_MS;

/// A planted flaw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// The publisher's bound of the period is 1 ppm too small.
    RateBoundTooSmall,
    /// The reader uses the symmetric bound, across a leap second too.
    NoHull,
    /// The publisher trusts a `maxerror` that was set to 0.
    TrustsZero,
    /// The reader does not look at the device.
    NoGuard,
    /// The reader looks at the device before it reads the counter.
    LooksEarly,
    /// The maker records the device as it is when the page is written.
    RecordsLater,
    /// A maker that starts trusts its daemon.
    TrustsLateMaker,
    /// A daemon beside the kernel's clock states half of its bound.
    SourceLies,
    /// That daemon does not follow the device.
    DaemonIgnoresDevice,
    /// A PTP clock's driver, or the operator, states half of its bound.
    PhcLies,
    /// The source that reads a PTP clock learns of no disruption.
    PhcIgnoresDevice,
}

/// Who can look at the guest's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Both,
    MakerBlind,
    ReaderBlind,
}

/// The page in a process of the guest, and its maker.
struct OwnPage {
    publication: Publication<Source, Host, Host>,
    memory: Arc<GuestMemory>,
    /// The clock was stepped, and its maker has not been woken yet.
    alarm: bool,
}

/// The clocks of the published page. Those of the process's page follow.
const PUBLISHED_CLOCKS: usize = 8;

/// The provider of the guest's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provider {
    /// The guest's host.
    Hypervisor,
    /// The guest itself, from its own kernel's clock.
    Guest,
}

/// The source of TAI − UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OffsetSource {
    Kernel,
    List,
    Operator,
    Nobody,
}

pub(crate) struct Life {
    seed: u64,
    flaw: Flaw,
    provider: Provider,
    /// The page states no error of its period.
    hides_rate_error: bool,
    source: OffsetSource,
    /// An operator states the clock's error for the whole life.
    is_stated: bool,
    /// That error holds after a disruption too.
    holds_after_migration: bool,
    random: Random,
    leap: Option<Leap>,
    is_flag_cleared: bool,
    sight: Sight,
    memory: Arc<GuestMemory>,
    seat: Seat,
    /// The machine whose clock is published: the host or the guest.
    machine: Rc<Machine>,
    daemon: Daemon,
    options: PublishOptions,
    publication: Option<Publication<Source, Host, Host>>,
    own: Option<OwnPage>,
    /// The daemon does not notice that another process stepped its clock.
    misses_step: bool,
    /// The clock was stepped, and the publisher has not been woken yet.
    alarm: bool,
    /// Counts the disruptions of the counter.
    era: Rc<Cell<u64>>,
    held: Vec<Held>,
    captures: Vec<Capture>,
    saved: Option<Saved>,
    is_torn: bool,
    torn_looks_left: u32,
    /// The marker of the last reading.
    last_marker: Option<u64>,
    began_sec: i128,
    readings: u64,
    history: VecDeque<String>,
    tally: Tally,
    /// The course of the sources beside the kernel's clock.
    deeds: Deeds,
}

/// The result of a check: `Err` describes a violated promise.
pub(crate) type Outcome = Result<(), String>;

impl Life {
    /// Simulates a life of so many readings. Returns its tally.
    pub(crate) fn live(seed: u64, flaw: Flaw, readings: u64) -> Result<Tally, String> {
        let mut life = Self::new(seed, flaw, readings);
        life.run()?;
        for deed in life.deeds.take() {
            life.tally.note(deed);
        }
        life.tally.simulated_sec =
            (life.truth_ns() / NS_PER_SEC - life.began_sec).unsigned_abs() as u64;
        Ok(life.tally)
    }

    fn new(seed: u64, flaw: Flaw, readings: u64) -> Self {
        let mut random = Random::new(seed.wrapping_add(0x0005_eed0));
        let leap = (!random.chance(6)).then(|| Leap {
            inserted: random.chance(2),
            edge_sec: EDGES_SEC[usize::from(random.chance(2))],
        });
        // Before the leap second, or before noon of its last day.
        let lead_sec = if random.chance(3) {
            random.range(43_260, 82_000)
        } else {
            random.range(5, 3_000)
        };
        let edge_sec = leap.map_or(EDGES_SEC[0], |leap| leap.edge_sec);
        let began_sec = edge_sec + TAI_MINUS_UTC_SEC - i128::from(lead_sec);
        let is_stated = seed.is_multiple_of(4);
        let source = match random.range(0, 5) {
            0 | 1 => OffsetSource::Kernel,
            2 => OffsetSource::List,
            3 => OffsetSource::Operator,
            _ => OffsetSource::Nobody,
        };
        let provider = if random.chance(2) {
            Provider::Hypervisor
        } else {
            Provider::Guest
        };
        let kind = if is_stated {
            Kind::Stated
        } else {
            Kind::Honest
        };
        let daemon = Daemon::new(kind, began_sec * NS_PER_SEC, &mut random);
        let sight = match random.range(0, 15) {
            0 => Sight::MakerBlind,
            1 => Sight::ReaderBlind,
            _ => Sight::Both,
        };
        let memory = Arc::new(GuestMemory::default());
        let blank = Rc::new(Machine::new(0, 0));
        let seat = Seat::new(Rc::clone(&blank));
        let mut life = Self {
            seed,
            flaw,
            provider,
            hides_rate_error: random.chance(6),
            source,
            is_stated,
            holds_after_migration: !seed.is_multiple_of(16),
            leap,
            is_flag_cleared: false,
            held: Vec::new(),
            sight,
            memory,
            seat,
            machine: blank,
            daemon,
            options: PublishOptions::default(),
            publication: None,
            own: None,
            misses_step: false,
            alarm: false,
            era: Rc::default(),
            captures: Vec::new(),
            saved: None,
            is_torn: false,
            torn_looks_left: u32::from(random.chance(8)),
            last_marker: None,
            began_sec,
            readings,
            history: VecDeque::new(),
            tally: Tally::default(),
            deeds: Deeds::default(),
            random,
        };
        let machine = life.new_machine(began_sec * NS_PER_SEC * ONE);
        life.seat.move_to(Rc::clone(&machine));
        life.machine = machine;
        let guard = match life.provider {
            Provider::Hypervisor => Guard::OWN,
            Provider::Guest => guest::guard(&life.seat, sight != Sight::ReaderBlind),
        };
        let guard = life.flawed(guard);
        life.held = guest::clocks(&life.memory, &life.seat, &guard);
        if flaw == Flaw::LooksEarly {
            life.seat.look_early();
        }
        life
    }

    fn run(&mut self) -> Outcome {
        let publication = self.new_publication(None);
        self.publication = Some(publication);
        self.publish(Cause::Interval)?;
        self.settle()?;
        while self.tally.readings < self.readings {
            if self.is_stated && self.random.chance(200) {
                self.cross()?;
            } else {
                self.beat()?;
                self.happen()?;
            }
        }
        Ok(())
    }

    fn truth_ns(&self) -> i128 {
        self.machine.state.borrow().truth_tai_ns()
    }

    /// Nanoseconds to the next change of a timescale; negative shortly after one.
    fn next_change_ns(&self) -> Option<i128> {
        let now_ns = self.truth_ns();
        let changes = truth::changes_ns(self.leap?);
        changes
            .into_iter()
            .map(|change_ns| change_ns - now_ns)
            .filter(|ahead_ns| *ahead_ns > -NEAR_NS)
            .min()
    }

    fn is_near_leap(&self, within_ns: i128) -> bool {
        self.leap.is_some_and(|leap| {
            let edge_ns = (leap.edge_sec + TAI_MINUS_UTC_SEC) * NS_PER_SEC;
            (self.truth_ns() - edge_ns).abs() < NS_PER_SEC + within_ns
        })
    }

    fn is_before_leap(&self) -> bool {
        self.leap.is_some_and(|leap| {
            self.truth_ns() < (leap.edge_sec + TAI_MINUS_UTC_SEC + 10) * NS_PER_SEC
        })
    }

    /// Lets time pass. The daemon takes its turns.
    fn pass(&mut self, ns: i128) {
        let end_ns = self.truth_ns() + ns;
        loop {
            let now_ns = self.truth_ns();
            if now_ns >= end_ns {
                return;
            }
            let next_ns = self.daemon.next_ns().clamp(now_ns, end_ns);
            self.machine.advance(next_ns - now_ns);
            if self.daemon.next_ns() <= self.truth_ns() {
                let may_step = !self.is_near_leap(3 * NS_PER_SEC);
                let machine = Rc::clone(&self.machine);
                let mut state = machine.state.borrow_mut();
                if self.daemon.act(&mut state, may_step) {
                    self.alarm = true;
                    self.tally.note("clock stepped by its daemon");
                }
            }
        }
    }

    fn note(&mut self, what: &'static str) {
        self.tally.note(what);
        let line = self.at(what);
        if self.history.len() == 40 {
            self.history.pop_front();
        }
        self.history.push_back(line);
    }

    /// Takes some readings, then updates the page.
    fn beat(&mut self) -> Outcome {
        let interval_ns = self.options.interval.as_nanos().cast_signed();
        let rounds = self.random.range(2, 6);
        for _ in 0..rounds {
            let most_ns = i64::try_from(interval_ns / i128::from(rounds)).unwrap();
            let most_ns = match self.next_change_ns() {
                Some(ahead_ns) if ahead_ns < NEAR_NS => 1_500_000,
                // Stop before it.
                Some(ahead_ns) => {
                    most_ns.min(i64::try_from(ahead_ns - NEAR_NS / 2).unwrap_or(i64::MAX))
                }
                None => most_ns,
            };
            let ns = self.random.range(0, most_ns);
            self.pass(ns.into());
            self.look()?;
        }
        if self.next_change_ns().is_some_and(|ns| ns < NEAR_NS) && self.random.chance(2) {
            return Ok(());
        }
        if self.is_near_leap(NEAR_NS) {
            // The kernel steps its clock then, which wakes the publisher.
            self.alarm = true;
        }
        let is_quiet = self.publication.is_some() && !self.is_torn && !self.alarm;
        if is_quiet && self.random.chance(50) {
            // An update in the middle of a reading.
            if let Some(fields) = self.step(Cause::Interval)? {
                self.intrude(fields, None);
            }
            self.look()?;
            self.seat.let_happen();
            return Ok(());
        }
        self.update()
    }

    fn at(&self, what: &str) -> String {
        let since_ns = self.truth_ns() - self.began_sec * NS_PER_SEC;
        let to_edge_sec = self.leap.map_or(f64::NAN, |leap| {
            (self.truth_ns() - (leap.edge_sec + TAI_MINUS_UTC_SEC) * NS_PER_SEC) as f64 / 1e9
        });
        let state = self.machine.state.borrow();
        format!(
            "{:>14.6} s ({to_edge_sec:.6} s from the leap), clock off by {} ns: {what}",
            since_ns as f64 / 1e9,
            state.error_ns(),
        )
    }

    fn violation(&self, what: &str) -> String {
        let history: Vec<_> = self
            .history
            .iter()
            .map(|line| format!("  {line}"))
            .collect();
        let state = self.machine.state.borrow();
        format!(
            "{what}\n\
             in the life of seed {}: page of the {:?}, offset from {:?}, {:?}, leap {:?}, \
             {:?}, oscillator {} ppb of {:?}\n\
             reading {}, era {}\n\
             earlier events:\n{}\n{}\n\
             page: {:?}\n\
             kernel: {:?}",
            self.seed,
            self.provider,
            self.source,
            self.daemon,
            self.leap,
            self.options,
            state.oscillator_ppb,
            state.wander,
            self.tally.readings,
            self.era.get(),
            history.join("\n"),
            self.at("now"),
            self.found(),
            state.discipline,
        )
    }
}
