//! Daemons that discipline a simulated clock and report an honest maximum error.

use std::collections::VecDeque;

use vmclock_testkit::virtual_machine::{NOMINAL_HZ, Random, State};

const NS_PER_SEC: i64 = 1_000_000_000;
/// The kernel takes no larger frequency. A larger correction needs `tick`, and then the page states no bound.
const LARGEST_FREQUENCY_PPB: i64 = 500_000;
/// A clock whose error is stated keeps this distance from that error.
const GUARD_NS: i64 = 100_000;

/// Who disciplines the clock, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Model {
    /// Slews the clock by its frequency alone, as chrony does.
    Chrony {
        /// Half the round trip, which no measurement is off by more than.
        network_ns: i64,
        /// Each update sets a rate that is off by up to this.
        rate_noise_ppb: i64,
        /// How many measurements it averages. With one alone, it corrects that one within a second if
        /// 500 ppm allow it.
        measurements: usize,
        poll_sec: i64,
    },
    /// Hands each correction to the kernel's phase-locked loop, as ntpd does.
    KernelLoop { network_ns: i64 },
    /// Steps the clock within the error that an operator states.
    StatedSteps { stated_ns: i64 },
    /// Slews the clock by `adjtime` within the error that an operator states.
    StatedAdjtimes { stated_ns: i64 },
}

impl Model {
    /// Returns the error that an operator states.
    pub(crate) fn stated_ns(self) -> Option<u64> {
        match self {
            Self::StatedSteps { stated_ns } | Self::StatedAdjtimes { stated_ns } => {
                Some(stated_ns.unsigned_abs())
            }
            Self::Chrony { .. } | Self::KernelLoop { .. } => None,
        }
    }
}

/// The truth as measured, compared with a clock that counts the counter's ticks and that nobody corrects.
#[derive(Clone, Copy, Debug)]
struct Measurement {
    raw_sec: f64,
    /// Truth - that clock.
    offset_ns: f64,
}

/// A line through measurements.
#[derive(Clone, Copy, Debug)]
struct Fit {
    /// At the last measurement.
    offset_ns: f64,
    rate_ppb: f64,
    deviation_ns: f64,
}

/// A daemon at work.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    model: Model,
    random: Random,
    poll_ns: i64,
    polls: u32,
    next_poll_ns: i128,
    slew_ends_ns: Option<i128>,
    /// The frequency without the slew.
    frequency_ppb: i64,
    /// The counter's rate as the daemon knows it.
    rate_ppb: f64,
    first_ticks: u64,
    first_truth_ns: i128,
    measurements: VecDeque<Measurement>,
}

impl Daemon {
    /// Starts a daemon now, with a drift file that is right to 1 ppm.
    pub(crate) fn new(model: Model, seed: u64, state: &mut State) -> Self {
        let mut random = Random::new(seed ^ 0xda_e0);
        let poll_sec = match model {
            Model::Chrony { poll_sec, .. } => poll_sec,
            _ => 16,
        };
        let now_ns = state.truth_tai_ns();
        let frequency_ppb = random.range(-1_000, 1_000) - state.oscillator_ppb;
        state.set_frequency_ppb(frequency_ppb);
        Self {
            model,
            poll_ns: NS_PER_SEC * poll_sec,
            polls: 0,
            next_poll_ns: now_ns + i128::from(random.range(0, 4 * NS_PER_SEC)),
            random,
            slew_ends_ns: None,
            frequency_ppb,
            rate_ppb: frequency_ppb as f64,
            first_ticks: state.counter(),
            first_truth_ns: now_ns,
            measurements: VecDeque::new(),
        }
    }

    /// Returns the true TAI at which it acts next.
    pub(crate) fn next_ns(&self) -> i128 {
        self.slew_ends_ns
            .map_or(self.next_poll_ns, |ns| ns.min(self.next_poll_ns))
    }

    /// Acts, and returns whether it stepped the clock.
    pub(crate) fn act(&mut self, state: &mut State) -> bool {
        if self.slew_ends_ns.is_some_and(|ns| ns < self.next_poll_ns) {
            self.slew_ends_ns = None;
            state.set_frequency_ppb(self.frequency_ppb);
            return false;
        }
        // Four quick measurements come first, as with chrony's `iburst`.
        self.polls += 1;
        let wait_ns = if self.polls < 4 {
            2 * NS_PER_SEC
        } else {
            self.poll_ns + self.random.range(0, NS_PER_SEC)
        };
        self.next_poll_ns = state.truth_tai_ns() + i128::from(wait_ns);
        match self.model {
            Model::Chrony {
                network_ns,
                rate_noise_ppb,
                measurements,
                ..
            } => {
                let fit = self.measure(state, network_ns, measurements);
                self.correct_by_frequency(state, &fit, network_ns, rate_noise_ppb);
                false
            }
            Model::KernelLoop { network_ns } => {
                self.correct_by_loop(state, network_ns);
                false
            }
            Model::StatedSteps { stated_ns } => {
                let to_ns = self.stated_place_ns(stated_ns);
                state.step(to_ns - state.error_ns());
                true
            }
            Model::StatedAdjtimes { stated_ns } => {
                let to_ns = self.stated_place_ns(stated_ns);
                state.discipline.single_shot_ns = to_ns - state.settled_error_ns();
                false
            }
        }
    }

    fn stated_place_ns(&mut self, stated_ns: i64) -> i64 {
        let room_ns = stated_ns - GUARD_NS;
        self.random.range(-room_ns, room_ns)
    }

