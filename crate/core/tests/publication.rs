//! Compares the claims of a published page with the true time of a simulated machine.

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

use std::cell::Cell;

use vmclock::abi;
use vmclock::counter::Counter;
use vmclock::no_bound::{Distrust, NoBound};
use vmclock::publish::{Cause, Generation, Publication, PublishOptions, Shape};
use vmclock::snapshot::{ClockStatus, LeapIndicator};
use vmclock::source::kernel::KernelSource;
use vmclock::source::kernel::clock::{Bracket, SystemClock};
use vmclock::source::kernel::discipline::Discipline;
use vmclock::source::kernel::leap_seconds::LeapSeconds;
use vmclock::{Error, Maintenance, Timescale};
use vmclock_testkit::scene::{
    AFTER_CHANGE, AFTER_DISRUPTION, INTERVAL_NS, NS_PER_SEC, START_SEC, Scene,
};
use vmclock_testkit::virtual_machine::{Leap, Machine};

/// Two of the ways in which a daemon corrects the clock.
const BY_LOOP: u64 = 0;
const BY_ADJTIME: u64 = 1;

/// Has a daemon with an honest `maxerror` correct the clock in one way, or not at all.
fn discipline_at_random(machine: &Machine, way: u64) {
    let mut state = machine.state.borrow_mut();
    let uncertainty_us = state.random.range(5, 3000);
    let correction_ns = state.synchronize(uncertainty_us);
    state.discipline.tick_us = 10_000;
    state.discipline.loop_shift = u32::try_from(state.random.range(2, 6)).unwrap();
    let corrects = !state.random.chance(4);
    state.discipline.has_loop = way == BY_LOOP;
    match if corrects { way } else { 3 } {
        BY_LOOP => state.discipline.offset_ns = correction_ns,
        BY_ADJTIME => state.discipline.single_shot_ns = correction_ns,
        2 => {
            // By frequency, as chrony does: `maxerror` must cover the correction that is left.
            let share = i64::from(state.discipline.maxerror_us < 1_000_000);
            let left_us = correction_ns.unsigned_abs().div_ceil(1000);
            state.discipline.maxerror_us += left_us;
            state.discipline.tick_us += correction_ns.signum() * share;
        }
        _ => {
            let left_us = correction_ns.unsigned_abs().div_ceil(1000);
            state.discipline.maxerror_us += left_us;
        }
    }
    let residual_ppb = state.random.range(-2_000, 2_000);
    let frequency_ppb = residual_ppb - state.oscillator_ppb;
    if state.random.chance(2) {
        state.set_frequency_ppb(frequency_ppb);
    }
}

#[test]
fn the_truth_lies_within_every_bound_that_an_honest_kernel_allows() {
    for seed in 0..24 {
        let way = seed % 4;
        let machine = Machine::new(seed, START_SEC);
        machine.state.borrow_mut().discipline.tai_minus_utc_sec = if seed % 8 < 4 { 37 } else { 0 };
        let mut scene = Scene::new(&machine, PublishOptions::default());
        assert_eq!(scene.check("unsynchronized"), None);
        let (mut readings, mut bounded, mut narrow) = (0, 0, 0);
        for second in 0..3_000 {
            if second % 32 == 1 {
                discipline_at_random(&machine, way);
            }
            for _ in 0..4 {
                let early_ns = machine.state.borrow_mut().random.range(0, 249_000_000);
                machine.advance(early_ns.into());
                let context = format!("seed {seed}, second {second}");
                for _ in 0..2 {
                    if let Some(bound_ns) = scene.check(&context) {
                        bounded += 1;
                        narrow += u32::from(bound_ns < 100_000_000);
                    }
                    readings += 1;
                }
                machine.advance(INTERVAL_NS - i128::from(early_ns));
                scene.check(&context);
                scene.step(Cause::Interval);
                // Now and then the publisher is not scheduled, or dead: its last page must stay true.
                if machine.state.borrow_mut().random.chance(500) {
                    for _ in 0..60 {
                        machine.advance(5 * NS_PER_SEC);
                        scene.check(&format!("{context}, stalled"));
                    }
                    discipline_at_random(&machine, way);
                    scene.step(Cause::Interval);
                }
                // The oscillator wanders with the temperature.
                let mut state = machine.state.borrow_mut();
                let change_ppb = state.random.range(-20, 20);
                state.oscillator_ppb += change_ppb;
            }
        }
        // A bound that is never stated, or very wide, would be true as well.
        assert!(bounded * 10 > readings * 9, "{bounded} of {readings}");
        let least = match way {
            // The loop may have slewed much during a gap, which counts until the next report.
            BY_LOOP => bounded / 10 * 9,
            _ => bounded,
        };
        assert!(narrow >= least, "seed {seed}: {narrow} of {bounded}");
    }
}

#[test]
fn a_bound_covers_the_error_of_reading_the_clock() {
    for seed in 0..24 {
        let machine = Machine::new(seed, START_SEC);
        machine.state.borrow_mut().oscillator_ppb = 0;
        // Every bracket is wide on this machine.
        machine.state.borrow_mut().interrupted_one_in = 2;
        let options = PublishOptions {
            max_error_ns: Some(0),
            ..PublishOptions::default()
        };
        let mut scene = Scene::new(&machine, options);
        for second in 0..300 {
            let context = format!("seed {seed}, second {second}");
            let bound_ns = scene.check(&context);
            assert!(
                bound_ns.is_some_and(|ns| ns < 20_000_000),
                "{context}: {bound_ns:?}"
            );
            scene.run(1);
            assert!(scene.check(&context).is_some());
        }
    }
}

