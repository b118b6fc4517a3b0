//! How the publisher measures the counter's period, on a machine whose oscillator is known.

#![allow(
    missing_docs,
    clippy::panic,
    reason = "a test that meets the unexpected fails"
)]

use vmclock::publish::{Cause, PublishOptions};
use vmclock_testkit::scene::{START_SEC, Scene, assert_period_holds};
use vmclock_testkit::virtual_machine::{Machine, NOMINAL_HZ};

/// A machine with a right oscillator, of a clock that nobody disciplines.
fn machine(seed: u64) -> Machine {
    let machine = Machine::new(seed, START_SEC);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine
}

/// The daemon reports this error, and corrects nothing.
fn report(scene: &mut Scene<'_>, maxerror_us: u64) {
    {
        let mut state = scene.machine.state.borrow_mut();
        state.discipline.unsynchronized = false;
        state.discipline.maxerror_us = maxerror_us;
        state.discipline.esterror_us = maxerror_us / 2;
    }
    scene.step(Cause::Interval);
}

/// Lets the daemon report an error of 103 us each 16 s.
fn discipline(scene: &mut Scene<'_>, seconds: i128) {
    for _ in 0..seconds / 16 {
        report(scene, 103);
        scene.run(16);
    }
    report(scene, 103);
}

/// How much longer the page's period is than that of a right oscillator, in parts per billion.
fn period_ppb(scene: &Scene<'_>) -> f64 {
    let fields = scene.publication.fields();
    let scale = 2_f64.powi(64 + i32::from(fields.counter_period_shift));
    let second = fields.counter_period_frac_sec as f64 * NOMINAL_HZ as f64 / scale;
    (second - 1.0) * 1e9
}

/// The page's bound of the period's error, in parts per billion.
fn period_error_ppb(scene: &Scene<'_>) -> f64 {
    let fields = scene.publication.fields();
    let error = fields.counter_period_maxerror_rate_frac_sec as f64;
    error / fields.counter_period_frac_sec as f64 * 1e9
}

fn assert_near(value: f64, expected: f64, within: f64, context: &str) {
    let off = (value - expected).abs();
    assert!(off < within, "{context}: {value}, expected {expected}");
}

#[test]
fn the_period_follows_the_kernels_rate_only_where_the_clock_runs_free() {
    const CHANGE_PPB: i64 = 300_000;
    for (is_synchronized, is_stated) in [(false, false), (true, false), (false, true)] {
        let machine = machine(41);
        let options = PublishOptions {
            max_error_ns: is_stated.then_some(5_000_000),
            ..PublishOptions::default()
        };
        let mut scene = Scene::new(&machine, options);
        if is_synchronized {
            discipline(&mut scene, 608);
        } else {
            scene.run(608);
        }
        machine.state.borrow_mut().set_frequency_ppb(CHANGE_PPB);
        // The first sample at the new rate begins a baseline, and the second measures over it.
        scene.run(1);
        let expected_ppb = if is_synchronized || is_stated {
            0.0
        } else {
            CHANGE_PPB as f64
        };
        for second in 0..3 {
            let context =
                format!("synchronized {is_synchronized}, stated {is_stated}, second {second}");
            // The average over 600 s moves by 0.5 ppm a second.
            assert_near(period_ppb(&scene), expected_ppb, 3_000.0, &context);
            scene.run(1);
        }
    }
}

#[test]
fn a_period_of_several_rates_keeps_its_error_when_the_clock_runs_free() {
    let machine = machine(47);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    discipline(&mut scene, 64);
    // The daemon slews by its tick: too fast for a bound, and without a report.
    machine.state.borrow_mut().step(-500_000_000);
    scene.step(Cause::ClockStep);
    report(&mut scene, 103);
    machine.state.borrow_mut().discipline.tick_us = 10_050;
    scene.run(20);
    machine.state.borrow_mut().discipline.tick_us = 10_000;
    scene.run(20);
    // Somebody steps the clock, which then runs free at another rate.
    for tick_us in [10_050, 10_000] {
        {
            let mut state = machine.state.borrow_mut();
            state.step(1_000_000);
            state.discipline.tick_us = tick_us;
        }
        scene.step(Cause::ClockStep);
        assert_period_holds(&scene, "stepped");
    }
    report(&mut scene, 103);
    assert_period_holds(&scene, "reported");
}

#[test]
fn a_baseline_begins_at_the_daemons_first_report() {
    let machine = machine(42);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(10);
    assert!(period_error_ppb(&scene) > 600_000.0);
    discipline(&mut scene, 32);
    let error_ppb = period_error_ppb(&scene);
    // 2 * 0.6 ms in 32 s, and the allowance for wander.
    assert!((15_000.0..60_000.0).contains(&error_ppb), "{error_ppb}");
}

#[test]
fn the_period_keeps_its_error_while_the_page_states_no_bound() {
    let machine = machine(43);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    discipline(&mut scene, 608);
    // Such a figure may have been counted up from 0.
    report(&mut scene, 500);
    for second in 0..400 {
        assert_eq!(scene.check("counted up"), None);
        let error_ppb = period_error_ppb(&scene);
        assert!(error_ppb < 20_000.0, "second {second}: {error_ppb}");
        scene.run(1);
    }
    // A counter's rate of long ago says little about the present one.
    scene.run(700);
    assert!(period_error_ppb(&scene) > 600_000.0);
}

#[test]
fn without_a_bound_a_period_of_a_short_baseline_gives_way_to_one_of_a_long_baseline() {
    const CHANGE_PPB: i64 = 20_000;
    let machine = machine(46);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    machine.state.borrow_mut().set_frequency_ppb(CHANGE_PPB);
    discipline(&mut scene, 16);
    assert!(period_error_ppb(&scene) < 200_000.0);
    machine.state.borrow_mut().set_frequency_ppb(0);
    // Such a figure may have been counted up from 0.
    report(&mut scene, 500);
    scene.run(80);
    assert_eq!(scene.check("counted up"), None);
    let average_ppb = CHANGE_PPB as f64 * 16.0 / 96.0;
    assert_near(period_ppb(&scene), average_ppb, 1_500.0, "after 96 s");
}

#[test]
fn without_a_bound_the_period_is_the_average_over_a_long_baseline() {
    /// The kernel's clock is faster by this half of the time.
    const CHANGE_PPB: i64 = 20_000;
    let machine = machine(44);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    for round in 0..20_i64 {
        machine
            .state
            .borrow_mut()
            .set_frequency_ppb(CHANGE_PPB * (round & 1));
        for second in 0..80 {
            // As systemd-timesyncd does.
            report(&mut scene, 0);
            scene.run(1);
            if round >= 8 {
                let context = format!("round {round}, second {second}");
                assert_near(period_ppb(&scene), 10_000.0, 1_500.0, &context);
            }
        }
    }
}

#[test]
fn a_rate_of_more_than_half_an_hour_ago_is_forgotten() {
    const CHANGE_PPB: i64 = 10_000;
    let machine = machine(45);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    discipline(&mut scene, 1_600);
    {
        let mut state = machine.state.borrow_mut();
        state.oscillator_ppb = CHANGE_PPB;
        state.set_frequency_ppb(-CHANGE_PPB);
    }
    discipline(&mut scene, 1_200);
    let expected_ppb = -CHANGE_PPB as f64;
    assert_near(period_ppb(&scene), expected_ppb, 100.0, "after 20 minutes");
}
