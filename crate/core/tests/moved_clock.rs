//! What a published page claims while its clock is stepped and slewed, by its daemon and by others.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]
#![allow(
    unreachable_pub,
    reason = "the virtual machine is a module of this test"
)]

use std::time::Duration;

use vmclock::publish::{Cause, PublishOptions};
use vmclock::snapshot::ClockStatus;
use vmclock::source::kernel::clock::Discipline;
use vmclock_testkit::scene::{INTERVAL_NS, NS_PER_SEC, START_SEC, Scene, assert_period_holds};
use vmclock_testkit::virtual_machine::{Leap, Machine};

#[test]
fn a_step_is_published_at_once_and_leaves_the_marker_alone() {
    for step_ns in [
        -3_600 * 1_000_000_000,
        -50_000_000,
        3_000_000,
        86_400 * 1_000_000_000,
    ] {
        let machine = Machine::new(5, START_SEC);
        machine.state.borrow_mut().synchronize(100);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(30);
        let marker = scene.marker();
        let before = scene.read().unwrap();
        machine.state.borrow_mut().step(step_ns);
        scene.step(Cause::ClockStep);
        let after = scene.read().unwrap();
        let moved_ns = after.epoch_ns - before.epoch_ns - step_ns;
        assert!((0..1_000_000).contains(&moved_ns), "{step_ns}: {moved_ns}");
        assert_eq!(after.status, ClockStatus::FreeRunning);
        assert_eq!(after.max_error_ns, None);
        scene.run(2);
        assert_eq!(scene.marker(), marker, "{step_ns}");
        // Back, unnoticed by the alarm, and measured again.
        machine.state.borrow_mut().step(-step_ns);
        machine.state.borrow_mut().synchronize(100);
        for _ in 0..100 {
            scene.run(1);
            assert!(scene.check("after the step").is_some());
        }
        assert_eq!(scene.marker(), marker, "{step_ns}");
    }
}

#[test]
fn a_daemon_that_does_not_know_yet_that_another_set_the_clock_is_not_taken_at_its_word() {
    // As chrony was seen to: 95 ms of a clock that another had just set by most of a second.
    const BY_NS: i64 = 919_000_000;
    let tell = |machine: &Machine, maxerror_us| {
        let mut state = machine.state.borrow_mut();
        state.discipline.unsynchronized = false;
        state.discipline.maxerror_us = maxerror_us;
    };
    for by_ns in [BY_NS, -BY_NS] {
        let machine = Machine::new(33, START_SEC);
        machine.state.borrow_mut().oscillator_ppb = 0;
        machine.state.borrow_mut().synchronize(100);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(30);
        // It has spoken since the publisher began.
        tell(&machine, 100);
        scene.run(1);
        machine.state.borrow_mut().step(by_ns);
        scene.step(Cause::ClockStep);
        assert_eq!(scene.check("just set"), None);
        for turn in 0..3 {
            tell(&machine, 95_123);
            scene.run(4);
            let bound_ns = scene.check(&format!("turn {turn}, off by {by_ns}"));
            assert!(bound_ns.is_some_and(|ns| ns < BY_NS.unsigned_abs() + 100_000_000));
        }
        // It has understood, and knows the time as well as before.
        machine.state.borrow_mut().step(-by_ns);
        tell(&machine, 100);
        scene.step(Cause::ClockStep);
        let bounds_ns = (0..20).map(|turn| {
            tell(&machine, 100);
            scene.run(16);
            scene.check(&format!("turn {turn}, right again")).unwrap()
        });
        let bounds_ns: Vec<_> = bounds_ns.collect();
        assert!(bounds_ns[19] < 9_000_000, "{bounds_ns:?}");
    }
}

#[test]
fn what_another_slews_by_is_more_than_the_daemon_knows_of() {
    // As chrony, which takes some measurements to believe that, and tells a small error meanwhile.
    let by_adjtime = |machine: &Machine| {
        machine.state.borrow_mut().discipline.single_shot_ns = 2_000_000;
    };
    let by_loop = |machine: &Machine| {
        let mut state = machine.state.borrow_mut();
        state.discipline.has_loop = true;
        state.discipline.offset_ns = 8_000_000;
    };
    let by_frequency = |machine: &Machine| machine.state.borrow_mut().set_frequency_ppb(450_000);
    let ways = [
        (&by_adjtime as &dyn Fn(&Machine), false, 60),
        (&by_loop, false, 60),
        (&by_frequency, false, 7),
        // The daemon tells something in the same interval.
        (&by_adjtime, true, 60),
        (&by_loop, true, 60),
    ];
    // Seeds differ in when the kernel's second begins.
    for seed in 35..43 {
        for (way, (slew, is_told_at_once, turns)) in ways.iter().enumerate() {
            let machine = Machine::new(seed, START_SEC);
            machine.state.borrow_mut().oscillator_ppb = 0;
            machine.state.borrow_mut().synchronize(100);
            let mut scene = Scene::new(&machine, PublishOptions::default());
            scene.run(30);
            slew(&machine);
            if *is_told_at_once {
                machine.advance(INTERVAL_NS);
                machine.state.borrow_mut().discipline.maxerror_us = 123;
                scene.step(Cause::Interval);
            }
            for turn in 0..*turns {
                scene.run(1);
                machine.state.borrow_mut().discipline.maxerror_us = 123;
                scene.step(Cause::Interval);
                let context = format!("seed {seed}, way {way}, turn {turn}");
                assert!(scene.check(&context).is_some());
            }
        }
    }
}

