//! Time daemons that discipline a simulated kernel's clock, and report its error more or less honestly.
//!
//! All of them stay within the assumptions behind the publisher's claims. The clock drifts by less than
//! 500 ppm while nobody slews it. An honest daemon's `maxerror` covers the network's asymmetry. An
//! operator's stated error holds at every point. Within these limits, they go to the extremes.

use vmclock::publish::PublishOptions;

use vmclock_testkit::virtual_machine::{Random, State};

const NS_PER_SEC: i64 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;
/// ntpd steps the clock by more than this, and slews it by less.
const STEP_THRESHOLD_NS: i64 = 128 * NS_PER_MS;
/// The drift that the kernel allows for, less an oscillator's wander.
const DRIFT_EDGE_PPB: i64 = 480_000;

/// The kinds of daemons, or their substitute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keeps `maxerror` as ntpd and chrony do.
    Honest,
    /// Sets `maxerror` to 0 at every update, as systemd-timesyncd does.
    Zeroing,
    /// No daemon.
    Nobody,
    /// An operator who states the error.
    Stated,
}

#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    pub(crate) kind: Kind,
    /// The true TAI of its next turn.
    next_ns: i128,
    poll_exponent: i64,
    /// The time constant that it gives the kernel's phase-locked loop.
    loop_shift: u32,
    /// Until then the operator leaves the kernel to slew the clock.
    silent_until_ns: i128,
    /// It slews the clock by `tick` until its next turn.
    by_tick: bool,
    /// Turns in which it does not notice yet that another process stepped the clock.
    unaware_turns: u32,
    /// The change that it does not notice: the step, and the slews that the step cancelled.
    missed_ns: i64,
    /// It reported an error as if nobody had stepped the clock.
    has_misled: bool,
    pub(crate) stated_ns: i64,
    /// How the operator's clock moves.
    pub(crate) lead: Lead,
}

/// How a clock moves within the error that its operator states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// Steps and slews to random offsets.
    Anywhere,
    /// Drifts evenly from one limit to the other.
    Across,
}

/// The operator's clock stays this far from its limits, for its changes between two turns
/// ([`STATED_TURN_NS`]).
const GUARD_NS: i64 = 12_000;
const STATED_TURN_NS: i64 = 250 * NS_PER_MS;

impl Daemon {
    pub(crate) fn new(kind: Kind, now_ns: i128, random: &mut Random) -> Self {
        Self {
            kind,
            next_ns: now_ns + i128::from(random.range(0, 4 * NS_PER_SEC)),
            poll_exponent: random.range(1, 2),
            loop_shift: u32::try_from(random.range(2, 8)).unwrap(),
            silent_until_ns: 0,
            by_tick: false,
            unaware_turns: 0,
            missed_ns: 0,
            has_misled: false,
            stated_ns: match random.range(0, 2) {
                0 => 50_000,
                1 => random.range(50_000, 2_000_000),
                _ => random.range(2_000_000, 10_000_000),
            },
            lead: Lead::Anywhere,
        }
    }

    /// A daemon of the same kind on another machine, of the same operator.
    pub(crate) fn successor(&self, now_ns: i128, random: &mut Random) -> Self {
        Self {
            stated_ns: self.stated_ns,
            ..Self::new(self.kind, now_ns, random)
        }
    }

    /// Sets the error that the operator states.
    pub(crate) fn state_error(&self, options: &mut PublishOptions) {
        options.max_error_ns = (self.kind == Kind::Stated).then_some(self.stated_ns.unsigned_abs());
    }

    /// Makes it unaware of changes by others for so many turns. It takes them for noise, as chrony does, and
    /// continues from the offset that it believes in.
    pub(crate) fn be_unaware(&mut self, turns: u32) {
        self.unaware_turns = turns;
    }

    /// Changes its clock, as another process or a disruption does.
    pub(crate) fn disturb(&mut self, state: &mut State, disturb: impl FnOnce(&mut State)) {
        let expected_ns =
            state.settled_error_ns() + state.discipline.offset_ns + state.discipline.single_shot_ns;
        disturb(state);
        if self.unaware_turns > 0 {
            self.missed_ns += state.error_ns() - expected_ns;
        }
    }

    /// Notes that a disruption changed its clock by so much. Where it is unaware, it does not notice that yet.
    pub(crate) fn disturbed_by(&mut self, ns: i64) {
        if self.unaware_turns > 0 {
            self.missed_ns += ns;
        }
    }

    /// Delays its next turn until `ns` at least.
    pub(crate) fn wait_until(&mut self, ns: i128) {
        self.next_ns = self.next_ns.max(ns);
    }

