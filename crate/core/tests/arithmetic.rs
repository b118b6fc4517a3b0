//! Compares the core's arithmetic with the same formulas in integers without limits (`exact`), over the
//! whole input space. Values where 64 and 128 bits end are chosen more often. `PROPTEST_CASES` sets how many
//! cases each property tries.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use std::cell::Cell;

use num_bigint::BigInt;
use num_integer::Integer;
use proptest::prelude::*;
use proptest::sample::select;
use vmclock::counter::{Counter, CpuCounter};
use vmclock::snapshot::{Abi, RawFields};
use vmclock::time::fixed;
use vmclock::{Error, Options, Reading, Timescale, VmClock};
use vmclock_testkit::exact::{self, View, big, two_to};
use vmclock_testkit::virtual_page::{Bench, token};

/// Seconds in 2^63 ns, beyond which no time fits.
const LAST_SEC: u64 = 9_223_372_036;
/// A reference right after the last leap second so far, 2017-01-01.
const AFTER_LEAP_SEC: u64 = 1_483_228_800;
const DAY_SEC: u64 = 86_400;

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

/// Any 64 bits, but more often those next to an overflow.
fn edgy() -> BoxedStrategy<u64> {
    prop_oneof![
        3 => select(vec![
            0,
            1,
            2,
            (1 << 31) - 1,
            1 << 31,
            1 << 32,
            i64::MAX as u64 - 1,
            i64::MAX as u64,
            1 << 63,
            (1 << 63) + 1,
            u64::MAX - 1,
            u64::MAX,
        ]),
        2 => any::<u64>(),
        2 => (any::<u64>(), 0..64_u32).prop_map(|(bits, shift)| bits >> shift),
        1 => (0..64_u32, -2..=2_i64)
            .prop_map(|(power, away)| (1_u64 << power).wrapping_add_signed(away)),
    ]
    .boxed()
}

fn edgy_signed() -> BoxedStrategy<i64> {
    edgy().prop_map(u64::cast_signed).boxed()
}

fn edgy_shift() -> BoxedStrategy<u8> {
    prop_oneof![
        select(vec![0_u8, 1, 31, 32, 63, 64, 65, 126, 127]),
        0..=127_u8,
    ]
    .boxed()
}