#[test]
fn a_long_baseline_leaves_little_but_the_allowance_for_wander() {
    let machine = Machine::new(1, START_SEC);
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    let growth_ppb = |scene: &Scene<'_>| {
        let fields = scene.publication.fields();
        u128::from(fields.counter_period_maxerror_rate_frac_sec) * 1_000_000_000
            / u128::from(fields.counter_period_frac_sec)
    };
    assert!(growth_ppb(&scene) >= 600_000, "{}", growth_ppb(&scene));
    for _ in 0..60 {
        scene.run(16);
        machine.state.borrow_mut().synchronize(100);
    }
    assert!(
        (15_000..30_000).contains(&growth_ppb(&scene)),
        "{}",
        growth_ppb(&scene)
    );
    // The daemon changes the kernel's rate, which says nothing about the counter.
    machine.state.borrow_mut().set_frequency_ppb(10_000);
    scene.run(1);
    assert!(
        (15_000..30_000).contains(&growth_ppb(&scene)),
        "{}",
        growth_ppb(&scene)
    );
    // A step ends the baseline.
    scene.step(Cause::ClockStep);
    assert!(growth_ppb(&scene) >= 600_000, "{}", growth_ppb(&scene));
}

#[test]
fn a_maximum_error_of_0_gives_no_bound_until_64_updates_were_not_0() {
    let machine = Machine::new(2, START_SEC);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(10);
    assert!(scene.check("honest").is_some());
    // As systemd-timesyncd does, with 40 ms still to slew.
    let zero = |machine: &Machine| {
        let mut state = machine.state.borrow_mut();
        state.discipline.maxerror_us = 0;
        state.discipline.esterror_us = 0;
    };
    zero(&machine);
    scene.step(Cause::Interval);
    let reading = scene.read().unwrap();
    assert_eq!(reading.max_error_ns, None);
    assert_eq!(reading.est_error_ns, None);
    assert_eq!(reading.status, ClockStatus::Synchronized);
    // It grows, and there is still no bound.
    scene.run(100);
    assert_eq!(scene.check("zeroed"), None);
    scene.assert_no_bound_for(20, 103, "zeroed once");
    zero(&machine);
    scene.step(Cause::Interval);
    let expected = NoBound::Distrusted {
        cause: Distrust::ZeroError,
        updates_left: AFTER_CHANGE,
    };
    assert_eq!(scene.publication.no_bound(), Some(expected));
    scene.assert_bound_after(AFTER_CHANGE, 103, "another daemon");

    let stated = PublishOptions {
        max_error_ns: Some(50_000_000),
        ..PublishOptions::default()
    };
    let scene = Scene::new(&machine, stated);
    assert!(scene.check("stated").is_some_and(|ns| ns >= 50_000_000));
}

#[test]
fn a_maximum_error_that_the_kernel_counted_up_from_0_gives_no_bound() {
    let machine = Machine::new(3, START_SEC);
    {
        let mut state = machine.state.borrow_mut();
        state.synchronize(100);
        state.discipline.maxerror_us = 0;
        // A daemon reset it just before the kernel added to it, and no sample was taken in between.
        state.advance(1_500_000_000);
        assert!(state.discipline.maxerror_us > 0);
    }
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(20);
    assert_eq!(scene.check("counted up"), None);
    machine.state.borrow_mut().synchronize(100);
    machine.state.borrow_mut().discipline.maxerror_us = 1234;
    scene.run(1);
    assert!(scene.check("a measured one").is_some());
}

#[test]
fn an_unsynchronized_clock_has_a_bound_only_if_the_operator_states_one() {
    let machine = Machine::new(4, START_SEC);
    let scene = Scene::new(&machine, PublishOptions::default());
    let reading = scene.read().unwrap();
    assert_eq!(reading.status, ClockStatus::FreeRunning);
    assert_eq!(reading.max_error_ns, None);

    // A small figure means nothing while the kernel calls the clock unsynchronized.
    machine.state.borrow_mut().discipline.maxerror_us = 1234;
    let scene = Scene::new(&machine, PublishOptions::default());
    assert_eq!(scene.check("disowned"), None);

    let stated = PublishOptions {
        max_error_ns: Some(5_000_000),
        ..PublishOptions::default()
    };
    let mut scene = Scene::new(&machine, stated);
    scene.run(30);
    let reading = scene.read().unwrap();
    assert_eq!(reading.status, ClockStatus::Synchronized);
    assert!((5_000_000..5_100_000).contains(&reading.max_error_ns.unwrap()));
}

/// A machine whose kernel figures change at each look while `is_restless`.
struct Restless<'machine> {
    machine: &'machine Machine,
    is_restless: Cell<bool>,
    looks: Cell<i64>,
}

