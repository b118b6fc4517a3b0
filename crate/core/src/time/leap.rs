//! UTC, TAI, leap seconds and smears: from the page's own time to the timescale asked for.
//!
//! Near a leap second UTC's count of seconds jumps. So everything is computed from `c`, a count that runs
//! evenly through the leap and equals UTC before it. `L` is +1 for an inserted second and -1 for a deleted
//! one, and `edge` is the first second of the UTC month after the leap:
//!
//! | asked for | from `c` |
//! |---|---|
//! | UTC, inserted | `c` before `edge`, `c - 1` from `edge` on; `edge <= c < edge + 1` is 23:59:60 |
//! | UTC, deleted | `c` before `edge - 1`, `c + 1` from `edge - 1` on |
//! | UTC, smeared noon to noon | from `edge - 43200` on, `86400 + L` seconds of `c` become 86400 |
//! | UTC-SLS | `c - L * (c - u0) / 1000` over the 1000 s before the leap ends, `u0 = edge + L - 1000` |
//! | TAI | no leap at all |
//!
//! The same rule holds before and after the leap. So a counter that was captured before the leap converts
//! correctly by a page that was published after it. The reader makes the smears, never the page:
//! `leap_second_smearing_hint` is only a recommendation.
//!
//! A bound is mapped as an interval. A fixed ± around the label would miss the truth near a leap, where the
//! image of a microsecond can be a second wide.

use crate::error::Error;
use crate::snapshot::{LeapIndicator, TimeType, tai_minus_utc_sec};
use crate::time::{NS_PER_SEC, SEC_PER_DAY};
use crate::timescale::Timescale;

/// The fields of a page that decide how its time becomes another timescale's.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// The page's `time_type`.
    pub time_type: TimeType,
    /// The page's `time_sec`.
    pub time_sec: u64,
    /// The page's `leap_indicator`, in the meaning of the page's ABI.
    pub leap_indicator: LeapIndicator,
    /// The page's `tai_offset_sec`.
    pub tai_offset_sec: i16,
    /// True if the page marks that offset as valid.
    pub tai_offset_flagged: bool,
}

/// A time in the timescale asked for, with the interval that holds the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The time itself, in nanoseconds.
    pub epoch_ns: i128,
    /// The start of the interval.
    pub earliest_ns: i128,
    /// The end of the interval.
    pub latest_ns: i128,
}

/// How a page's own time becomes the time asked for.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    form: Form,
    leap: Option<Leap>,
    /// TAI - UTC at the page's reference.
    tai_minus_utc_sec: Option<i16>,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// The page's time plus this many seconds.
    Shift(i16),
    /// Through `c`, near a leap second.
    Leaping(Smear),
}

#[derive(Clone, Copy, Debug)]
enum Smear {
    Strict,
    NoonLinear,
    Sls,
}

/// A leap second near the page's reference.
#[derive(Clone, Copy, Debug)]
struct Leap {
    /// `c` minus the page's own time, in seconds.
    count_shift_sec: i16,
    /// `c` minus UTC at the page's reference, in seconds: 0 before the leap.
    reference_shift_sec: i16,
    /// `edge` of the table above, in nanoseconds.
    edge_ns: i128,
    inserted: bool,
}

