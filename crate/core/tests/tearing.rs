//! Reads a page that another thread rewrites at full speed: no reading may mix two states of the page.
//!
//! The model in `model.rs` shows that the protocol is right. This test shows that the compiled code does
//! not fail grossly. It would not show a missing fence.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a test that meets the unexpected fails"
)]

use std::env;
use std::hint;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vmclock::clock::UPDATE_TIMEOUT;
use vmclock::clock::fast::{FastClock, Unordered};
use vmclock::snapshot::RawFields;
use vmclock::{Options, PageHeader, PageLayout, PageWriter, VmClock};

const READERS: usize = 2;
const READS: u64 = if cfg!(debug_assertions) {
    500_000
} else {
    5_000_000
};

/// Returns the state of the page in its generation `g`, from which every field follows.
fn state(g: u64) -> RawFields {
    let [a, b, c, ..] = g.to_le_bytes();
    RawFields {
        version: 1,
        counter_id: a,
        time_type: b,
        disruption_marker: g,
        flags: g.wrapping_mul(3),
        clock_status: c,
        leap_second_smearing_hint: a,
        tai_offset_sec: i16::from_le_bytes([a, b]),
        leap_indicator: b,
        counter_period_shift: c,
        counter_value: g ^ 0x5555,
        counter_period_frac_sec: !g,
        counter_period_esterror_rate_frac_sec: g.rotate_left(8),
        counter_period_maxerror_rate_frac_sec: g.rotate_left(16),
        time_sec: g.wrapping_add(1),
        time_frac_sec: g.wrapping_add(2),
        time_esterror_nanosec: g.wrapping_add(3),
        time_maxerror_nanosec: g.wrapping_add(4),
        vm_generation_counter: g.wrapping_mul(5),
    }
}

/// The counts of one reader.
struct Seen {
    whole: u64,
    timeouts: u64,
    states: u64,
}

fn read_all(mut clock: VmClock, reads: u64) -> Seen {
    let mut seen = Seen {
        whole: 0,
        timeouts: 0,
        states: 0,
    };
    let mut last = None;
    // On one CPU all reads could pass while the writer waits, so read on until the page has changed.
    while seen.whole + seen.timeouts < reads || seen.states < 100 {
        match clock.snapshot() {
            Ok(snapshot) => {
                assert_eq!(snapshot.raw, state(snapshot.raw.disruption_marker), "torn");
                seen.whole += 1;
                let state = Some(snapshot.raw.disruption_marker);
                seen.states += u64::from(state != last);
                last = state;
            }
            Err(error) => {
                assert_eq!(error.code(), "ERR_VMCLOCK_TIMEOUT", "{error}");
                seen.timeouts += 1;
            }
        }
    }
    seen
}

/// Reads in all readers against a writer that calls `pause` after each update. Returns the time of the
/// longest update too, which is long only if the writer had to wait for a CPU.
fn race(pause: fn()) -> (Vec<Seen>, Duration) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("page");
    let layout = PageLayout::default();
    let mut writer =
        PageWriter::create(&path, &layout, PageHeader::default(), &state(0)).expect("a page");
    let clocks: Vec<VmClock> = (0..READERS)
        .map(|_| VmClock::open(&path, Options::default()).expect("a clock"))
        .collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            for g in 1.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let start = Instant::now();
                writer.update(|fields| *fields = state(g));
                longest = longest.max(start.elapsed());
                pause();
            }
            longest
        });
        let readers: Vec<_> = clocks
            .into_iter()
            .map(|clock| scope.spawn(|| read_all(clock, READS)))
            .collect();
        let joined: Vec<_> = readers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        let longest = writing.join().expect("the writer does not panic");
        let seen = joined
            .into_iter()
            .map(|seen| seen.expect("no reading is torn"))
            .collect();
        (seen, longest)
    })
}

fn report((seen, longest): &(Vec<Seen>, Duration)) {
    println!("longest update: {longest:?}");
    for (
        reader,
        Seen {
            whole,
            timeouts,
            states,
        },
    ) in seen.iter().enumerate()
    {
        println!("reader {reader}: {whole} whole, {timeouts} timeouts, {states} states");
    }
}

#[test]
fn every_read_succeeds_beside_a_writer_that_pauses_for_a_microsecond() {
    let race = race(|| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(1) {
            hint::spin_loop();
        }
    });
    report(&race);
    let (seen, longest) = race;
    // A writer that waits for a CPU in the middle of an update blocks its readers. On a busy machine that
    // can last, and can happen again before a reader has run. So a timeout is right if the writer had to
    // wait at all.
    let failed = seen.iter().any(|seen| seen.timeouts != 0);
    assert!(!failed || longest >= UPDATE_TIMEOUT / 10, "{longest:?}");
}

#[test]
fn every_read_is_whole_or_times_out_beside_a_writer_that_never_pauses() {
    report(&race(|| {}));
}

