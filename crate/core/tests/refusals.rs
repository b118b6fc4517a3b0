//! Pages whose time must not be used, each with its own code, and fields that do not exist.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use vmclock::counter::{Counter, CpuCounter};
use vmclock::seqlock::SharedWordsMut;
use vmclock::snapshot::{Abi, ClockStatus, RawFields};
use vmclock::{Continuity, Error, Options, Timescale, VmClock};
use vmclock_testkit::virtual_machine::Memory;
use vmclock_testkit::virtual_page::{Bench, VirtualClock, token};

const NO_TIME: Option<&str> = Some("ERR_VMCLOCK_NO_TIME");
const UNSYNCHRONIZED: Option<&str> = Some("ERR_VMCLOCK_UNSYNCHRONIZED");
const WRONG_COUNTER: Option<&str> = Some("ERR_VMCLOCK_WRONG_COUNTER");
const BAD_PERIOD: Option<&str> = Some("ERR_VMCLOCK_BAD_PERIOD");
const NO_OFFSET: Option<&str> = Some("ERR_VMCLOCK_NO_TAI_OFFSET");
const TIMESCALE: Option<&str> = Some("ERR_VMCLOCK_TIMESCALE");
const TIMEOUT: Option<&str> = Some("ERR_VMCLOCK_TIMEOUT");
const OUT_OF_RANGE: Option<&str> = Some("ERR_VMCLOCK_OUT_OF_RANGE");
const MISMATCH: Option<&str> = Some("ERR_VMCLOCK_COUNTER_MISMATCH");

const TAI_OFFSET_VALID: u64 = 1 << 0;
const ALL_FLAGS: u64 = 0x3ff;

/// A correct page, with 2^30 ticks a second.
fn sound() -> RawFields {
    RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        clock_status: 2,
        flags: ALL_FLAGS,
        tai_offset_sec: -37,
        disruption_marker: 3,
        vm_generation_counter: 5,
        counter_value: 1 << 40,
        counter_period_frac_sec: 1 << 34,
        time_sec: 1_767_225_600,
        time_esterror_nanosec: 2_000,
        time_maxerror_nanosec: 7_000,
        ..RawFields::default()
    }
}

fn code<T>(result: Result<T, Error>) -> Option<&'static str> {
    result.err().map(|error| error.code())
}

/// Returns the code that every call for time gives, first without a cached page state and then with one.
fn refusal(clock: &mut VirtualClock, fields: &RawFields) -> Option<&'static str> {
    let token = clock.continuity_token().unwrap();
    let expected = code(clock.read());
    for _ in 0..2 {
        assert_eq!(code(clock.now_ns()), expected, "now_ns");
        assert_eq!(code(clock.read()), expected, "read");
        assert_eq!(
            code(clock.convert(fields.counter_value, &token)),
            expected,
            "convert"
        );
        assert_eq!(
            code(clock.converter(&token).map(|_| ())),
            expected,
            "converter"
        );
        let now_ms = code(clock.now_ms());
        if clock.timescale().is_utc() {
            assert_eq!(now_ms, expected, "now_ms");
        } else {
            assert_eq!(now_ms, TIMESCALE, "now_ms");
        }
    }
    let has_time = clock.has_time().unwrap();
    assert_eq!(has_time, expected != NO_TIME, "has_time and {expected:?}");
    expected
}

fn refusal_of(fields: &RawFields, options: Options) -> Option<&'static str> {
    let bench = Bench::with(fields);
    bench.counter.set(fields.counter_value);
    refusal(&mut bench.clock(0x70, options), fields)
}

#[test]
fn only_a_synchronized_or_free_running_clock_gives_time() {
    for status in 0..=255_u8 {
        let fields = RawFields {
            clock_status: status,
            ..sound()
        };
        for require_synchronized in [false, true] {
            let options = Options {
                require_synchronized,
                ..Options::default()
            };
            let expected = match (status, require_synchronized) {
                (2, _) | (3, false) => None,
                _ => UNSYNCHRONIZED,
            };
            assert_eq!(
                refusal_of(&fields, options),
                expected,
                "status {status}, refusing free-running: {require_synchronized}"
            );
        }
    }
}

