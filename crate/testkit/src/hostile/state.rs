//! The model's answers for one page state and counter.

use num_bigint::BigInt;
use vmclock::snapshot::RawFields;
use vmclock::{Continuity, Reading};

use super::{Bytes, fields};
use crate::exact::{self, View, big};

pub(super) const VERSION_CHANGED: &str = "ERR_VMCLOCK_BAD_VERSION";

/// The right answer, or the codes of the right refusals.
pub(super) type Right<T> = Result<T, Vec<&'static str>>;

pub(super) struct State {
    pub(super) raw: RawFields,
    pub(super) counter: u64,
    /// The reading of a stamp taken now.
    pub(super) live: Right<Reading>,
    /// The reading of the same counter, converted.
    pub(super) converted: Right<Reading>,
    pub(super) continuity: Continuity,
}

impl State {
    pub(super) fn new(view: &View, page: &Bytes, counter: u64) -> Self {
        let raw = fields(page);
        let converted = converted(view, &raw, counter);
        Self {
            raw,
            counter,
            live: match reasons(view, &raw) {
                none if none.is_empty() && is_behind(&raw, counter) => {
                    Err(vec!["ERR_VMCLOCK_COUNTER_MISMATCH"])
                }
                _ => converted.clone(),
            },
            converted,
            continuity: Continuity {
                disruption_marker: raw.disruption_marker,
                vm_generation: view.vm_generation(&raw),
            },
        }
    }

    pub(super) fn has_known_version(&self) -> bool {
        self.raw.version == 1
    }
}

/// The codes of all reasons not to take time from the page, for any counter.
pub(super) fn reasons(view: &View, page: &RawFields) -> Vec<&'static str> {
    if page.version == 1 {
        view.refusals(page)
    } else {
        // Its other fields may mean anything.
        vec![VERSION_CHANGED]
    }
}

fn is_behind(page: &RawFields, counter: u64) -> bool {
    let d = exact::distance(counter, page.counter_value);
    exact::is_more_than_a_second_behind(&d, page.counter_period_frac_sec, page.counter_period_shift)
}

/// The reading of a captured counter.
pub(super) fn converted(view: &View, page: &RawFields, counter: u64) -> Right<Reading> {
    let reasons = reasons(view, page);
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let meaning = view.meaning(page, counter);
    let label = &meaning.label;
    let Ok(epoch_ns) = i64::try_from(label.epoch_ns.clone()) else {
        return Err(vec!["ERR_VMCLOCK_OUT_OF_RANGE"]);
    };
    let below = &label.epoch_ns - &label.earliest_ns;
    let above = &label.latest_ns - &label.epoch_ns;
    let widest = exact::saturated(below.max(above));
    let in_64_bits =
        |ns: &BigInt| i64::try_from(ns.clone().clamp(big(i64::MIN), big(i64::MAX))).unwrap();
    let stated = meaning.bound_ns.is_some();
    Ok(Reading {
        epoch_ns,
        max_error_ns: stated.then(|| u64::try_from(widest).unwrap()),
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
        tai_minus_utc_sec: meaning
            .tai_minus_utc_sec
            .map(|sec| i16::try_from(sec).unwrap()),
    })
}

/// The reading of a non-decreasing clock that returned `last_ns` before.
pub(super) fn held(reading: Reading, last_ns: Option<i64>) -> Reading {
    let Some(last_ns) = last_ns.filter(|last_ns| *last_ns > reading.epoch_ns) else {
        return reading;
    };
    let grown = |ns: u64| {
        let by = big(last_ns) - big(reading.epoch_ns);
        u64::try_from(exact::saturated(big(ns) + by)).unwrap()
    };
    Reading {
        epoch_ns: last_ns,
        max_error_ns: reading.max_error_ns.map(grown),
        est_error_ns: reading.est_error_ns.map(grown),
        latest_ns: reading.latest_ns.map(|latest| latest.max(last_ns)),
        age_ns: reading
            .age_ns
            .saturating_add_unsigned(last_ns.abs_diff(reading.epoch_ns)),
        ..reading
    }
}

/// The double nearest to `ns` in milliseconds, by the standard library, which rounds decimal fractions
/// correctly.
pub(super) fn ms(ns: i64) -> f64 {
    let magnitude = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    let (whole, rest) = (magnitude / 1_000_000, magnitude % 1_000_000);
    format!("{sign}{whole}.{rest:06}").parse().unwrap()
}
