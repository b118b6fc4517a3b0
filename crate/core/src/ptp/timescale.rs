//! Determines by intervals whether a clock gives TAI or UTC.

use crate::abi::TAI_MINUS_UTC_RANGE_SEC;
use crate::clock::VmClock;
use crate::counter::Counter;
use crate::error::Error;
use crate::seqlock::SharedWords;
use crate::time::NS_PER_SEC;
use crate::time::reading::Reading;
use crate::timescale::Timescale;

/// The least and the greatest TAI - UTC that a page may state, in nanoseconds.
const LEAST_TAI_MINUS_UTC_NS: i128 = *TAI_MINUS_UTC_RANGE_SEC.start() as i128 * NS_PER_SEC;
const MOST_TAI_MINUS_UTC_NS: i128 = *TAI_MINUS_UTC_RANGE_SEC.end() as i128 * NS_PER_SEC;

/// The number of attempts if the page changes during the comparison. The change may be a step.
const TRIES: usize = 10;

/// A range of nanoseconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    least: i128,
    most: i128,
}

impl Interval {
    fn holds(self, ns: i64) -> bool {
        (self.least..=self.most).contains(&i128::from(ns))
    }

    fn hull(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            most: self.most.max(other.most),
        }
    }

    fn moved(self, by_least: i128, by_most: i128) -> Self {
        Self {
            least: self.least + by_least,
            most: self.most + by_most,
        }
    }
}

impl From<Reading> for Interval {
    fn from(reading: Reading) -> Self {
        Self {
            least: reading.earliest_ns.unwrap_or(reading.epoch_ns).into(),
            most: reading.latest_ns.unwrap_or(reading.epoch_ns).into(),
        }
    }
}

/// Determines the timescale of the clock that `device_ns` reads: see [`super::PtpClock::timescale`].
pub(super) fn compare<M: SharedWords, C: Counter + Clone>(
    page: &VmClock<M, C>,
    device_ns: impl Fn() -> Result<i64, Error>,
) -> Result<Option<Timescale>, Error> {
    let mut tai = page.in_timescale(Timescale::Tai);
    let mut utc = page.in_timescale(Timescale::Utc);
    for _ in 0..TRIES {
        let seq = tai.snapshot()?.seq_count;
        let (tai_before, utc_before) = (interval(&mut tai)?, interval(&mut utc)?);
        let device_ns = device_ns()?;
        let (utc_after, tai_after) = (interval(&mut utc)?, interval(&mut tai)?);
        if tai.snapshot()?.seq_count != seq {
            continue;
        }
        let hull = |before: Option<Interval>, after: Option<Interval>| {
            before.zip(after).map(|(before, after)| before.hull(after))
        };
        let (tai_hull, utc_hull) = (hull(tai_before, tai_after), hull(utc_before, utc_after));
        if tai_hull.is_none() && utc_hull.is_none() {
            // The page gives neither timescale; this returns the reason.
            utc.read()?;
        }
        return Ok(decide(device_ns, tai_hull, utc_hull));
    }
    Ok(None)
}