#[test]
fn each_time_type_gives_the_timescales_that_follow_from_it() {
    // The codes of utc, tai, monotonic and the two smears, for each offset that the page may state.
    let utc = [None, None, TIMESCALE, None, None];
    let utc_alone = [None, NO_OFFSET, TIMESCALE, None, None];
    let tai_alone = [NO_OFFSET, None, TIMESCALE, NO_OFFSET, NO_OFFSET];
    let neither = [NO_OFFSET, NO_OFFSET, TIMESCALE, NO_OFFSET, NO_OFFSET];
    let monotonic = [TIMESCALE, TIMESCALE, None, TIMESCALE, TIMESCALE];
    let nothing = [TIMESCALE; 5];
    for (flagged, offset, is_offset) in [
        (true, -37, true),
        (true, 37, true),
        (true, 10, true),
        (true, -255, true),
        (true, 0, false),
        (true, 9, false),
        (true, -256, false),
        (true, i16::MIN, false),
        (false, -37, false),
        (false, 0, false),
    ] {
        for time_type in 0..=255_u8 {
            let expected = match (time_type, flagged, is_offset) {
                (0, _, true) | (1, _, true) => utc,
                (0, _, false) => utc_alone,
                (1, true, false) => neither,
                (1, false, false) => tai_alone,
                (2, ..) => monotonic,
                _ => nothing,
            };
            let fields = RawFields {
                time_type,
                tai_offset_sec: offset,
                flags: if flagged {
                    ALL_FLAGS
                } else {
                    ALL_FLAGS & !TAI_OFFSET_VALID
                },
                ..sound()
            };
            for (timescale, expected) in Timescale::ALL.into_iter().zip(expected) {
                let options = Options {
                    timescale,
                    ..Options::default()
                };
                assert_eq!(
                    refusal_of(&fields, options),
                    expected,
                    "{timescale} of time type {time_type}, offset {offset}, flagged {flagged}"
                );
            }
        }
    }
}

#[test]
fn the_timescale_page_is_that_of_the_pages_time_type() {
    for (flagged, offset, is_offset) in [(true, -37, true), (true, 0, false), (false, -37, false)] {
        for time_type in 0..=255_u8 {
            let (timescale, expected) = match (time_type, flagged, is_offset) {
                (0, ..) => (Timescale::Utc, None),
                // A page that marks an impossible offset as valid may give UTC and call it TAI.
                (1, true, false) => (Timescale::Tai, NO_OFFSET),
                (1, ..) => (Timescale::Tai, None),
                (2, ..) => (Timescale::Monotonic, None),
                _ => (Timescale::Utc, TIMESCALE),
            };
            let fields = RawFields {
                time_type,
                tai_offset_sec: offset,
                flags: ALL_FLAGS & !(u64::from(!flagged) * TAI_OFFSET_VALID),
                ..sound()
            };
            let bench = Bench::with(&fields);
            bench.counter.set(fields.counter_value);
            let options = Options {
                timescale: Timescale::Page,
                ..Options::default()
            };
            let mut clock = bench.clock(0x70, options);
            let name = format!("time type {time_type}, offset {offset}, flagged {flagged}");
            assert_eq!(clock.timescale(), timescale, "{name}");
            assert_eq!(refusal(&mut clock, &fields), expected, "{name}");
            if let Ok(reading) = clock.read() {
                assert_eq!(reading.timescale, timescale, "{name}");
                let reference_ns = i64::try_from(fields.time_sec).unwrap() * 1_000_000_000;
                assert_eq!(reading.epoch_ns, reference_ns, "{name}");
            }
        }
    }
}

#[test]
fn a_clock_of_the_timescale_page_stays_in_its_first_timescale() {
    let utc = sound();
    let bench = Bench::with(&utc);
    bench.counter.set(utc.counter_value);
    let options = Options {
        timescale: Timescale::Page,
        ..Options::default()
    };
    let mut clock = bench.clock(0x70, options);
    let utc_ns = clock.now_ns().unwrap();
    let tai = RawFields {
        time_type: 1,
        time_sec: utc.time_sec + 37,
        ..utc
    };
    bench.publish(&tai);
    assert_eq!(clock.now_ns().unwrap(), utc_ns);
    assert_eq!(clock.read().unwrap().timescale, Timescale::Utc);
    let monotonic = RawFields {
        time_type: 2,
        ..utc
    };
    bench.publish(&monotonic);
    assert_eq!(code(clock.now_ns()), TIMESCALE);
    assert_eq!(code(clock.read()), TIMESCALE);
}

