//! A simulated chronyd: it slews the clock by its rate, and ends its slews without a report.

use vmclock::no_bound::NoBound;
use vmclock::publish::Cause;

use crate::scene::{INTERVAL_NS, NS_PER_SEC, Scene};
use crate::virtual_machine::Machine;

/// The error of its source, in microseconds.
const ROOT_US: u64 = 1003;
/// The standard deviation of its measurements, in seconds.
const DEVIATION_SEC: f64 = 2e-5;
/// Its fastest slew, `maxslewrate`.
const MAX_SLEW_PPM: f64 = 83_333.0;
/// The time between a change of rate and the report of it.
const REPORT_NS: i128 = 300_000;

/// chronyd on a machine, and the publisher beside it.
///
/// It does in short what `sys_generic.c` and `reference.c` of chrony do.
pub struct Chronyd {
    /// The rate between two slews.
    pub base_ppm: f64,
    /// How late its timer ends a slew, at least and at most.
    pub late_ns: (i64, i64),
    /// How far it believes the clock to be ahead.
    ahead_sec: f64,
    slew_ppm: f64,
    slew_from_ns: i128,
    slew_ends_ns: i128,
    sample_ns: i128,
    /// The samples of the publisher with a bound.
    pub bounded: u32,
    /// The samples at which the publisher distrusted it.
    pub distrusted: u32,
}

impl Chronyd {
    pub fn new(machine: &Machine, base_ppm: f64, late_ns: (i64, i64)) -> Self {
        set_rate(machine, base_ppm);
        let now_ns = truth_ns(machine);
        Self {
            base_ppm,
            late_ns,
            ahead_sec: 0.0,
            slew_ppm: 0.0,
            slew_from_ns: now_ns,
            slew_ends_ns: i128::MAX,
            sample_ns: now_ns + INTERVAL_NS,
            bounded: 0,
            distrusted: 0,
        }
    }

    /// Lets so much time pass. Slews end in it.
    pub fn pass(&mut self, scene: &mut Scene<'_>, ns: i128) {
        let until_ns = truth_ns(scene.machine) + ns;
        while self.slew_ends_ns <= until_ns {
            self.sample_until(scene, self.slew_ends_ns);
            self.measure_slew(scene.machine);
            self.slew(scene.machine, 2.0);
        }
        self.sample_until(scene, until_ns);
    }

    /// Polls its source after so many seconds, and is misled by `misled_ns`. Slews, then reports.
    pub fn poll(&mut self, scene: &mut Scene<'_>, after_sec: u32, misled_ns: i64) {
        self.pass(scene, i128::from(after_sec) * NS_PER_SEC);
        let machine = scene.machine;
        self.measure_slew(machine);
        let error_ns = machine.state.borrow().error_ns() + misled_ns;
        self.ahead_sec = error_ns as f64 / 1e9;
        self.slew(machine, after_sec.into());
        self.sample_until(scene, truth_ns(machine) + REPORT_NS);
        let discipline = &mut machine.state.borrow_mut().discipline;
        discipline.unsynchronized = false;
        let ahead_us = error_ns.unsigned_abs() / 1000 + 1;
        // No two reports in a row are the same.
        discipline.esterror_us = ahead_us + 20 + (discipline.esterror_us + 1) % 2;
        let maxerror_us = ahead_us + ROOT_US;
        discipline.maxerror_us = maxerror_us + u64::from(maxerror_us.is_multiple_of(500));
    }

    fn sample_until(&mut self, scene: &mut Scene<'_>, until_ns: i128) {
        let machine = scene.machine;
        while self.sample_ns <= until_ns {
            machine.advance((self.sample_ns - truth_ns(machine)).max(0));
            scene.step(Cause::Interval);
            if scene.publication.is_settled() {
                self.bounded += u32::from(scene.check("beside chronyd").is_some());
            }
            let no_bound = scene.publication.no_bound();
            self.distrusted += u32::from(matches!(no_bound, Some(NoBound::Distrusted { .. })));
            self.sample_ns = truth_ns(machine) + INTERVAL_NS;
        }
        machine.advance((until_ns - truth_ns(machine)).max(0));
    }

    /// Takes note of what the slew has done.
    fn measure_slew(&mut self, machine: &Machine) {
        let now_ns = truth_ns(machine);
        let passed_sec = (now_ns - self.slew_from_ns) as f64 / 1e9;
        self.ahead_sec += self.slew_ppm * 1e-6 * passed_sec;
        self.slew_from_ns = now_ns;
    }

    /// Begins a slew of the rest, at the rate and for the time that chrony chooses.
    fn slew(&mut self, machine: &Machine, update_sec: f64) {
        let off_sec = self.ahead_sec.abs().max(1e-9);
        let duration_sec = (1.5 * DEVIATION_SEC * update_sec / off_sec).max(1.0);
        let slew_ppm = -self.ahead_sec / duration_sec * 1e6;
        self.slew_ppm = slew_ppm.clamp(-MAX_SLEW_PPM, MAX_SLEW_PPM);
        set_rate(machine, self.base_ppm + self.slew_ppm);
        let least_ppm = self.slew_ppm.abs().max(1e-3);
        let length_sec = (off_sec * 1e6 / least_ppm).clamp(1.0, 1e4);
        let late_ns = machine
            .state
            .borrow_mut()
            .random
            .range(self.late_ns.0, self.late_ns.1);
        self.slew_ends_ns = self.slew_from_ns + (length_sec * 1e9) as i128 + i128::from(late_ns);
    }
}

fn truth_ns(machine: &Machine) -> i128 {
    machine.state.borrow().truth_tai_ns()
}

/// Sets the rate by ticks of 100 ppm, and by the frequency for the rest.
fn set_rate(machine: &Machine, ppm: f64) {
    let is_far = ppm.abs() > 500.0;
    let ticks_us = if is_far { (ppm / 100.0).round() } else { 0.0 };
    let discipline = &mut machine.state.borrow_mut().discipline;
    discipline.tick_us = 10_000 + ticks_us as i64;
    discipline.frequency_scaled_ppm = ((ppm - 100.0 * ticks_us) * 65_536.0) as i64;
}
