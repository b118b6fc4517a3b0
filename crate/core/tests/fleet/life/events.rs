//! Events that leave a guest on its host.

use std::rc::Rc;

use vmclock::abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID;
use vmclock::publish::Cause;
use vmclock::seqlock::{self, SharedWords, SharedWordsMut};

use super::{Life, NS_PER_SEC, Outcome, Provider};
use crate::daemon::{Daemon, Kind, Lead};
use crate::truth::TAI_MINUS_UTC_SEC;
use vmclock_testkit::virtual_machine::{Course, Wander};

impl Life {
    pub(super) fn happen(&mut self) -> Outcome {
        if self.publication.is_none() && self.random.chance(25) {
            return self.restart();
        }
        let is_unwatched = self.publication.is_none() && self.provider == Provider::Guest;
        if is_unwatched && self.random.chance(40) {
            return self.migrate();
        }
        match self.random.range(0, 8_000) {
            0..=4 => self.migrate()?,
            5..=8 => self.save()?,
            9..=13 => self.restore()?,
            14..=17 if self.publication.is_some() => {
                self.note("publisher killed");
                self.publication = None;
            }
            18 if self.publication.is_some() => {
                self.publish(Cause::Close)?;
                self.note("publisher closed");
                self.publication = None;
            }
            19..=21 => self.tear()?,
            22..=27 => self.pause()?,
            28..=31 => self.suspend()?,
            32..=34 => self.step_clock()?,
            35..=38 => self.change_daemon(),
            39..=40 => self.skip_to_change()?,
            41 => {
                self.note("disruption declared");
                self.publish(Cause::Disrupt)?;
            }
            42 => {
                let wander = self.machine.state.borrow().wander;
                let course = self.new_wander().course;
                self.machine.state.borrow_mut().wander =
                    wander.map(|wander| Wander { course, ..wander });
                self.note("oscillator changes its course");
            }
            43..=45 => self.clear_leap_flag(),
            46..=55 => self.begin_own()?,
            56..=58 => self.end_own(),
            59..=69 if self.provider == Provider::Guest => self.migrate()?,
            _ => {}
        }
        Ok(())
    }

    /// Pauses the publisher, with or without readings by the guest.
    pub(super) fn pause(&mut self) -> Outcome {
        let far = self
            .leap
            .is_some_and(|leap| self.truth_ns() / NS_PER_SEC > leap.edge_sec + 5 * 86_400);
        let ns = match self.random.range(0, 5) {
            0 if !far => self.random.range(600, 20_000) * 1_000_000_000,
            1 | 2 => self.random.range(10, 600) * 1_000_000_000,
            _ => self.random.range(10_000_000, 10_000_000_000),
        };
        self.note("pause");
        if self.random.chance(2) {
            // The guest reads while its publisher does not run.
            for _ in 0..8 {
                self.pass(i128::from(ns) / 8);
                self.look()?;
            }
        } else {
            self.pass(ns.into());
        }
        if self.random.chance(2) {
            self.update()?;
        }
        Ok(())
    }

    pub(super) fn skip_to_change(&mut self) -> Outcome {
        if let Some(ahead_ns) = self.next_change_ns()
            && ahead_ns > 3 * NS_PER_SEC
        {
            let early_ns = i128::from(self.random.range(60_000_000, 2_900_000_000));
            self.note("skip to a change of timescale");
            if self.random.chance(2) {
                for _ in 0..20 {
                    self.pass((ahead_ns - early_ns) / 20);
                    self.look()?;
                    self.update()?;
                }
            } else {
                self.pass(ahead_ns - early_ns);
            }
        }
        Ok(())
    }

    pub(super) fn clear_leap_flag(&mut self) {
        let Some(leap) = self.leap else { return };
        let since_sec = self.truth_ns() / NS_PER_SEC - leap.edge_sec - TAI_MINUS_UTC_SEC;
        // A kernel whose clock is behind the leap second still has to apply it.
        let is_behind = self.machine.state.borrow().clock_offset_sec() == TAI_MINUS_UTC_SEC;
        if since_sec < 600 || self.is_flag_cleared || is_behind {
            return;
        }
        self.is_flag_cleared = true;
        let mut state = self.machine.state.borrow_mut();
        state.leap = None;
        state.announced = false;
        self.announce_leap(&mut state);
        drop(state);
        self.note("leap second's flag cleared");
    }

    pub(super) fn change_daemon(&mut self) {
        if self.is_stated {
            return;
        }
        self.daemon.end(&mut self.machine.state.borrow_mut());
        let kind = match self.random.range(0, 5) {
            0 => Kind::Zeroing,
            1 => Kind::Nobody,
            _ => Kind::Honest,
        };
        self.daemon = Daemon::new(kind, self.truth_ns(), &mut self.random);
        self.note(match kind {
            Kind::Honest => "honest daemon",
            Kind::Zeroing => "zeroing daemon",
            Kind::Nobody => "no daemon",
            Kind::Stated => "stated error",
        });
    }