#[test]
fn a_counter_that_this_machine_does_not_have_gives_no_time() {
    for counter_id in 0..=255_u8 {
        let expected = match counter_id {
            0xff => NO_TIME,
            id if id == CpuCounter.id() => None,
            _ => WRONG_COUNTER,
        };
        let fields = RawFields {
            counter_id,
            ..sound()
        };
        assert_eq!(
            refusal_of(&fields, Options::default()),
            expected,
            "counter {counter_id}"
        );
    }
}

#[test]
fn a_period_that_no_counter_has_is_refused() {
    for (period, shift, expected) in [
        (0, 0, BAD_PERIOD),
        (0, 127, BAD_PERIOD),
        (1, 0, None),
        (1, 127, None),
        (u64::MAX, 127, None),
        (1, 128, BAD_PERIOD),
        (u64::MAX, 255, BAD_PERIOD),
    ] {
        let fields = RawFields {
            counter_period_frac_sec: period,
            counter_period_shift: shift,
            ..sound()
        };
        assert_eq!(
            refusal_of(&fields, Options::default()),
            expected,
            "{period} / 2^{shift}"
        );
    }
}

#[test]
fn a_page_with_the_marker_only_has_no_time_and_is_no_broken_clock() {
    // The fields that EC2 and QEMU fill in. All others are 0.
    let fields = RawFields {
        version: 1,
        counter_id: 0xff,
        disruption_marker: 11,
        ..RawFields::default()
    };
    for timescale in Timescale::ALL {
        let options = Options {
            timescale,
            ..Options::default()
        };
        assert_eq!(refusal_of(&fields, options), NO_TIME, "{timescale}");
    }
}

#[test]
fn a_page_whose_version_changes_is_no_longer_read() {
    const BAD_VERSION: Option<&str> = Some("ERR_VMCLOCK_BAD_VERSION");
    let bench = Bench::with(&sound());
    bench.counter.set(sound().counter_value);
    let mut clock = bench.clock(0x70, Options::default());
    let token = clock.continuity_token().unwrap();
    assert_eq!(code(clock.now_ns()), None);
    for version in [0, 2, u16::MAX] {
        bench.publish(&RawFields { version, ..sound() });
        for _ in 0..2 {
            assert_eq!(code(clock.now_ns()), BAD_VERSION, "{version}");
            assert_eq!(code(clock.read()), BAD_VERSION, "{version}");
            assert_eq!(code(clock.convert(0, &token)), BAD_VERSION, "{version}");
            assert_eq!(code(clock.is_continuous(&token)), BAD_VERSION, "{version}");
            assert_eq!(code(clock.snapshot()), BAD_VERSION, "{version}");
        }
        bench.publish(&sound());
        assert_eq!(code(clock.now_ns()), None, "{version}");
    }
}

#[test]
fn the_first_time_that_64_bits_cannot_hold_is_refused() {
    const LAST_SEC: u64 = 9_223_372_036;
    // The least fraction that makes 2^63 ns: ceil(0.854775808 * 2^64).
    let too_late_frac = 15_767_830_570_574_293_540_u64;
    for (time_sec, time_frac_sec, expected) in [
        (LAST_SEC, 0, None),
        (LAST_SEC, too_late_frac - 1, None),
        (LAST_SEC, too_late_frac, OUT_OF_RANGE),
        (LAST_SEC + 1, 0, OUT_OF_RANGE),
        (1 << 40, 0, OUT_OF_RANGE),
        (1 << 63, 0, OUT_OF_RANGE),
        (u64::MAX, u64::MAX, OUT_OF_RANGE),
    ] {
        let fields = RawFields {
            time_sec,
            time_frac_sec,
            ..sound()
        };
        let bench = Bench::with(&fields);
        bench.counter.set(fields.counter_value);
        let mut clock = bench.clock(0x70, Options::default());
        for _ in 0..2 {
            assert_eq!(code(clock.now_ns()), expected, "{time_sec}");
            assert_eq!(code(clock.read()), expected, "{time_sec}");
        }
    }
}