impl SystemClock for &Restless<'_> {
    fn bracket(&self, counter: &impl Counter) -> Bracket {
        self.machine.bracket(counter)
    }

    fn discipline(&self) -> Result<Discipline, Error> {
        let mut discipline = self.machine.discipline()?;
        if self.is_restless.get() {
            self.looks.set(self.looks.get() + 1);
            discipline.frequency_scaled_ppm += self.looks.get();
        }
        Ok(discipline)
    }

    fn suspended_ns(&self) -> i128 {
        self.machine.suspended_ns()
    }
}

#[test]
fn a_disruption_takes_the_bound_back_though_no_sample_can_be_taken() {
    const BOUNDS: u64 = abi::VMCLOCK_FLAG_PERIOD_ESTERROR_VALID
        | abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID
        | abi::VMCLOCK_FLAG_TIME_ESTERROR_VALID
        | abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID;
    for is_migrated in [false, true] {
        let machine = Machine::new(27, START_SEC);
        machine.plug_in();
        machine.state.borrow_mut().synchronize(103);
        let clock = Restless {
            machine: &machine,
            is_restless: Cell::new(false),
            looks: Cell::new(0),
        };
        let source = KernelSource::new(&clock);
        let options = PublishOptions::default();
        let mut publication =
            Publication::new(source, &machine, &machine, options, None, None).unwrap();
        for _ in 0..20 {
            machine.advance(INTERVAL_NS);
            publication.step(Cause::Interval).unwrap();
        }
        // Until the clock is trusted, and two anchors of the baseline have claims.
        for _ in 0..60 {
            machine.state.borrow_mut().synchronize(103);
            for _ in 0..3 {
                machine.advance(NS_PER_SEC);
                publication.step(Cause::Interval).unwrap();
            }
        }
        let before = *publication.fields();
        assert_eq!(before.flags & BOUNDS, BOUNDS);
        clock.is_restless.set(true);
        let cause = if is_migrated {
            machine.migrate(2 * NS_PER_SEC, 0);
            Cause::Interval
        } else {
            machine.state.borrow_mut().carry_on(2 * NS_PER_SEC, 0);
            Cause::Disrupt
        };
        let after = publication.step(cause).unwrap();
        assert_ne!(after.disruption_marker, before.disruption_marker);
        assert_eq!(after.time_sec, before.time_sec, "{cause:?}: it was sampled");
        assert_eq!(after.clock_status, abi::VMCLOCK_STATUS_INITIALIZING);
        assert_eq!(after.flags & BOUNDS, 0, "{cause:?}");
        clock.is_restless.set(false);
        for _ in 0..2 {
            machine.advance(INTERVAL_NS);
            publication.step(Cause::Interval).unwrap();
        }
        let later = publication.fields();
        assert_ne!(later.clock_status, abi::VMCLOCK_STATUS_INITIALIZING);
        assert_eq!(later.flags & abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID, 0);
    }
}

#[test]
fn a_publisher_that_takes_over_a_page_without_a_bound_waits_for_8_updates() {
    let machine = Machine::new(24, START_SEC);
    machine.plug_in();
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(10);
    // A migration, which the kernel does not know of, and a restart.
    machine.migrate(NS_PER_SEC, 0);
    scene.step(Cause::Interval);
    scene.settle();
    assert_eq!(scene.check("migrated"), None);
    let old = scene.left();
    let mut heir = Scene::taking_over(&machine, PublishOptions::default(), Some(old));
    assert_eq!(heir.check("taken over"), None);
    heir.run(100);
    assert_eq!(heir.check("a while later"), None);
    // The daemon steps the clock and reports.
    let correction_ns = -machine.state.borrow().error_ns();
    machine.state.borrow_mut().step(correction_ns);
    machine.state.borrow_mut().synchronize(100);
    heir.step(Cause::ClockStep);
    heir.run(1);
    heir.assert_bound_after(AFTER_DISRUPTION - 1, 123, "measured again");
}

#[test]
fn a_page_reports_a_leap_second_that_no_sample_saw() {
    // 1 January 2027.
    const EDGE_SEC: i128 = 1_798_761_600;
    for (inserted, dies) in [(true, true), (true, false), (false, true), (false, false)] {
        let context = format!("inserted {inserted}, dies {dies}");
        let change = if inserted { 1 } else { -1 };
        let machine = Machine::new(25, EDGE_SEC - 60);
        machine.state.borrow_mut().leap = Some(Leap {
            inserted,
            edge_sec: EDGE_SEC,
        });
        machine.state.borrow_mut().announced = true;
        let stated = |seconds| PublishOptions {
            tai_minus_utc_sec: Some(seconds),
            ..PublishOptions::default()
        };
        let mut scene = Scene::new(&machine, stated(37));
        machine.advance(3600 * NS_PER_SEC);
        {
            let mut state = machine.state.borrow_mut();
            state.announced = false;
            state.leap = None;
            state.tai_minus_utc_sec += i128::from(change);
        }
        if dies {
            let old = scene.left();
            scene = Scene::taking_over(&machine, stated(37 + change), Some(old));
        } else {
            scene.settle();
        }
        let snapshot = scene.reader(Timescale::Tai).snapshot().unwrap();
        let reported = if inserted {
            LeapIndicator::PostPositive
        } else {
            LeapIndicator::PostNegative
        };
        assert_eq!(snapshot.leap_indicator(), Some(reported), "{context}");
        assert_eq!(snapshot.tai_minus_utc_sec(), Some(37 + change), "{context}");
    }
    // A leap second whose announcement was withdrawn did not happen.
    let machine = Machine::new(26, EDGE_SEC - 60);
    machine.state.borrow_mut().leap = Some(Leap {
        inserted: true,
        edge_sec: EDGE_SEC,
    });
    machine.state.borrow_mut().announced = true;
    let mut scene = Scene::new(&machine, PublishOptions::default());
    machine.state.borrow_mut().announced = false;
    scene.run(3600);
    let snapshot = scene.reader(Timescale::Utc).snapshot().unwrap();
    assert_eq!(snapshot.leap_indicator(), Some(LeapIndicator::None));
}

