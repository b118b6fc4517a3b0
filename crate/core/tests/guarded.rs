//! Publishes on a simulated machine whose vmclock device reports its disruptions.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets the unexpected fails"
)]

use std::cell::Cell;

use vmclock::abi::{
    VMCLOCK_FLAG_TIME_MAXERROR_VALID, VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
    VMCLOCK_STATUS_INITIALIZING,
};
use vmclock::extension::{DeviceRecord, DeviceState, SourceKind, StatedError};
use vmclock::no_bound::{Distrust, NoBound};
use vmclock::publish::{
    Cause, DisruptionSource, Generation, OldPage, Publication, PublishOptions, Shape,
};
use vmclock::snapshot::RawFields;
use vmclock::source::kernel::KernelSource;
use vmclock_testkit::scene::{AFTER_DISRUPTION, INTERVAL_NS, NS_PER_SEC, START_SEC, Scene};
use vmclock_testkit::virtual_machine::Machine;

/// A machine with a device, and a daemon that just reported.
fn guarded_machine(seed: u64) -> Machine {
    let machine = Machine::new(seed, START_SEC);
    machine.plug_in();
    machine.state.borrow_mut().synchronize(103);
    machine
}

/// A publisher whose page states a bound.
fn trusted(machine: &Machine, options: PublishOptions) -> Scene<'_> {
    let mut scene = Scene::new(machine, options);
    for _ in 0..AFTER_DISRUPTION {
        report(&mut scene);
    }
    assert!(scene.check("trusted").is_some());
    scene
}

/// The daemon corrects the clock and reports its error.
fn report(scene: &mut Scene<'_>) {
    scene.run(2);
    let mut state = scene.machine.state.borrow_mut();
    let error_ns = state.error_ns();
    let is_far = error_ns.abs() > 500_000_000;
    if is_far {
        state.step(-error_ns);
    }
    state.synchronize(103 + error_ns.abs() / 1000 * i64::from(!is_far));
    drop(state);
    scene.step(if is_far {
        Cause::ClockStep
    } else {
        Cause::Interval
    });
    scene.run(1);
}

fn record(scene: &Scene<'_>) -> DeviceState {
    match scene.publication.extension().device {
        DeviceRecord::Seen(state) => state,
        other => panic!("{other:?}"),
    }
}

fn stated() -> PublishOptions {
    PublishOptions {
        max_error_ns: Some(1_000_000),
        ..PublishOptions::default()
    }
}

fn distrusted(cause: Distrust, updates_left: u8) -> Option<NoBound> {
    Some(NoBound::Distrusted {
        cause,
        updates_left,
    })
}

/// A device that is migrated around one of its looks.
struct Watched<'machine> {
    machine: &'machine Machine,
    looks: Cell<u32>,
    /// The look, and whether the machine is migrated before it rather than after it.
    at: Cell<Option<(u32, bool)>>,
    /// It is migrated around each look.
    always: Cell<bool>,
}

impl<'machine> Watched<'machine> {
    fn new(machine: &'machine Machine) -> Self {
        Self {
            machine,
            looks: Cell::new(0),
            at: Cell::new(None),
            always: Cell::new(false),
        }
    }

    /// Plans a migration around the look `ahead` looks from now.
    fn plan(&self, ahead: u32, is_before: bool) {
        self.at.set(Some((self.looks.get() + ahead, is_before)));
    }
}

impl DisruptionSource for &Watched<'_> {
    fn look(&mut self) -> DeviceRecord {
        self.looks.set(self.looks.get() + 1);
        // The counter goes back, so that a sample shows the disruption too.
        let migrate = || self.machine.migrate(2 * NS_PER_SEC, -(1 << 33));
        let is_now = |is_before| self.at.get() == Some((self.looks.get(), is_before));
        if is_now(true) || self.always.get() {
            migrate();
        }
        let seen = self.machine.device.get();
        if is_now(false) {
            migrate();
        }
        seen
    }

    fn boot_id(&self) -> u128 {
        1
    }
}

type WatchedPublication<'machine> =
    Publication<KernelSource<&'machine Machine>, &'machine Machine, &'machine Watched<'machine>>;

