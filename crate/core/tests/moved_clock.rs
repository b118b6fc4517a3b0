//! Compares the claims of a published page with the truth while its clock is stepped and slewed, by its daemon
//! and by other programs.

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

use vmclock::no_bound::{Distrust, NoBound};
use vmclock::publish::{Cause, PublishOptions};
use vmclock::snapshot::ClockStatus;
use vmclock::source::kernel::discipline::Discipline;
use vmclock_testkit::chronyd::Chronyd;
use vmclock_testkit::scene::{
    AFTER_CHANGE, AFTER_DISRUPTION, INTERVAL_NS, NS_PER_SEC, START_SEC, Scene, assert_period_holds,
};
use vmclock_testkit::virtual_machine::{Leap, Machine};

/// A machine with a perfect oscillator, on which nothing interrupts a sample.
fn calm(seed: u64, maxerror_us: i64) -> Machine {
    let machine = Machine::new(seed, START_SEC);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine.state.borrow_mut().interrupted_one_in = u64::MAX;
    machine.state.borrow_mut().synchronize(maxerror_us);
    machine
}

/// Somebody sets the clock, and the publisher notices.
fn set(scene: &mut Scene<'_>, by_ns: i64) {
    scene.machine.state.borrow_mut().step(by_ns);
    scene.step(Cause::ClockStep);
}

/// A scene whose publisher has seen a report of its daemon.
fn settled(machine: &Machine, maxerror_us: u64) -> Scene<'_> {
    let mut scene = Scene::new(machine, PublishOptions::default());
    scene.run(30);
    assert!(scene.report(maxerror_us).is_some());
    scene.run(1);
    scene
}

#[test]
fn a_step_is_published_at_once_and_leaves_the_marker_alone() {
    for step_ns in [
        -3_600 * 1_000_000_000,
        -50_000_000,
        3_000_000,
        86_400 * 1_000_000_000,
    ] {
        let machine = calm(5, 100);
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
        // Back, unnoticed by the alarm.
        machine.state.borrow_mut().step(-step_ns);
        machine.state.borrow_mut().synchronize(100);
        scene.run(2);
        // The daemon has measured it once.
        scene.assert_bound_after(AFTER_CHANGE - 1, 103, "after the step");
        assert_eq!(scene.marker(), marker, "{step_ns}");
    }
}

#[test]
fn after_a_step_by_another_process_64_updates_pass_without_a_bound() {
    // chrony was seen to report 95 ms on a clock that another process had set by 919 ms.
    for by_ns in [919_000_000, -919_000_000, 1_900_000, -1_900_000, 1] {
        let context = format!("stepped by {by_ns} ns");
        let machine = calm(33, 1003);
        let mut scene = settled(&machine, 1003);
        set(&mut scene, by_ns);
        assert_eq!(scene.check(&context), None);
        scene.run(1);
        scene.assert_no_bound_for(1, 1003, &context);
        let left = |updates_left| NoBound::Distrusted {
            cause: Distrust::Step,
            updates_left,
        };
        assert_eq!(scene.publication.no_bound(), Some(left(AFTER_CHANGE - 1)));
        scene.assert_no_bound_for(AFTER_CHANGE - 2, 1003, &context);
        // The daemon sets the clock right. That step restarts the count.
        set(&mut scene, -by_ns);
        assert_eq!(scene.publication.no_bound(), Some(NoBound::Unsynchronized));
        scene.run(1);
        scene.assert_bound_after(AFTER_CHANGE, 1003, &context);
        assert_eq!(scene.publication.no_bound(), None);
    }
}

#[test]
fn a_step_that_a_busy_machine_hides_is_found_by_its_alarm() {
    for seed in 0..12 {
        let context = format!("seed {seed}");
        let machine = calm(seed, 1003);
        let mut scene = settled(&machine, 1003);
        machine.state.borrow_mut().step(1_900_000);
        // Both clocks are read so far apart that the step does not show.
        machine.state.borrow_mut().interrupted_one_in = 1;
        machine.state.borrow_mut().interrupted_ns = 3_000_000;
        scene.step(Cause::Interval);
        machine.state.borrow_mut().interrupted_one_in = u64::MAX;
        scene.step(Cause::ClockStep);
        scene.run(1);
        scene.assert_no_bound_for(AFTER_CHANGE - 1, 1003, &context);
    }
}