proptest! {
    #![proptest_config(config(5_000))]

    #[test]
    fn ticks_become_elapsed_time_exactly(
        counter in edgy(), reference in edgy(), period in edgy(), shift in edgy_shift()
    ) {
        let d = fixed::distance_ticks(counter, reference);
        prop_assert_eq!(big(d), exact::distance(counter, reference));
        let elapsed = fixed::elapsed_frac(d, period, shift);
        prop_assert_eq!(big(elapsed), exact::elapsed(&big(d), period, shift));
    }

    #[test]
    fn the_ticks_of_a_duration_are_the_whole_ones_or_those_of_a_nanosecond_less(
        ns in edgy(), period in edgy(), shift in edgy_shift()
    ) {
        let shift = shift & fixed::MAX_SHIFT;
        let ticks_in = |ns: u64| match period {
            0 => big(u64::MAX),
            _ => ((big(ns) << (64 + u32::from(shift))) / (big(period) * big(1_000_000_000)))
                .min(big(u64::MAX)),
        };
        let ticks = big(fixed::ticks_in(ns, period, shift));
        prop_assert!(ticks <= ticks_in(ns), "{ticks} are too many");
        prop_assert!(ticks >= ticks_in(ns.saturating_sub(1)), "{ticks} are too few");
    }

    #[test]
    fn a_reference_and_elapsed_time_become_nanoseconds_exactly(
        time_sec in edgy(), time_frac_sec in edgy(),
        d in edgy_signed(), period in edgy(), shift in edgy_shift()
    ) {
        let elapsed = fixed::elapsed_frac(d, period, shift);
        let ns = fixed::time_ns(time_sec, time_frac_sec, elapsed);
        prop_assert_eq!(big(ns), exact::time_ns(time_sec, time_frac_sec, &big(elapsed)));
        let fraction_ns = fixed::frac_to_ns(time_frac_sec);
        prop_assert_eq!(big(fraction_ns), exact::time_ns(0, time_frac_sec, &big(0)));
    }

    #[test]
    fn an_error_grows_rounded_up_and_saturates_only_at_2_to_the_63rd(
        at_reference in edgy(), d in edgy_signed(), rate in edgy(), shift in edgy_shift()
    ) {
        let growth_ns = fixed::growth_ns(d, rate, shift);
        prop_assert_eq!(big(growth_ns), exact::growth_ns(&big(d), rate, shift));
        let bound_ns = fixed::bound_ns(at_reference, growth_ns);
        let exact_ns: BigInt = big(at_reference) + big(growth_ns) + 1;
        prop_assert_eq!(big(bound_ns), exact_ns.clone());
        prop_assert_eq!(big(fixed::saturate(bound_ns)), exact::saturated(exact_ns));
        prop_assert_eq!(big(fixed::saturate(growth_ns)), exact::saturated(big(growth_ns)));
    }

    /// A live counter is refused by a comparison of ticks. The expectation is an exact second.
    #[test]
    fn a_second_in_ticks_divides_the_distances_where_an_exact_second_does(
        d in edgy_signed(), period in edgy(), shift in edgy_shift(), away in -2..=2_i64
    ) {
        let per_second = fixed::ticks_per_second(period, shift);
        if period == 0 {
            prop_assert_eq!(per_second, u64::MAX);
        } else {
            let exact_ticks = two_to(64 + u32::from(shift)).div_floor(&big(period));
            prop_assert_eq!(big(per_second), exact_ticks.min(big(u64::MAX)));
        }
        // Distances around the border too.
        let border = i64::try_from(per_second).unwrap_or(i64::MAX).wrapping_neg();
        for d in [d, border.saturating_add(away)] {
            let is_behind = d < 0 && d.unsigned_abs() > per_second;
            prop_assert_eq!(
                is_behind,
                exact::is_more_than_a_second_behind(&big(d), period, shift)
            );
        }
    }

    /// Two floors take away less than a nanosecond and a unit of 2^-64 s.
    #[test]
    fn the_time_is_less_than_its_two_roundings_below_the_exact_time(
        time_sec in edgy(), time_frac_sec in edgy(),
        d in edgy_signed(), period in edgy(), shift in edgy_shift()
    ) {
        let ns = fixed::time_ns(time_sec, time_frac_sec, fixed::elapsed_frac(d, period, shift));
        // All in 2^-(64 + shift) ns.
        let unit = two_to(64 + u32::from(shift));
        let reference = (big(time_sec) * two_to(64) + big(time_frac_sec)) * two_to(shift.into());
        let exact_time = (reference + big(d) * big(period)) * 1_000_000_000_i64;
        let lost = exact_time - big(ns) * &unit;
        let rounding = &unit + two_to(shift.into()) * 1_000_000_000_i64;
        prop_assert!(lost >= big(0) && lost < rounding);
    }
}

/// A page of any bits that can be used by its status. Most have no time that fits into 64 bits.
fn any_page() -> BoxedStrategy<RawFields> {
    (
        (edgy(), edgy(), edgy(), edgy_shift()),
        (edgy(), edgy(), edgy(), edgy(), edgy()),
        (any::<u64>(), edgy(), edgy(), edgy()),
        (0..=2_u8, 0..=8_u8, any_offset(), select(vec![2_u8, 3])),
    )
        .prop_map(|(counter, time, rest, codes)| RawFields {
            version: 1,
            counter_id: CpuCounter.id(),
            counter_value: counter.0,
            counter_period_frac_sec: counter.1,
            counter_period_maxerror_rate_frac_sec: counter.2,
            counter_period_shift: counter.3,
            time_sec: time.0,
            time_frac_sec: time.1,
            time_esterror_nanosec: time.2,
            time_maxerror_nanosec: time.3,
            counter_period_esterror_rate_frac_sec: time.4,
            flags: rest.0,
            disruption_marker: rest.1,
            vm_generation_counter: rest.2,
            time_type: codes.0,
            leap_indicator: codes.1,
            tai_offset_sec: codes.2,
            clock_status: codes.3,
            leap_second_smearing_hint: rest.3 as u8,
        })
        .boxed()
}

fn any_offset() -> BoxedStrategy<i16> {
    prop_oneof![
        4 => select(vec![-37_i16, 37]),
        2 => select(vec![0_i16, 9, 10, -10, 255, -255, 256, i16::MIN, i16::MAX]),
        1 => any::<i16>(),
    ]
    .boxed()
}

