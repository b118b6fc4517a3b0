//! A publisher whose operator states the host's error, beside a daemon that reports an error of 0.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected fails"
)]

use vmclock::no_bound::{Distrust, NoBound};
use vmclock::publish::{Cause, Publication, PublishOptions};
use vmclock::source::kernel::KernelSource;
use vmclock_testkit::scene::{AFTER_CHANGE, AFTER_DISRUPTION, NS_PER_SEC, START_SEC, Scene};
use vmclock_testkit::virtual_machine::Machine;

const HOST_ERROR_NS: u64 = 5_000_000;

fn stated() -> PublishOptions {
    PublishOptions {
        host_error_ns: Some(HOST_ERROR_NS),
        ..PublishOptions::default()
    }
}

/// A machine whose clock follows a PTP clock: it is off by nearly all that the host may be off, and its daemon
/// reports 0.
fn following_a_host(seed: u64) -> Machine {
    let machine = Machine::new(seed, START_SEC);
    {
        let mut state = machine.state.borrow_mut();
        state.oscillator_ppb = 0;
        let off_ns = i64::try_from(HOST_ERROR_NS).unwrap() - 100_000 - state.error_ns();
        state.step(off_ns);
        state.synchronize(0);
    }
    machine
}

#[test]
fn a_hosts_error_is_added_to_a_daemons_zero_and_the_bound_is_true() {
    for seed in 0..20 {
        let machine = following_a_host(seed);
        let mut scene = Scene::new(&machine, stated());
        // Not before the daemon's second report without a step.
        assert_eq!(scene.check("at the start"), None);
        assert_eq!(scene.report(0), None);
        for _ in 0..20 {
            let bound_ns = scene.report(0).unwrap();
            assert!(bound_ns > HOST_ERROR_NS, "{bound_ns}");
        }
        assert!(scene.publication.extension().has_host_error);
        // Without the option there is none.
        let scene = Scene::new(&machine, PublishOptions::default());
        assert_eq!(scene.check("without"), None);
        assert!(!scene.publication.extension().has_host_error);
    }
}

#[test]
fn a_zero_while_the_kernels_loop_drives_the_clock_gives_no_bound() {
    for with_offset in [false, true] {
        let machine = following_a_host(1);
        let mut scene = Scene::new(&machine, stated());
        assert_eq!(scene.report(0), None);
        assert!(scene.report(0).is_some(), "chrony");
        let by_loop = |discipline: &mut vmclock::source::kernel::discipline::Discipline| {
            discipline.has_loop = !with_offset;
            discipline.offset_ns = if with_offset { 1_000 } else { 0 };
        };
        assert_eq!(scene.report_with(0, by_loop), None, "systemd-timesyncd");
        scene.run(3);
        assert_eq!(scene.check("counted up from 0"), None);
        let expected = NoBound::Distrusted {
            cause: Distrust::ZeroError,
            updates_left: AFTER_CHANGE,
        };
        assert_eq!(scene.publication.no_bound(), Some(expected));
    }
}

#[test]
fn a_zero_right_after_a_step_gives_no_bound_because_timesyncd_may_have_made_it() {
    let machine = following_a_host(5);
    let mut scene = Scene::new(&machine, stated());
    scene.report(0);
    assert!(scene.report(0).is_some(), "chrony");
    // systemd-timesyncd steps without the loop, and reports 0 in the same call. It is 20 ms off.
    {
        let mut state = machine.state.borrow_mut();
        state.step(15_000_000);
        state.discipline.unsynchronized = false;
        state.discipline.maxerror_us = 0;
        state.discipline.esterror_us = 0;
    }
    scene.step(Cause::ClockStep);
    for _ in 0..32 {
        scene.run(1);
        assert_eq!(scene.check("until its next poll"), None);
    }
    let by_loop = |discipline: &mut vmclock::source::kernel::discipline::Discipline| {
        discipline.has_loop = true;
    };
    assert_eq!(scene.report_with(0, by_loop), None);
}

#[test]
fn after_a_suspend_a_daemons_zeros_count_as_its_updates() {
    let machine = following_a_host(2);
    let mut scene = Scene::new(&machine, stated());
    machine.state.borrow_mut().suspend(5 * NS_PER_SEC, 0);
    scene.step(Cause::Interval);
    scene.settle();
    scene.assert_bound_after(AFTER_DISRUPTION, 0, "after a suspend");
}

#[test]
fn a_publisher_with_a_hosts_error_does_not_go_on_with_the_distrust_in_a_zero() {
    let machine = following_a_host(3);
    let mut before = Scene::new(&machine, PublishOptions::default());
    assert_eq!(before.report(0), None);
    let mut scene = Scene::taking_over(&machine, stated(), Some(before.left()));
    scene.assert_bound_after(AFTER_DISRUPTION, 0, "taken over");
}

#[test]
fn the_whole_error_and_the_hosts_cannot_be_stated_together() {
    let machine = following_a_host(4);
    let both = PublishOptions {
        max_error_ns: Some(1),
        ..stated()
    };
    let source = KernelSource::new(&machine);
    let refused = Publication::new(source, &machine, &machine, both, None, None);
    assert_eq!(refused.unwrap_err().code(), "ERR_VMCLOCK_INVALID_ARGUMENT");
}