impl Mapping {
    /// Decides how to get the timescale `wanted` from a page.
    ///
    /// # Errors
    ///
    /// [`Error::Timescale`] where the page's timescale does not lead to it, and [`Error::NoTaiOffset`]
    /// where only the offset between TAI and UTC is missing or impossible.
    pub fn new(reference: &Reference, wanted: Timescale) -> Result<Self, Error> {
        let wanted = wanted.on_page(reference.time_type);
        let tai_minus_utc_sec =
            tai_minus_utc_sec(reference.tai_offset_sec, reference.tai_offset_flagged);
        let no_offset = || Error::NoTaiOffset {
            raw: reference.tai_offset_sec,
            flagged: reference.tai_offset_flagged,
        };
        // UTC minus the page's time, where the page states enough to know.
        let utc_shift_sec = match (reference.time_type, wanted) {
            (TimeType::Monotonic, Timescale::Monotonic) => {
                return Ok(Self {
                    form: Form::Shift(0),
                    leap: None,
                    tai_minus_utc_sec: None,
                });
            }
            (TimeType::Utc, scale) if scale != Timescale::Monotonic => Some(0),
            (TimeType::Tai, scale) if scale != Timescale::Monotonic => {
                // A provider that does not know the offset may write UTC, call it TAI, and mark an
                // offset of 0 as valid. Then neither timescale can be trusted.
                if reference.tai_offset_flagged && tai_minus_utc_sec.is_none() {
                    return Err(no_offset());
                }
                tai_minus_utc_sec.map(|offset| -offset)
            }
            (page, wanted) => return Err(Error::Timescale { page, wanted }),
        };
        let leap = utc_shift_sec.and_then(|shift| Leap::near(reference, shift));
        let form = if wanted == Timescale::Tai {
            match reference.time_type {
                TimeType::Tai => Form::Shift(0),
                _ => Form::Shift(tai_minus_utc_sec.ok_or_else(no_offset)?),
            }
        } else {
            let shift = utc_shift_sec.ok_or_else(no_offset)?;
            match (leap, wanted) {
                (None, _) => Form::Shift(shift),
                (Some(_), Timescale::UtcNoonLinear) => Form::Leaping(Smear::NoonLinear),
                (Some(_), Timescale::UtcSls) => Form::Leaping(Smear::Sls),
                (Some(_), _) => Form::Leaping(Smear::Strict),
            }
        };
        Ok(Self {
            form,
            leap,
            tai_minus_utc_sec,
        })
    }

    /// Returns the seconds to add to the page's time. `None` near a leap second, where a shift is not
    /// enough.
    #[must_use]
    pub fn shift_sec(&self) -> Option<i16> {
        match self.form {
            Form::Shift(seconds) => Some(seconds),
            Form::Leaping(_) => None,
        }
    }

    /// Returns whether a leap second is near, so that more figures than the time depend on the counter.
    #[must_use]
    pub fn has_leap(&self) -> bool {
        self.leap.is_some()
    }

    /// Returns the label of `page_ns`, which is the page's own time, and the smallest interval that holds
    /// the labels of all times from `page_ns - bound_ns` to `page_ns + bound_ns`.
    #[must_use]
    pub fn label(&self, page_ns: i128, bound_ns: u128) -> Label {
        // `fixed::bound_ns` stays below 2^95, so neither this nor the sums below overflow.
        let bound_ns = bound_ns.cast_signed();
        match (self.form, self.leap) {
            (Form::Leaping(smear), Some(leap)) => {
                let c = page_ns + i128::from(leap.count_shift_sec) * NS_PER_SEC;
                leap.hull(smear, c, bound_ns)
            }
            (Form::Shift(seconds), _) => shifted(page_ns, seconds, bound_ns),
            // Unreachable: `new` makes `Leaping` only with a leap.
            (Form::Leaping(_), None) => shifted(page_ns, 0, bound_ns),
        }
    }

    /// Returns whether UTC is within an inserted second, 23:59:60, at `page_ns`.
    #[must_use]
    pub fn is_leap_second(&self, page_ns: i128) -> bool {
        self.leap.is_some_and(|leap| {
            let since_edge = leap.count(page_ns) - leap.edge_ns;
            leap.inserted && (0..NS_PER_SEC).contains(&since_edge)
        })
    }

