//! Compares the fast path from counter to time with the formulas: over random pages, through updates, and
//! next to the borders between two results, where the fast path must refuse. They must agree to the last
//! bit.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use vmclock::clock::fast::{FastClock, Order, Ordered, SlowPath, TimePoint, Unordered};
use vmclock::counter::{Counter, CpuCounter};
use vmclock::extension::Extension;
use vmclock::seqlock;
use vmclock::snapshot::RawFields;
use vmclock::time::fixed;
use vmclock::{Error, Options, Reading, Timescale, VmClock};
use vmclock_testkit::virtual_page::{Bench, VirtualClock, token};

const NS_PER_SEC: i128 = 1_000_000_000;
const SIZE_BYTES: u32 = 0x1000;

/// Valid are the TAI offset, both errors of the period, both errors of the time, and the generation.
const FLAGS: u64 = 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8;

fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(cases),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A page with a counter of 1 MHz to 10 GHz, in UTC or TAI, from 1970 to 2106. Some announce a leap second.
fn any_page() -> BoxedStrategy<RawFields> {
    let rate = prop_oneof![Just(0), 1..1_u64 << 20, 1..1_u64 << 45, any::<u64>()];
    let error = prop_oneof![0..10_u64, 0..2_000_000_000_u64, any::<u64>()];
    (
        ((1 << 63)..=u64::MAX, 20..34_u8, any::<u64>()),
        (0..1_u64 << 32, any::<u64>(), 0..=1_u8),
        (rate.clone(), rate, error.clone(), error),
        (
            prop_oneof![3 => Just(FLAGS), 1 => any::<u64>()],
            prop_oneof![6 => Just(0_u8), 1 => 1..=5_u8],
            2..=3_u8,
        ),
    )
        .prop_map(|(counter, time, errors, rest)| RawFields {
            version: 1,
            counter_id: CpuCounter.id(),
            counter_period_frac_sec: counter.0,
            counter_period_shift: counter.1,
            counter_value: counter.2,
            time_sec: time.0,
            time_frac_sec: time.1,
            time_type: time.2,
            counter_period_maxerror_rate_frac_sec: errors.0,
            counter_period_esterror_rate_frac_sec: errors.1,
            time_maxerror_nanosec: errors.2,
            time_esterror_nanosec: errors.3,
            flags: rest.0,
            leap_indicator: rest.1,
            clock_status: rest.2,
            tai_offset_sec: -37,
            ..RawFields::default()
        })
        .boxed()
}

/// A distance from the reference, from a little before it to far behind the reach of the fast path.
fn any_distance() -> BoxedStrategy<i64> {
    prop_oneof![
        -1_000_000..1_000_000_i64,
        0..1_i64 << 40,
        (1_i64 << 47)..1 << 50
    ]
    .boxed()
}

fn clock(bench: &Bench, timescale: Timescale) -> VirtualClock {
    let options = Options {
        timescale,
        ..Options::default()
    };
    bench.clock(SIZE_BYTES, options)
}

fn outcome<T>(result: Result<T, Error>) -> Result<T, &'static str> {
    result.map_err(|error| error.code())
}

/// Compares everything that `living` returns, by the fast and the slow path, with the formulas of a new
/// clock.
fn assert_same(
    living: &mut VirtualClock,
    bench: &Bench,
    page: &RawFields,
) -> Result<(), TestCaseError> {
    let options = Options {
        timescale: living.timescale(),
        ..Options::default()
    };
    assert_same_under(living, bench, page, &options)
}