/// Returns the interval that holds the timescale now; `None` if the page does not give the timescale.
fn interval<M: SharedWords, C: Counter>(
    page: &mut VmClock<M, C>,
) -> Result<Option<Interval>, Error> {
    match page.read() {
        Ok(reading) => Ok(Some(reading.into())),
        Err(Error::Timescale { .. } | Error::NoTaiOffset { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the one timescale that `device_ns` can be in, given the intervals that the page gives.
fn decide(device_ns: i64, tai: Option<Interval>, utc: Option<Interval>) -> Option<Timescale> {
    let in_tai = tai.is_some_and(|tai| tai.holds(device_ns));
    let in_utc = utc.is_some_and(|utc| utc.holds(device_ns));
    // A timescale that the page does not give is anywhere within the range of TAI - UTC.
    let may_be_utc = in_utc
        || utc.is_none()
            && tai.is_some_and(|tai| {
                tai.moved(-MOST_TAI_MINUS_UTC_NS, -LEAST_TAI_MINUS_UTC_NS)
                    .holds(device_ns)
            });
    let may_be_tai = in_tai
        || tai.is_none()
            && utc.is_some_and(|utc| {
                utc.moved(LEAST_TAI_MINUS_UTC_NS, MOST_TAI_MINUS_UTC_NS)
                    .holds(device_ns)
            });
    match (in_tai, in_utc) {
        (true, false) if !may_be_utc => Some(Timescale::Tai),
        (false, true) if !may_be_tai => Some(Timescale::Utc),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;
    use crate::abi::{
        VMCLOCK_FLAG_TAI_OFFSET_VALID, VMCLOCK_STATUS_SYNCHRONIZED, VMCLOCK_TIME_TAI,
    };
    use crate::clock::Options;
    use crate::counter::CpuCounter;
    use crate::snapshot::RawFields;
    use crate::writer::{PageHeader, PageLayout, PageWriter, blank};

    const TAI_SEC: u64 = 1_795_000_037;
    const TAI: i128 = TAI_SEC as i128 * NS_PER_SEC;
    const NOW: i128 = TAI - 37 * NS_PER_SEC;

    fn around(middle: i128, by: i128) -> Option<Interval> {
        Some(Interval {
            least: middle - by,
            most: middle + by,
        })
    }

    fn at(ns: i128) -> i64 {
        ns.try_into().unwrap()
    }

    /// Compares a page with a clock that is `ahead_sec` ahead of the page's TAI at the start. Each read of
    /// the clock steps the page by the next of `steps_sec`. Returns the result and the number of reads.
    fn compared(ahead_sec: i64, steps_sec: &[u64]) -> (Option<Timescale>, usize) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let fields = RawFields {
            counter_id: CpuCounter.id(),
            time_type: VMCLOCK_TIME_TAI,
            flags: VMCLOCK_FLAG_TAI_OFFSET_VALID,
            tai_offset_sec: -37,
            clock_status: VMCLOCK_STATUS_SYNCHRONIZED,
            counter_value: CpuCounter.read(),
            // So slow that the page's time does not advance.
            counter_period_shift: 60,
            counter_period_frac_sec: 1,
            time_sec: TAI_SEC,
            ..blank()
        };
        let (layout, header) = (PageLayout::default(), PageHeader::default());
        let writer = PageWriter::create(&path, &layout, header, &fields).unwrap();
        let writer = RefCell::new((writer, steps_sec.iter()));
        let page = VmClock::open(&path, Options::default()).unwrap();
        let reads = RefCell::new(0);
        let found = compare(&page, || {
            *reads.borrow_mut() += 1;
            let (writer, steps) = &mut *writer.borrow_mut();
            if let Some(step_sec) = steps.next() {
                writer.update(|fields| fields.time_sec += step_sec);
            }
            Ok((TAI_SEC.cast_signed() + ahead_sec) * 1_000_000_000)
        });
        (found.unwrap(), reads.into_inner())
    }

    #[test]
    fn a_page_that_steps_during_the_comparison_is_compared_again() {
        // Between the page's TAI before the step and after it, where TAI never was.
        assert_eq!(compared(15, &[30]), (None, 2));
        // The page's TAI, and UTC, after the step.
        assert_eq!(compared(1000, &[1000]), (Some(Timescale::Tai), 2));
        assert_eq!(compared(963, &[1000]), (Some(Timescale::Utc), 2));
        // An update without a step counts as a change too.
        assert_eq!(compared(0, &[0]), (Some(Timescale::Tai), 2));
    }

    #[test]
    fn a_page_that_changes_at_every_attempt_is_inconclusive() {
        assert_eq!(compared(0, &[0; TRIES]), (None, TRIES));
    }

    #[test]
    fn a_clock_within_one_timescales_interval_gives_that_timescale() {
        let (tai, utc) = (around(TAI, 1000), around(NOW, 1000));
        assert_eq!(decide(at(TAI), tai, utc), Some(Timescale::Tai));
        assert_eq!(decide(at(NOW + 1000), tai, utc), Some(Timescale::Utc));
    }

    #[test]
    fn a_clock_outside_both_intervals_or_within_both_is_inconclusive() {
        let (tai, utc) = (around(TAI, 1000), around(NOW, 1000));
        for ns in [0, NOW + 1001, TAI - 1001, TAI + 37 * NS_PER_SEC] {
            assert_eq!(decide(at(ns), tai, utc), None);
        }
        let (tai, utc) = (around(TAI, 20 * NS_PER_SEC), around(NOW, 20 * NS_PER_SEC));
        assert_eq!(decide(at(NOW + 18 * NS_PER_SEC), tai, utc), None);
        assert_eq!(
            decide(at(NOW + 21 * NS_PER_SEC), tai, utc),
            Some(Timescale::Tai)
        );
    }

    #[test]
    fn a_timescale_that_the_page_does_not_give_may_be_10_to_255_s_away() {
        assert_eq!(
            decide(at(TAI), around(TAI, 1000), None),
            Some(Timescale::Tai)
        );
        assert_eq!(
            decide(at(NOW), None, around(NOW, 1000)),
            Some(Timescale::Utc)
        );
        // UTC could be as little as 10 s behind.
        assert_eq!(decide(at(TAI), around(TAI, 10 * NS_PER_SEC), None), None);
        assert_eq!(decide(at(NOW), None, around(NOW, 10 * NS_PER_SEC)), None);
        // A time that UTC may have is not known to be UTC.
        assert_eq!(decide(at(NOW), around(TAI, 1000), None), None);
        assert_eq!(decide(at(NOW), None, None), None);
    }

    proptest! {
        #[test]
        fn the_result_is_right_or_none_if_the_intervals_are_true(
            offset_sec in 10..=255_i128,
            tai_bound in (0..40 * NS_PER_SEC, 0..40 * NS_PER_SEC),
            utc_bound in (0..40 * NS_PER_SEC, 0..40 * NS_PER_SEC),
            given in (any::<bool>(), any::<bool>()),
            gives_tai in any::<bool>(),
        ) {
            let tai = NOW + offset_sec * NS_PER_SEC;
            let interval = |middle: i128, (below, above): (i128, i128), given: bool| {
                given.then_some(Interval { least: middle - below, most: middle + above })
            };
            let (device, truth) = if gives_tai { (tai, Timescale::Tai) } else { (NOW, Timescale::Utc) };
            let answer = decide(at(device), interval(tai, tai_bound, given.0), interval(NOW, utc_bound, given.1));
            prop_assert!(answer.is_none() || answer == Some(truth));
        }
    }
}