/// A page's reference: anywhere, at the ends of what fits, and around leap seconds.
fn reference_sec() -> BoxedStrategy<u64> {
    let around = |second: u64, away: i64| {
        (-away..=away).prop_map(move |by| second.saturating_add_signed(by))
    };
    prop_oneof![
        1 => edgy(),
        2 => 0..=LAST_SEC,
        2 => around(LAST_SEC, 2),
        1 => around(AFTER_LEAP_SEC, 2 * DAY_SEC as i64),
        2 => around(AFTER_LEAP_SEC, 1_002),
        2 => around(AFTER_LEAP_SEC, 40),
        2 => select(vec![AFTER_LEAP_SEC - 1, AFTER_LEAP_SEC, 0, 36, 37, 38]),
    ]
    .boxed()
}

/// A page with a counter that a machine could have: 1 MHz to 10 GHz.
fn plausible_page() -> BoxedStrategy<RawFields> {
    let flags = prop_oneof![2 => Just(0x3ff_u64), 1 => any::<u64>()];
    let error = || prop_oneof![0..10_u64, 0..2_000_000_000_u64, edgy()];
    (
        any_page(),
        reference_sec(),
        20..34_u8,
        (1 << 63)..=u64::MAX,
        (flags, error(), error()),
        0..1_000_000_u64,
    )
        .prop_map(
            |(page, time_sec, shift, period, (flags, max, est), ppb)| RawFields {
                time_sec,
                counter_period_shift: shift,
                counter_period_frac_sec: period,
                counter_period_maxerror_rate_frac_sec: (period / 1_000_000_000) * ppb,
                counter_period_esterror_rate_frac_sec: (period / 1_000_000_000) * (ppb / 3),
                flags,
                time_maxerror_nanosec: max,
                time_esterror_nanosec: est,
                ..page
            },
        )
        .boxed()
}

/// A page, and a counter near its reference or anywhere.
fn page_and_counter() -> BoxedStrategy<(RawFields, u64)> {
    let page = prop_oneof![1 => any_page(), 3 => plausible_page()];
    let seconds = prop_oneof![
        -3.0..3.0_f64,
        -1_003.0..1_003.0_f64,
        -100_000.0..100_000.0_f64,
        select(vec![-1.0, 0.0, 1.0, -43_200.0, 43_200.0, -37.0, 37.0]),
    ];
    (page, seconds, edgy(), 0..8_u8, -1..=1_i64)
        .prop_map(|(page, seconds, far, choice, away)| {
            let hz = 2_f64.powi(64 + i32::from(page.counter_period_shift))
                / page.counter_period_frac_sec.max(1) as f64;
            let ticks = (seconds * hz) as i64;
            let counter = match choice {
                0 => far,
                1 => page.counter_value.wrapping_add(far),
                _ => page
                    .counter_value
                    .wrapping_add_signed(ticks.saturating_add(away)),
            };
            (page, counter)
        })
        .boxed()
}

fn view() -> BoxedStrategy<View> {
    (
        prop_oneof![3 => Just(0x1000_u32), 1 => 0x20..=0x70_u32],
        select(vec![Abi::Uapi, Abi::Uapi, Abi::RfcV4]),
        select(Timescale::ALL.to_vec()),
        prop_oneof![
            Just(None),
            (0..100_000_u32).prop_map(Some),
            any::<u32>().prop_map(Some)
        ],
        prop_oneof![Just(None), any::<u64>().prop_map(Some)],
        any::<bool>(),
    )
        .prop_map(
            |(size_bytes, abi, timescale, assumed_drift_ppb, assumed_error_ns, refuse)| View {
                size_bytes,
                abi,
                timescale,
                assumed_drift_ppb,
                assumed_error_ns,
                require_synchronized: refuse,
                counter_id: CpuCounter.id(),
            },
        )
        .boxed()
}

fn options(view: &View) -> Options {
    Options {
        timescale: view.timescale,
        abi: view.abi,
        assumed_drift_ppb: view.assumed_drift_ppb,
        assumed_error_ns: view.assumed_error_ns,
        require_synchronized: view.require_synchronized,
        ..Options::default()
    }
}