#[test]
fn a_daemon_whose_figure_happens_to_be_what_the_kernel_counted_has_spoken_all_the_same() {
    let machine = Machine::new(42, START_SEC);
    {
        let mut state = machine.state.borrow_mut();
        state.oscillator_ppb = 0;
        state.discipline.has_loop = true;
        state.synchronize(1003);
    }
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(30);
    for turn in 0..20_u8 {
        let mut state = machine.state.borrow_mut();
        state.discipline.offset_ns = 50_000;
        state.discipline.maxerror_us = if turn == 5 { 2003 } else { 1003 };
        state.discipline.esterror_us = 300 + u64::from(turn);
        drop(state);
        scene.step(Cause::Interval);
        let claim_ns = scene.publication.fields().time_maxerror_nanosec;
        assert!(claim_ns < 2_700_000, "turn {turn}: {claim_ns}");
        scene.run(2);
    }
}

/// A daemon that tells the kernel an error of 1003 µs each second, whatever it knows: the bound.
fn measure_each_second(scene: &mut Scene<'_>, context: &str) -> u64 {
    scene.run(1);
    {
        let mut state = scene.machine.state.borrow_mut();
        state.discipline.unsynchronized = false;
        state.discipline.maxerror_us = 1003;
    }
    scene.step(Cause::Interval);
    scene.check(context).unwrap()
}

/// A machine whose oscillator is right and whose looks at the clock are never interrupted.
fn calm(seed: u64, maxerror_us: i64) -> Machine {
    let machine = Machine::new(seed, START_SEC);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine.state.borrow_mut().interrupted_one_in = u64::MAX;
    machine.state.borrow_mut().synchronize(maxerror_us);
    machine
}

/// Another sets the clock, or its daemon does.
fn set(scene: &mut Scene<'_>, by_ns: i64) {
    scene.machine.state.borrow_mut().step(by_ns);
    scene.step(Cause::ClockStep);
}

/// Another has the kernel slew something in the interval in which the daemon tells an error, or does so itself.
fn slew_and_tell(scene: &mut Scene<'_>, maxerror_us: u64, slew: impl FnOnce(&mut Discipline)) {
    scene.machine.advance(INTERVAL_NS);
    {
        let mut state = scene.machine.state.borrow_mut();
        state.discipline.maxerror_us = maxerror_us;
        state.discipline.esterror_us += 1;
        slew(&mut state.discipline);
    }
    scene.step(Cause::Interval);
}

#[test]
fn a_step_that_the_daemon_takes_for_noise_stays_in_the_bound_until_it_must_know() {
    const BY_NS: i64 = 1_900_000;
    const BUSY_FOR_NS: i64 = 3_000_000;
    let ways = [(BY_NS, false), (-BY_NS, false)];
    let busy = std::iter::repeat_n((BY_NS, true), 12);
    for (seed, (by_ns, is_busy)) in (0..).zip(ways.into_iter().chain(busy)) {
        let machine = Machine::new(seed, START_SEC);
        machine.state.borrow_mut().oscillator_ppb = 0;
        machine.state.borrow_mut().synchronize(1003);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(30);
        let calm = machine.state.borrow().clone();
        machine.state.borrow_mut().step(by_ns);
        if is_busy {
            // Both clocks are read so far apart that the step does not show.
            machine.state.borrow_mut().interrupted_one_in = 1;
            machine.state.borrow_mut().interrupted_ns = BUSY_FOR_NS;
        }
        scene.step(Cause::Interval);
        machine.state.borrow_mut().interrupted_one_in = calm.interrupted_one_in;
        machine.state.borrow_mut().interrupted_ns = calm.interrupted_ns;
        scene.step(Cause::ClockStep);
        assert_eq!(scene.check("just set"), None);
        let context = format!("seed {seed}, off by {by_ns}, busy {is_busy}");
        for _ in 0..60 {
            measure_each_second(&mut scene, &context);
        }
        // It has set the clock right meanwhile.
        machine.state.borrow_mut().step(-by_ns);
        scene.step(Cause::ClockStep);
        let bounds_ns: Vec<_> = (0..70)
            .map(|_| measure_each_second(&mut scene, &context))
            .collect();
        assert!(bounds_ns[69] < 2_006_000, "{context}: {bounds_ns:?}");
    }
}

#[test]
fn a_step_that_was_taken_back_may_still_be_what_the_daemon_goes_by() {
    const BY_NS: i64 = 1_900_000;
    let machine = Machine::new(39, START_SEC);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine.state.borrow_mut().synchronize(1003);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(30);
    let set = |scene: &mut Scene<'_>, by_ns| {
        machine.state.borrow_mut().step(by_ns);
        scene.step(Cause::ClockStep);
    };
    set(&mut scene, BY_NS);
    for _ in 0..5 {
        measure_each_second(&mut scene, "set once");
    }
    set(&mut scene, -BY_NS);
    measure_each_second(&mut scene, "taken back");
    machine.state.borrow_mut().discipline.offset_ns = -BY_NS;
    scene.step(Cause::Interval);
    for turn in 0..50 {
        measure_each_second(&mut scene, &format!("corrected, turn {turn}"));
    }
    assert!(machine.state.borrow().error_ns() < -BY_NS * 9 / 10);
}