/// A publication whose operator states the error, also after a migration, so that it always has a bound.
fn watched<'machine>(watched: &'machine Watched<'machine>) -> WatchedPublication<'machine> {
    let options = PublishOptions {
        max_error_after_migration: true,
        ..stated()
    };
    let machine = watched.machine;
    let source = KernelSource::new(machine);
    let mut publication = Publication::new(source, machine, watched, options, None, None).unwrap();
    for _ in 0..8 {
        publication.step(Cause::Interval).unwrap();
        machine.advance(INTERVAL_NS);
    }
    assert!(has_bound(publication.fields()));
    publication
}

fn has_bound(fields: &RawFields) -> bool {
    fields.flags & VMCLOCK_FLAG_TIME_MAXERROR_VALID != 0
}

#[test]
fn a_sample_counts_only_if_the_device_did_not_change_around_it() {
    // Just before the first look, between it and the sample, and between the sample and the second look.
    for (ahead, is_before) in [(1, true), (1, false), (2, true)] {
        let machine = guarded_machine(1);
        let device = Watched::new(&machine);
        let mut publication = watched(&device);
        let before = *publication.fields();
        device.plan(ahead, is_before);
        let after = publication.step(Cause::Interval).unwrap();
        let context = format!("look {ahead}, before it: {is_before}");
        assert!(!has_bound(&after), "{context}");
        assert_eq!(after.clock_status, VMCLOCK_STATUS_INITIALIZING, "{context}");
        assert_eq!(
            after.disruption_marker,
            before.disruption_marker + 1,
            "{context}"
        );
        assert_eq!(publication.extension().device, machine.device.get());
    }
}

#[test]
fn the_record_is_the_look_before_the_sample() {
    let machine = guarded_machine(2);
    let device = Watched::new(&machine);
    let mut publication = watched(&device);
    let (before, seen) = (*publication.fields(), machine.device.get());
    // After the second look.
    device.plan(2, false);
    let after = publication.step(Cause::Interval).unwrap();
    assert_ne!(machine.device.get(), seen);
    assert!(has_bound(&after) && after.counter_value != before.counter_value);
    assert_eq!(after.disruption_marker, before.disruption_marker);
    assert_eq!(publication.extension().device, seen);
    let followed = publication.step(Cause::Interval).unwrap();
    assert_eq!(followed.disruption_marker, before.disruption_marker + 1);
    assert_eq!(publication.extension().device, machine.device.get());
}

#[test]
fn a_device_that_changes_at_each_look_leaves_the_page_without_time() {
    let machine = guarded_machine(3);
    let device = Watched::new(&machine);
    let mut publication = watched(&device);
    let (before, seen) = (*publication.fields(), machine.device.get());
    device.always.set(true);
    let after = publication.step(Cause::Interval).unwrap();
    assert!(!has_bound(&after));
    assert_eq!(after.clock_status, VMCLOCK_STATUS_INITIALIZING);
    assert_eq!(publication.extension().device, machine.device.get());
    let marker_of = |record| match record {
        DeviceRecord::Seen(state) => state.disruption_marker,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        after.disruption_marker - before.disruption_marker,
        marker_of(machine.device.get()) - marker_of(seen)
    );
}

#[test]
fn the_marker_moves_by_what_the_device_moves_and_no_more() {
    let machine = guarded_machine(4);
    let mut scene = trusted(&machine, PublishOptions::default());
    // A counter that jumps with the device, forwards and backwards, or stays.
    for (by, ticks) in [(1, 1 << 40), (5, -(1 << 41)), (u64::MAX, 0), (1 << 63, 7)] {
        let before = scene.marker();
        machine.state.borrow_mut().carry_on(NS_PER_SEC, ticks);
        machine.change_device(|state| {
            state.disruption_marker = state.disruption_marker.wrapping_add(by);
        });
        scene.step(Cause::Interval);
        scene.settle();
        assert_eq!(scene.marker(), before.wrapping_add(by), "{by}, {ticks}");
        scene.run(3);
        assert_eq!(scene.marker(), before.wrapping_add(by), "{by}, {ticks}");
    }
    // Without the device the maker counts by itself.
    let before = scene.marker();
    machine.state.borrow_mut().move_counter(-(1 << 40));
    scene.step(Cause::Interval);
    scene.settle();
    scene.step(Cause::Disrupt);
    assert_eq!(scene.marker(), before.wrapping_add(2));
}