/// As [`assert_same`], with the options of `living`.
fn assert_same_under(
    living: &mut VirtualClock,
    bench: &Bench,
    page: &RawFields,
    options: &Options,
) -> Result<(), TestCaseError> {
    let mut fresh = bench.clock(SIZE_BYTES, options.clone());
    let counter = living.counter();
    let exact = outcome(fresh.convert(counter, &token(page)));
    // A conversion does not refuse a counter that is too far behind to be live.
    let read = outcome(living.read());
    if read != Err("ERR_VMCLOCK_COUNTER_MISMATCH") {
        prop_assert_eq!(read, exact);
    }
    let ns = read.map(|reading| reading.epoch_ns);
    prop_assert_eq!(outcome(living.now_ns()), ns);
    if living.timescale() == Timescale::Utc {
        let ms = outcome(living.now_ms());
        prop_assert_eq!(ms.err(), ns.err());
        if let (Ok(ms), Ok(ns)) = (ms, ns) {
            prop_assert!(is_nearest(ms, ns), "{ms} ms for {ns} ns");
        }
    }
    // A second call, with everything cached, must not differ from the first, whatever order the counter is read in.
    assert_same_again::<Ordered>(living, read)?;
    assert_same_again::<Unordered>(living, read)?;
    let many = fresh.converter(&token(page));
    let many = outcome(many.and_then(|converter| converter.epoch_ns(counter)));
    prop_assert_eq!(many, exact.map(|reading| reading.epoch_ns));
    Ok(())
}

/// Compares the fast calls of one order with a reading at the same counter.
fn assert_same_again<O: Order>(
    living: &mut VirtualClock,
    read: Result<Reading, &'static str>,
) -> Result<(), TestCaseError> {
    let ns = read.map(|reading| reading.epoch_ns);
    if let Ok(fast) = living.fast_now_ns::<O>() {
        prop_assert_eq!(Ok(fast), ns);
    }
    if let (Ok(fast), Ok(ns)) = (living.fast_now_ms::<O>(), ns) {
        prop_assert!(is_nearest(fast, ns), "{fast} ms for {ns} ns");
    }
    let point = match living.fast_time_point::<O>() {
        Ok(point) => Some(point),
        Err(slow_path) => living.slow_time_point(slow_path),
    };
    if let Some(point) = point {
        prop_assert_eq!(Ok(point), read.map(time_point));
    }
    prop_assert_eq!(living.fast_counter::<O>(), living.counter());
    Ok(())
}

fn time_point(reading: Reading) -> TimePoint {
    TimePoint {
        counter: reading.counter,
        epoch_ns: reading.epoch_ns,
        max_error_ns: reading.max_error_ns,
        est_error_ns: reading.est_error_ns,
    }
}