#[test]
fn a_publisher_that_begins_after_a_leap_second_knows_it_from_the_list() {
    // 1 January 2027.
    const EDGE_SEC: i128 = 1_798_761_600;
    const DAY_SEC: i128 = 86_400;
    for (after_sec, change, expected) in [
        (3_600, 1, LeapIndicator::PostPositive),
        (3_600, -1, LeapIndicator::PostNegative),
        (20 * DAY_SEC, 1, LeapIndicator::None),
        (40 * DAY_SEC, 1, LeapIndicator::None),
    ] {
        let context = format!("{after_sec} s after, {change}");
        let machine = Machine::new(26, EDGE_SEC + after_sec);
        machine.state.borrow_mut().synchronize(100);
        let old = Scene::new(&machine, PublishOptions::default()).left();
        for old in [None, Some(old)] {
            let list = Some(leap_list(EDGE_SEC, 37 + change));
            let options = PublishOptions::default();
            let scene = Scene::beginning(&machine, options, list, old);
            let mut utc = scene.reader(Timescale::Utc);
            let indicator = utc.snapshot().unwrap().leap_indicator();
            assert_eq!(indicator, Some(expected), "{context}");
            if expected == LeapIndicator::None {
                continue;
            }
            // The smear is over 12 hours after the leap second.
            let smeared = scene.reader(Timescale::UtcNoonLinear).read().unwrap();
            let ahead_ns = smeared.epoch_ns - utc.read().unwrap().epoch_ns;
            let left_ns = (43_200 - after_sec) * NS_PER_SEC / DAY_SEC * i128::from(change);
            let off_ns = i128::from(ahead_ns) - left_ns;
            assert!(off_ns.abs() < 1_000_000, "{context}: {off_ns}");
        }
    }
}

#[test]
fn a_publisher_that_begins_at_a_deleted_second_reports_it() {
    // 1 January 2027.
    const EDGE_SEC: i128 = 1_798_761_600;
    let machine = Machine::new(27, EDGE_SEC - 1);
    {
        let mut state = machine.state.borrow_mut();
        state.leap = Some(Leap {
            inserted: false,
            edge_sec: EDGE_SEC,
        });
        state.announced = true;
        // The kernel has left the second out, and the vDSO has not followed yet.
        state.advance(100_000);
    }
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(10);
    let snapshot = scene.reader(Timescale::Utc).snapshot().unwrap();
    assert_eq!(snapshot.leap_indicator(), Some(LeapIndicator::PostNegative));
}

#[test]
fn a_suspend_changes_the_marker_and_leaves_no_bound_for_8_updates() {
    for shape in [Shape::Time, Shape::Marker, Shape::MarkerAndGeneration] {
        let machine = Machine::new(6, START_SEC);
        machine.state.borrow_mut().oscillator_ppb = 0;
        machine.state.borrow_mut().synchronize(100);
        let options = PublishOptions {
            shape,
            ..PublishOptions::default()
        };
        let mut scene = Scene::new(&machine, options);
        scene.run(30);
        let marker = scene.marker();
        machine
            .state
            .borrow_mut()
            .suspend(3600 * NS_PER_SEC, 400_000_000);
        scene.settle();
        assert_ne!(scene.marker(), marker, "{shape:?}");
        if shape != Shape::Time {
            continue;
        }
        assert_eq!(scene.check("woken"), None);
        assert_eq!(scene.read().unwrap().status, ClockStatus::FreeRunning);
        scene.run(60);
        assert_eq!(scene.check("woken"), None);
        let correction_ns = machine.state.borrow_mut().synchronize(100);
        machine.state.borrow_mut().discipline.offset_ns = correction_ns;
        scene.run(60);
        assert_eq!(scene.check("measured once"), None);
        scene.assert_bound_after(AFTER_DISRUPTION - 1, 123, "measured again");
    }
}

#[test]
fn a_suspend_before_the_publisher_began_leaves_no_bound_for_8_updates() {
    let machine = Machine::new(19, START_SEC);
    machine.state.borrow_mut().oscillator_ppb = 0;
    machine.state.borrow_mut().synchronize(100);
    machine
        .state
        .borrow_mut()
        .suspend(3600 * NS_PER_SEC, 400_000_000);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    assert_eq!(scene.check("woken"), None);
    assert_eq!(scene.read().unwrap().status, ClockStatus::FreeRunning);
    scene.run(10);
    assert_eq!(scene.check("woken"), None);
    let correction_ns = machine.state.borrow_mut().synchronize(100);
    machine.state.borrow_mut().discipline.offset_ns = correction_ns;
    scene.run(60);
    assert_eq!(scene.check("measured once"), None);
    scene.assert_bound_after(AFTER_DISRUPTION - 1, 123, "measured again");
}