#[test]
fn no_bound_is_false_after_a_migration_until_the_daemon_has_updated_8_times() {
    for ticks in [0, 1 << 40] {
        let machine = guarded_machine(5);
        let mut scene = trusted(&machine, PublishOptions::default());
        machine.migrate(2 * NS_PER_SEC, ticks);
        scene.step(Cause::Interval);
        scene.settle();
        for updates in 0..AFTER_DISRUPTION {
            let left = AFTER_DISRUPTION - updates;
            let reason = distrusted(Distrust::Disruption, left);
            assert_eq!(scene.publication.no_bound(), reason);
            assert_eq!(scene.check("distrusted"), None);
            // The daemon does not know of the migration before its last update.
            if left > 1 {
                machine.state.borrow_mut().synchronize(103);
                scene.run(3);
            }
        }
        // The daemon steps the clock, which starts the count again.
        for _ in 0..AFTER_DISRUPTION {
            report(&mut scene);
        }
        assert!(scene.check("measured again").is_some());
    }
}

#[test]
fn a_successor_moves_the_marker_by_what_the_device_moved_meanwhile() {
    for migrations in [0, 1, 3] {
        let machine = guarded_machine(6);
        let mut scene = trusted(&machine, PublishOptions::default());
        // A part of its own.
        scene.step(Cause::Disrupt);
        scene.settle();
        for _ in 0..AFTER_DISRUPTION {
            report(&mut scene);
        }
        let (left, before) = (scene.left(), scene.marker());
        // The publisher is dead. The page contradicts the present, which the device accounts for.
        for _ in 0..migrations {
            machine.migrate(2 * NS_PER_SEC, -(1 << 40));
        }
        let mut heir = Scene::taking_over(&machine, PublishOptions::default(), Some(left));
        assert_eq!(heir.marker(), before + migrations);
        assert_eq!(record(&heir).disruption_marker, 7 + migrations);
        let bound = heir.check("taken over");
        if migrations == 0 {
            assert!(bound.is_some());
        } else {
            let reason = distrusted(Distrust::Disruption, AFTER_DISRUPTION);
            assert_eq!(heir.publication.no_bound(), reason);
            assert_eq!(bound, None);
        }
        machine.migrate(0, 0);
        heir.step(Cause::Interval);
        assert_eq!(heir.marker(), before + migrations + 1);
    }
}

#[test]
fn a_successor_moves_the_generation_by_what_the_device_moved_meanwhile() {
    let machine = guarded_machine(7);
    machine.change_device(|state| state.vm_generation = Some(u64::MAX));
    let mut scene = Scene::new(&machine, PublishOptions::default());
    assert_eq!(scene.publication.fields().vm_generation_counter, u64::MAX);
    scene.step(Cause::BumpGeneration);
    assert_eq!(scene.publication.fields().vm_generation_counter, 0);
    let left = scene.left();
    // A restored machine's clock is of the past, although its marker is as before.
    machine.change_device(|state| state.vm_generation = Some(3));
    let heir = Scene::taking_over(&machine, PublishOptions::default(), Some(left));
    assert_eq!(heir.publication.fields().vm_generation_counter, 4);
    assert_eq!(heir.marker(), left.fields.disruption_marker);
    let reason = distrusted(Distrust::Disruption, AFTER_DISRUPTION);
    assert_eq!(heir.publication.no_bound(), reason);
}

#[test]
fn a_page_has_a_generation_counter_while_the_device_has() {
    let machine = guarded_machine(8);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    let flagged = |scene: &mut Scene<'_>| {
        let fields = scene.step(Cause::Interval);
        let is_present = fields.flags & VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT != 0;
        is_present.then_some(fields.vm_generation_counter)
    };
    assert_eq!(flagged(&mut scene), None);
    let marker = scene.marker();
    machine.change_device(|state| state.vm_generation = Some(3));
    assert_eq!(flagged(&mut scene), Some(3));
    machine.change_device(|state| state.vm_generation = None);
    assert_eq!(flagged(&mut scene), None);
    assert_eq!(scene.marker(), marker);
    let asked = PublishOptions {
        generation: Generation::Always,
        ..PublishOptions::default()
    };
    assert_eq!(flagged(&mut Scene::new(&machine, asked)), Some(0));
}