/// Sets the fields to state `g`, by the relation of `__test__/tearing/page.cjs`.
fn soaked(fields: &mut RawFields, g: u64) {
    fields.disruption_marker = g;
    fields.vm_generation_counter = g ^ 0x5555_5555_5555_5555;
    fields.time_sec = 1_000_000 + g;
    fields.time_maxerror_nanosec = 7 * g;
    fields.clock_status = 2 + u8::from(g & 1 != 0);
    fields.tai_offset_sec = -10 - i16::try_from(g % 200).expect("less than 200");
}

/// Returns whether a reading is of one of these states.
fn is_whole(raw: &RawFields) -> bool {
    let mut whole = *raw;
    soaked(&mut whole, raw.disruption_marker);
    *raw == whole
}

/// Waits for a random time. A reader that reads again as soon as an update is over would never meet the
/// next update in the middle of a read.
fn stray(random: &mut u64) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    for left in 0..*random & 0x7ff {
        hint::black_box(left);
    }
}

/// How many reads follow one another without a pause.
const READS_AT_ONCE: u64 = 16;

/// Reads `path` until `end`. Counts the readings, timeouts, torn readings, and changes of state: a reader
/// that saw no change could see none torn.
fn read_until(path: &str, end: Instant, mut random: u64) -> [u64; 4] {
    let mut clock = VmClock::open(path.as_ref(), Options::default()).expect("a clock");
    let [mut readings, mut timeouts, mut torn, mut states] = [0; 4];
    let mut last = None;
    while Instant::now() < end {
        for _ in 0..64 {
            stray(&mut random);
            for _ in 0..READS_AT_ONCE {
                readings += 1;
                match clock.snapshot() {
                    Ok(snapshot) => {
                        torn += u64::from(!is_whole(&snapshot.raw));
                        let state = Some(snapshot.raw.disruption_marker);
                        states += u64::from(state != last);
                        last = state;
                    }
                    Err(error) => {
                        assert_eq!(error.code(), "ERR_VMCLOCK_TIMEOUT", "{error}");
                        timeouts += 1;
                    }
                }
            }
        }
    }
    [readings, timeouts, torn, states]
}

/// As [`read_until`], by the fast path and with a counter that is read in no order. Readings of the slow path are not
/// counted.
fn read_unordered_until(path: &str, end: Instant) -> [u64; 4] {
    const NS_PER_SEC: i64 = 1_000_000_000;
    let mut clock = VmClock::open(path.as_ref(), Options::default()).expect("a clock");
    let [mut readings, mut timeouts, mut torn] = [0; 3];
    while Instant::now() < end {
        for _ in 0..1024 {
            match clock.fast_time_point::<Unordered>() {
                Ok(point) => {
                    readings += 1;
                    let state = (point.epoch_ns / NS_PER_SEC - 1_000_000).cast_unsigned();
                    // The fast path adds a nanosecond to the page's error.
                    let is_whole = point.epoch_ns % NS_PER_SEC == 0
                        && point.max_error_ns == Some(7 * state + 1);
                    torn += u64::from(!is_whole);
                }
                Err(_) => timeouts += u64::from(clock.snapshot().is_err()),
            }
        }
    }
    [readings, timeouts, torn, clock.states_seen()]
}

fn soaked_page() -> String {
    env::var("VMCLOCK_SOAK_PAGE").expect("a page")
}

#[test]
#[ignore = "the `soak` suite starts it beside Node's readers, on a page that another process writes"]
fn soak() {
    let path = soaked_page();
    let number = |name| -> u64 {
        let value = env::var(name).expect("a number");
        value.parse().expect("a number")
    };
    let end = Instant::now() + Duration::from_secs(number("VMCLOCK_SOAK_SECONDS"));
    thread::scope(|scope| {
        let path = &path;
        let readers: Vec<_> = (1..=number("VMCLOCK_SOAK_THREADS"))
            .flat_map(|index| {
                [
                    scope.spawn(move || read_until(path, end, index)),
                    scope.spawn(move || read_unordered_until(path, end)),
                ]
            })
            .collect();
        println!();
        for reader in readers {
            let [readings, timeouts, torn, states] =
                reader.join().expect("a reader fails only by a timeout");
            println!(
                "{{\"readings\":{readings},\"timeouts\":{timeouts},\"torn\":{torn},\"states\":{states}}}"
            );
        }
    });
}

#[test]
#[ignore = "the `soak` suite starts it, to write the page that others read"]
fn soak_writer() {
    let pauses = env::var("VMCLOCK_SOAK_PAUSES").is_ok();
    let mut writer = PageWriter::open(soaked_page().as_ref(), 0).expect("a page");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Until the process that started this one closes its input.
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            done.store(true, Ordering::Relaxed);
        });
        println!("\nwriting");
        let mut longest = Duration::ZERO;
        let mut g = 1;
        while !done.load(Ordering::Relaxed) {
            g = (g + 1) & 0x3fff_ffff;
            let start = Instant::now();
            writer.update(|fields| soaked(fields, g));
            let end = Instant::now();
            longest = longest.max(end - start);
            while pauses && end.elapsed() < Duration::from_micros(1) {
                hint::spin_loop();
            }
        }
        println!("{}", longest.as_nanos());
    });
}
