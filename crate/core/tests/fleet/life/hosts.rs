//! The machines that a guest runs on.

use std::rc::Rc;

use super::{Life, OffsetSource};
use crate::truth::TAI_MINUS_UTC_SEC;
use vmclock_testkit::virtual_machine::{Course, Machine, State, Wander};

/// A little less than the publisher's allowance, which is relative to a slightly different rate.
const WANDER_PPB: i64 = 14_998;

impl Life {
    pub(super) fn new_wander(&mut self) -> Wander {
        let low_ppb = self.random.range(-50_000, 35_000);
        let course = match self.random.range(0, 4) {
            0 => Course::Edge {
                high: self.random.chance(2),
            },
            1 => Course::Sine {
                period_sec: self.random.range(60, 4_000),
            },
            2 => Course::Flips {
                one_in: self.random.range(10, 2_000).unsigned_abs(),
            },
            _ => Course::Walk {
                step_ppb: self.random.range(1, 200),
            },
        };
        Wander {
            low_ppb,
            high_ppb: low_ppb + WANDER_PPB,
            course,
        }
    }

    /// Makes another machine at a true time, whose clock a daemon of this life's kind disciplines.
    pub(super) fn new_machine(&mut self, truth_fine: i128) -> Rc<Machine> {
        let machine = Machine::new(self.random.next_u64(), 0);
        let wander = self.new_wander();
        {
            let mut state = machine.state.borrow_mut();
            state.set_truth_tai_fine(truth_fine);
            state.wander = Some(wander);
            state.oscillator_ppb = wander.low_ppb;
            let room_ns = if self.is_stated { 20_000 } else { 2_000_000 };
            let error_ns = state.random.range(-room_ns, room_ns);
            state.step(error_ns);
            state.set_frequency_ppb(-wander.low_ppb);
            self.announce_leap(&mut state);
            self.daemon = self
                .daemon
                .successor(state.truth_tai_ns(), &mut self.random);
            self.daemon.act(&mut state, true);
        }
        Rc::new(machine)
    }

    pub(super) fn announce_leap(&self, state: &mut State) {
        let knows_offset = self.source == OffsetSource::Kernel;
        state.discipline.tai_minus_utc_sec = if knows_offset { 37 } else { 0 };
        match self.leap {
            Some(leap) if self.is_flag_cleared => {
                state.tai_minus_utc_sec = TAI_MINUS_UTC_SEC + if leap.inserted { 1 } else { -1 };
            }
            leap => {
                state.leap = leap;
                state.announced = true;
            }
        }
    }
}