#[test]
fn a_page_without_a_generation_shows_a_change_of_the_devices_in_its_marker() {
    let shapes = [
        PublishOptions {
            generation: Generation::Never,
            ..PublishOptions::default()
        },
        PublishOptions {
            shape: Shape::Marker,
            ..PublishOptions::default()
        },
    ];
    for options in shapes {
        let machine = guarded_machine(8);
        machine.change_device(|state| state.vm_generation = Some(9));
        let mut scene = Scene::new(&machine, options.clone());
        let marker = scene.marker();
        machine.change_device(|state| state.vm_generation = Some(10));
        scene.step(Cause::Interval);
        assert_eq!(scene.marker(), marker.wrapping_add(1));
        let left = scene.left();
        let mut heir = Scene::taking_over(&machine, options.clone(), Some(left));
        assert_eq!(heir.marker(), marker.wrapping_add(1));
        machine.change_device(|state| state.vm_generation = Some(12));
        heir.step(Cause::Interval);
        assert_eq!(heir.marker(), marker.wrapping_add(3));
        let left = heir.left();
        machine.change_device(|state| state.vm_generation = Some(13));
        let heir = Scene::taking_over(&machine, options, Some(left));
        assert_eq!(heir.marker(), marker.wrapping_add(4));
    }
}

#[test]
fn a_publisher_that_starts_on_a_machine_with_a_device_waits_for_8_updates() {
    let machine = guarded_machine(9);
    // A migration that its daemon does not know of.
    machine.migrate(2 * NS_PER_SEC, 0);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    let reason = distrusted(Distrust::Start, AFTER_DISRUPTION);
    assert_eq!(scene.publication.no_bound(), reason);
    assert_eq!(scene.check("started"), None);
    for _ in 1..AFTER_DISRUPTION {
        report(&mut scene);
        assert_eq!(scene.check("started"), None);
    }
    report(&mut scene);
    assert!(scene.check("8 updates later").is_some());
    // Without a device nothing would have noticed a migration, later or earlier.
    let machine = Machine::new(9, START_SEC);
    machine.state.borrow_mut().synchronize(103);
    let scene = Scene::new(&machine, PublishOptions::default());
    assert!(scene.check("no device").is_some());
}

#[test]
fn a_successor_trusts_the_daemon_only_by_a_bound_of_this_boot_and_device() {
    type Change = fn(&mut OldPage);
    let changes: [(&str, Change, Option<Distrust>); 7] = [
        ("as it was", |_| (), None),
        (
            "without a bound",
            |old| old.fields.flags &= !VMCLOCK_FLAG_TIME_MAXERROR_VALID,
            Some(Distrust::TakeOver),
        ),
        (
            "with a bound by the operator",
            |old| old.extension.as_mut().unwrap().stated_error = StatedError::Holds,
            Some(Distrust::TakeOver),
        ),
        (
            "of another boot",
            |old| old.extension.as_mut().unwrap().boot_id = 2,
            Some(Distrust::Start),
        ),
        (
            "without an extension",
            |old| old.extension = None,
            Some(Distrust::Start),
        ),
        (
            "of a maker that saw no device",
            |old| old.extension.as_mut().unwrap().device = DeviceRecord::None,
            Some(Distrust::Start),
        ),
        (
            "torn",
            |old| {
                old.extension = None;
                old.is_torn = true;
            },
            Some(Distrust::Disruption),
        ),
    ];
    let machine = guarded_machine(10);
    let left = trusted(&machine, PublishOptions::default()).left();
    for (context, change, cause) in changes {
        let mut old = left;
        change(&mut old);
        let heir = Scene::taking_over(&machine, PublishOptions::default(), Some(old));
        let expected = cause.and_then(|cause| distrusted(cause, AFTER_DISRUPTION));
        assert_eq!(heir.publication.no_bound(), expected, "{context}");
        let keeps = matches!(cause, None | Some(Distrust::TakeOver));
        let marker = left.fields.disruption_marker;
        assert_eq!(heir.marker() == marker, keeps, "{context}");
    }
    // Without time nobody sampled the clock.
    let marker_only = PublishOptions {
        shape: Shape::Marker,
        ..PublishOptions::default()
    };
    let left = Scene::new(&machine, marker_only).left();
    let heir = Scene::taking_over(&machine, PublishOptions::default(), Some(left));
    assert_eq!(heir.marker(), left.fields.disruption_marker);
    let reason = distrusted(Distrust::Start, AFTER_DISRUPTION);
    assert_eq!(heir.publication.no_bound(), reason);
}