    /// Measures the clock over the network, and returns the line through the last measurements.
    fn measure(&mut self, state: &State, network_ns: i64, measurements: usize) -> Fit {
        let ticks = state.counter().wrapping_sub(self.first_ticks);
        let raw_ns = ticks as f64 * 1e9 / NOMINAL_HZ as f64;
        let truth_ns = (state.truth_tai_ns() - self.first_truth_ns) as f64;
        let noise_ns = self.random.range(-network_ns, network_ns) as f64;
        if self.measurements.len() == measurements {
            self.measurements.pop_front();
        }
        self.measurements.push_back(Measurement {
            raw_sec: raw_ns / 1e9,
            offset_ns: truth_ns - raw_ns + noise_ns,
        });
        let fit = fit(&self.measurements, self.rate_ppb, network_ns);
        self.rate_ppb = fit.rate_ppb;
        let deviation_ns = if measurements == 1 {
            0.0
        } else {
            fit.deviation_ns
        };
        Fit {
            deviation_ns,
            ..fit
        }
    }

    fn correct_by_frequency(
        &mut self,
        state: &mut State,
        fit: &Fit,
        network_ns: i64,
        rate_noise_ppb: i64,
    ) {
        let Some(last) = self.measurements.back() else {
            return;
        };
        // The daemon knows the clock's error as well as it knows the truth. The simulation knows both.
        let raw_ns = last.raw_sec * 1e9;
        let truth_ns = (state.truth_tai_ns() - self.first_truth_ns) as f64;
        let error_ns = state.error_ns() as f64 - (fit.offset_ns - (truth_ns - raw_ns));
        let noise_ppb = self.random.range(-rate_noise_ppb, rate_noise_ppb);
        self.frequency_ppb =
            (fit.rate_ppb as i64 + noise_ppb).clamp(-LARGEST_FREQUENCY_PPB, LARGEST_FREQUENCY_PPB);
        // As in chrony, a correction that is large beside its deviation takes less time.
        let interval_sec = self.poll_ns as f64 / 1e9;
        let slew_sec =
            (3.0 * fit.deviation_ns * interval_sec / error_ns.abs().max(1.0)).clamp(1.0, 1e4);
        let slew_ppb = (-error_ns / slew_sec) as i64;
        let whole_ppb =
            (self.frequency_ppb + slew_ppb).clamp(-LARGEST_FREQUENCY_PPB, LARGEST_FREQUENCY_PPB);
        let slew_ppb = whole_ppb - self.frequency_ppb;
        state.set_frequency_ppb(whole_ppb);
        let slew_ns = (error_ns.abs() * 1e9 / (slew_ppb.abs() as f64).max(1.0)) as i128;
        self.slew_ends_ns = Some(state.truth_tai_ns() + slew_ns);
        let left_ns = error_ns.abs() as i64;
        report(
            state,
            network_ns + fit.deviation_ns as i64 + left_ns,
            fit.deviation_ns as i64 + left_ns,
        );
    }

    fn correct_by_loop(&mut self, state: &mut State, network_ns: i64) {
        let noise_ns = self.random.range(-network_ns, network_ns);
        let left_ns = state.error_ns() + noise_ns;
        state.discipline.has_loop = true;
        state.discipline.loop_shift = 6;
        state.discipline.offset_ns = -left_ns;
        self.frequency_ppb = self.random.range(-1_000, 1_000) - state.oscillator_ppb;
        state.set_frequency_ppb(self.frequency_ppb);
        report(state, network_ns, network_ns / 2);
    }
}

/// Reports the maximum and the estimated error to the kernel, in whole microseconds.
fn report(state: &mut State, maxerror_ns: i64, esterror_ns: i64) {
    let whole_us = |ns: i64| ns.unsigned_abs() / 1000 + 1;
    state.discipline.unsynchronized = false;
    state.discipline.maxerror_us = whole_us(maxerror_ns);
    state.discipline.esterror_us = whole_us(esterror_ns);
}

/// Fits a line by least squares, and weighs its rate against the one known before, as chrony does.
fn fit(measurements: &VecDeque<Measurement>, known_ppb: f64, network_ns: i64) -> Fit {
    /// The deviation of the rate known before.
    const KNOWN_DEVIATION_PPB: f64 = 1_000.0;
    let count = measurements.len() as f64;
    let last_sec = measurements.back().map_or(0.0, |last| last.raw_sec);
    let points = || {
        measurements
            .iter()
            .map(move |one| (one.raw_sec - last_sec, one.offset_ns))
    };
    let mean_sec = points().map(|(sec, _)| sec).sum::<f64>() / count;
    let mean_ns = points().map(|(_, ns)| ns).sum::<f64>() / count;
    let spread = points()
        .map(|(sec, _)| (sec - mean_sec).powi(2))
        .sum::<f64>();
    let product = points()
        .map(|(sec, ns)| (sec - mean_sec) * (ns - mean_ns))
        .sum::<f64>();
    // The measurements are evenly distributed over the network's error.
    let one_ns = network_ns as f64 / 3_f64.sqrt();
    let known = (one_ns / KNOWN_DEVIATION_PPB).powi(2);
    let rate_ppb = (product + known * known_ppb) / (spread + known);
    Fit {
        offset_ns: mean_ns - rate_ppb * mean_sec,
        rate_ppb,
        deviation_ns: one_ns * 2.0 / count.sqrt(),
    }
}