#[test]
fn a_counter_that_jumps_changes_the_marker_and_is_measured_again() {
    // Reset to 0; an hour ahead; 2 ms back and ahead.
    for ticks in [-(1 << 43), 3600 * 2_900_000_000, -5_800_000, 5_800_000] {
        let machine = Machine::new(7, START_SEC);
        machine.state.borrow_mut().move_counter(1 << 44);
        machine.state.borrow_mut().synchronize(100);
        let mut scene = Scene::new(&machine, PublishOptions::default());
        scene.run(30);
        let marker = scene.marker();
        machine.state.borrow_mut().move_counter(ticks);
        machine.advance(1000);
        scene.step(Cause::Interval);
        assert_ne!(scene.marker(), marker, "{ticks}");
        assert!(
            matches!(scene.read(), Err(Error::Unsynchronized { .. })),
            "{ticks}"
        );
        scene.settle();
        machine.state.borrow_mut().synchronize(100);
        for _ in 0..100 {
            scene.run(1);
            scene.check("after the jump");
        }
    }
}

#[test]
fn a_counter_that_is_reset_before_its_first_baseline_is_measured_again() {
    let machine = Machine::new(13, START_SEC);
    machine.state.borrow_mut().move_counter(1 << 44);
    let options = PublishOptions::default();
    let mut publication = Publication::new(
        KernelSource::new(&machine),
        &machine,
        &machine,
        options,
        None,
        None,
    )
    .unwrap();
    let before = publication.step(Cause::Interval).unwrap();
    machine.state.borrow_mut().move_counter(-(1 << 43));
    machine.advance(10_000_000);
    let after = publication.step(Cause::Interval).unwrap();
    assert_ne!(before.disruption_marker, after.disruption_marker);
    assert!(!publication.is_settled());
    machine.advance(10_000_000);
    publication.step(Cause::Interval).unwrap();
    assert!(publication.is_settled());
}

#[test]
fn an_operators_disruption_changes_the_marker_and_the_time_goes_on() {
    let machine = Machine::new(8, START_SEC);
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, with_generation());
    scene.run(30);
    let (marker, generation) = (
        scene.marker(),
        scene.publication.fields().vm_generation_counter,
    );
    scene.step(Cause::Disrupt);
    assert_eq!(scene.marker(), marker + 1);
    assert_eq!(scene.check("disrupted"), None);
    let fields = scene.step(Cause::BumpGeneration);
    assert_eq!(fields.vm_generation_counter, generation + 1);
    let flags = |maintenance: Maintenance, scene: &mut Scene<'_>| {
        (scene.step(Cause::Maintenance(maintenance)).flags >> 1) & 3
    };
    assert_eq!(flags(Maintenance::Soon, &mut scene), 1);
    assert_eq!(flags(Maintenance::Imminent, &mut scene), 3);
    assert_eq!(flags(Maintenance::None, &mut scene), 0);
    scene.step(Cause::Close);
    assert!(matches!(
        scene.read(),
        Err(Error::Unsynchronized {
            status: ClockStatus::Unreliable
        })
    ));
}

#[test]
fn a_restore_that_was_told_gives_a_new_generation_and_takes_time_and_bound_back() {
    const VM_GEN_COUNTER_PRESENT: u64 = 1 << 8;
    let machine = Machine::new(8, START_SEC);
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(30);
    assert!(scene.check("before").is_some());
    let before = *scene.publication.fields();
    assert_eq!(before.flags & VM_GEN_COUNTER_PRESENT, 0);
    for restores in 1..=2 {
        // The counter that the clone gets may be any.
        machine.state.borrow_mut().carry_on(2 * NS_PER_SEC, 0);
        let told = scene.step(Cause::Restored);
        assert_ne!(told.flags & VM_GEN_COUNTER_PRESENT, 0);
        assert_eq!(told.vm_generation_counter, restores);
        assert!(told.disruption_marker > before.disruption_marker);
        assert_eq!(told.clock_status, abi::VMCLOCK_STATUS_INITIALIZING);
        assert!(scene.publication.extension().has_unreported_jump);
        scene.settle();
        assert_eq!(scene.check("after"), None);
        let later = scene.publication.fields();
        assert_eq!(later.vm_generation_counter, restores);
    }
}

#[test]
fn a_page_without_time_looks_like_the_page_of_a_hypervisor() {
    let machine = Machine::new(9, START_SEC);
    let shaped = |shape| PublishOptions {
        shape,
        ..PublishOptions::default()
    };
    let mut scene = Scene::new(&machine, shaped(Shape::Marker));
    let fields = *scene.publication.fields();
    assert_eq!(
        (fields.counter_id, fields.clock_status, fields.flags),
        (0xff, 0, 0)
    );
    assert_eq!(fields.time_sec, 0);
    assert!(matches!(scene.read(), Err(Error::NoTime { .. })));
    assert!(matches!(
        scene.publication.step(Cause::BumpGeneration),
        Err(Error::InvalidArgument { .. })
    ));
    scene.run(10);
    assert_eq!(*scene.publication.fields(), fields);
    let scene = Scene::new(&machine, shaped(Shape::MarkerAndGeneration));
    let fields = scene.publication.fields();
    assert_eq!(
        (fields.counter_id, fields.clock_status, fields.flags),
        (0xff, 0, 0x300)
    );
}