fn code<T>(result: &Result<T, Error>) -> Option<&'static str> {
    result.as_ref().err().map(Error::code)
}

fn in_64_bits(ns: &BigInt) -> i64 {
    i64::try_from(ns.clone().clamp(big(i64::MIN), big(i64::MAX))).unwrap()
}

/// Compares a conversion with the page's exact meaning.
fn assert_means(
    view: &View,
    page: &RawFields,
    counter: u64,
    result: &Result<Reading, Error>,
) -> Result<(), TestCaseError> {
    let refusals = view.refusals(page);
    if !refusals.is_empty() {
        let code = code(result).unwrap_or("none");
        prop_assert!(refusals.contains(&code), "{code} instead of {refusals:?}");
        return Ok(());
    }
    let meaning = view.meaning(page, counter);
    let label = &meaning.label;
    let Ok(epoch_ns) = i64::try_from(label.epoch_ns.clone()) else {
        prop_assert_eq!(code(result), Some("ERR_VMCLOCK_OUT_OF_RANGE"));
        return Ok(());
    };
    let sides = [
        &label.epoch_ns - &label.earliest_ns,
        &label.latest_ns - &label.epoch_ns,
    ];
    let max_error_ns = exact::saturated(sides.into_iter().max().unwrap());
    let stated = meaning.bound_ns.is_some();
    let tai_minus_utc_sec = meaning.tai_minus_utc_sec.as_ref();
    let expected = Reading {
        epoch_ns,
        max_error_ns: stated.then(|| u64::try_from(max_error_ns).unwrap()),
        est_error_ns: meaning.est_error_ns.map(|ns| u64::try_from(ns).unwrap()),
        earliest_ns: stated.then(|| in_64_bits(&label.earliest_ns)),
        latest_ns: stated.then(|| in_64_bits(&label.latest_ns)),
        age_ns: in_64_bits(&meaning.age_ns),
        counter,
        disruption_marker: page.disruption_marker,
        vm_generation: meaning.vm_generation,
        status: page.clock_status.into(),
        leap_second: meaning.leap_second,
        timescale: view.timescale,
        tai_minus_utc_sec: tai_minus_utc_sec.map(|sec| i16::try_from(sec.clone()).unwrap()),
    };
    match result {
        Ok(reading) => prop_assert_eq!(*reading, expected),
        Err(error) => prop_assert!(false, "{} instead of {expected:?}", error.code()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(5_000))]

    #[test]
    fn a_conversion_says_what_the_page_means(
        (page, counter) in page_and_counter(), view in view()
    ) {
        let bench = Bench::with(&page);
        let mut clock = bench.clock(view.size_bytes, options(&view));
        let token = clock.continuity_token().unwrap();
        let result = clock.convert(counter, &token);
        assert_means(&view, &page, counter, &result)?;
        let many = clock
            .converter(&token)
            .and_then(|converter| converter.epoch_ns(counter));
        prop_assert_eq!(code(&many), code(&result));
        prop_assert_eq!(many.ok(), result.ok().map(|reading| reading.epoch_ns));
    }

    /// Leap seconds have a property of their own, because few random pages are near one.
    #[test]
    fn a_label_near_a_leap_second_and_its_interval_are_the_exact_ones(
        (page, away_sec) in (plausible_page(), -90_000..90_000_i64),
        near in any::<bool>(),
        away_ns in prop_oneof![Just(0_i64), -2..=2_i64, -1_000_000_000..=1_000_000_000_i64],
        joint_sec in select(vec![-43_200_i64, -1_001, -1_000, -999, -2, -1, 0, 1, 43_199, 43_200, 43_201]),
        reference in prop_oneof![
            select(vec![-1_i64, 0]), -40..40_i64, -43_300..43_300_i64, -90_000..90_000_i64
        ],
        (indicator, time_type) in (1..=6_u8, 0..=1_u8),
        max_error_ns in prop_oneof![0..3_u64, 0..3_000_000_000_u64, 0..100_000_000_000_000_u64],
        (abi, timescale) in (
            select(vec![Abi::Uapi, Abi::RfcV4]),
            select(vec![Timescale::Utc, Timescale::UtcNoonLinear, Timescale::UtcSls, Timescale::Tai])
        ),
    ) {
        // 2^30 ticks a second, so that a counter can be put at a nanosecond of choice.
        let edge_sec = AFTER_LEAP_SEC + if time_type == 1 { 37 } else { 0 };
        let page = RawFields {
            time_type,
            leap_indicator: indicator,
            tai_offset_sec: -37,
            flags: page.flags | exact::TAI_OFFSET_VALID | exact::TIME_MAXERROR_VALID
                | exact::PERIOD_MAXERROR_VALID,
            time_sec: edge_sec.wrapping_add_signed(reference),
            time_frac_sec: 0,
            counter_period_frac_sec: 1 << 34,
            counter_period_shift: 0,
            counter_period_maxerror_rate_frac_sec: 0,
            time_maxerror_nanosec: max_error_ns,
            ..page
        };
        let target_sec = if near { joint_sec } else { away_sec };
        let ns = i128::from(target_sec - reference) * 1_000_000_000 + i128::from(away_ns);
        let ticks = (ns << 30).div_euclid(1_000_000_000) as i64;
        let counter = page.counter_value.wrapping_add_signed(ticks);
        let view = View {
            size_bytes: 0x1000,
            abi,
            timescale,
            assumed_drift_ppb: None,
            assumed_error_ns: None,
            require_synchronized: false,
            counter_id: CpuCounter.id(),
        };
        let mut clock = Bench::with(&page).clock(view.size_bytes, options(&view));
        let token = clock.continuity_token().unwrap();
        let result = clock.convert(counter, &token);
        assert_means(&view, &page, counter, &result)?;
    }

    #[test]
    fn a_live_reading_equals_the_conversion_of_its_counter(
        (page, counter) in page_and_counter(), view in view()
    ) {
        let bench = Bench::with(&page);
        bench.counter.set(counter);
        let options = options(&view);
        let mut clock = bench.clock(view.size_bytes, options.clone());
        let token = clock.continuity_token().unwrap();
        let converted = clock.convert(counter, &token);

        let d = exact::distance(counter, page.counter_value);
        let is_behind = view.refusals(&page).is_empty()
            && exact::is_more_than_a_second_behind(
                &d, page.counter_period_frac_sec, page.counter_period_shift,
            );
        let expected_code = if is_behind {
            Some("ERR_VMCLOCK_COUNTER_MISMATCH")
        } else {
            code(&converted)
        };
        let expected = if is_behind { None } else { converted.ok() };

        // First without a cache, then with the cache of the first call.
        let mut fresh = bench.clock(view.size_bytes, options.clone());
        for _ in 0..2 {
            let now = fresh.now_ns();
            prop_assert_eq!(code(&now), expected_code);
            prop_assert_eq!(now.ok(), expected.map(|reading| reading.epoch_ns));
            let read = fresh.read();
            prop_assert_eq!(code(&read), expected_code);
            prop_assert_eq!(read.ok(), expected);
        }

        let now_ms = fresh.now_ms();
        if view.timescale.is_utc() {
            prop_assert_eq!(code(&now_ms), expected_code);
        } else {
            prop_assert_eq!(code(&now_ms), Some("ERR_VMCLOCK_TIMESCALE"));
        }
        if let Ok(ms) = now_ms {
            let ns = expected.unwrap().epoch_ns;
            prop_assert!(is_one_rounding_from(ms, ns), "{ms} ms for {ns} ns");
        }
    }
}