/// Returns whether no other double is nearer to `ns` nanoseconds. Two can be equally near only before
/// 1970-01-02.
fn is_nearest(ms: f64, ns: i64) -> bool {
    // In units of 2^-60 ms all doubles from 2^-8 ms on are whole numbers.
    let units = |ms: f64| {
        let fraction = (ms.fract() * 2_f64.powi(60)) as i128;
        ((ms.trunc() as i128) << 60) + fraction
    };
    // Times 10^6, so that the time itself is a whole number too.
    let off = |ms: f64| (units(ms) * 1_000_000 - (i128::from(ns) << 60)).unsigned_abs();
    ms.abs() < 86_400_000.0 || (off(ms) < off(ms.next_up()) && off(ms) < off(ms.next_down()))
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn a_clock_that_read_earlier_page_states_agrees_with_a_new_clock(
        life in proptest::collection::vec(
            (any_page(), proptest::collection::vec(any_distance(), 1..4)), 1..6
        ),
        timescale in prop_oneof![3 => Just(Timescale::Utc), 1 => Just(Timescale::Tai)],
    ) {
        let bench = Bench::default();
        let mut living = clock(&bench, timescale);
        for (page, distances) in life {
            bench.publish(&page);
            for distance in distances {
                bench.counter.set(page.counter_value.wrapping_add_signed(distance));
                assert_same(&mut living, &bench, &page)?;
            }
        }
    }

    #[test]
    fn every_call_of_a_non_decreasing_clock_remembers_the_last_time(
        life in proptest::collection::vec(
            (any_page(), proptest::collection::vec((any_distance(), 0..3_usize, 1..=3_usize), 1..4)), 1..6
        ),
    ) {
        let bench = Bench::default();
        let options = Options { non_decreasing: true, ..Options::default() };
        let mut living = bench.clock(SIZE_BYTES, options);
        let mut last_ns = i64::MIN;
        for (page, reads) in life {
            bench.publish(&page);
            for (distance, first, calls) in reads {
                bench.counter.set(page.counter_value.wrapping_add_signed(distance));
                let Ok(plain) = clock(&bench, Timescale::Utc).read() else {
                    prop_assert!(living.now_ns().is_err() && living.read().is_err());
                    continue;
                };
                last_ns = last_ns.max(plain.epoch_ns);
                // Each call has to remember the time by itself, so it may be the only call.
                for call in 0..calls {
                    match (first + call) % 3 {
                        0 => prop_assert_eq!(outcome(living.now_ns()), Ok(last_ns)),
                        1 => {
                            let ms = living.now_ms().unwrap();
                            prop_assert!(is_nearest(ms, last_ns), "{ms} ms for {last_ns} ns");
                        }
                        _ => {
                            let read = living.read().unwrap();
                            let by = last_ns.abs_diff(plain.epoch_ns);
                            prop_assert_eq!(read.epoch_ns, last_ns);
                            prop_assert_eq!(
                                read.max_error_ns,
                                plain.max_error_ns.map(|ns| ns.saturating_add(by).min(i64::MAX.cast_unsigned()))
                            );
                            prop_assert_eq!(read.earliest_ns, plain.earliest_ns);
                            prop_assert_eq!(read.latest_ns, plain.latest_ns.map(|ns| ns.max(last_ns)));
                        }
                    }
                }
            }
        }
    }

    /// The limits end the functions' range at the tick at which they end the formulas' results.
    #[test]
    fn every_call_under_the_limits_of_age_and_error_agrees_with_the_formulas(
        page in any_page(),
        void_after_ns in prop_oneof![Just(0), 1..1_u64 << 42],
        max_age in prop_oneof![Just(None), (1..1_u64 << 42).prop_map(Some)],
        limit in prop_oneof![Just(None), (0..1_u64 << 34).prop_map(Some)],
        distances in proptest::collection::vec(any_distance(), 1..4),
        away in -2..=2_i64,
    ) {
        let options = Options {
            max_age: max_age.map(Duration::from_nanos),
            error_limit_ns: limit.map(|limit| page.time_maxerror_nanosec.saturating_add(limit)),
            ..Options::default()
        };
        let bench = Bench::default();
        let (head, words) = page.to_words();
        let extension = Extension { void_after_ns, ..Extension::default() };
        seqlock::write_extended(&*bench.page, head, &words, |seq| extension.to_words(seq));
        let mut living = bench.clock(SIZE_BYTES, options.clone());
        let ticks_in = |ns| {
            let (period, shift) = (page.counter_period_frac_sec, page.counter_period_shift);
            i64::try_from(fixed::ticks_in(ns, period, shift)).unwrap() + away
        };
        let edges = [Some(void_after_ns), max_age].into_iter().flatten().map(ticks_in);
        for distance in distances.into_iter().chain(edges) {
            bench.counter.set(page.counter_value.wrapping_add_signed(distance));
            assert_same_under(&mut living, &bench, &page, &options)?;
        }
    }

    /// A linear function is off by up to its reach in 2^-64 ns, and the formulas' first rounding takes up to
    /// 2^-64 s. The property tries both sides of both, around whole nanoseconds and around the middle between
    /// two doubles of a millisecond.
    #[test]
    fn every_call_next_to_a_rounding_border_agrees_with_the_formulas(
        page in any_page(),
        distance in any_distance(),
        sec in (1_u64 << 29)..(1 << 32) - (1 << 20),
        (step, between_doubles) in (0..4_096_000_i128, any::<bool>()),
        away in prop_oneof![-2..=2_i128, -(1_i128 << 35)..1 << 35],
    ) {
        // 2^-12 ms are 244.14 ns, and its half is the middle.
        let border_ns = i128::from(sec) * NS_PER_SEC + if between_doubles {
            (2 * step + 1) * 15_625 / 128
        } else {
            step * 244
        };
        let border = (border_ns << 64).div_euclid(NS_PER_SEC) + 1 + away;
        let elapsed = (i128::from(distance) * i128::from(page.counter_period_frac_sec))
            >> page.counter_period_shift;
        let reference = border - elapsed;
        prop_assume!(reference >= 0);
        let page = RawFields {
            time_type: 0,
            time_sec: (reference >> 64) as u64,
            time_frac_sec: reference as u64,
            ..page
        };
        let bench = Bench::with(&page);
        bench.counter.set(page.counter_value.wrapping_add_signed(distance));
        let mut living = clock(&bench, Timescale::Utc);
        assert_same(&mut living, &bench, &page)?;
        assert_same(&mut living, &bench, &page)?;
    }

    /// Every counter of such a page lies next to a border.
    #[test]
    fn every_call_with_ticks_of_whole_nanoseconds_agrees_with_the_formulas(
        page in any_page(),
        (tick_ns, off_by) in (1..100_u64, -1..=1_i64),
        (sec, whole_ns, beyond) in (1_u64 << 20..1 << 32, 0..1_000_000_000_u64, 0..=1_u64),
        distances in proptest::collection::vec(
            prop_oneof![-1_000_000..2_000_000_i64, 0..1_i64 << 30, 0..1_i64 << 48], 1..8
        ),
        non_decreasing in any::<bool>(),
    ) {
        let page = whole_ns_page(page, tick_ns, off_by);
        let page = RawFields {
            time_sec: sec,
            time_frac_sec: ((u128::from(whole_ns) << 64) / 1_000_000_000) as u64 + beyond,
            ..page
        };
        let bench = Bench::with(&page);
        let options = Options { non_decreasing, ..Options::default() };
        let mut living = bench.clock(SIZE_BYTES, options);
        let mut distances = distances;
        // A time that is repeated would differ from that of a new clock.
        if non_decreasing {
            distances.sort_unstable();
        }
        for distance in distances {
            bench.counter.set(page.counter_value.wrapping_add_signed(distance));
            assert_same(&mut living, &bench, &page)?;
        }
    }

    /// The errors grow by a whole number of nanoseconds now and then, and are rounded up.
    #[test]
    fn every_call_next_to_a_whole_error_agrees_with_the_formulas(
        page in any_page(),
        (power, steps, away) in (10..20_u32, 0..4_i64, -1..=1_i64),
        period_of_steps in 1..64_u64,
    ) {
        // A rate of 2^(shift + power) is one of 5^9 * 2^(power - 55) ns a tick.
        let rate = period_of_steps << (u32::from(page.counter_period_shift) + power - 20);
        let page = RawFields {
            leap_indicator: 0,
            flags: FLAGS,
            time_sec: 1_800_000_000,
            counter_period_maxerror_rate_frac_sec: rate,
            counter_period_esterror_rate_frac_sec: rate,
            time_maxerror_nanosec: page.time_maxerror_nanosec >> 8,
            time_esterror_nanosec: page.time_esterror_nanosec >> 8,
            ..page
        };
        let distance = (steps << (75 - power).min(45)) + away;
        let bench = Bench::with(&page);
        bench.counter.set(page.counter_value.wrapping_add_signed(distance));
        let mut living = clock(&bench, Timescale::Utc);
        assert_same(&mut living, &bench, &page)?;
    }
}