/// The origin of TAI - UTC.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Kernel,
    List,
    Operator,
    Nobody,
}

#[test]
fn an_offset_moves_the_time_and_widens_the_bound_by_as_much() {
    // The two samples are taken one after the other.
    const NEAR_NS: u64 = 1_000_000;
    for offset_ns in [20_000_000, -20_000_000, 3_600_000_000_000] {
        let machine = Machine::new(7, START_SEC);
        machine.state.borrow_mut().discipline.tai_minus_utc_sec = 37;
        let scene_of = |offset_ns| {
            let options = PublishOptions {
                offset_ns,
                max_error_ns: Some(1_000_000),
                ..PublishOptions::default()
            };
            Scene::new(&machine, options)
        };
        let (mut plain, mut moved) = (scene_of(0), scene_of(offset_ns));
        for _ in 0..100 {
            machine.advance(INTERVAL_NS);
            plain.step(Cause::Interval);
            moved.step(Cause::Interval);
            // The scene compares the interval with the true time.
            let bounds = [&mut plain, &mut moved].map(|scene| scene.check("offset").unwrap());
            let wider = bounds[1].abs_diff(bounds[0]);
            assert!(
                wider.abs_diff(offset_ns.unsigned_abs()) < NEAR_NS,
                "{bounds:?}"
            );
            let [one, other] = [&plain, &moved].map(|scene| {
                let fields = scene.publication.fields();
                i128::from(fields.time_sec) * NS_PER_SEC
                    + ((u128::from(fields.time_frac_sec) * NS_PER_SEC.unsigned_abs()) >> 64)
                        .cast_signed()
            });
            let off_ns = other - one - i128::from(offset_ns);
            assert!(
                off_ns.unsigned_abs() < NEAR_NS.into(),
                "{offset_ns}: {off_ns}"
            );
        }
    }
}

#[test]
fn a_page_with_an_offset_gives_no_time_while_a_leap_second_is_reported() {
    // 1 January 2027.
    const EDGE_SEC: i128 = 1_798_761_600;
    let machine = Machine::new(8, EDGE_SEC - 60);
    machine.state.borrow_mut().discipline.tai_minus_utc_sec = 37;
    let options = PublishOptions {
        offset_ns: 1,
        max_error_ns: Some(1_000_000),
        ..PublishOptions::default()
    };
    let mut scene = Scene::new(&machine, options);
    machine.advance(INTERVAL_NS);
    scene.step(Cause::Interval);
    assert!(scene.check("before").is_some());
    {
        let mut state = machine.state.borrow_mut();
        state.leap = Some(Leap {
            inserted: true,
            edge_sec: EDGE_SEC,
        });
        state.announced = true;
    }
    machine.advance(INTERVAL_NS);
    let fields = scene.step(Cause::Interval);
    assert_eq!(fields.clock_status, abi::VMCLOCK_STATUS_INITIALIZING);
}

/// The table "How fast it grows" in docs/bounds.md.
#[test]
fn a_bound_grows_as_fast_as_the_guide_says() {
    let machine = Machine::new(11, START_SEC);
    let options = PublishOptions {
        max_error_ns: Some(1_000_000),
        ..PublishOptions::default()
    };
    let mut scene = Scene::new(&machine, options);
    let mut ran = 0;
    for (seconds, least_ppm, most_ppm) in
        [(1, 600.0, 1_200.0), (60, 47.0, 52.0), (1020, 16.5, 18.0)]
    {
        scene.run(seconds - ran);
        ran = seconds;
        let fields = scene.publication.fields();
        let error = fields.counter_period_maxerror_rate_frac_sec as f64;
        let ppm = error / fields.counter_period_frac_sec as f64 * 1e6;
        assert!(
            (least_ppm..most_ppm).contains(&ppm),
            "after {seconds} s: {ppm} ppm"
        );
    }
}

fn leap_list(edge_sec: i128, after_sec: i16) -> LeapSeconds {
    let ntp = |sec: i128| sec + 2_208_988_800;
    let text = format!(
        "# a list\n#@ {}\n3692217600 37 # 2017\n{} {after_sec} # now\n",
        ntp(edge_sec + 86_400 * 100),
        ntp(edge_sec)
    );
    LeapSeconds::parse(&text).unwrap()
}

