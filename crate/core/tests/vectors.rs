//! Checks the published test vectors through the Rust API. The TypeScript tests read the same two files.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use serde_json::Value;
use vmclock::counter::{Counter, CpuCounter};
use vmclock::snapshot::RawFields;
use vmclock::{Options, Timescale};
use vmclock_testkit::virtual_page::{Bench, token};

const CONVERT: &str = include_str!("vectors/convert.json");
const LEAP: &str = include_str!("vectors/leap.json");

const FULL: u32 = 0x70;
const SYNCHRONIZED: u8 = 2;
const PERIOD_MAXERROR_VALID: u64 = 1 << 4;
const TIME_MAXERROR_VALID: u64 = 1 << 6;

/// Returns a number. It is text in the file if it may be too large for a JSON number.
fn number<T: TryFrom<i128>>(object: &Value, name: &str) -> T {
    let value = &object[name];
    let number = match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64().map(i128::from),
        _ => None,
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .unwrap_or_else(|| panic!("{name} is {value}"))
}

/// Returns the fields of a page as a vector names them. An unknown name fails the test, because the field
/// would be ignored otherwise.
fn fields(object: &Value) -> RawFields {
    let mut fields = RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        flags: PERIOD_MAXERROR_VALID | TIME_MAXERROR_VALID,
        clock_status: SYNCHRONIZED,
        ..RawFields::default()
    };
    for name in object.as_object().unwrap().keys() {
        match name.as_str() {
            "time_type" => fields.time_type = number(object, name),
            "leap_indicator" => fields.leap_indicator = number(object, name),
            "tai_offset_sec" => fields.tai_offset_sec = number(object, name),
            "flags" => fields.flags = number(object, name),
            "clock_status" => fields.clock_status = number(object, name),
            "time_sec" => fields.time_sec = number(object, name),
            "time_frac_sec" => fields.time_frac_sec = number(object, name),
            "counter_value" => fields.counter_value = number(object, name),
            "counter_period_frac_sec" => fields.counter_period_frac_sec = number(object, name),
            "counter_period_shift" => fields.counter_period_shift = number(object, name),
            "counter_period_maxerror_rate_frac_sec" => {
                fields.counter_period_maxerror_rate_frac_sec = number(object, name);
            }
            "time_maxerror_nanosec" => fields.time_maxerror_nanosec = number(object, name),
            other => panic!("a vector has the field {other}"),
        }
    }
    fields
}

fn cases(text: &str) -> Vec<Value> {
    let Ok(Value::Array(cases)) = serde_json::from_str(text) else {
        panic!("the vectors are no JSON array");
    };
    assert!(!cases.is_empty());
    cases
}

#[test]
fn every_conversion_has_the_published_time_and_bound() {
    for case in cases(CONVERT) {
        let name = &case["name"];
        let fields = fields(&case["fields"]);
        let mut clock = Bench::with(&fields).clock(FULL, Options::default());
        let counter = number(&case, "counter");
        let reading = clock.convert(counter, &token(&fields)).unwrap();
        assert_eq!(reading.epoch_ns, number::<i64>(&case, "epoch_ns"), "{name}");
        assert_eq!(
            reading.max_error_ns,
            Some(number::<u64>(&case, "max_error_ns")),
            "{name}"
        );
        assert_eq!(reading.counter, counter, "{name}");
        let by_many = clock.converter(&token(&fields)).unwrap().epoch_ns(counter);
        assert_eq!(by_many.unwrap(), reading.epoch_ns, "{name}");
    }
}

#[test]
fn every_leap_has_the_published_label_and_interval_in_every_scale() {
    for (index, case) in cases(LEAP).into_iter().enumerate() {
        let fields = fields(&case["page"]);
        let bench = Bench::with(&fields);
        let counter = number(&case, "counter");
        for timescale in [
            Timescale::Utc,
            Timescale::Tai,
            Timescale::UtcNoonLinear,
            Timescale::UtcSls,
        ] {
            let name = format!("case {index}, {timescale}: {case}");
            let options = Options {
                timescale,
                ..Options::default()
            };
            let mut clock = bench.clock(FULL, options);
            let reading = clock.convert(counter, &token(&fields)).unwrap();
            let expected = &case[timescale.name()];
            assert_eq!(
                reading.epoch_ns,
                number::<i64>(expected, "epoch_ns"),
                "{name}"
            );
            let [earliest, latest] =
                ["earliest_ns", "latest_ns"].map(|end| number::<i64>(expected, end));
            assert_eq!(reading.earliest_ns, Some(earliest), "{name}");
            assert_eq!(reading.latest_ns, Some(latest), "{name}");
            let bound = number::<u64>(expected, "max_error_ns");
            assert_eq!(reading.max_error_ns, Some(bound), "{name}");
            assert_eq!(
                Some(reading.leap_second),
                case["leap_second"].as_bool(),
                "{name}"
            );
            let by_many = clock.converter(&token(&fields)).unwrap().epoch_ns(counter);
            assert_eq!(by_many.unwrap(), reading.epoch_ns, "{name}");
        }
    }
}