/// Returns whether no other double lies between `ms` and `ns` nanoseconds, so that `ms` is one of the two
/// doubles next to it.
fn is_one_rounding_from(ms: f64, ns: i64) -> bool {
    if ns == 0 {
        return ms == 0.0;
    }
    // In units of 2^-100 ms all doubles of a nanosecond and more are whole numbers.
    let in_units = |ms: f64| {
        let fraction = (ms.fract() * 2_f64.powi(100)) as i128;
        (big(ms.trunc() as i64) * two_to(100) + big(fraction)) * 1_000_000_i64
    };
    let exact = big(ns) * two_to(100);
    in_units(ms.next_down()) < exact && exact < in_units(ms.next_up())
}

/// Steps of a page's life: each a new state of the page, and a counter to read.
fn life() -> BoxedStrategy<Vec<(RawFields, i64, i64, bool)>> {
    let step = (
        plausible_page(),
        -3_000_000_000..3_000_000_000_i64,
        0..5_000_000_000_i64,
        any::<bool>(),
    );
    proptest::collection::vec(step, 2..8).boxed()
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn a_non_decreasing_clock_never_steps_back_and_its_bound_holds_the_truth(
        life in life(), view in view()
    ) {
        let view = View { size_bytes: 0x1000, ..view };
        let bench = Bench::default();
        let non_decreasing_options = Options { non_decreasing: true, ..options(&view) };
        let mut non_decreasing = bench.clock(view.size_bytes, non_decreasing_options);
        let mut plain = bench.clock(view.size_bytes, options(&view));
        let mut last = None;
        for (page, step_ns, ticks, by_read) in life {
            // The same machine throughout. Its reference steps back and forth.
            let time_sec = AFTER_LEAP_SEC.saturating_add_signed(step_ns / 1_000_000_000);
            bench.publish(&RawFields { time_sec, time_type: 0, tai_offset_sec: 37, ..page });
            bench.counter.set(page.counter_value.wrapping_add_signed(ticks));
            for _ in 0..2 {
                let truth = plain.read();
                let (now_ns, error) = if by_read {
                    let read = non_decreasing.read();
                    (read.as_ref().ok().map(|reading| reading.epoch_ns), Some(read))
                } else {
                    let now = non_decreasing.now_ns();
                    prop_assert_eq!(code(&now), code(&truth));
                    (now.ok(), None)
                };
                let Ok(truth) = truth else { continue };
                let Some(now_ns) = now_ns else {
                    prop_assert!(false, "no time for {truth:?}");
                    continue;
                };
                prop_assert_eq!(now_ns, truth.epoch_ns.max(last.unwrap_or(i64::MIN)));
                last = Some(now_ns);
                let Some(Ok(reading)) = error else { continue };
                prop_assert_eq!(reading.max_error_ns.is_some(), truth.max_error_ns.is_some());
                let by = big(now_ns) - big(truth.epoch_ns);
                prop_assert_eq!(
                    reading.est_error_ns.map(big),
                    truth.est_error_ns.map(|ns| exact::saturated(big(ns) + &by))
                );
                let (Some(bound), Some(earliest), Some(latest)) =
                    (reading.max_error_ns, truth.earliest_ns, truth.latest_ns)
                else {
                    continue;
                };
                prop_assert_eq!(reading.earliest_ns, Some(earliest));
                prop_assert_eq!(reading.latest_ns, Some(latest.max(now_ns)));
                // A saturated bound covers every time that fits.
                if bound < i64::MAX as u64 {
                    prop_assert!(big(now_ns) - big(bound) <= big(earliest));
                    prop_assert!(big(now_ns) + big(bound) >= big(latest));
                }
            }
        }
    }
}