#[test]
fn a_page_reports_a_leap_second_before_during_and_after_it() {
    const SOURCES: [Source; 4] = [
        Source::Kernel,
        Source::List,
        Source::Operator,
        Source::Nobody,
    ];
    // 1 January 2027.
    const EDGE_SEC: i128 = 1_798_761_600;
    for (inserted, source) in SOURCES.iter().flat_map(|s| [(true, *s), (false, *s)]) {
        let context = format!("inserted {inserted}, {source:?}");
        let change = if inserted { 1 } else { -1 };
        let machine = Machine::new(10, EDGE_SEC - 60);
        let options = PublishOptions {
            tai_minus_utc_sec: (source == Source::Operator).then_some(37),
            ..PublishOptions::default()
        };
        {
            let mut state = machine.state.borrow_mut();
            state.oscillator_ppb = 0;
            state.synchronize(100);
            state.leap = Some(Leap {
                inserted,
                edge_sec: EDGE_SEC,
            });
            state.announced = true;
            state.discipline.tai_minus_utc_sec = if source == Source::Kernel { 37 } else { 0 };
        }
        let list = (source == Source::List).then(|| leap_list(EDGE_SEC, 37 + change));
        let mut scene = Scene::new(&machine, options);
        scene.publication.set_leap_seconds(list);
        let marker = scene.marker();
        let mut seen = Vec::new();
        // To a minute after the edge, in steps that fall on every part of a second, and on the time between the
        // leap second and the vDSO's.
        for _ in 0..1_600 {
            let to_leap_ns = machine.state.borrow().truth_tai_ns()
                - (EDGE_SEC + 37 - i128::from(!inserted)) * NS_PER_SEC;
            let is_near = (-100_000_000..20_000_000).contains(&to_leap_ns);
            machine.advance(if is_near { 1_001_237 } else { 97_001_237 });
            scene.step(Cause::Interval);
            for wait_ns in [0, if is_near { 0 } else { 50_000_000 }] {
                machine.advance(wait_ns);
                let mut utc = scene.reader(Timescale::Utc);
                let reading = utc.read().unwrap();
                let truth_ns = machine.truth_tai_ns_at_read();
                // The label of a clock that repeats the last second, or leaves it out.
                let leap_ns = (EDGE_SEC + 37 - i128::from(!inserted)) * NS_PER_SEC;
                let leapt = truth_ns >= leap_ns;
                let utc_ns =
                    truth_ns - (37 + i128::from(if leapt { change } else { 0 })) * NS_PER_SEC;
                let joint_ns = (truth_ns - leap_ns).abs();
                if joint_ns > 10_000_000 && (joint_ns - NS_PER_SEC).abs() > 10_000_000 {
                    let off_ns = (i128::from(reading.epoch_ns) - utc_ns).abs();
                    assert!(
                        off_ns < 1_000_000,
                        "{context}: {off_ns} at {}",
                        truth_ns - leap_ns
                    );
                    let in_leap = inserted && leapt && joint_ns < NS_PER_SEC;
                    assert_eq!(reading.leap_second, in_leap, "{context}");
                }
                let (earliest, latest) = reading.earliest_ns.zip(reading.latest_ns).unwrap();
                assert!(
                    (i128::from(earliest)..=i128::from(latest)).contains(&utc_ns),
                    "{context}: {utc_ns} is not within {earliest} to {latest}"
                );
                let tai = scene.reader(Timescale::Tai).read();
                if source == Source::Nobody {
                    assert!(matches!(tai, Err(Error::NoTaiOffset { .. })), "{context}");
                } else {
                    let tai_ns = i128::from(tai.unwrap().epoch_ns);
                    let off_ns = (tai_ns - machine.truth_tai_ns_at_read()).abs();
                    assert!(off_ns < 1_000_000, "{context}: {off_ns}");
                }
                let leap = scene
                    .reader(Timescale::Utc)
                    .snapshot()
                    .unwrap()
                    .leap_indicator();
                if seen.last() != leap.as_ref() {
                    seen.extend(leap);
                }
            }
        }
        let expected = if inserted {
            vec![
                LeapIndicator::PrePositive,
                LeapIndicator::Positive,
                LeapIndicator::PostPositive,
            ]
        } else {
            vec![LeapIndicator::PreNegative, LeapIndicator::PostNegative]
        };
        assert_eq!(seen, expected, "{context}");
        assert_eq!(scene.marker(), marker, "{context}");
        // The daemon withdraws its flag, and the page reports the leap second until the 15th.
        {
            let mut state = machine.state.borrow_mut();
            state.announced = false;
            state.leap = None;
            state.tai_minus_utc_sec += i128::from(change);
        }
        scene.run(2);
        let reported = *expected.last().unwrap();
        let leap = |scene: &Scene<'_>| {
            scene
                .reader(Timescale::Utc)
                .snapshot()
                .unwrap()
                .leap_indicator()
        };
        assert_eq!(leap(&scene), Some(reported), "{context}");
        machine.advance(12 * 86_400 * NS_PER_SEC);
        scene.step(Cause::Interval);
        assert_eq!(leap(&scene), Some(reported), "{context}");
        // Another publisher that takes over reports it too.
        let options = PublishOptions::default();
        let heir = Scene::taking_over(&machine, options, Some(scene.left()));
        assert_eq!(leap(&heir), Some(reported), "{context}");
        machine.advance(2 * 86_400 * NS_PER_SEC);
        scene.step(Cause::Interval);
        assert_eq!(leap(&scene), Some(LeapIndicator::None), "{context}");
    }
}