    /// Makes it aware of all changes. It withdraws an error that it reported in ignorance.
    pub(crate) fn be_aware(&mut self, state: &mut State) {
        self.unaware_turns = 0;
        self.missed_ns = 0;
        if std::mem::take(&mut self.has_misled) {
            state.discipline.unsynchronized = true;
        }
    }

    /// Ends the daemon. Nobody completes its corrections.
    pub(crate) fn end(&mut self, state: &mut State) {
        self.be_aware(state);
        state.discipline.tick_us = 10_000;
        if self.by_tick {
            state.discipline.unsynchronized = true;
        }
    }

    /// Shifts its schedule after a pause of its machine.
    pub(crate) fn carry_on(&mut self, paused_ns: i128) {
        self.next_ns += paused_ns;
    }

    pub(crate) fn next_ns(&self) -> i128 {
        self.next_ns
    }

    /// Takes a turn. Returns whether it stepped the clock, which it does only if it `may_step`: a clock that is
    /// stepped back over a leap second would repeat it.
    pub(crate) fn act(&mut self, state: &mut State, may_step: bool) -> bool {
        let now_ns = state.truth_tai_ns();
        match self.kind {
            Kind::Honest => {
                self.plan_poll(now_ns, state);
                self.discipline(state, may_step)
            }
            Kind::Zeroing => {
                self.plan_poll(now_ns, state);
                zeroing(state, may_step)
            }
            Kind::Nobody => {
                self.next_ns = now_ns + i128::from(64 * NS_PER_SEC);
                false
            }
            Kind::Stated => {
                self.next_ns = now_ns + i128::from(STATED_TURN_NS);
                self.lead(state, may_step)
            }
        }
    }

    fn plan_poll(&mut self, now_ns: i128, state: &mut State) {
        // Sometimes a burst, as fast as ntpd's.
        let poll_ns = if state.random.chance(8) {
            state.random.range(2 * NS_PER_SEC, 3 * NS_PER_SEC)
        } else {
            (NS_PER_SEC << self.poll_exponent) + state.random.range(0, NS_PER_SEC)
        };
        self.next_ns = now_ns + i128::from(poll_ns);
    }

    fn discipline(&mut self, state: &mut State, may_step: bool) -> bool {
        if self.by_tick {
            self.by_tick = false;
            state.discipline.tick_us = 10_000;
        }
        let (asymmetry_ns, maxerror_us) = measure(state);
        self.has_misled = self.unaware_turns > 0;
        if self.has_misled {
            self.unaware_turns -= 1;
        } else {
            self.missed_ns = 0;
        }
        let left_ns = state.error_ns() - self.missed_ns + asymmetry_ns;
        forget_slews(state);
        if left_ns.abs() > STEP_THRESHOLD_NS && may_step {
            state.step(-left_ns);
            report(state, maxerror_us);
            return true;
        }
        report(state, maxerror_us);
        let correction_ns = -left_ns;
        if left_ns.abs() > STEP_THRESHOLD_NS {
            state.discipline.unsynchronized = true;
            return false;
        }
        let mut uncounted_us = 0;
        match state.random.range(0, 4) {
            0 | 1 => {
                state.discipline.loop_shift = self.loop_shift;
                state.discipline.offset_ns = correction_ns;
                state.discipline.has_loop = true;
            }
            2 => state.discipline.single_shot_ns = correction_ns,
            3 => {
                // Like chrony: slew by `tick` until the correction is done.
                let most_us = (correction_ns.abs() / 200_000).max(1);
                let tick_us = state.random.range(1, most_us);
                let takes_ns = correction_ns.abs() * 10_000 / tick_us;
                if takes_ns > 2 * NS_PER_SEC {
                    self.by_tick = true;
                    self.next_ns = state.truth_tai_ns() + i128::from(takes_ns);
                    state.discipline.tick_us += tick_us * correction_ns.signum();
                }
                uncounted_us = correction_ns.unsigned_abs().div_ceil(1000);
            }
            _ => {
                state.discipline.maxerror_us += correction_ns.unsigned_abs().div_ceil(1000);
            }
        }
        if state.random.chance(3) {
            // The drift while nobody slews the clock.
            let residual_ppb = match state.random.range(0, 9) {
                0 => DRIFT_EDGE_PPB,
                1 => -DRIFT_EDGE_PPB,
                _ => state.random.range(-20_000, 20_000),
            };
            // The kernel accepts at most 500 ppm.
            let frequency_ppb = (residual_ppb - state.oscillator_ppb).clamp(-500_000, 500_000);
            state.set_frequency_ppb(frequency_ppb);
        }
        // Its own correction is part of the reported error, as with chrony. It may be missing if the daemon
        // slews the clock by more than the kernel counts.
        if !is_off_nominal(state) || state.random.chance(2) {
            state.discipline.maxerror_us += uncounted_us;
        }
        false
    }

