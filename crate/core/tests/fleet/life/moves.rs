//! Migrations, suspends, snapshots and clones of a guest.

use std::cell::Cell;
use std::rc::Rc;

use crate::other::Source;
use vmclock::Continuity;
use vmclock::publish::{Cause, Publication};
use vmclock::seqlock::{EXTENSION_WORDS, SharedWords, SharedWordsMut, WORDS};
use vmclock::snapshot::RawFields;

use super::{Life, NS_PER_SEC, Outcome, Provider, Sight};
use crate::daemon::Daemon;
use crate::guest::{Capture, Held, Host, Intrusion, Seat};
use vmclock_testkit::virtual_machine::{Machine, NOMINAL_HZ, ONE, Random, State, Wander};

/// A planned migration.
struct Migration {
    paused_ns: i128,
    /// How far the counter goes meanwhile.
    ticks: i128,
    /// The next host's oscillator.
    wander: Wander,
    machine: Rc<Machine>,
    seat: Seat,
    era: Rc<Cell<u64>>,
    /// The change of the clock's error.
    changed_ns: Rc<Cell<i64>>,
}

impl Migration {
    /// Lets it happen, at an instant to be chosen.
    fn happen(&self) -> Box<dyn FnOnce()> {
        let planned = Self {
            machine: Rc::clone(&self.machine),
            seat: self.seat.clone(),
            era: Rc::clone(&self.era),
            changed_ns: Rc::clone(&self.changed_ns),
            ..*self
        };
        Box::new(move || {
            planned.carry_on();
            planned.seat.report(false);
        })
    }

    /// Continues the guest's kernel on another host, after a pause.
    fn carry_on(&self) {
        let mut state = self.machine.state.borrow_mut();
        let before_ns = state.error_ns();
        state.carry_on(self.paused_ns, self.ticks);
        self.changed_ns.set(state.error_ns() - before_ns);
        state.wander = Some(self.wander);
        state.oscillator_ppb = self.wander.low_ppb;
        // The daemon keeps the clock's drift within the kernel's allowance.
        state.set_frequency_ppb(-self.wander.low_ppb);
        self.era.set(self.era.get() + 1);
    }
}

/// A snapshot of the guest.
pub(super) struct Saved {
    seq: u32,
    head: u32,
    words: [u64; WORDS],
    extension: [u64; EXTENSION_WORDS],
    device: (RawFields, u32),
    held: Vec<Held>,
    captures: Vec<Capture>,
    state: State,
    daemon: Daemon,
    publication: Option<Publication<Source, Host, Host>>,
    before: Continuity,
    clones: Vec<Continuity>,
}

impl Life {
    pub(super) fn disrupted(&mut self) {
        self.era.set(self.era.get() + 1);
        self.make_aware();
    }

    /// Makes the daemon aware of all changes. A new publisher waits for 8 updates at most, even if the earlier
    /// one waited for 64.
    pub(super) fn make_aware(&mut self) {
        self.misses_step = false;
        self.daemon.be_aware(&mut self.machine.state.borrow_mut());
    }

    pub(super) fn migrate(&mut self) -> Outcome {
        let paused_ns = match self.random.range(0, 3) {
            0 => self.random.range(1, 30) * 1_000_000_000,
            _ => self.random.range(1_000_000, 2_000_000_000),
        };
        match self.provider {
            Provider::Hypervisor => {
                let truth_fine = self.machine.state.borrow().truth_tai_fine();
                let machine = self.new_machine(truth_fine + i128::from(paused_ns) * ONE);
                let old = self.found();
                self.machine = Rc::clone(&machine);
                let publication = self.new_publication(Some(old));
                self.publication = Some(publication);
                self.alarm = false;
                self.note("migration");
                let fields = self.step(Cause::Disrupt)?;
                if let Some(fields) = fields {
                    if !self.is_torn && self.random.chance(3) {
                        self.intrude(fields, Some(machine));
                        self.look()?;
                        self.seat.let_happen();
                    } else {
                        self.seat.move_to(machine);
                        self.disrupted();
                        self.write(&fields);
                    }
                }
                self.settle()
            }
            Provider::Guest => self.migrate_guest(paused_ns.into()),
        }
    }