#[test]
fn a_large_step_that_was_noticed_proves_nothing_of_a_small_one_before() {
    let machine = calm(43, 1003);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(300);
    measure_each_second(&mut scene, "before");
    set(&mut scene, 1_900_000);
    for turn in 0..12 {
        measure_each_second(&mut scene, &format!("small, turn {turn}"));
    }
    for by_ns in [900_000_000, -900_000_000] {
        set(&mut scene, by_ns);
        scene.run(1);
    }
    for turn in 0..40 {
        measure_each_second(&mut scene, &format!("large and back, turn {turn}"));
    }
}

#[test]
fn how_far_apart_the_clocks_were_read_proves_nothing_of_a_step() {
    for seed in 0..12 {
        let machine = calm(seed, 1003);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(30);
        measure_each_second(&mut scene, "before");
        machine.state.borrow_mut().interrupted_one_in = 1;
        machine.state.borrow_mut().interrupted_ns = 3_000_000;
        set(&mut scene, 1_900_000);
        machine.state.borrow_mut().interrupted_one_in = u64::MAX;
        for turn in 0..60 {
            measure_each_second(&mut scene, &format!("seed {seed}, turn {turn}"));
        }
    }
}

#[test]
fn a_slow_look_at_a_clock_that_was_set_costs_no_more_than_it_took() {
    for seed in 0..200 {
        let machine = calm(seed, 1003);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(10);
        machine.state.borrow_mut().step(1_900_000);
        machine.state.borrow_mut().interrupted_one_in = 3;
        machine.state.borrow_mut().interrupted_ns = 3_000_000;
        scene.step(Cause::Interval);
        scene.step(Cause::ClockStep);
        machine.state.borrow_mut().interrupted_one_in = u64::MAX;
        let context = format!("seed {seed}");
        let bounds_ns: Vec<_> = (0..10)
            .map(|_| measure_each_second(&mut scene, &context))
            .collect();
        assert!(bounds_ns[9] < 50_000_000, "{context}: {bounds_ns:?}");
    }
}

#[test]
fn a_step_of_the_daemons_own_takes_nothing_back_that_it_missed() {
    let machine = calm(44, 2003);
    machine.state.borrow_mut().step(2_000_000);
    machine.state.borrow_mut().synchronize(2003);
    machine.state.borrow_mut().discipline.has_loop = true;
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(300);
    let tell = |scene: &mut Scene<'_>, maxerror_us, context: &str| {
        scene.run(1);
        machine.state.borrow_mut().discipline.unsynchronized = false;
        machine.state.borrow_mut().discipline.maxerror_us = maxerror_us;
        scene.step(Cause::Interval);
        scene.check(context);
    };
    tell(&mut scene, 2003, "before");
    set(&mut scene, 4_000_000);
    for _ in 0..3 {
        tell(&mut scene, 2003, "missed once");
    }
    // Its own, and then its loop's.
    set(&mut scene, -4_000_000);
    tell(&mut scene, 2003, "set back");
    slew_and_tell(&mut scene, 103, |discipline| {
        discipline.offset_ns = 2_000_000;
    });
    for _ in 0..30 {
        tell(&mut scene, 103, "slewed");
    }
    set(&mut scene, 4_000_000);
    for turn in 0..30 {
        tell(&mut scene, 103, &format!("missed again, turn {turn}"));
    }
}

#[test]
fn whichever_steps_the_daemon_misses_the_truth_lies_within_the_bound() {
    /// The daemon sets its clock by more than this, and now and then by less.
    const FAR_NS: i64 = 50_000_000;
    for seed in 0..12 {
        let machine = calm(seed, 1003);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(60);
        // By how much, and for how many measurements more.
        let mut missed: Vec<(i64, u32)> = Vec::new();
        for turn in 0..300 {
            let mut random = machine.state.borrow().random.clone();
            let is_large = random.chance(4);
            let most_ns = if is_large { 900_000_000 } else { 4_000_000 };
            let by_ns = random.range(-most_ns, most_ns);
            let is_set = random.chance(8);
            let is_missed = !is_large && random.chance(2);
            let is_close_corrected = random.chance(10);
            machine.state.borrow_mut().random = random;
            if is_set {
                set(&mut scene, by_ns);
                if is_missed {
                    missed.push((by_ns, 63));
                }
            }
            scene.run(1);
            machine.advance(INTERVAL_NS);
            let missed_ns: i64 = missed.iter().map(|(by_ns, _)| by_ns).sum();
            let believed_ns = machine.state.borrow().error_ns() - missed_ns;
            if believed_ns.abs() > FAR_NS || believed_ns.abs() > 500_000 && is_close_corrected {
                set(&mut scene, -believed_ns);
            }
            {
                let mut state = machine.state.borrow_mut();
                let believed_us = (state.error_ns() - missed_ns).unsigned_abs() / 1000;
                state.discipline.unsynchronized = false;
                // A multiple of 500 looks as if it were counted up from 0.
                let told_us = believed_us + 100;
                state.discipline.maxerror_us = told_us + u64::from(told_us.is_multiple_of(500));
            }
            scene.step(Cause::Interval);
            scene.check(&format!("seed {seed}, turn {turn}, missed {missed:?}"));
            for (_, measurements) in &mut missed {
                *measurements -= 1;
            }
            missed.retain(|(_, measurements)| *measurements > 0);
        }
    }
}