/// An error of 300 years does not fit into 2^63 - 1 ns, but the interval's start does. An interval made
/// from the saturated error would begin eight years too late.
#[test]
fn an_interval_is_made_from_the_whole_error_before_the_error_saturates() {
    const YEAR_NS: i64 = 31_557_600_000_000_000;
    let page = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        clock_status: 2,
        flags: exact::TIME_MAXERROR_VALID | exact::PERIOD_MAXERROR_VALID,
        counter_period_frac_sec: 1,
        time_sec: AFTER_LEAP_SEC,
        time_maxerror_nanosec: 300 * YEAR_NS.unsigned_abs(),
        ..RawFields::default()
    };
    let mut clock = Bench::with(&page).clock(0x70, Options::default());
    let reading = clock.convert(0, &token(&page)).unwrap();
    assert_eq!(reading.max_error_ns, Some(i64::MAX.unsigned_abs()));
    let earliest_ns = i128::from(reading.epoch_ns) - 300 * i128::from(YEAR_NS) - 1;
    assert_eq!(reading.earliest_ns.map(i128::from), Some(earliest_ns));
    assert_eq!(reading.latest_ns, Some(i64::MAX));
}

/// A counter that advances by the same step at every read.
struct SteppingCounter {
    next: Cell<u64>,
    step: u64,
}

impl Counter for SteppingCounter {
    fn id(&self) -> u8 {
        CpuCounter.id()
    }

    fn read(&self) -> u64 {
        self.next.replace(self.next.get().wrapping_add(self.step))
    }
}

