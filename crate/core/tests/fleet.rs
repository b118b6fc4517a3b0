//! A simulated fleet of guests whose true time is known. Every bound that a reading states must hold the
//! true time, through all events in the guests' lives.

#![allow(
    missing_docs,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]
#![allow(
    unreachable_pub,
    reason = "the modules of this test use `pub` as a crate does"
)]

#[path = "fleet/daemon.rs"]
mod daemon;
#[path = "fleet/guest.rs"]
mod guest;
#[path = "fleet/life/mod.rs"]
mod life;
#[path = "fleet/other.rs"]
mod other;
#[path = "fleet/tally.rs"]
mod tally;
#[path = "fleet/truth.rs"]
mod truth;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use life::{Flaw, Life};
use tally::Tally;

/// Readings in one life.
const READINGS_PER_LIFE: u64 = 20_000;
const DEFAULT_READINGS: u64 = 1_000_000;

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| {
        panic!(
            "{name} is \"{}\"; give a whole number",
            value.escape_debug()
        )
    }))
}

/// Simulates the lives of some seeds. Returns their tally, or the first violation.
fn live(seeds: std::ops::Range<u64>, flaw: Flaw) -> Result<Tally, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let outcome = Mutex::new(Ok(Tally::default()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let life = AssertUnwindSafe(|| Life::live(seed, flaw, READINGS_PER_LIFE));
                    let result = catch_unwind(life).unwrap_or_else(|_| {
                        Err(format!("the life of seed {seed} panicked; see above"))
                    });
                    let mut outcome = outcome.lock().unwrap();
                    match (&mut *outcome, result) {
                        (Ok(all), Ok(one)) => all.add(&one),
                        (Ok(_), Err(violation)) => {
                            failed.store(true, Ordering::Relaxed);
                            *outcome = Err(format!(
                                "{violation}\nto see it again: VMCLOCK_FLEET_SEED={seed} cargo test -p vmclock --test fleet every_bound"
                            ));
                        }
                        (Err(_), _) => {}
                    }
                }
            });
        }
    });
    outcome.into_inner().unwrap()
}

#[test]
fn every_bound_of_a_fleet_holds_the_true_time() {
    if let Some(seed) = from_environment("VMCLOCK_FLEET_SEED") {
        match live(seed..seed + 1, Flaw::None) {
            Ok(tally) => println!("seed {seed}: {tally}"),
            Err(violation) => panic!("{violation}"),
        }
        return;
    }
    let readings = from_environment("VMCLOCK_FLEET_READINGS").unwrap_or(DEFAULT_READINGS);
    let lives = readings.div_ceil(READINGS_PER_LIFE);
    let first = from_environment("VMCLOCK_FLEET_FIRST_SEED").unwrap_or(0);
    println!("seeds {first} to {}", first + lives - 1);
    let began = std::time::Instant::now();
    match live(first..first + lives, Flaw::None) {
        Ok(tally) => {
            println!("{tally}  in {:.1} s", began.elapsed().as_secs_f64());
            if readings >= DEFAULT_READINGS {
                tally.assert_not_vacuous();
            }
        }
        Err(violation) => panic!("{violation}"),
    }
}

/// Asserts that a fleet with a planted flaw finds a violation.
fn assert_caught(flaw: Flaw) {
    let lives = DEFAULT_READINGS / READINGS_PER_LIFE;
    match live(0..lives, flaw) {
        Ok(tally) => panic!("found no violation in {tally}"),
        // The violation, and the seed of its life.
        Err(violation) => {
            let words: Vec<_> = violation.lines().take(2).collect();
            println!("{flaw:?}: {}", words.join(" "));
        }
    }
}

#[test]
fn a_period_bound_that_is_1_ppm_too_small_is_caught() {
    assert_caught(Flaw::RateBoundTooSmall);
}

#[test]
fn a_reader_that_ignores_the_leap_second_in_its_interval_is_caught() {
    assert_caught(Flaw::NoHull);
}

#[test]
fn a_publisher_that_trusts_a_maximum_error_of_0_is_caught() {
    assert_caught(Flaw::TrustsZero);
}

#[test]
fn a_reader_that_does_not_look_at_the_device_is_caught() {
    assert_caught(Flaw::NoGuard);
}

#[test]
fn a_reader_that_looks_at_the_device_before_the_counter_is_caught() {
    assert_caught(Flaw::LooksEarly);
}

#[test]
fn a_maker_that_records_the_device_of_another_update_is_caught() {
    assert_caught(Flaw::RecordsLater);
}

#[test]
fn a_maker_that_starts_and_trusts_its_daemon_is_caught() {
    assert_caught(Flaw::TrustsLateMaker);
}

#[test]
fn a_source_beside_the_kernels_clock_whose_bound_is_too_small_is_caught() {
    assert_caught(Flaw::SourceLies);
}

#[test]
fn a_source_that_does_not_follow_the_device_is_caught() {
    assert_caught(Flaw::DaemonIgnoresDevice);
}

#[test]
fn a_ptp_clock_whose_bound_is_too_small_is_caught() {
    assert_caught(Flaw::PhcLies);
}

#[test]
fn a_reading_of_a_ptp_clock_that_outlives_a_disruption_is_caught() {
    assert_caught(Flaw::PhcIgnoresDevice);
}