#[test]
fn steps_that_never_end_are_forgotten_one_by_one() {
    let machine = calm(45, 1003);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(10);
    let mut bounds_ns = Vec::new();
    for round in 0..30 {
        let by_ns = if round % 2 == 0 { 900_000 } else { -900_000 };
        set(&mut scene, by_ns);
        for _ in 0..20 {
            bounds_ns.push(measure_each_second(&mut scene, &format!("round {round}")));
        }
    }
    let last_ns = bounds_ns[599];
    assert!(last_ns < 5_000_000, "{last_ns} of {bounds_ns:?}");
}

#[test]
fn a_page_that_is_silent_for_once_still_holds_the_daemon_to_what_it_said() {
    for by_adjtime in [false, true] {
        let machine = calm(46, 100);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(30);
        measure_each_second(&mut scene, "before");
        // A real figure that looks as if it were counted up from 0.
        machine.state.borrow_mut().discipline.maxerror_us = 1000;
        scene.run(1);
        assert_eq!(scene.check("silent"), None);
        if by_adjtime {
            machine.state.borrow_mut().discipline.single_shot_ns = 20_000_000;
            scene.run(1);
        } else {
            set(&mut scene, 919_000_000);
        }
        for turn in 0..60 {
            measure_each_second(&mut scene, &format!("by adjtime {by_adjtime}, turn {turn}"));
        }
        if !by_adjtime {
            // And knows what is right again.
            set(&mut scene, -919_000_000);
            let bounds_ns: Vec<_> = (0..9)
                .map(|_| measure_each_second(&mut scene, "set right"))
                .collect();
            assert!(bounds_ns[8] < 5_000_000, "{bounds_ns:?}");
        }
    }
}

#[test]
fn of_what_the_loop_takes_in_two_seconds_the_first_share_is_the_larger() {
    for seed in 0..8 {
        let machine = calm(seed, 123);
        let options = PublishOptions {
            interval: Duration::from_secs(1),
            ..PublishOptions::default()
        };
        let mut scene = Scene::new(&machine, options);
        scene.run(120);
        measure_each_second(&mut scene, "before");
        machine.state.borrow_mut().discipline.has_loop = true;
        machine.state.borrow_mut().discipline.offset_ns = 20_000_000;
        machine.advance(1_450_000_000);
        scene.step(Cause::Interval);
        for turn in 0..18 {
            scene.run(63);
            measure_each_second(&mut scene, &format!("seed {seed}, turn {turn}"));
        }
    }
}

#[test]
fn a_clock_that_is_set_is_no_daemon_that_slews() {
    let machine = calm(47, 123);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(300);
    measure_each_second(&mut scene, "before");
    let by_adjtime = |ns| move |discipline: &mut Discipline| discipline.single_shot_ns = ns;
    // As a daemon that slews that way; another follows it.
    for ns in [3_000_000, 4_000_000, 3_000_000] {
        slew_and_tell(&mut scene, 123, by_adjtime(ns));
    }
    scene.run(1);
    // What is left of that is taken back by the kernel.
    let back_ns = -machine.state.borrow().error_ns();
    set(&mut scene, back_ns);
    for _ in 0..70 {
        measure_each_second(&mut scene, "set right");
    }
    slew_and_tell(&mut scene, 123, by_adjtime(3_000_000));
    for turn in 0..60 {
        measure_each_second(&mut scene, &format!("slewed again, turn {turn}"));
    }
}

#[test]
fn whoever_slews_twice_while_the_daemon_speaks_is_not_the_daemon_yet() {
    for is_set_first in [false, true] {
        let machine = calm(50, 123);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(300);
        measure_each_second(&mut scene, "before");
        if is_set_first {
            // With that the kernel's figures change too, by no word of the daemon's.
            machine.state.borrow_mut().step(1);
            machine.state.borrow_mut().discipline.single_shot_ns = 100_000;
            scene.step(Cause::ClockStep);
            machine.state.borrow_mut().discipline.unsynchronized = false;
        }
        for ns in [-100_000, 100_000, 8_000_000] {
            slew_and_tell(&mut scene, 123, |discipline| discipline.single_shot_ns = ns);
            scene.run(20);
        }
        for turn in 0..60 {
            measure_each_second(&mut scene, &format!("set {is_set_first}, turn {turn}"));
        }
    }
}

#[test]
fn a_measurement_told_as_the_clock_is_moved_may_be_of_before() {
    let machine = calm(51, 123);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(300);
    measure_each_second(&mut scene, "before");
    slew_and_tell(&mut scene, 1002, |discipline| {
        discipline.single_shot_ns = 2_000_000;
    });
    for measurement in 1..64 {
        measure_each_second(&mut scene, &format!("measurement {measurement}"));
    }
}