    /// Migrates a guest that makes its page itself. At some instant its counter jumps and its device changes.
    fn migrate_guest(&mut self, paused_ns: i128) -> Outcome {
        let before = self.token();
        let migration = self.plan_migration(paused_ns);
        let happen = migration.happen();
        let makes = self.publication.is_some() && !self.is_torn;
        match self.random.range(0, 3) {
            0 if makes => {
                let calls = self.random.range(0, 16);
                self.seat.intrude_on_maker(calls as u32, happen);
                if let Some(fields) = self.step(Cause::Interval)? {
                    // If it did not happen within the step, it happens before the page shows it, or after that.
                    if self.random.chance(2) {
                        self.seat.let_maker_event_happen();
                    }
                    self.write(&fields);
                }
                self.seat.let_maker_event_happen();
                self.note("migration in a step of the maker");
            }
            1 | 2 if !self.is_torn => {
                let before_counter = self.random.chance(2);
                self.seat.intrude(Intrusion {
                    before_counter,
                    happen,
                });
                let which = usize::try_from(self.random.range(0, 7)).unwrap();
                self.last_marker = None;
                self.read(which)?;
                self.seat.let_happen();
                let marker = before.map(|token| token.disruption_marker);
                if before_counter && marker.is_some() && self.last_marker == marker {
                    let what = "a reading of after a migration has the marker of before";
                    return Err(self.violation(what));
                }
                self.note("migration of a guest within a reading");
            }
            _ => happen(),
        }
        self.daemon.disturbed_by(migration.changed_ns.get());
        self.daemon.carry_on(paused_ns);
        self.note(if self.publication.is_some() {
            "migration"
        } else {
            "migration without a publisher"
        });
        if self.random.chance(3) {
            self.end_own();
            self.begin_own()?;
        }
        let after = self.token();
        if before.is_some() && before == after {
            return Err(self.violation("a token from before a migration is valid after it"));
        }
        for _ in 0..self.random.range(0, 5) {
            self.look()?;
        }
        if self.random.chance(2) {
            self.update()?;
            let is_followed = self.publication.is_some() && after.is_some();
            if is_followed && self.token() != after {
                return Err(self.violation("the maker publishes another token than readers had"));
            }
            self.settle()?;
        }
        Ok(())
    }

    /// The guest's token, if nothing but disruptions changes it.
    fn token(&mut self) -> Option<Continuity> {
        if self.is_torn || self.sight != Sight::Both {
            return None;
        }
        self.held[0].clock.continuity_token().ok()
    }

    fn plan_migration(&mut self, paused_ns: i128) -> Migration {
        let ticks = self.jump_ticks(paused_ns);
        self.make_aware();
        self.be_unaware_of_disruption();
        Migration {
            paused_ns,
            ticks,
            wander: self.new_wander(),
            machine: Rc::clone(&self.machine),
            seat: self.seat.clone(),
            era: Rc::clone(&self.era),
            changed_ns: Rc::default(),
        }
    }

    /// How the counter of the next host differs from the one before.
    fn jump_ticks(&mut self, paused_ns: i128) -> i128 {
        let even_ticks = paused_ns * NOMINAL_HZ / NS_PER_SEC;
        if self.is_stated && self.holds_after_migration {
            return even_ticks;
        }
        match self.random.range(0, 5) {
            0 => even_ticks,
            1 => 0,
            4 | 5 => even_ticks - i128::from(self.random.range(1 << 20, 1 << 33)),
            2 => -i128::from(self.random.range(0, 1 << 40)),
            _ if self.is_before_leap() => even_ticks,
            _ => i128::from(self.random.range(0, 1 << 44)),
        }
    }

    /// Continues the guest's kernel on another host, after a pause, where its device reports a restore.
    pub(super) fn carry_on_restored(&mut self, paused_ns: i128) {
        let migration = self.plan_migration(paused_ns);
        migration.carry_on();
        self.seat.report(true);
        self.daemon.disturbed_by(migration.changed_ns.get());
        self.daemon.carry_on(paused_ns);
    }

    /// Sometimes makes the daemon unaware of a disruption for some measurements.
    fn be_unaware_of_disruption(&mut self) {
        if !self.is_stated && self.provider == Provider::Guest && self.random.chance(2) {
            let turns = self.random.range(1, 7);
            self.daemon.be_unaware(u32::try_from(turns).unwrap());
            self.note("daemon unaware of a disruption");
        }
    }