/// Within such a bracket the page's time may be any time of the inserted second and of the second before
/// it, but both ends of the bracket are a little away from where UTC jumps.
#[test]
fn a_system_offset_bound_covers_a_leap_second_within_the_bracket() {
    // 2^30 ticks a second, and about a millisecond between two reads.
    const STEP: u64 = 1 << 20;
    const EDGE_TICKS: u64 = 1 << 40;
    const EDGE_NS: i64 = AFTER_LEAP_SEC as i64 * 1_000_000_000;
    let page = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        clock_status: 2,
        leap_indicator: 1,
        flags: exact::TIME_MAXERROR_VALID | exact::PERIOD_MAXERROR_VALID,
        counter_period_frac_sec: 1 << 34,
        counter_value: EDGE_TICKS - (1 << 30),
        time_sec: AFTER_LEAP_SEC - 1,
        ..RawFields::default()
    };
    let bench = Bench::with(&page);
    // The first read is for the page; the second and third make the first bracket.
    let before = EDGE_TICKS - STEP / 2;
    let counter = SteppingCounter {
        next: Cell::new(before - STEP),
        step: STEP,
    };
    let mut clock = VmClock::new(bench.page.clone(), 0x70, counter, Options::default());
    let offset = clock.system_offset().unwrap();
    let token = clock.continuity_token().unwrap();
    let ends = [before, before + STEP].map(|end| clock.convert(end, &token).unwrap().epoch_ns);
    assert!(ends[1] < EDGE_NS - 900_000_000 && ends[0] > EDGE_NS - 100_000_000);
    let middle_ns = i64::midpoint(ends[0], ends[1]);
    let max_error_ns = offset.max_error_ns.unwrap().cast_signed();
    assert!(max_error_ns >= EDGE_NS - middle_ns, "{max_error_ns}");
    assert!(
        max_error_ns >= middle_ns - (EDGE_NS - 1_000_000_000),
        "{max_error_ns}"
    );
}

/// An interval's end is cut off at what 64 bits hold, but the error is not.
#[test]
fn a_system_offset_bound_counts_an_interval_beyond_the_year_2262() {
    // 285 years, which end after the last time that 64 bits hold. A second was inserted at the reference,
    // so towards the past the interval is a second shorter.
    const ERROR_NS: u64 = 9_000_000_000_000_000_000;
    let page = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        clock_status: 2,
        leap_indicator: 4,
        flags: exact::TIME_MAXERROR_VALID | exact::PERIOD_MAXERROR_VALID,
        counter_period_frac_sec: 1 << 34,
        time_sec: AFTER_LEAP_SEC,
        time_maxerror_nanosec: ERROR_NS,
        ..RawFields::default()
    };
    let mut clock = Bench::with(&page).clock(0x70, Options::default());
    assert_eq!(clock.read().unwrap().latest_ns, Some(i64::MAX));
    let offset = clock.system_offset().unwrap();
    assert!(offset.max_error_ns.unwrap() > ERROR_NS, "{offset:?}");
}

#[test]
fn a_conversion_without_a_token_of_this_machine_is_refused() {
    let page = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        clock_status: 2,
        flags: exact::VM_GEN_COUNTER_PRESENT,
        counter_period_frac_sec: 1,
        disruption_marker: 7,
        vm_generation_counter: 9,
        ..RawFields::default()
    };
    let bench = Bench::with(&page);
    let mut clock = bench.clock(0x70, Options::default());
    let token = token(&page);
    assert!(clock.is_continuous(&token).unwrap());
    assert!(clock.convert(0, &token).is_ok());
    for disrupted in [
        RawFields {
            disruption_marker: 8,
            ..page
        },
        RawFields {
            vm_generation_counter: 10,
            ..page
        },
        RawFields { flags: 0, ..page },
    ] {
        bench.publish(&disrupted);
        assert!(!clock.is_continuous(&token).unwrap());
        assert_eq!(
            code(&clock.convert(0, &token)),
            Some("ERR_VMCLOCK_DISRUPTED")
        );
        let converter = clock.converter(&token).map(|_| ());
        assert_eq!(code(&converter), Some("ERR_VMCLOCK_DISRUPTED"));
        bench.publish(&page);
        assert!(clock.convert(0, &token).is_ok());
    }
}