#[test]
fn a_page_of_another_boot_is_not_continued() {
    let machine = guarded_machine(11);
    machine.change_device(|state| state.vm_generation = Some(3));
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.step(Cause::BumpGeneration);
    let left = scene.left();
    machine.boot_id.set(2);
    machine.change_device(|state| state.disruption_marker = 1);
    let heir = Scene::taking_over(&machine, PublishOptions::default(), Some(left));
    assert_eq!(heir.marker(), left.fields.disruption_marker + 1);
    assert_eq!(heir.publication.fields().vm_generation_counter, 3);
    assert_eq!(heir.left().extension.unwrap().boot_id, 2);
}

#[test]
fn a_present_that_contradicts_the_page_that_was_left_is_distrusted() {
    // No device reports what happened.
    let machine = Machine::new(12, START_SEC);
    machine.state.borrow_mut().synchronize(103);
    let mut scene = Scene::new(&machine, PublishOptions::default());
    scene.run(10);
    assert!(scene.check("trusted").is_some());
    let left = scene.left();
    machine.state.borrow_mut().move_counter(1 << 40);
    let mut heir = Scene::taking_over(&machine, PublishOptions::default(), Some(left));
    assert_eq!(heir.marker(), left.fields.disruption_marker + 1);
    let reason = distrusted(Distrust::Disruption, AFTER_DISRUPTION);
    assert_eq!(heir.publication.no_bound(), reason);
    assert_eq!(heir.check("taken over"), None);
    heir.run(1);
    assert_eq!(heir.check("later"), None);
}