/// The properties above would hold too if the fast path always refused.
#[test]
fn an_ordinary_timestamp_takes_the_fast_path() {
    let page = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        counter_period_frac_sec: 0xd3aa_2c69_8a5c_4b02,
        counter_period_shift: 31,
        counter_period_maxerror_rate_frac_sec: 0x1234_5678_9abc,
        counter_period_esterror_rate_frac_sec: 0x0123_4567_89ab,
        time_sec: 1_800_000_000,
        clock_status: 2,
        flags: FLAGS,
        tai_offset_sec: 37,
        ..RawFields::default()
    };
    let bench = Bench::with(&page);
    for non_decreasing in [false, true] {
        let options = Options {
            non_decreasing,
            ..Options::default()
        };
        let mut living = bench.clock(SIZE_BYTES, options);
        let token = living.continuity_token().unwrap();
        let mut taken = [0; 3];
        // About every microsecond of a second.
        for ticks in (1 << 20..2_600_000_000_u64).step_by(2_603) {
            bench.counter.set(ticks);
            taken[0] += usize::from(living.fast_now_ns::<Ordered>().is_ok());
            taken[1] += usize::from(living.fast_now_ms::<Ordered>().is_ok());
            taken[2] += usize::from(living.fast_time_point::<Ordered>().is_ok());
        }
        let all = (1 << 20..2_600_000_000_u64).step_by(2_603).count();
        // Doubles are 244 ns apart, so one nanosecond in 244 lies next to the middle of two.
        assert!(taken[0] > all - all / 1_000, "{taken:?} of {all}");
        assert!(taken[1] > all - all / 200, "{taken:?} of {all}");
        assert!(taken[2] > all - all / 1_000, "{taken:?} of {all}");
        assert!(living.fast_is_continuous(&token));
    }
}