    /// Steps the clock as another process does, to a right or a wrong time.
    pub(super) fn step_clock(&mut self) -> Outcome {
        if self.is_stated || self.is_near_leap(10 * NS_PER_SEC) {
            return Ok(());
        }
        let by_ns = match self.random.range(0, 3) {
            0 => self.random.range(-900_000, 900_000),
            1 => self.random.range(-50_000_000, 50_000_000),
            _ => self.random.range(-7_200, 7_200) * 1_000_000_000,
        };
        // Not across the leap second: a kernel that is stepped back across it would not repeat it.
        let is_over_leap = self.is_near_leap(i128::from(by_ns.abs()) * 2);
        if is_over_leap || by_ns > 50_000_000 && self.is_before_leap() {
            return Ok(());
        }
        // A publisher that trusts its daemon waits for 64 updates.
        let is_trusted = self.publication.as_ref().is_some_and(|publication| {
            publication.fields().flags & VMCLOCK_FLAG_TIME_MAXERROR_VALID != 0
        });
        // The process's page looks at other intervals, in which the daemon may report.
        let is_unaware = is_trusted && self.own.is_none() && self.random.chance(2);
        if is_unaware {
            // It may take a small step for noise until its earlier measurements have expired.
            let most = if by_ns.abs() <= 50_000_000 { 63 } else { 4 };
            let turns = self.random.range(1, most);
            self.daemon.be_unaware(u32::try_from(turns).unwrap());
            self.misses_step = true;
            self.note("daemon unaware that the clock was stepped");
        }
        let mut state = self.machine.state.borrow_mut();
        self.daemon.disturb(&mut state, |state| state.step(by_ns));
        drop(state);
        self.alarm = true;
        self.note("clock stepped by another process");
        if is_unaware {
            self.examine()?;
        }
        Ok(())
    }

    /// Updates the page through the intervals around a step, without an update by the daemon. An update there
    /// would explain the step.
    fn examine(&mut self) -> Outcome {
        const INTERVALS: i128 = 3;
        let interval_ns = self.options.interval.as_nanos().cast_signed();
        self.daemon
            .wait_until(self.truth_ns() + (INTERVALS + 1) * interval_ns);
        self.update()?;
        for _ in 0..INTERVALS {
            self.pass(interval_ns);
            self.look()?;
            self.update()?;
        }
        Ok(())
    }

    /// Kills the publisher in the middle of an update.
    pub(super) fn tear(&mut self) -> Outcome {
        let Some(fields) = self.step(Cause::Interval)? else {
            return Ok(());
        };
        let (head, new) = fields.to_words();
        let mut words = self.memory.load_words();
        let written = usize::try_from(self.random.range(0, 12)).unwrap();
        words[..written].copy_from_slice(&new[..written]);
        seqlock::begin(&self.memory.memory);
        self.memory.store_head(head);
        self.memory.store_words(&words);
        self.is_torn = true;
        self.publication = None;
        self.note("publisher killed in an update");
        Ok(())
    }

    /// The worst case that an operator's statement and the allowance for wander permit together. The clock
    /// drifts from one limit of its error to the other, while the oscillator stays at one limit of its
    /// frequency. Then the publisher dies, and the frequency goes to the other limit.
    pub(super) fn cross(&mut self) -> Outcome {
        let up = self.random.chance(2);
        self.note("from limit to limit");
        self.pin_oscillator(!up);
        let machine = Rc::clone(&self.machine);
        let sec = self.daemon.set_out(up, &mut machine.state.borrow_mut());
        if self.publication.is_none() {
            self.restart()?;
        }
        self.publish(Cause::ClockStep)?;
        let interval_ns = self.options.interval.as_nanos().cast_signed();
        let rounds = i128::from(sec) * NS_PER_SEC * 98 / 100 / interval_ns;
        for round in 0..rounds {
            self.pass(interval_ns);
            if round % 16 == 0 {
                self.look()?;
            }
            self.update()?;
        }
        self.publication = None;
        self.pin_oscillator(up);
        let dead_sec = self.random.range(20, 2_000);
        for _ in 0..20 {
            self.pass(i128::from(dead_sec) * NS_PER_SEC / 20);
            self.look()?;
        }
        self.daemon.lead = Lead::Anywhere;
        self.restart()
    }

    pub(super) fn pin_oscillator(&mut self, high: bool) {
        let mut state = self.machine.state.borrow_mut();
        state.wander = state.wander.map(|wander| Wander {
            course: Course::Edge { high },
            ..wander
        });
        if let Some(wander) = state.wander {
            state.oscillator_ppb = if high {
                wander.high_ppb
            } else {
                wander.low_ppb
            };
        }
    }
}