/// Disrupts a machine or its publisher in one of many ways.
type Disrupt = fn(&mut Scene<'_>);

const DISRUPTIONS: [(&str, Disrupt); 4] = [
    ("migration", |scene| {
        scene.machine.migrate(2 * NS_PER_SEC, 0);
        scene.step(Cause::Interval);
    }),
    ("counter jump", |scene| {
        scene.machine.state.borrow_mut().move_counter(-(1 << 40));
        scene.step(Cause::Interval);
    }),
    ("suspend", |scene| {
        scene.machine.state.borrow_mut().suspend(NS_PER_SEC, 0);
        scene.step(Cause::Interval);
    }),
    ("declared", |scene| {
        scene.step(Cause::Disrupt);
    }),
];

#[test]
fn a_stated_error_counts_from_the_start_until_a_disruption() {
    for (context, disrupt) in DISRUPTIONS {
        let machine = guarded_machine(13);
        let mut scene = Scene::new(&machine, stated());
        assert!(scene.check(context).is_some(), "{context}");
        assert_eq!(
            scene.publication.extension().stated_error,
            StatedError::Holds
        );
        disrupt(&mut scene);
        scene.settle();
        for updates in 0..AFTER_DISRUPTION {
            assert_eq!(scene.check(context), None, "{context}, {updates}");
            let reason = scene.publication.no_bound();
            assert_eq!(reason, Some(NoBound::StatedErrorVoided), "{context}");
            report(&mut scene);
        }
        // The kernel's own figures.
        let bound_ns = scene.check(context).unwrap();
        assert!(bound_ns != 1_000_000, "{context}: {bound_ns}");
        let extension = scene.left().extension.unwrap();
        assert_eq!(extension.stated_error, StatedError::Void, "{context}");
        assert_eq!(extension.no_bound, None, "{context}");
    }
}

#[test]
fn a_stated_error_holds_on_if_the_operator_says_so() {
    for (context, disrupt) in DISRUPTIONS {
        let machine = guarded_machine(14);
        let options = PublishOptions {
            max_error_after_migration: true,
            ..stated()
        };
        let mut scene = Scene::new(&machine, options.clone());
        disrupt(&mut scene);
        let error_ns = machine.state.borrow().error_ns();
        machine.state.borrow_mut().step(-error_ns);
        scene.step(Cause::ClockStep);
        scene.settle();
        assert!(scene.check(context).is_some(), "{context}");
        assert_eq!(scene.publication.no_bound(), None, "{context}");
        let left = scene.left();
        assert_eq!(left.extension.unwrap().stated_error, StatedError::Holds);
        machine.migrate(0, 0);
        let heir = Scene::taking_over(&machine, options, Some(left));
        assert!(heir.check(context).is_some(), "{context}");
    }
}

#[test]
fn a_stated_error_stays_void_for_later_publishers_of_this_boot() {
    let machine = guarded_machine(15);
    let mut scene = Scene::new(&machine, stated());
    scene.step(Cause::Disrupt);
    scene.settle();
    let mut left = scene.left();
    for options in [stated(), PublishOptions::default(), stated()] {
        let heir = Scene::taking_over(&machine, options, Some(left));
        assert_eq!(heir.check("same boot"), None);
        left = heir.left();
        assert_eq!(left.extension.unwrap().stated_error, StatedError::Void);
    }
    machine.boot_id.set(2);
    let heir = Scene::taking_over(&machine, stated(), Some(left));
    assert!(heir.check("another boot").is_some());
}

#[test]
fn a_stated_error_is_void_for_all_publishers_after_a_torn_page() {
    let machine = guarded_machine(16);
    let mut left = Scene::new(&machine, stated()).left();
    left.extension = None;
    left.is_torn = true;
    let without = Scene::taking_over(&machine, PublishOptions::default(), Some(left));
    let scene = Scene::taking_over(&machine, stated(), Some(without.left()));
    assert_eq!(
        scene.publication.extension().stated_error,
        StatedError::Void
    );
    assert_eq!(scene.check("stated again"), None);
}

#[test]
fn a_stated_error_does_not_hold_across_a_migration_without_a_publisher() {
    let machine = guarded_machine(16);
    let left = Scene::new(&machine, stated()).left();
    let heir = Scene::taking_over(&machine, stated(), Some(left));
    assert!(heir.check("restarted").is_some());
    machine.migrate(2 * NS_PER_SEC, 0);
    let heir = Scene::taking_over(&machine, stated(), Some(left));
    assert_eq!(heir.check("migrated"), None);
    let reason = heir.publication.no_bound();
    assert_eq!(reason, Some(NoBound::StatedErrorVoided));
}

#[test]
fn a_machine_whose_device_cannot_be_looked_at_gives_no_bound() {
    let machine = guarded_machine(17);
    machine.device.set(DeviceRecord::Unavailable);
    for options in [PublishOptions::default(), stated()] {
        let mut scene = Scene::new(&machine, options);
        for _ in 0..2 * AFTER_DISRUPTION {
            report(&mut scene);
            assert_eq!(scene.check("unguarded"), None);
        }
        assert_eq!(scene.publication.no_bound(), Some(NoBound::Unguarded));
        let extension = scene.left().extension.unwrap();
        assert_eq!(extension.device, DeviceRecord::Unavailable);
    }
    let allowed = PublishOptions {
        allow_unguarded: true,
        ..PublishOptions::default()
    };
    let mut scene = trusted(&machine, allowed);
    let extension = scene.left().extension.unwrap();
    assert_eq!(extension.device, DeviceRecord::Unavailable);
    // A device that appears is another one.
    let marker = scene.marker();
    machine.plug_in();
    scene.step(Cause::Interval);
    assert_eq!(scene.marker(), marker + 1);
}

#[test]
fn a_page_says_where_it_was_made_and_how_long_its_bound_holds() {
    let machine = guarded_machine(18);
    let extension = Scene::new(&machine, PublishOptions::default())
        .left()
        .extension
        .unwrap();
    assert_eq!(extension.boot_id, 1);
    assert_eq!(extension.source, SourceKind::Kernel);
    assert_eq!(extension.void_after_ns, 1_000_000_000_000);
    assert_eq!(extension.device, machine.device.get());
    let began_sec = i128::from(extension.began_ns).div_euclid(NS_PER_SEC);
    assert_eq!(began_sec, START_SEC);
}

#[test]
fn a_page_without_time_follows_the_device_too() {
    let machine = guarded_machine(19);
    let options = PublishOptions {
        shape: Shape::MarkerAndGeneration,
        ..PublishOptions::default()
    };
    let mut scene = Scene::new(&machine, options);
    let marker = scene.marker();
    // One disruption, although the machine was suspended in it.
    machine.state.borrow_mut().suspend(NS_PER_SEC, 0);
    machine.migrate(0, 0);
    scene.step(Cause::Interval);
    scene.step(Cause::Interval);
    assert_eq!(scene.marker(), marker + 1);
    let extension = scene.left().extension.unwrap();
    assert_eq!(extension.device, machine.device.get());
    assert_eq!(
        (extension.source, extension.void_after_ns),
        (SourceKind::Unknown, 0)
    );
}
