//! Migrations, suspends, snapshots and clones of a guest.

use std::rc::Rc;

use vmclock::Continuity;
use vmclock::extension::DeviceRecord;
use vmclock::publish::{Cause, Publication};
use vmclock::seqlock::{EXTENSION_WORDS, SharedWords, SharedWordsMut, WORDS};
use vmclock::source::kernel::KernelSource;

use super::{Life, NS_PER_SEC, Outcome, Provider};
use crate::daemon::Daemon;
use crate::guest::{Capture, Held, Host};
use vmclock_testkit::virtual_machine::{Machine, NOMINAL_HZ, ONE, Random, State};

/// A snapshot of the guest.
pub(super) struct Saved {
    seq: u32,
    head: u32,
    words: [u64; WORDS],
    extension: [u64; EXTENSION_WORDS],
    device: DeviceRecord,
    held: Vec<Held>,
    captures: Vec<Capture>,
    state: State,
    daemon: Daemon,
    publication: Option<Publication<KernelSource<Host>, Host, Host>>,
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
            // A dead publisher notices nothing.
            Provider::Guest if self.publication.is_none() => Ok(()),
            Provider::Guest => {
                self.carry_on(paused_ns.into());
                self.note("migration");
                self.seat.report(false);
                self.publish(Cause::Interval)?;
                self.settle()
            }
        }
    }

    /// Continues the guest's kernel on another host, after a pause.
    pub(super) fn carry_on(&mut self, paused_ns: i128) {
        let even_ticks = paused_ns * NOMINAL_HZ / NS_PER_SEC;
        let ticks = if self.is_stated {
            even_ticks
        } else {
            match self.random.range(0, 3) {
                0 => even_ticks,
                1 => 0,
                2 => -i128::from(self.random.range(0, 1 << 40)),
                _ if self.is_before_leap() => even_ticks,
                _ => i128::from(self.random.range(0, 1 << 44)),
            }
        };
        let wander = self.new_wander();
        self.make_aware();
        self.be_unaware_of_disruption();
        let mut state = self.machine.state.borrow_mut();
        self.daemon
            .disturb(&mut state, |state| state.carry_on(paused_ns, ticks));
        state.wander = Some(wander);
        state.oscillator_ppb = wander.low_ppb;
        // The daemon keeps the clock's drift within the kernel's allowance.
        state.set_frequency_ppb(-wander.low_ppb);
        drop(state);
        self.daemon.carry_on(paused_ns);
        self.era.set(self.era.get() + 1);
    }

    /// Sometimes makes the daemon unaware of a disruption for some measurements.
    fn be_unaware_of_disruption(&mut self) {
        if !self.is_stated && self.publication.is_some() && self.random.chance(2) {
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
        if self.is_torn {
            return Ok(());
        }
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
            device: self.seat.device(),
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
                self.carry_on(paused_ns);
                self.seat.set_device(saved.device);
                self.seat.report(true);
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