#[test]
fn what_moves_a_clock_that_is_kept_is_seen_though_the_page_states_no_bound() {
    let suspend = |scene: &mut Scene<'_>| {
        scene.machine.state.borrow_mut().suspend(NS_PER_SEC, 0);
        scene.settle();
        scene.run(2);
    };
    // A figure that looks as if it were counted up from 0.
    let begin = |scene: &mut Scene<'_>| {
        scene.machine.state.borrow_mut().discipline.maxerror_us = 1000;
        *scene = Scene::new(scene.machine, PublishOptions::default());
        scene.run(100);
    };
    let by_step = |scene: &mut Scene<'_>| set(scene, 900_000_000);
    let by_adjtime = |scene: &mut Scene<'_>| {
        scene.machine.state.borrow_mut().discipline.single_shot_ns = 3_000_000;
        scene.run(10);
    };
    type Act<'act> = &'act dyn Fn(&mut Scene<'_>);
    let ways: [(&str, Act<'_>, Act<'_>); 3] = [
        ("set after a suspend", &suspend, &by_step),
        ("set from the first", &begin, &by_step),
        ("slewed from the first", &begin, &by_adjtime),
    ];
    for (way, silence, moves) in ways {
        let machine = calm(52, 1003);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(30);
        silence(&mut scene);
        assert_eq!(scene.check(way), None);
        moves(&mut scene);
        for turn in 0..60 {
            measure_each_second(&mut scene, &format!("{way}, turn {turn}"));
        }
    }
}

#[test]
fn the_end_of_a_daemons_own_slew_is_nobody_elses() {
    const PPB: i64 = 300_000;
    let machine = calm(53, 203);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    let tell = |scene: &mut Scene<'_>| {
        let mut state = machine.state.borrow_mut();
        let off_us = state.error_ns().unsigned_abs() / 1000;
        state.discipline.maxerror_us = off_us + 203;
        state.discipline.esterror_us = off_us + 11;
        drop(state);
        scene.step(Cause::Interval);
    };
    for _ in 0..10 {
        scene.run(64);
        tell(&mut scene);
    }
    // As chrony: begun with a word, and ended without one when it is done.
    machine.state.borrow_mut().oscillator_ppb = -15_000;
    scene.run(64);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine.state.borrow_mut().set_frequency_ppb(PPB);
    tell(&mut scene);
    scene.run(3);
    machine.state.borrow_mut().set_frequency_ppb(0);
    for turn in 0..10 {
        scene.run(64);
        let bound_ns = scene.check(&format!("turn {turn}")).unwrap();
        assert!(bound_ns < 40_000_000, "turn {turn}: {bound_ns}");
        tell(&mut scene);
    }
}

#[test]
fn a_loop_that_another_left_on_is_not_the_daemons() {
    let machine = calm(48, 123);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(300);
    measure_each_second(&mut scene, "before");
    let by_loop = |ns| {
        move |discipline: &mut Discipline| {
            discipline.has_loop = true;
            discipline.offset_ns = ns;
        }
    };
    by_loop(1000)(&mut machine.state.borrow_mut().discipline);
    scene.run(20);
    // It has spoken with that on.
    measure_each_second(&mut scene, "told");
    scene.run(20);
    slew_and_tell(&mut scene, 123, by_loop(3_000_000));
    for turn in 0..60 {
        measure_each_second(&mut scene, &format!("turn {turn}"));
    }
}

#[test]
fn a_step_also_has_the_kernel_forget_what_the_daemon_had_it_slew() {
    const OFF_NS: i64 = 1_900_000;
    let machine = Machine::new(41, START_SEC);
    {
        let mut state = machine.state.borrow_mut();
        state.oscillator_ppb = 0;
        state.step(-OFF_NS);
        state.synchronize(1003);
        state.discipline.has_loop = true;
        state.discipline.loop_shift = 10;
        state.discipline.offset_ns = OFF_NS;
    }
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(4);
    machine.state.borrow_mut().step(1);
    scene.step(Cause::ClockStep);
    for turn in 0..60 {
        measure_each_second(&mut scene, &format!("turn {turn}"));
    }
    assert!(machine.state.borrow().error_ns() < -OFF_NS * 9 / 10);
}

#[test]
fn a_daemon_that_begins_may_set_the_clock_and_is_taken_at_its_word() {
    let machine = calm(49, 1003);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(30);
    measure_each_second(&mut scene, "the one before");
    {
        let mut state = machine.state.borrow_mut();
        state.discipline.unsynchronized = true;
        state.discipline.maxerror_us = 16_000_000;
        state.oscillator_ppb = 90_000;
    }
    scene.run(3_600);
    assert_eq!(scene.check("nobody"), None);
    machine.state.borrow_mut().oscillator_ppb = 0;
    let right_ns = -machine.state.borrow().error_ns();
    set(&mut scene, right_ns);
    let bound_ns = measure_each_second(&mut scene, "the next one");
    assert!(bound_ns < 3_000_000, "{bound_ns}");
}