#[test]
fn a_live_counter_may_be_a_second_behind_the_reference_but_not_more() {
    const SECOND: u64 = 1 << 30;
    let fields = sound();
    let bench = Bench::with(&fields);
    let mut clock = bench.clock(0x70, Options::default());
    for (behind, expected) in [
        (0, None),
        (SECOND, None),
        (SECOND + 1, MISMATCH),
        (1 << 40, MISMATCH),
        (1 << 63, MISMATCH),
    ] {
        let counter = fields.counter_value.wrapping_sub(behind);
        bench.counter.set(counter);
        for _ in 0..2 {
            assert_eq!(code(clock.now_ns()), expected, "{behind} ticks behind");
            assert_eq!(code(clock.read()), expected, "{behind} ticks behind");
        }
        // A captured counter may be any that gives an expressible time.
        let converted = clock.convert(counter, &token(&fields));
        // 2^63 ticks are 272 years. Signed nanoseconds can express 272 years before 2026.
        assert_eq!(code(converted), None, "{behind} ticks behind");
    }
}

#[test]
fn a_field_that_size_does_not_cover_is_not_used() {
    for abi in [Abi::Uapi, Abi::RfcV4] {
        for size_bytes in 0x20..=0x1000_u32 {
            if size_bytes > 0x80 && size_bytes != 0x1000 {
                continue;
            }
            let name = format!("{abi:?}, {size_bytes:#x} bytes");
            let fields = sound();
            let bench = Bench::with(&fields);
            bench.counter.set(fields.counter_value);
            let options = Options {
                abi,
                // The bound then needs only the error at the reference from the page.
                assumed_drift_ppb: Some(0),
                ..Options::default()
            };
            let mut clock = bench.clock(size_bytes, options);

            let is_covered = |end: u32| size_bytes >= end;
            let has_generation = is_covered(0x70) && abi == Abi::Uapi;
            let vm_generation = has_generation.then_some(5);
            let token = clock.continuity_token().unwrap();
            let expected = Continuity {
                disruption_marker: 3,
                vm_generation,
            };
            assert_eq!(token, expected, "{name}");

            let snapshot = clock.snapshot().unwrap();
            assert_eq!(
                snapshot.clock_status().is_some(),
                is_covered(0x23),
                "{name}"
            );
            assert_eq!(
                snapshot.smearing_hint().is_some(),
                is_covered(0x24),
                "{name}"
            );
            assert_eq!(snapshot.tai_offset_flagged(), is_covered(0x26), "{name}");
            assert_eq!(
                snapshot.tai_minus_utc_sec().is_some(),
                is_covered(0x26),
                "{name}"
            );
            assert_eq!(
                snapshot.leap_indicator().is_some(),
                is_covered(0x27),
                "{name}"
            );
            assert_eq!(
                snapshot.period_est_error().is_some(),
                is_covered(0x40),
                "{name}"
            );
            assert_eq!(
                snapshot.period_max_error().is_some(),
                is_covered(0x48),
                "{name}"
            );
            assert_eq!(snapshot.covers_time(), is_covered(0x58), "{name}");
            assert_eq!(
                snapshot.time_est_error_ns().is_some(),
                is_covered(0x60),
                "{name}"
            );
            assert_eq!(
                snapshot.time_max_error_ns().is_some(),
                is_covered(0x68),
                "{name}"
            );
            assert_eq!(snapshot.vm_generation(), vm_generation, "{name}");
            // RFC v4 had no flag above TIME_MONOTONIC.
            assert_eq!(snapshot.has_notification(), abi == Abi::Uapi, "{name}");

            if !is_covered(0x58) {
                assert_eq!(refusal(&mut clock, &fields), NO_TIME, "{name}");
                continue;
            }
            let reading = clock.read().unwrap();
            // RFC v4 counts errors in picoseconds.
            let [est, max] = match abi {
                Abi::RfcV4 => [2, 7 + 1],
                _ => [2_000, 7_000 + 1],
            };
            assert_eq!(
                reading.est_error_ns,
                is_covered(0x60).then_some(est),
                "{name}"
            );
            assert_eq!(
                reading.max_error_ns,
                is_covered(0x68).then_some(max),
                "{name}"
            );
            assert_eq!(reading.vm_generation, vm_generation, "{name}");
            assert_eq!(reading.status, ClockStatus::Synchronized, "{name}");

            // Other bytes beyond the end change nothing but the sequence number.
            let beyond = RawFields {
                vm_generation_counter: if has_generation { 5 } else { 6 },
                time_maxerror_nanosec: if is_covered(0x68) { 7_000 } else { 1 },
                time_esterror_nanosec: if is_covered(0x60) { 2_000 } else { 1 },
                ..fields
            };
            bench.publish(&beyond);
            assert_eq!(clock.read().unwrap(), reading, "{name}");
            assert!(clock.is_continuous(&token).unwrap(), "{name}");
        }
    }
}