    /// Returns TAI - UTC in seconds at `page_ns`, where the page states it. Within an inserted second that
    /// is already the new value, as in the kernel, so that UTC's repeated label plus the offset is TAI.
    #[must_use]
    pub fn tai_minus_utc_sec(&self, page_ns: i128) -> Option<i16> {
        let at_reference = self.tai_minus_utc_sec?;
        let Some(leap) = self.leap else {
            return Some(at_reference);
        };
        // TAI - c never changes, because both run evenly. Before the leap `c` equals UTC, so TAI - c is
        // the offset from before the leap, at the reference too: (TAI - UTC) - (c - UTC).
        let before = at_reference - leap.reference_shift_sec;
        Some(if leap.count(page_ns) < leap.joint_ns() {
            before
        } else {
            before + leap.sign()
        })
    }
}

fn shifted(page_ns: i128, seconds: i16, bound_ns: i128) -> Label {
    let epoch_ns = page_ns + i128::from(seconds) * NS_PER_SEC;
    Label {
        epoch_ns,
        earliest_ns: epoch_ns - bound_ns,
        latest_ns: epoch_ns + bound_ns,
    }
}

impl Leap {
    /// Finds the leap second that the page announces or has just had. `None` where it states none.
    fn near(reference: &Reference, utc_shift_sec: i16) -> Option<Self> {
        let utc_sec = i128::from(reference.time_sec) + i128::from(utc_shift_sec);
        let (month_start, month_end) = utc_month(utc_sec);
        let last_day = month_end - utc_sec <= SEC_PER_DAY;
        let (inserted, edge_sec, reference_shift_sec) = match reference.leap_indicator {
            LeapIndicator::PrePositive => (true, month_end, 0),
            LeapIndicator::PreNegative => (false, month_end, 0),
            // The leap second itself. The kernel's UTC repeats the last second of the month, and others
            // repeat the first second of the next.
            LeapIndicator::Positive if utc_sec + 1 == month_end => (true, month_end, 1),
            LeapIndicator::Positive if utc_sec == month_start => (true, month_start, 0),
            // No other second can be a leap second. The page contradicts itself, and its time is used
            // without a leap.
            LeapIndicator::Positive => return None,
            // A deletion going on now, in RFC PATCH v4 only. A deleted second has no length, so the
            // reference is just before or just after it.
            LeapIndicator::Negative if last_day => (false, month_end, 0),
            LeapIndicator::Negative => (false, month_start, -1),
            LeapIndicator::PostPositive => (true, month_start, 1),
            LeapIndicator::PostNegative => (false, month_start, -1),
            LeapIndicator::None | LeapIndicator::Unknown(_) => return None,
        };
        Some(Self {
            count_shift_sec: utc_shift_sec + reference_shift_sec,
            reference_shift_sec,
            edge_ns: edge_sec * NS_PER_SEC,
            inserted,
        })
    }

    /// `L` of the table above.
    fn sign(&self) -> i16 {
        if self.inserted { 1 } else { -1 }
    }

    /// Returns `c` at the page's time.
    fn count(&self, page_ns: i128) -> i128 {
        page_ns + i128::from(self.count_shift_sec) * NS_PER_SEC
    }

    /// Returns the value of `c` at which strict UTC jumps: back by an inserted second, ahead by a deleted
    /// one.
    fn joint_ns(&self) -> i128 {
        if self.inserted {
            self.edge_ns
        } else {
            self.edge_ns - NS_PER_SEC
        }
    }

    /// Returns the label of `c`, and the smallest interval that holds the labels of all `c` within
    /// `bound_ns`. Every timescale but strict UTC with an insertion rises all along, so there the labels of
    /// the two ends are the interval's ends.
    fn hull(&self, smear: Smear, c: i128, bound_ns: i128) -> Label {
        let (first, last) = (c - bound_ns, c + bound_ns);
        let epoch_ns = self.utc(smear, c).0;
        let mut earliest_ns = self.utc(smear, first).0;
        let mut latest_ns = self.utc(smear, last).1;
        let joint_ns = self.joint_ns();
        if matches!(smear, Smear::Strict) && self.inserted && first < joint_ns && joint_ns <= last {
            // UTC rises to `joint`, where it falls back by a second. So labels close to `joint` (just
            // before it) and `joint` - 1 s (at it) occur within the interval as well.
            earliest_ns = earliest_ns.min(joint_ns - NS_PER_SEC);
            latest_ns = latest_ns.max(joint_ns);
        }
        Label {
            epoch_ns,
            earliest_ns,
            latest_ns,
        }
    }