#[test]
fn a_leap_second_is_no_step_that_anybody_has_to_notice() {
    /// 1 January 2027.
    const EDGE_SEC: i128 = 1_798_761_600;
    for inserted in [true, false] {
        let machine = Machine::new(40, EDGE_SEC - 40);
        {
            let mut state = machine.state.borrow_mut();
            state.leap = Some(Leap {
                inserted,
                edge_sec: EDGE_SEC,
            });
            state.announced = true;
            state.synchronize(600_003);
            state.discipline.loop_shift = 10;
            state.discipline.has_loop = true;
            state.discipline.offset_ns = 200_000_000;
        }
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(60);
        for _ in 0..12 {
            machine.state.borrow_mut().synchronize(600_003);
            scene.run(1);
        }
        let bound_ns = scene.publication.fields().time_maxerror_nanosec;
        assert!((600_000_000..700_000_000).contains(&bound_ns), "{bound_ns}");
    }
}

#[test]
fn a_clock_that_is_turned_by_its_tick_is_off_by_more_than_its_daemon_says() {
    // As chrony turns back one that is far off.
    const OFF_NS: i64 = 700_000_000;
    let turn = |machine: &Machine| {
        let mut state = machine.state.borrow_mut();
        state.discipline.unsynchronized = false;
        state.discipline.maxerror_us = 1_234;
        state.discipline.tick_us = 9_167;
    };
    let seconds = i128::from(OFF_NS) / 83_300_000;
    for had_bound in [false, true] {
        let machine = Machine::new(34, START_SEC);
        machine.state.borrow_mut().oscillator_ppb = 0;
        if had_bound {
            machine.state.borrow_mut().synchronize(100);
        } else {
            machine.state.borrow_mut().step(OFF_NS);
        }
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(10);
        if had_bound {
            machine.state.borrow_mut().step(OFF_NS);
            scene.step(Cause::ClockStep);
        }
        turn(&machine);
        for second in 0..seconds {
            scene.run(1);
            let bound_ns = scene.check(&format!("second {second}"));
            assert_eq!(bound_ns.is_some(), had_bound, "second {second}");
        }
        {
            let mut state = machine.state.borrow_mut();
            state.discipline.tick_us = 10_000;
            state.discipline.maxerror_us = state.error_ns().unsigned_abs() / 1000 + 1;
        }
        scene.run(1);
        assert!(scene.check("turned back").is_some());
    }
}

#[test]
fn a_step_too_small_to_see_ends_the_baseline_all_the_same() {
    let machine = Machine::new(14, START_SEC);
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(600);
    machine.state.borrow_mut().synchronize(100);
    scene.run(1);
    let rate_error = |scene: &Scene<'_>| {
        scene
            .publication
            .fields()
            .counter_period_maxerror_rate_frac_sec
    };
    let before = rate_error(&scene);
    machine.advance(INTERVAL_NS);
    scene.step(Cause::ClockStep);
    assert!(rate_error(&scene) > 10 * before);
}

#[test]
fn a_look_right_after_one_that_took_long_is_no_step() {
    let rate_error = |scene: &Scene<'_>| {
        scene
            .publication
            .fields()
            .counter_period_maxerror_rate_frac_sec
    };
    for seed in 0..20 {
        let machine = Machine::new(seed, START_SEC);
        machine.state.borrow_mut().interrupted_one_in = u64::MAX;
        machine.state.borrow_mut().synchronize(100);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(300);
        let before = rate_error(&scene);
        for one_in in [1, u64::MAX] {
            machine.state.borrow_mut().interrupted_one_in = one_in;
            scene.step(Cause::Interval);
        }
        let after = rate_error(&scene);
        assert!(after < 2 * before, "seed {seed}: {before}, then {after}");
    }
}

#[test]
fn the_rate_that_a_clock_had_when_it_was_measured_is_not_mistaken_for_the_counters() {
    // A slew by tick or by the phase-locked loop ends together with a step, and the publisher dies.
    for by_tick in [true, false] {
        let machine = Machine::new(15, START_SEC);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        let end_of_slew = |machine: &Machine| {
            let mut state = machine.state.borrow_mut();
            let left_ns = state.error_ns();
            state.step(-left_ns);
            state.synchronize(100);
            state.discipline.tick_us = 10_000;
        };
        end_of_slew(&machine);
        machine.state.borrow_mut().step(-400_000_000);
        machine.state.borrow_mut().synchronize(400_000);
        if by_tick {
            machine.state.borrow_mut().discipline.tick_us = 10_900;
        } else {
            machine.state.borrow_mut().discipline.offset_ns = 400_000_000;
        }
        scene.step(Cause::ClockStep);
        scene.run(1);
        end_of_slew(&machine);
        scene.step(Cause::ClockStep);
        for second in 0..100 {
            machine.advance(NS_PER_SEC);
            let context = format!("by tick {by_tick}, {second} s after the last update");
            assert!(scene.check(&context).is_some(), "{context}");
        }
    }
}