#[test]
fn picoseconds_round_up() {
    for (picoseconds, ns) in [
        (0, 0),
        (1, 1),
        (999, 1),
        (1_000, 1),
        (1_001, 2),
        (u64::MAX, u64::MAX / 1_000 + 1),
    ] {
        let fields = RawFields {
            time_maxerror_nanosec: picoseconds,
            time_esterror_nanosec: picoseconds,
            ..sound()
        };
        let options = Options {
            abi: Abi::RfcV4,
            ..Options::default()
        };
        let bench = Bench::with(&fields);
        bench.counter.set(fields.counter_value);
        let reading = bench.clock(0x70, options).read().unwrap();
        assert_eq!(reading.max_error_ns, Some(ns + 1), "{picoseconds} ps");
        assert_eq!(reading.est_error_ns, Some(ns), "{picoseconds} ps");
    }
}

#[test]
fn an_unfinished_update_times_out_once_and_then_fails_at_once() {
    let fields = sound();
    let bench = Bench::with(&fields);
    bench.counter.set(fields.counter_value);
    let mut clock = bench.clock(0x70, Options::default());
    assert_eq!(code(clock.now_ns()), None);
    for odd in [5, 9] {
        bench.page.store_seq(odd);
        let started = Instant::now();
        assert_eq!(code(clock.now_ns()), TIMEOUT);
        assert!(started.elapsed() >= Duration::from_millis(100));
        let started = Instant::now();
        for _ in 0..10 {
            assert_eq!(code(clock.now_ns()), TIMEOUT);
            assert_eq!(code(clock.read()), TIMEOUT);
            assert_eq!(code(clock.continuity_token()), TIMEOUT);
            assert_eq!(code(clock.snapshot()), TIMEOUT);
        }
        assert!(started.elapsed() < Duration::from_millis(100));
    }
    bench.publish(&fields);
    assert_eq!(code(clock.now_ns()), None);
}

/// The counters of two CPUs, of which the second is behind. A test moves the reader between them.
#[derive(Clone)]
struct TwoCpus {
    looks: Rc<Cell<u64>>,
    on_second: Rc<Cell<bool>>,
    behind_ticks: u64,
}

impl TwoCpus {
    fn new(behind_ticks: u64) -> Self {
        Self {
            looks: Rc::default(),
            on_second: Rc::default(),
            behind_ticks,
        }
    }

    fn clock(&self, non_decreasing: bool) -> VmClock<Memory, Self> {
        let options = Options {
            non_decreasing,
            ..Options::default()
        };
        VmClock::new(Bench::with(&sound()).page, 0x70, self.clone(), options)
    }
}

impl Counter for TwoCpus {
    fn id(&self) -> u8 {
        CpuCounter.id()
    }

    fn read(&self) -> u64 {
        self.looks.set(self.looks.get() + 1);
        let first = sound().counter_value + self.looks.get();
        first
            - if self.on_second.get() {
                self.behind_ticks
            } else {
                0
            }
    }
}

#[test]
fn non_decreasing_clocks_never_step_back_if_counters_differ_between_cpus() {
    // 2^30 ticks are a second.
    let cpus = TwoCpus::new(1 << 20);
    let stamps = |non_decreasing| -> Vec<i64> {
        let mut clock = cpus.clock(non_decreasing);
        let stamps = (0..100).map(|look| {
            cpus.on_second.set(look % 2 == 1);
            let reading = clock.read().unwrap();
            assert!(reading.earliest_ns <= Some(reading.epoch_ns));
            assert!(reading.latest_ns >= Some(reading.epoch_ns));
            reading.epoch_ns
        });
        stamps.collect()
    };
    assert!(!stamps(false).is_sorted());
    assert!(stamps(true).is_sorted());
}

#[test]
fn a_cpu_whose_counter_is_more_than_a_second_behind_gives_no_time() {
    let cpus = TwoCpus::new((1 << 30) + 1000);
    for non_decreasing in [false, true] {
        let mut clock = cpus.clock(non_decreasing);
        for _ in 0..10 {
            cpus.on_second.set(false);
            assert_eq!(code(clock.now_ns()), None);
            cpus.on_second.set(true);
            assert_eq!(code(clock.now_ns()), MISMATCH);
            assert_eq!(code(clock.read()), MISMATCH);
        }
    }
}