/// Gives `page` ticks of `tick_ns` nanoseconds, as exactly as a period can state that.
fn whole_ns_page(page: RawFields, tick_ns: u64, off_by: i64) -> RawFields {
    let shift = 29 - tick_ns.ilog2() as u8;
    let period = (u128::from(tick_ns) << (64 + shift)) / 1_000_000_000;
    RawFields {
        counter_period_shift: shift,
        counter_period_frac_sec: (period as u64).wrapping_add_signed(off_by),
        ..page
    }
}

/// Reading the page again would return right times too, but take five times as long.
#[test]
fn the_slow_path_next_to_a_rounding_border_does_not_read_the_page_again() {
    let page = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        counter_value: 1 << 50,
        counter_period_maxerror_rate_frac_sec: 0x1234_5678_9abc,
        time_sec: 1_800_000_000,
        clock_status: 2,
        flags: FLAGS,
        ..RawFields::default()
    };
    for tick_ns in [1, 10] {
        let page = whole_ns_page(page, tick_ns, 0);
        let bench = Bench::with(&page);
        let mut living = clock(&bench, Timescale::Utc);
        let token = living.continuity_token().unwrap();
        for ticks in (1..1_000_000_u64).step_by(997) {
            let counter = page.counter_value + ticks;
            bench.counter.set(counter);
            let slow_path = living.fast_now_ns::<Ordered>().unwrap_err();
            let exact = living.convert(counter, &token).unwrap();
            // A second read would return this counter.
            bench.counter.set(counter + 1_000_000_000);
            assert_eq!(living.slow_now_ns(slow_path).unwrap(), exact.epoch_ns);
            assert!(is_nearest(
                living.slow_now_ms(slow_path).unwrap(),
                exact.epoch_ns
            ));
            let point = living.slow_time_point(slow_path).unwrap();
            assert_eq!(point, time_point(exact));
        }
    }
}

/// A counter that advances by one tick at each read.
#[derive(Clone, Debug, Default)]
struct CountedReads(Arc<AtomicU64>);

impl Counter for CountedReads {
    fn id(&self) -> u8 {
        CpuCounter.id()
    }