#[test]
fn what_is_slewed_in_the_present_second_is_not_shown_and_still_counts() {
    // A loop at its fastest; an `adjtime`; and both with a daemon that measures again in the middle
    // of a second, the rest of which the kernel carries out on top of what it is told.
    for (by_loop, again) in [(true, false), (false, false), (true, true), (false, true)] {
        let machine = Machine::new(16, START_SEC);
        machine.state.borrow_mut().oscillator_ppb = 0;
        let mut scene = Scene::new(&machine, PublishOptions::default());
        // Exactly as good as the daemon says, and told to slew all of it.
        let measure = || {
            let mut state = machine.state.borrow_mut();
            let left_ns = state.error_ns();
            state.discipline.unsynchronized = false;
            state.discipline.maxerror_us = 1;
            if by_loop {
                state.discipline.offset_ns = -left_ns;
            } else {
                state.discipline.single_shot_ns = -left_ns;
            }
        };
        machine.state.borrow_mut().step(-4_000_000);
        measure();
        scene.step(Cause::ClockStep);
        for quarter in 0..60 {
            machine.advance(INTERVAL_NS);
            if again && quarter == 5 {
                measure();
            }
            // The allowance for drift that the kernel adds each second would cover it all.
            machine.state.borrow_mut().discipline.maxerror_us = 1;
            scene.step(Cause::Interval);
            let context = format!("by loop {by_loop}, again {again}, quarter {quarter}");
            assert!(scene.check(&context).is_some(), "{context}");
        }
    }
}

#[test]
fn a_clock_drifts_in_the_second_before_the_kernel_adds_to_its_maximum_error() {
    // A daemon that says what it knows, no more, at any part of the kernel's second.
    for part in 0..20 {
        let machine = Machine::new(18, START_SEC);
        machine.state.borrow_mut().oscillator_ppb = 50_000;
        let mut scene = Scene::new(&machine, PublishOptions::default());
        machine.advance(part * 50_000_000);
        {
            let mut state = machine.state.borrow_mut();
            let left_ns = state.error_ns();
            state.step(-left_ns);
            state.discipline.unsynchronized = false;
            state.discipline.maxerror_us = 1;
        }
        scene.step(Cause::ClockStep);
        scene.settle();
        for tenth in 0..40 {
            let context = format!("part {part}, tenth {tenth}");
            assert!(scene.check(&context).is_some(), "{context}");
            machine.advance(NS_PER_SEC / 10);
            scene.step(Cause::Interval);
        }
    }
}

#[test]
fn a_slew_in_the_middle_of_a_baseline_counts_for_all_of_it() {
    // A daemon whose `maxerror` is worth nothing slews 300 ms while the period is measured, and no
    // change of frequency tells of it.
    let machine = Machine::new(17, START_SEC);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(2);
    machine.state.borrow_mut().discipline.offset_ns = 300_000_000;
    for second in 0..100 {
        scene.run(1);
        assert_period_holds(&scene, &format!("second {second}"));
    }
}

#[test]
fn a_step_that_was_sampled_before_it_was_told_of_is_part_of_no_baseline() {
    for samples_before in [0, 1, 100] {
        let machine = Machine::new(20, START_SEC);
        machine.state.borrow_mut().oscillator_ppb = 0;
        let options = PublishOptions {
            max_error_ns: Some(2_000_000),
            ..PublishOptions::default()
        };
        let mut scene = Scene::new(&machine, options);
        for _ in 0..samples_before {
            machine.advance(INTERVAL_NS);
            scene.step(Cause::Interval);
        }
        scene.step(Cause::ClockStep);
        // Too small to be seen for what it is, and in the first interval of a new baseline.
        machine.advance(INTERVAL_NS);
        machine.state.borrow_mut().step(-900_000);
        scene.step(Cause::Interval);
        scene.step(Cause::ClockStep);
        let context = format!("{samples_before} samples before");
        scene.settle();
        assert_period_holds(&scene, &context);
        for _ in 0..20 {
            assert!(scene.check(&context).is_some(), "{context}");
            machine.advance(INTERVAL_NS);
            scene.step(Cause::Interval);
            assert_period_holds(&scene, &context);
        }
    }
}

#[test]
fn a_second_that_is_left_out_of_the_first_baseline_is_seen_before_anybody_tells() {
    // 1 January 2027.
    const EDGE_SEC: i128 = 1_798_761_600;
    let machine = Machine::new(30, EDGE_SEC - 1);
    {
        let mut state = machine.state.borrow_mut();
        state.leap = Some(Leap {
            inserted: false,
            edge_sec: EDGE_SEC,
        });
        state.announced = true;
        // It is left out between the first two samples.
        state.step(-5_000_000);
        state.synchronize(10_000);
    }
    let mut scene = Scene::new(&machine, PublishOptions::default());
    for quarter in 0..10 {
        assert_period_holds(&scene, &format!("quarter {quarter}"));
        machine.advance(INTERVAL_NS);
        scene.step(Cause::Interval);
    }
}