    pub(super) fn suspend(&mut self) -> Outcome {
        if self.provider == Provider::Hypervisor {
            return Ok(());
        }
        let ns = i128::from(self.random.range(1, 20_000)) * NS_PER_SEC;
        let keeps_counting = self.random.chance(2);
        if !keeps_counting && self.publication.is_none() {
            return Ok(());
        }
        self.make_aware();
        self.be_unaware_of_disruption();
        {
            let mut state = self.machine.state.borrow_mut();
            let error_ns = if self.is_stated {
                0
            } else {
                state.random.range(-500_000_000, 500_000_000).into()
            };
            self.daemon
                .disturb(&mut state, |state| state.suspend(ns, error_ns));
            if keeps_counting {
                let ppb = i128::from(state.oscillator_ppb);
                let ticks = ns * NOMINAL_HZ / NS_PER_SEC;
                state.move_counter(ticks + ticks * ppb / 1_000_000_000);
            }
        }
        self.daemon.carry_on(ns);
        if keeps_counting {
            self.note("suspend, counter continues");
        } else {
            self.era.set(self.era.get() + 1);
            self.note("suspend");
        }
        self.alarm = true;
        self.update()?;
        self.settle()
    }

    pub(super) fn save(&mut self) -> Outcome {
        if self.is_torn || self.sight != Sight::Both {
            return Ok(());
        }
        self.end_own();
        let Ok(before) = self.held[0].clock.continuity_token() else {
            return Ok(());
        };
        let publication = match self.provider {
            Provider::Hypervisor => None,
            Provider::Guest => self.publication.take(),
        };
        self.saved = Some(Saved {
            seq: self.memory.load_seq(),
            head: self.memory.load_head(),
            words: self.memory.load_words(),
            extension: self.memory.load_extension().unwrap_or_default(),
            device: (
                self.seat.device().shown().0,
                self.seat.device().memory.load_seq(),
            ),
            held: self.held.clone(),
            captures: self.captures.clone(),
            state: self.machine.state.borrow().clone(),
            daemon: self.daemon.clone(),
            publication,
            before,
            clones: Vec::new(),
        });
        self.note("saved");
        if self.provider == Provider::Guest {
            // The saved publisher must not run twice.
            self.restart()?;
        }
        Ok(())
    }

    pub(super) fn restore(&mut self) -> Outcome {
        let Some(mut saved) = self.saved.take() else {
            return Ok(());
        };
        self.end_own();
        let now_fine = self.machine.state.borrow().truth_tai_fine();
        let now_fine = now_fine + i128::from(self.random.range(1, 60)) * NS_PER_SEC * ONE;
        self.held.clone_from(&saved.held);
        self.captures.clone_from(&saved.captures);
        self.memory.store_head(saved.head);
        self.memory.store_words(&saved.words);
        self.memory.store_extension(&saved.extension);
        self.memory.store_seq(saved.seq);
        self.is_torn = false;
        self.alarm = false;
        let old = match self.provider {
            Provider::Hypervisor => {
                self.machine = self.new_machine(now_fine);
                self.seat.move_to(Rc::clone(&self.machine));
                self.disrupted();
                self.found()
            }
            Provider::Guest => {
                let mut state = saved.state.clone();
                let paused_ns = (now_fine - state.truth_tai_fine()) / ONE;
                state.random = Random::new(self.random.next_u64());
                self.machine = Rc::new(Machine::restored(state));
                self.seat.move_to(Rc::clone(&self.machine));
                self.daemon = saved.daemon.clone();
                let (fields, seq) = saved.device;
                let (head, words) = fields.to_words();
                let device = &self.seat.device().memory;
                device.store_head(head);
                device.store_words(&words);
                device.store_seq(seq);
                self.carry_on_restored(paused_ns);
                self.found()
            }
        };
        let publication = match saved.publication.take() {
            Some(publication) => publication,
            None => self.new_publication(Some(old)),
        };
        self.publication = Some(publication);
        self.note("restored");
        if self.provider == Provider::Hypervisor {
            self.step(Cause::Disrupt)?;
            self.step(Cause::BumpGeneration)?;
        }
        self.publish(Cause::Interval)?;
        let token = self.held[0].clock.continuity_token();
        let token = token.map_err(|error| self.violation(&format!("no token: {error}")))?;
        let is_fresh = token.disruption_marker != saved.before.disruption_marker
            && token.vm_generation != saved.before.vm_generation;
        if !is_fresh {
            return Err(self.violation("a token from before the restore is valid after it"));
        }
        if saved.clones.last().is_some_and(|other| *other != token) {
            return Err(self.violation("two clones of one snapshot hold different tokens"));
        }
        if !saved.clones.is_empty() {
            self.note("a second clone");
        }
        saved.clones.push(token);
        self.saved = Some(saved);
        self.settle()
    }
}