    fn read(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The slow path continues from the counter that the fast path read.
#[test]
fn a_call_next_to_a_rounding_border_reads_the_counter_once() {
    let page = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        time_sec: 1_800_000_000,
        clock_status: 2,
        ..RawFields::default()
    };
    let bench = Bench::with(&whole_ns_page(page, 1, 0));
    let counter = CountedReads::default();
    let options = Options::default();
    let mut clock = VmClock::new(bench.page, SIZE_BYTES, counter.clone(), options);
    clock.read().unwrap();
    assert!(clock.fast_now_ns::<Ordered>().is_err() && clock.fast_time_point::<Ordered>().is_err());
    let before = counter.read();
    for _ in 0..100 {
        clock.now_ns().unwrap();
        clock.read().unwrap();
    }
    assert_eq!(counter.read() - before, 201);
}

/// The fast path compares the sequence number as the slow path does.
#[test]
fn the_fast_path_refuses_after_every_update_of_the_page() {
    let page = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        counter_period_frac_sec: 1 << 63,
        counter_period_shift: 30,
        time_sec: 1_800_000_000,
        clock_status: 2,
        ..RawFields::default()
    };
    let bench = Bench::with(&page);
    bench.counter.set(1 << 20);
    let mut living = clock(&bench, Timescale::Utc);
    let token = living.continuity_token().unwrap();
    assert!(living.fast_now_ns::<Ordered>().is_ok() && living.fast_is_continuous(&token));
    bench.publish(&page);
    assert_eq!(living.fast_now_ns::<Ordered>(), Err(SlowPath::FromPage));
    assert_eq!(living.fast_now_ms::<Ordered>(), Err(SlowPath::FromPage));
    assert_eq!(living.fast_time_point::<Ordered>(), Err(SlowPath::FromPage));
    assert!(!living.fast_is_continuous(&token));
    assert!(living.is_continuous(&token).unwrap());
    assert!(living.fast_now_ns::<Ordered>().is_ok());
    // A page that cannot be read counts as a new state, and nothing of the old one is left.
    let last_state = living.states_seen();
    bench.publish(&RawFields { version: 2, ..page });
    assert!(!living.fast_is_continuous(&token));
    let refused = living.is_continuous(&token).unwrap_err();
    assert_eq!(refused.code(), "ERR_VMCLOCK_BAD_VERSION");
    assert_ne!(living.states_seen(), last_state);
}

/// A counter whose unordered value is 1,000 ticks ahead of the ordered one, or behind it.
#[derive(Clone, Debug)]
struct Loose {
    ordered: u64,
    ahead: i64,
}

impl Counter for Loose {
    fn id(&self) -> u8 {
        CpuCounter.id()
    }

    fn read(&self) -> u64 {
        self.ordered
    }

    fn read_unordered(&self) -> u64 {
        self.ordered.wrapping_add_signed(self.ahead)
    }
}

/// Behind: the page was updated after the CPU took the counter's value.
#[test]
fn an_unordered_stamp_is_right_about_the_counter_that_it_read_on_either_side_of_an_update() {
    const REFERENCE: u64 = 1 << 40;
    let page = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        counter_value: REFERENCE,
        counter_period_frac_sec: 0xd3aa_2c69_8a5c_4b02,
        counter_period_shift: 31,
        counter_period_maxerror_rate_frac_sec: 0x1234_5678_9abc_0000,
        time_sec: 1_800_000_000,
        time_frac_sec: 0x1234_5678_9abc_def0,
        time_maxerror_nanosec: 1_000,
        flags: FLAGS,
        clock_status: 2,
        tai_offset_sec: -37,
        ..RawFields::default()
    };
    for ahead in [-1_000, 0, 1_000] {
        let bench = Bench::with(&page);
        let counter = Loose {
            ordered: REFERENCE,
            ahead,
        };
        let mut clock = VmClock::new(bench.page, SIZE_BYTES, counter, Options::default());
        clock.snapshot().unwrap();
        let taken = clock.fast_counter::<Unordered>();
        assert_eq!(taken, REFERENCE.wrapping_add_signed(ahead));
        assert_eq!(clock.fast_counter::<Ordered>(), REFERENCE);
        let exact = clock.convert(taken, &token(&page)).unwrap();
        assert_eq!(clock.fast_now_ns::<Unordered>(), Ok(exact.epoch_ns));
        assert!(is_nearest(
            clock.fast_now_ms::<Unordered>().unwrap(),
            exact.epoch_ns
        ));
        // A reading has functions from the reference on. Before it the slow path takes a new counter.
        let point = match clock.fast_time_point::<Unordered>() {
            Ok(point) => Some(point),
            Err(slow_path) => {
                assert_eq!(slow_path, SlowPath::FromCounter(taken));
                clock.slow_time_point(slow_path)
            }
        };
        assert_eq!(point, (ahead >= 0).then(|| time_point(exact)));
        // The error grows on both sides.
        let at_reference = clock.convert(REFERENCE, &token(&page)).unwrap();
        assert!(exact.max_error_ns >= at_reference.max_error_ns);
    }
}