#[test]
fn what_the_kernel_slews_before_the_publisher_begins_still_counts() {
    // A loop and an `adjtime` are in the middle of a second when the daemon measures the clock again,
    // knows it exactly and has nothing to slew any more; then the publisher begins.
    for (by_loop, begins_after_ms) in [(true, 0), (false, 0), (true, 400), (true, 1500)] {
        let machine = Machine::new(21, START_SEC);
        {
            let mut state = machine.state.borrow_mut();
            state.oscillator_ppb = 0;
            state.synchronize(100);
            if by_loop {
                state.discipline.offset_ns = 20_000_000;
                state.discipline.has_loop = true;
            } else {
                state.discipline.single_shot_ns = 40_000_000;
            }
            // Into the second that slews the first share of it.
            while state.settled_error_ns() == state.error_ns() {
                state.advance(1_000_000);
            }
            let left_ns = state.error_ns();
            state.synchronize(100);
            state.discipline.maxerror_us = left_ns.unsigned_abs() / 1000 + 1;
            state.advance(begins_after_ms * 1_000_000);
            // The allowance for drift that the kernel adds each second would cover some of it.
            state.discipline.maxerror_us = left_ns.unsigned_abs() / 1000 + 1;
        }
        let mut scene = Scene::new(&machine, PublishOptions::default());
        for quarter in 0..20 {
            let context = format!("loop {by_loop}, {begins_after_ms} ms, quarter {quarter}");
            assert!(scene.check(&context).is_some(), "{context}");
            assert_period_holds(&scene, &context);
            machine.advance(INTERVAL_NS);
            let grown_us = machine.state.borrow().discipline.maxerror_us;
            machine.state.borrow_mut().discipline.maxerror_us = grown_us % 500;
            scene.step(Cause::Interval);
        }
    }
}

#[test]
fn a_daemon_that_knows_less_than_the_one_before_it_has_spoken_too() {
    // With nothing to be slewed any more, in the middle of a second that slews.
    let machine = Machine::new(29, START_SEC);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(3);
    machine.state.borrow_mut().discipline.offset_ns = 400_000_000;
    let is_slewing =
        || machine.state.borrow().settled_error_ns() > machine.state.borrow().error_ns();
    while !is_slewing() {
        machine.advance(INTERVAL_NS);
        scene.step(Cause::Interval);
    }
    let maxerror_us = {
        let mut state = machine.state.borrow_mut();
        state.discipline.offset_ns = 0;
        state.error_ns().unsigned_abs() / 1000 + 1
    };
    for quarter in 0..20 {
        // The allowance for drift that the kernel adds each second would cover some of it.
        machine.state.borrow_mut().discipline.maxerror_us = maxerror_us;
        scene.step(Cause::Interval);
        let context = format!("quarter {quarter}");
        assert!(scene.check(&context).is_some(), "{context}");
        machine.advance(INTERVAL_NS);
    }
}

#[test]
fn what_ran_when_the_daemon_spoke_still_counts_after_a_gap() {
    // In the middle of a second that slews, and with a slower loop from then on.
    let machine = Machine::new(36, START_SEC);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(3);
    {
        let mut state = machine.state.borrow_mut();
        state.discipline.has_loop = true;
        state.discipline.loop_shift = 2;
        state.discipline.offset_ns = -80_000_000;
    }
    let is_slewing =
        || machine.state.borrow().settled_error_ns() < machine.state.borrow().error_ns();
    while !is_slewing() {
        machine.advance(INTERVAL_NS);
        scene.step(Cause::Interval);
    }
    {
        // All that it is off by is to be slewed, and the rest of this second's share comes on top.
        let mut state = machine.state.borrow_mut();
        state.discipline.loop_shift = 8;
        state.discipline.offset_ns = -state.error_ns();
        state.discipline.maxerror_us = 101;
    }
    scene.step(Cause::Interval);
    assert!(scene.check("told").is_some());
    machine.advance(2 * NS_PER_SEC);
    for quarter in 0..8 {
        machine.state.borrow_mut().discipline.maxerror_us = 101;
        scene.step(Cause::Interval);
        assert!(scene.check(&format!("quarter {quarter}")).is_some());
        machine.advance(INTERVAL_NS);
    }
}

#[test]
fn what_the_kernel_slewed_while_nobody_looked_is_part_of_no_baseline() {
    let machine = Machine::new(22, START_SEC);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    machine.state.borrow_mut().discipline.offset_ns = 20_000_000;
    machine.advance(10 * NS_PER_SEC);
    for quarter in 0..20 {
        scene.step(Cause::Interval);
        assert_period_holds(&scene, &format!("quarter {quarter}"));
        machine.advance(INTERVAL_NS);
    }
}

#[test]
fn an_adjtime_that_came_and_went_between_two_samples_counts() {
    let machine = Machine::new(28, START_SEC);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(5);
    {
        let mut state = machine.state.borrow_mut();
        state.set_frequency_ppb(-500_000);
        state.discipline.single_shot_ns = -500_000;
        // The second that carries it out begins, and nothing is left of it to be seen.
        while state.discipline.single_shot_ns != 0 {
            state.advance(1_000_000);
        }
    }
    for quarter in 0..4 {
        scene.step(Cause::Interval);
        assert_period_holds(&scene, &format!("quarter {quarter}"));
        machine.advance(INTERVAL_NS);
    }
}

#[test]
fn a_period_that_was_measured_during_a_slew_is_no_better_after_a_change_of_tick() {
    let machine = Machine::new(23, START_SEC);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    // Fast at first: the average is well above what is slewed in the end.
    machine.state.borrow_mut().discipline.offset_ns = 60_000_000;
    scene.run(12);
    for tick_us in [10_300, 9_700, 10_000] {
        machine.advance(INTERVAL_NS);
        {
            let mut state = machine.state.borrow_mut();
            state.discipline.offset_ns = 0;
            state.discipline.tick_us = tick_us;
        }
        scene.step(Cause::Interval);
        assert_period_holds(&scene, &format!("tick {tick_us}"));
    }
}