    /// Moves the operator's clock within its stated error.
    fn lead(&mut self, state: &mut State, may_step: bool) -> bool {
        let room_ns = self.stated_ns - GUARD_NS;
        let settled_ns = state.settled_error_ns();
        if settled_ns.abs() > room_ns || state.error_ns().abs() > room_ns {
            forget_slews(state);
            let back_ns = state.random.range(0, room_ns / 4);
            let to_ns = settled_ns.signum() * (room_ns - back_ns);
            state.step(to_ns - state.error_ns());
            return true;
        }
        let steady_ppb = -state.oscillator_ppb;
        // As rarely as a daemon updates.
        let now_ns = state.truth_tai_ns();
        let is_silent = now_ns < self.silent_until_ns;
        match self.lead {
            Lead::Anywhere if !is_silent && state.random.chance(10) => {
                self.silent_until_ns = now_ns + i128::from(2 * NS_PER_SEC);
                match state.random.range(0, 5) {
                    0 if may_step => {
                        forget_slews(state);
                        let to_ns = if state.random.chance(2) {
                            room_ns
                        } else {
                            -room_ns
                        };
                        state.step(to_ns - state.error_ns());
                        true
                    }
                    1 | 2 => {
                        forget_slews(state);
                        let to_ns = state.random.range(-room_ns, room_ns);
                        state.discipline.single_shot_ns = to_ns - settled_ns;
                        false
                    }
                    3 => {
                        forget_slews(state);
                        let to_ns = state.random.range(-room_ns, room_ns);
                        state.discipline.offset_ns = to_ns - settled_ns;
                        state.discipline.has_loop = true;
                        false
                    }
                    4 => {
                        let residual_ppb = state.random.range(-2_000, 2_000);
                        state.set_frequency_ppb(steady_ppb + residual_ppb);
                        false
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Steps the operator's clock to one limit, from which it drifts to the other. Returns the seconds that
    /// takes.
    pub(crate) fn set_out(&mut self, up: bool, state: &mut State) -> i64 {
        self.lead = Lead::Across;
        let room_ns = self.stated_ns - GUARD_NS;
        let sign = if up { 1 } else { -1 };
        forget_slews(state);
        state.step(-sign * room_ns - state.error_ns());
        // Slow enough for the margin at the limits.
        let sec = state.random.range(200, 1000).max(2 * room_ns / 20_000);
        let residual_ppb = sign * 2 * room_ns / sec;
        state.set_frequency_ppb(residual_ppb - state.oscillator_ppb);
        sec
    }
}

/// Returns whether the clock runs off nominal by more than the 500 ppm that the kernel counts.
fn is_off_nominal(state: &State) -> bool {
    let by_tick_scaled = (state.discipline.tick_us - 10_000) * (100 << 16);
    (by_tick_scaled + state.discipline.frequency_scaled_ppm).abs() > 500 << 16
}

/// Cancels the slews that the daemon requested. The present second's slew continues.
fn forget_slews(state: &mut State) {
    state.discipline.offset_ns = 0;
    state.discipline.single_shot_ns = 0;
}

fn report(state: &mut State, maxerror_us: u64) {
    state.discipline.unsynchronized = false;
    state.discipline.maxerror_us = maxerror_us;
    state.discipline.esterror_us = maxerror_us / 2;
}

/// The network's asymmetry in one measurement, in nanoseconds, and its bound in microseconds: half the round
/// trip, truncated to whole microseconds as daemons do.
fn measure(state: &mut State) -> (i64, u64) {
    let delay_ns = match state.random.range(0, 19) {
        0 => state.random.range(100 * NS_PER_MS, 800 * NS_PER_MS),
        1..=9 => state.random.range(20_000, NS_PER_MS),
        _ => state.random.range(NS_PER_MS, 40 * NS_PER_MS),
    };
    let most_ns = delay_ns / 2;
    let asymmetry_ns = match state.random.range(0, 3) {
        0 => most_ns,
        1 => -most_ns,
        _ => state.random.range(-most_ns, most_ns),
    };
    (asymmetry_ns, (most_ns / 1000).unsigned_abs().max(1))
}

fn zeroing(state: &mut State, may_step: bool) -> bool {
    let (asymmetry_ns, _) = measure(state);
    let left_ns = state.error_ns() + asymmetry_ns;
    forget_slews(state);
    let must_step = left_ns.abs() > 400 * NS_PER_MS;
    if must_step && !may_step {
        return false;
    }
    if must_step {
        state.step(-left_ns);
    } else {
        state.discipline.loop_shift = 2;
        state.discipline.offset_ns = -left_ns;
        state.discipline.has_loop = true;
    }
    report(state, 0);
    must_step
}