#[test]
fn after_a_slew_by_another_process_64_updates_pass_without_a_bound() {
    let by_adjtime = |machine: &Machine| {
        machine.state.borrow_mut().discipline.single_shot_ns = 2_000_000;
    };
    let by_loop = |machine: &Machine| {
        let mut state = machine.state.borrow_mut();
        state.discipline.has_loop = true;
        state.discipline.offset_ns = 8_000_000;
    };
    let by_frequency = |machine: &Machine| machine.state.borrow_mut().set_frequency_ppb(450_000);
    let by_tick = |machine: &Machine| machine.state.borrow_mut().discipline.tick_us = 10_002;
    type Act<'act> = &'act dyn Fn(&Machine);
    let ways: [(Act<'_>, Distrust); 4] = [
        (&by_adjtime, Distrust::Slew),
        (&by_loop, Distrust::Slew),
        (&by_frequency, Distrust::Frequency),
        (&by_tick, Distrust::Frequency),
    ];
    // Seeds differ in when the kernel's second begins.
    for seed in 35..43 {
        for (way, (slew, cause)) in ways.iter().enumerate() {
            let context = format!("seed {seed}, way {way}");
            let machine = calm(seed, 123);
            let mut scene = settled(&machine, 123);
            slew(&machine);
            scene.run(1);
            let expected = NoBound::Distrusted {
                cause: *cause,
                updates_left: AFTER_CHANGE,
            };
            assert_eq!(scene.publication.no_bound(), Some(expected), "{context}");
            scene.assert_no_bound_for(20, 123, &context);
            // The daemon has noticed, and corrects the clock.
            let error_ns = machine.state.borrow().settled_error_ns();
            scene.report_with(123, |discipline| {
                discipline.offset_ns = 0;
                discipline.single_shot_ns = -error_ns;
                discipline.frequency_scaled_ppm = 0;
                discipline.tick_us = 10_000;
            });
            scene.run(60);
            scene.assert_bound_after(AFTER_CHANGE - 21, 1003, &context);
        }
    }
}

#[test]
fn a_daemon_that_steps_its_clock_and_reports_keeps_the_bound() {
    for by_ns in [300_000_000, -300_000_000, 900_000] {
        for is_alarm_first in [true, false] {
            let context = format!("stepped by {by_ns} ns, alarm first: {is_alarm_first}");
            let machine = calm(60, 1003);
            let mut scene = settled(&machine, 1003);
            // The clock has drifted so far, and the daemon has found that.
            machine.state.borrow_mut().oscillator_ppb = 0;
            machine.state.borrow_mut().step(-by_ns);
            scene.step(Cause::ClockStep);
            scene.run(1);
            for _ in 0..AFTER_CHANGE {
                scene.report(by_ns.unsigned_abs() / 1000 + 2);
            }
            assert!(scene.check(&context).is_some(), "{context}");
            scene.run(1);
            machine.state.borrow_mut().step(by_ns);
            if is_alarm_first {
                scene.step(Cause::ClockStep);
                assert_eq!(scene.check(&context), None);
                machine.advance(1_000_000);
            }
            machine.state.borrow_mut().synchronize(1003);
            if !is_alarm_first {
                scene.step(Cause::ClockStep);
            }
            machine.advance(INTERVAL_NS);
            scene.step(Cause::Interval);
            assert!(scene.check(&context).is_some(), "{context}");
            scene.run(2);
            assert!(scene.check(&context).is_some(), "{context}");
        }
    }
}

#[test]
fn a_daemon_that_slews_its_clock_and_reports_keeps_the_bound() {
    const OFF_NS: i64 = 900_000;
    let ways: [fn(&mut Discipline); 4] = [
        |discipline| discipline.single_shot_ns = OFF_NS,
        |discipline| {
            discipline.has_loop = true;
            discipline.offset_ns = OFF_NS;
        },
        |discipline| discipline.frequency_scaled_ppm = 300 << 16,
        |discipline| discipline.tick_us = 10_003,
    ];
    for (way, change) in ways.into_iter().enumerate() {
        for is_late in [false, true] {
            let context = format!("way {way}, reported late: {is_late}");
            let machine = calm(61, 2003);
            let mut scene = settled(&machine, 2003);
            if is_late {
                // A sample falls between the daemon's two calls.
                change(&mut machine.state.borrow_mut().discipline);
                machine.advance(INTERVAL_NS);
                scene.step(Cause::Interval);
                let pending = Some(NoBound::ChangePending);
                assert_eq!(scene.publication.no_bound(), pending, "{context}");
                machine.state.borrow_mut().discipline.maxerror_us = 2003;
                machine.state.borrow_mut().discipline.esterror_us += 1;
                machine.advance(INTERVAL_NS);
                scene.step(Cause::Interval);
            } else {
                scene.report_with(2003, change);
            }
            for _ in 0..4 {
                assert!(scene.check(&context).is_some(), "{context}");
                scene.run(1);
            }
        }
    }
}

#[test]
fn a_step_while_the_clock_is_distrusted_restarts_its_count() {
    let machine = calm(43, 1003);
    let mut scene = settled(&machine, 1003);
    set(&mut scene, 1_900_000);
    scene.run(1);
    scene.assert_no_bound_for(40, 1003, "first step");
    for by_ns in [900_000_000, -901_900_000] {
        set(&mut scene, by_ns);
        scene.run(1);
    }
    scene.assert_bound_after(AFTER_CHANGE, 1003, "last step");

    // A step that the daemon reports restarts a count of 8. Its report counts.
    machine.state.borrow_mut().suspend(NS_PER_SEC, 5_000_000);
    scene.settle();
    scene.run(1);
    scene.assert_no_bound_for(5, 1003, "woken");
    set(&mut scene, -5_000_000);
    machine.state.borrow_mut().synchronize(1003);
    scene.step(Cause::Interval);
    scene.run(1);
    scene.assert_bound_after(AFTER_DISRUPTION - 1, 1003, "set right");
}

#[test]
fn a_change_by_another_process_after_a_suspend_costs_64_updates() {
    type Act = fn(&mut Scene<'_>);
    let ways: [(&str, Act); 4] = [
        ("adjtime", |scene| {
            scene.machine.state.borrow_mut().discipline.single_shot_ns = 20_000_000;
        }),
        ("loop", |scene| {
            let mut state = scene.machine.state.borrow_mut();
            state.discipline.has_loop = true;
            state.discipline.offset_ns = 20_000_000;
        }),
        ("frequency", |scene| {
            scene.machine.state.borrow_mut().set_frequency_ppb(450_000);
        }),
        ("step", |scene| set(scene, 20_000_000)),
    ];
    for (way, change) in ways {
        let machine = calm(44, 1003);
        let mut scene = settled(&machine, 1003);
        machine.state.borrow_mut().suspend(NS_PER_SEC, 0);
        scene.settle();
        scene.run(5);
        change(&mut scene);
        scene.run(2);
        scene.assert_no_bound_for(AFTER_CHANGE - 1, 1003, way);
    }
}

/// Runs chronyd and checks that the publisher never distrusts it, and states a bound in the end.
fn assert_trusted(mut scene: Scene<'_>, mut chronyd: Chronyd, context: &str) {
    for update in 0..40 {
        // Now and then the network misleads it to a slew, and it slews back.
        let misled_ns = [0, 0, 0, 0, 300_000, 0, 0, 0, -300_000, 0][update % 10];
        chronyd.poll(&mut scene, if update < 3 { 2 } else { 16 }, misled_ns);
        if update == 5 {
            // It has measured the oscillator.
            let oscillator_ppb = scene.machine.state.borrow().oscillator_ppb;
            chronyd.base_ppm = -(oscillator_ppb as f64) / 1000.0;
        }
    }
    assert_eq!(chronyd.distrusted, 0, "{context}");
    assert!(chronyd.bounded > 1000, "{context}: {}", chronyd.bounded);
}

#[test]
fn a_chronyd_that_ends_its_slews_late_is_trusted() {
    for by_ns in [400_000_000, -400_000_000, 30_000_000, 5_000_000] {
        for late_ns in [(20_000, 150_000), (2_000_000, 5_000_000)] {
            let machine = calm(3, 1003);
            machine.state.borrow_mut().step(by_ns);
            let scene = Scene::new(&machine, PublishOptions::default());
            let chronyd = Chronyd::new(&machine, 0.0, late_ns);
            assert_trusted(scene, chronyd, &format!("{by_ns} ns, late {late_ns:?}"));
        }
    }
}

#[test]
fn a_chronyd_whose_rate_is_far_from_its_first_is_trusted() {
    for oscillator_ppb in [150_000, -150_000] {
        let machine = calm(5, 1003);
        machine.state.borrow_mut().oscillator_ppb = oscillator_ppb;
        let scene = Scene::new(&machine, PublishOptions::default());
        let chronyd = Chronyd::new(&machine, 0.0, (20_000, 150_000));
        assert_trusted(scene, chronyd, &format!("oscillator {oscillator_ppb} ppb"));
    }
}

#[test]
fn a_chronyd_is_trusted_by_a_publisher_that_begins_during_a_slew() {
    for by_ns in [400_000_000, -400_000_000] {
        let machine = calm(6, 1003);
        machine.state.borrow_mut().step(by_ns);
        let mut before = Scene::new(&machine, PublishOptions::default());
        let mut chronyd = Chronyd::new(&machine, 12.0, (20_000, 150_000));
        machine.state.borrow_mut().oscillator_ppb = -12_000;
        chronyd.poll(&mut before, 2, 0);
        chronyd.pass(&mut before, 2 * NS_PER_SEC);
        let scene = Scene::new(&machine, PublishOptions::default());
        let off_nominal = Some(NoBound::OffNominal);
        assert_eq!(scene.publication.no_bound(), off_nominal, "{by_ns}");
        assert_trusted(scene, chronyd, &format!("{by_ns} ns"));
    }
}

#[test]
fn a_restart_of_the_publisher_begins_the_count_again() {
    let take_over = |left, updates_left| {
        let expected = NoBound::Distrusted {
            cause: Distrust::TakeOver,
            updates_left,
        };
        (left, expected)
    };
    // In the count, in its last updates, and before a report could explain the change.
    for (updates, (ends_pending, expected)) in [
        (10, take_over(false, AFTER_CHANGE)),
        (AFTER_CHANGE - 3, take_over(false, AFTER_DISRUPTION)),
        (0, take_over(true, AFTER_CHANGE)),
    ] {
        let machine = calm(62, 1003);
        let mut scene = settled(&machine, 1003);
        if ends_pending {
            machine.state.borrow_mut().discipline.single_shot_ns = 100_000;
            machine.advance(INTERVAL_NS);
            scene.step(Cause::Interval);
            assert_eq!(scene.publication.no_bound(), Some(NoBound::ChangePending));
        } else {
            set(&mut scene, 1_000_000);
            scene.run(1);
            scene.assert_no_bound_for(updates, 1003, "before the restart");
        }
        let old = scene.left();
        let mut scene = Scene::taking_over(&machine, PublishOptions::default(), Some(old));
        assert_eq!(scene.publication.no_bound(), Some(expected), "{updates}");
        let left = expected.updates_left().unwrap();
        scene.assert_bound_after(left, 1003, "after the restart");
    }
}

#[test]
fn a_restart_begins_the_count_again_that_a_voided_error_hides() {
    let machine = calm(63, 1003);
    let options = PublishOptions {
        max_error_ns: Some(2_000_000),
        ..PublishOptions::default()
    };
    let mut scene = Scene::new(&machine, options.clone());
    scene.run(10);
    scene.step(Cause::Disrupt);
    scene.settle();
    scene.assert_bound_after(AFTER_DISRUPTION, 1003, "after the disruption");
    set(&mut scene, 1_000_000);
    scene.run(1);
    scene.assert_no_bound_for(10, 1003, "before the restart");
    let reason = Some(NoBound::StatedErrorVoided);
    assert_eq!(scene.publication.no_bound(), reason);
    let old = scene.left();
    let mut scene = Scene::taking_over(&machine, options, Some(old));
    assert_eq!(scene.publication.no_bound(), reason);
    scene.assert_bound_after(AFTER_CHANGE, 1003, "after the restart");
}

#[test]
fn a_change_is_seen_though_the_page_states_no_bound_for_another_reason() {
    let by_step = |scene: &mut Scene<'_>| set(scene, 900_000_000);
    let by_adjtime = |scene: &mut Scene<'_>| {
        scene.machine.state.borrow_mut().discipline.single_shot_ns = 3_000_000;
    };
    type Act<'act> = &'act dyn Fn(&mut Scene<'_>);
    let ways: [(&str, Act<'_>); 2] = [("stepped", &by_step), ("slewed", &by_adjtime)];
    for (way, change) in ways {
        let machine = calm(52, 1003);
        // A real figure that looks as if it were counted up from 0.
        machine.state.borrow_mut().discipline.maxerror_us = 1000;
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(100);
        assert_eq!(scene.publication.no_bound(), Some(NoBound::NeverUpdated));
        change(&mut scene);
        scene.run(10);
        scene.assert_no_bound_for(AFTER_CHANGE - 1, 1003, way);
    }
}

#[test]
fn the_truth_lies_within_every_bound_whatever_steps_a_daemon_misses() {
    /// The daemon steps its clock if it is off by more than this, and now and then if it is off by less.
    const FAR_NS: i64 = 50_000_000;
    for seed in 0..12 {
        let machine = calm(seed, 1003);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(60);
        let mut bounded = 0;
        // The steps that the daemon missed, and the measurements for which it misses each.
        let mut missed: Vec<(i64, u32)> = Vec::new();
        for turn in 0..1_500 {
            let mut random = machine.state.borrow().random.clone();
            let is_large = random.chance(4);
            let most_ns = if is_large { 900_000_000 } else { 4_000_000 };
            let by_ns = random.range(-most_ns, most_ns);
            let is_set = random.chance(80);
            let is_missed = !is_large && random.chance(2);
            let is_close_corrected = random.chance(100);
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
                let reported_us = believed_us + 100;
                state.discipline.maxerror_us =
                    reported_us + u64::from(reported_us.is_multiple_of(500));
            }
            scene.step(Cause::Interval);
            let context = format!("seed {seed}, turn {turn}, missed {missed:?}");
            bounded += u32::from(scene.check(&context).is_some());
            for (_, measurements) in &mut missed {
                *measurements -= 1;
            }
            missed.retain(|(_, measurements)| *measurements > 0);
        }
        assert!(bounded > 100, "seed {seed}: {bounded}");
    }
}

#[test]
fn a_daemon_that_disowns_the_clock_and_comes_back_gets_its_bound_at_once() {
    // chronyd does so when it ends. It is restarted, and has not set the clock.
    let machine = calm(63, 1003);
    let mut scene = settled(&machine, 1003);
    {
        let mut state = machine.state.borrow_mut();
        state.discipline.unsynchronized = true;
        state.discipline.maxerror_us = 16_000_000;
        state.discipline.esterror_us = 16_000_000;
    }
    scene.run(3);
    assert_eq!(scene.publication.no_bound(), Some(NoBound::Unsynchronized));
    assert!(scene.report(1003).is_some());
}

#[test]
fn an_ntpd_that_is_restarted_during_its_slew_gets_its_bound_at_once() {
    let machine = calm(63, 1003);
    let mut scene = settled(&machine, 1003);
    scene.report_with(1003, |discipline| {
        discipline.has_loop = true;
        discipline.loop_shift = 8;
        discipline.offset_ns = 1_000_000;
    });
    scene.run(5);
    {
        let mut state = machine.state.borrow_mut();
        state.discipline.offset_ns = 0;
        state.discipline.unsynchronized = true;
        state.discipline.maxerror_us = 16_000_000;
        state.discipline.esterror_us = 16_000_000;
    }
    scene.run(3);
    assert_eq!(scene.publication.no_bound(), Some(NoBound::Unsynchronized));
    assert!(scene.report(1003).is_some());
}

#[test]
fn an_alarm_for_another_tai_offset_keeps_the_bound() {
    let machine = calm(64, 1003);
    let mut scene = settled(&machine, 1003);
    machine.state.borrow_mut().discipline.tai_minus_utc_sec = 37;
    scene.step(Cause::ClockStep);
    for _ in 0..8 {
        scene.run(1);
        assert!(scene.check("TAI offset set").is_some());
    }
}

#[test]
fn a_leap_second_keeps_the_bound() {
    /// 1 January 2027.
    const EDGE_SEC: i128 = 1_798_761_600;
    for inserted in [true, false] {
        for is_alarm_late in [true, false] {
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
            scene.run(30);
            let offset_sec = machine.state.borrow().clock_offset_sec();
            while machine.state.borrow().clock_offset_sec() == offset_sec {
                machine.advance(INTERVAL_NS);
                let is_over = machine.state.borrow().clock_offset_sec() != offset_sec;
                scene.step(if is_over && !is_alarm_late {
                    Cause::ClockStep
                } else {
                    Cause::Interval
                });
            }
            if is_alarm_late {
                scene.step(Cause::ClockStep);
            }
            for _ in 0..10 {
                let bound_ns = scene.publication.fields().time_maxerror_nanosec;
                let is_whole = (600_000_000..1_000_000_000).contains(&bound_ns);
                assert!(is_whole, "alarm late {is_alarm_late}: {bound_ns}");
                scene.run(1);
            }
        }
    }
}

#[test]
fn a_clock_more_than_500_ppm_off_nominal_has_no_bound() {
    // chrony corrects a clock that is far off in this way.
    const OFF_NS: i64 = 700_000_000;
    let machine = calm(34, 100);
    machine.state.borrow_mut().step(OFF_NS);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(10);
    {
        let mut state = machine.state.borrow_mut();
        state.discipline.unsynchronized = false;
        state.discipline.maxerror_us = 1_234;
        state.discipline.tick_us = 9_167;
    }
    for second in 0..i128::from(OFF_NS) / 83_300_000 {
        scene.run(1);
        assert_eq!(scene.check(&format!("second {second}")), None);
        assert_eq!(scene.publication.no_bound(), Some(NoBound::OffNominal));
    }
    {
        let mut state = machine.state.borrow_mut();
        state.discipline.tick_us = 10_000;
        state.discipline.maxerror_us = state.error_ns().unsigned_abs() / 1000 + 1;
    }
    scene.run(1);
    assert!(scene.check("back at its rate").is_some());
}

#[test]
fn a_report_that_equals_the_kernels_own_count_is_a_report() {
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

#[test]
fn a_daemon_that_begins_may_step_the_clock_and_gets_its_bound_at_once() {
    let machine = calm(49, 1003);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(30);
    scene.report(1003);
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
    let bound_ns = scene.report(1003).unwrap();
    assert!(bound_ns < 3_000_000, "{bound_ns}");
}

#[test]
fn an_alarm_ends_the_baseline_though_no_step_shows() {
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
fn a_sample_right_after_a_slow_one_does_not_look_like_a_step() {
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
fn the_bound_covers_a_period_that_was_measured_during_a_slew() {
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
fn the_bound_covers_the_hidden_slew_of_the_present_second() {
    // A loop at its fastest, and an `adjtime`. Both also with a daemon that measures again in the middle of a
    // second: the kernel carries out the rest of that second's share on top of the new offset.
    for (by_loop, again) in [(true, false), (false, false), (true, true), (false, true)] {
        let machine = Machine::new(16, START_SEC);
        machine.state.borrow_mut().oscillator_ppb = 0;
        let mut scene = Scene::new(&machine, PublishOptions::default());
        // The daemon knows the error exactly, and has the kernel slew all of it.
        let measure = || {
            let mut state = machine.state.borrow_mut();
            let left_ns = state.error_ns();
            state.discipline.unsynchronized = false;
            state.discipline.maxerror_us = 1;
            state.discipline.esterror_us = left_ns.unsigned_abs();
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
            // The kernel's allowance for drift would cover all of it.
            machine.state.borrow_mut().discipline.maxerror_us = 1;
            scene.step(Cause::Interval);
            let context = format!("by loop {by_loop}, again {again}, quarter {quarter}");
            assert!(scene.check(&context).is_some(), "{context}");
        }
    }
}

#[test]
fn the_bound_covers_the_drift_of_the_present_second() {
    // A daemon that reports exactly what it knows, at any part of the kernel's second.
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
fn a_slew_in_the_middle_of_a_baseline_widens_the_error_of_its_period() {
    // A daemon without a real `maxerror` slews 300 ms while the period is measured, without a change of
    // frequency.
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
fn a_step_that_was_sampled_before_its_alarm_is_part_of_no_baseline() {
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
        // Too small to look like a step, and in the first interval of a new baseline.
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
fn a_deleted_second_in_the_first_baseline_is_noticed_without_an_alarm() {
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
        // The second is left out between the first two samples.
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
fn the_bound_covers_a_slew_from_before_the_publisher_began() {
    // A loop or an `adjtime` runs in the middle of a second. Then the daemon measures the clock exactly, and has
    // nothing to slew any more. After that the publisher begins.
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
            // Until the second that slews the first share.
            while state.settled_error_ns() == state.error_ns() {
                state.advance(1_000_000);
            }
            let left_ns = state.error_ns();
            state.synchronize(100);
            state.discipline.maxerror_us = left_ns.unsigned_abs() / 1000 + 1;
            state.advance(begins_after_ms * 1_000_000);
            // The kernel's allowance for drift would cover some of it.
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
fn a_report_of_a_larger_error_is_a_report() {
    // It ends a slew in the middle of a second.
    let machine = Machine::new(29, START_SEC);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(3);
    machine.state.borrow_mut().discipline.offset_ns = 400_000_000;
    machine.state.borrow_mut().discipline.esterror_us = 400_000;
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
        // The kernel's allowance for drift would cover some of it.
        machine.state.borrow_mut().discipline.maxerror_us = maxerror_us;
        scene.step(Cause::Interval);
        let context = format!("quarter {quarter}");
        assert!(scene.check(&context).is_some(), "{context}");
        machine.advance(INTERVAL_NS);
    }
}

#[test]
fn the_bound_covers_after_a_gap_the_slew_that_ran_at_the_last_report() {
    // In the middle of a second that slews, the daemon reports and takes a slower loop.
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
        state.discipline.esterror_us = 80_000;
    }
    let is_slewing =
        || machine.state.borrow().settled_error_ns() < machine.state.borrow().error_ns();
    while !is_slewing() {
        machine.advance(INTERVAL_NS);
        scene.step(Cause::Interval);
    }
    {
        // The kernel has to slew the whole error, and slews the rest of this second's share on top.
        let mut state = machine.state.borrow_mut();
        state.discipline.loop_shift = 8;
        state.discipline.offset_ns = -state.error_ns();
        state.discipline.maxerror_us = 101;
    }
    scene.step(Cause::Interval);
    assert!(scene.check("reported").is_some());
    machine.advance(2 * NS_PER_SEC);
    for quarter in 0..8 {
        machine.state.borrow_mut().discipline.maxerror_us = 101;
        scene.step(Cause::Interval);
        assert!(scene.check(&format!("quarter {quarter}")).is_some());
        machine.advance(INTERVAL_NS);
    }
}

#[test]
fn a_slew_during_a_gap_is_part_of_no_baseline() {
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
fn the_error_of_the_period_covers_an_adjtime_between_two_samples() {
    let machine = Machine::new(28, START_SEC);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(5);
    {
        let mut state = machine.state.borrow_mut();
        state.set_frequency_ppb(-500_000);
        state.discipline.single_shot_ns = -500_000;
        // The second that carries it out begins, and nothing of it is shown any more.
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
fn a_change_of_tick_does_not_improve_a_period_that_was_measured_during_a_slew() {
    let machine = Machine::new(23, START_SEC);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    // Fast at first: the average is well above the slew at the end.
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

#[test]
fn the_end_of_a_daemons_own_slew_keeps_the_bound() {
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
    // chrony reports when it begins a slew, and does not when it ends it.
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