    /// Returns UTC at `c`, rounded down and rounded up.
    fn utc(&self, smear: Smear, c: i128) -> (i128, i128) {
        let sign = i128::from(self.sign());
        let (start_ns, span_ns) = match smear {
            Smear::Strict => (self.joint_ns(), 0),
            Smear::NoonLinear => (
                self.edge_ns - 43_200 * NS_PER_SEC,
                (SEC_PER_DAY + sign) * NS_PER_SEC,
            ),
            Smear::Sls => (self.edge_ns + (sign - 1000) * NS_PER_SEC, 1000 * NS_PER_SEC),
        };
        let since_start = c - start_ns;
        if since_start < 0 {
            (c, c)
        } else if since_start >= span_ns {
            let after = c - sign * NS_PER_SEC;
            (after, after)
        } else {
            // The smear: `span` seconds of `c` become `span - sign` seconds, evenly.
            let smeared = since_start * (span_ns - sign * NS_PER_SEC);
            let floor = smeared.div_euclid(span_ns);
            let ceil = floor + i128::from(smeared.rem_euclid(span_ns) != 0);
            (start_ns + floor, start_ns + ceil)
        }
    }
}

/// Returns the first second of the UTC month that holds `utc_sec`, and of the month after it.
pub(crate) fn utc_month(utc_sec: i128) -> (i128, i128) {
    let (year, month) = civil_month(utc_sec.div_euclid(SEC_PER_DAY));
    let (next_year, next_month) = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    (
        days_before(year, month) * SEC_PER_DAY,
        days_before(next_year, next_month) * SEC_PER_DAY,
    )
}

// The Gregorian calendar in years that begin in March, so that the leap day is the last day of a year. An
// era is 400 years, whose 146,097 days repeat exactly.
const DAYS_PER_ERA: i128 = 146_097;
/// From the first day of an era, 0000-03-01, to 1970-01-01.
const EPOCH_FROM_ERA_DAYS: i128 = 719_468;

/// Returns the calendar year and month (1 to 12) of a day.
fn civil_month(days_since_1970: i128) -> (i128, i128) {
    let days = days_since_1970 + EPOCH_FROM_ERA_DAYS;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day = days.rem_euclid(DAYS_PER_ERA);
    // Leap days are taken out first: one in 1,460 days, none in a century, one again in an era. The years
    // that remain have 365 days.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // Counted from March, five months of 31, 30, 31, 30, 31 days have 153 days, and then it repeats.
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (era * 400 + year + i128::from(month <= 2), month)
}

/// Returns the days from 1970-01-01 to the first day of a month.
fn days_before(year: i128, month: i128) -> i128 {
    let march_year = year - i128::from(month <= 2);
    let era = march_year.div_euclid(400);
    let year_of_era = march_year.rem_euclid(400);
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5;
    era * DAYS_PER_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
        - EPOCH_FROM_ERA_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_month_of_a_gregorian_cycle_starts_where_the_one_before_it_ends() {
        let mut expected_start = 0;
        for year in 1970..2370_i128 {
            for month in 1..=12_i128 {
                let leap_year = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
                let days = match month {
                    2 if leap_year => 29,
                    2 => 28,
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                let end = expected_start + days * SEC_PER_DAY;
                for second in [expected_start, expected_start + 1, end - 1] {
                    assert_eq!(utc_month(second), (expected_start, end), "{year}-{month}");
                }
                expected_start = end;
            }
        }
    }
}