#[test]
fn a_page_that_is_taken_over_keeps_its_marker_only_if_the_present_agrees() {
    for synchronized in [true, false] {
        let machine = Machine::new(11, START_SEC);
        if synchronized {
            machine.state.borrow_mut().synchronize(100);
        }
        let mut scene = Scene::new(&machine, with_generation());
        scene.run(30);
        scene.step(Cause::BumpGeneration);
        scene.step(Cause::Close);
        let left = scene.left();
        let old = left.fields;
        let taken = || {
            let heir = Scene::taking_over(&machine, with_generation(), Some(left));
            heir.check("taken over");
            let fields = heir.publication.fields();
            assert_eq!(fields.vm_generation_counter, old.vm_generation_counter);
            fields.disruption_marker
        };
        machine.advance(600 * NS_PER_SEC);
        assert_eq!(taken(), old.disruption_marker, "{synchronized}");
        machine.state.borrow_mut().move_counter(2_900_000_000 * 60);
        assert_eq!(taken(), old.disruption_marker + 1, "{synchronized}");
        machine
            .state
            .borrow_mut()
            .move_counter(-2_900_000_000 * 3600);
        assert_eq!(taken(), old.disruption_marker + 1, "{synchronized}");
    }
}

#[test]
fn a_figure_without_its_flag_is_ignored_at_a_takeover() {
    const PERIOD_MAXERROR_VALID: u64 = 1 << 4;
    let machine = Machine::new(11, START_SEC);
    machine.state.borrow_mut().synchronize(100);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(30);
    let mut left = scene.left();
    let old = &mut left.fields;
    old.flags &= !PERIOD_MAXERROR_VALID;
    old.counter_period_maxerror_rate_frac_sec = u64::MAX;
    let old = *old;
    machine.advance(10 * NS_PER_SEC);
    let heir = || Scene::taking_over(&machine, PublishOptions::default(), Some(left));
    assert_eq!(heir().marker(), old.disruption_marker);
    assert_eq!(heir().check("taken over"), None);
    machine.state.borrow_mut().move_counter(2_900_000_000);
    assert_eq!(heir().marker(), old.disruption_marker + 1);
}

fn with_generation() -> PublishOptions {
    PublishOptions {
        generation: Generation::Always,
        ..PublishOptions::default()
    }
}

#[test]
fn a_page_with_time_has_a_generation_counter_only_if_the_options_ask_for_it() {
    const VM_GEN_COUNTER_PRESENT: u64 = 1 << 8;
    let machine = Machine::new(11, START_SEC);
    let old = Scene::new(&machine, with_generation()).left();
    assert_ne!(old.fields.flags & VM_GEN_COUNTER_PRESENT, 0);
    for generation in [Generation::Auto, Generation::Never] {
        for old in [None, Some(old)] {
            let options = PublishOptions {
                generation,
                ..PublishOptions::default()
            };
            let mut scene = Scene::taking_over(&machine, options, old);
            let fields = *scene.publication.fields();
            assert_eq!(fields.flags & VM_GEN_COUNTER_PRESENT, 0);
            assert_eq!(fields.vm_generation_counter, 0);
            let refused = scene.publication.step(Cause::BumpGeneration);
            assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
            scene.step(Cause::Interval);
            assert_eq!(scene.publication.fields().vm_generation_counter, 0);
        }
    }
}

#[test]
fn options_outside_their_range_are_refused() {
    let machine = Machine::new(12, START_SEC);
    let with = |change: fn(&mut PublishOptions)| {
        let mut options = PublishOptions::default();
        change(&mut options);
        Publication::new(
            KernelSource::new(&machine),
            &machine,
            &machine,
            options,
            None,
            None,
        )
        .err()
    };
    assert!(with(|_| {}).is_none());
    let refused: [fn(&mut PublishOptions); 8] = [
        |options| {
            options.shape = Shape::Marker;
            options.generation = Generation::Always;
        },
        |options| {
            options.shape = Shape::MarkerAndGeneration;
            options.generation = Generation::Never;
        },
        |options| options.interval = std::time::Duration::from_millis(99),
        |options| options.interval = std::time::Duration::from_millis(1001),
        |options| options.tai_minus_utc_sec = Some(0),
        |options| options.tai_minus_utc_sec = Some(-37),
        |options| options.mode = 0o666,
        |options| options.mode = 0o4644,
    ];
    for change in refused {
        assert!(matches!(with(change), Some(Error::InvalidArgument { .. })));
    }
}

/// A counter that moves in steps of a microsecond, like an emulated one.
#[derive(Clone, Copy)]
struct Coarse<'machine>(&'machine Machine);

impl Counter for Coarse<'_> {
    fn id(&self) -> u8 {
        Counter::id(&self.0)
    }

    fn read(&self) -> u64 {
        const STEP_TICKS: u64 = 2900;
        Counter::read(&self.0) / STEP_TICKS * STEP_TICKS
    }
}

#[test]
fn a_counter_with_large_steps_does_not_look_like_a_step_of_the_clock() {
    let machine = Machine::new(3, START_SEC);
    let options = PublishOptions::default();
    let mut publication = Publication::new(
        KernelSource::new(&machine),
        Coarse(&machine),
        &machine,
        options,
        None,
        None,
    )
    .unwrap();
    publication.step(Cause::Interval).unwrap();
    while !publication.is_settled() {
        machine.advance(publication.next_within().as_nanos().cast_signed());
        publication.step(Cause::Interval).unwrap();
    }
    for _ in 0..200 {
        machine.advance(INTERVAL_NS);
        let fields = publication.step(Cause::Interval).unwrap();
        assert_eq!(
            ClockStatus::from(fields.clock_status),
            ClockStatus::FreeRunning
        );
    }
}
