//! Whether a clock tells TAI or UTC: decided by intervals, or not at all.

use crate::clock::VmClock;
use crate::counter::Counter;
use crate::error::Error;
use crate::seqlock::SharedWords;
use crate::time::NS_PER_SEC;
use crate::time::leap::Timescale;
use crate::time::reading::Reading;

/// What TAI - UTC can be, in nanoseconds: by what a page may state (10 s in 1972, 37 s since 2017).
const LEAST_TAI_MINUS_UTC_NS: i128 = 10 * NS_PER_SEC;
const MOST_TAI_MINUS_UTC_NS: i128 = 255 * NS_PER_SEC;

/// How often to begin again where the page changed meanwhile, which could have been a step.
const TRIES: usize = 10;

/// From the least to the most, both included.
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

/// Which timescale `device_ns` tells: see [`super::PtpClock::timescale`].
pub(super) fn compare<M: SharedWords, C: Counter + Clone>(
    page: &VmClock<M, C>,
    device_ns: impl Fn() -> Result<i64, Error>,
) -> Result<Option<Timescale>, Error> {
    let mut tai = page.in_timescale(Timescale::Tai);
    let mut utc = page.in_timescale(Timescale::Utc);
    for _ in 0..TRIES {
        let seq = tai.snapshot()?.seq_count;
        let (tai_before, utc_before) = (lay(&mut tai)?, lay(&mut utc)?);
        let device_ns = device_ns()?;
        let (utc_after, tai_after) = (lay(&mut utc)?, lay(&mut tai)?);
        if tai.snapshot()?.seq_count != seq {
            continue;
        }
        let between = |before: Option<Interval>, after: Option<Interval>| {
            before.zip(after).map(|(before, after)| before.hull(after))
        };
        let (tai_lay, utc_lay) = (
            between(tai_before, tai_after),
            between(utc_before, utc_after),
        );
        if tai_lay.is_none() && utc_lay.is_none() {
            // Says why.
            utc.read()?;
        }
        return Ok(decide(device_ns, tai_lay, utc_lay));
    }
    Ok(None)
}

/// Where the timescale lies now; `None` where the page does not give it.
fn lay<M: SharedWords, C: Counter>(page: &mut VmClock<M, C>) -> Result<Option<Interval>, Error> {
    match page.read() {
        Ok(reading) => Ok(Some(reading.into())),
        Err(Error::Timescale { .. } | Error::NoTaiOffset { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn decide(device_ns: i64, tai: Option<Interval>, utc: Option<Interval>) -> Option<Timescale> {
    let in_tai = tai.is_some_and(|tai| tai.holds(device_ns));
    let in_utc = utc.is_some_and(|utc| utc.holds(device_ns));
    // Where a timescale that the page does not give can be.
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

    /// What `compare` says, and how often it asked, of a clock that tells `ahead_sec` after the page's TAI
    /// and while whose time is asked the page's steps by `steps_sec`, as often as there is one.
    fn compared(ahead_sec: i64, steps_sec: &[u64]) -> (Option<Timescale>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let fields = RawFields {
            counter_id: CpuCounter.id(),
            time_type: VMCLOCK_TIME_TAI,
            flags: VMCLOCK_FLAG_TAI_OFFSET_VALID,
            tai_offset_sec: -37,
            clock_status: VMCLOCK_STATUS_SYNCHRONIZED,
            counter_value: CpuCounter.read(),
            // So slow that its time stands.
            counter_period_shift: 60,
            counter_period_frac_sec: 1,
            time_sec: TAI_SEC,
            ..blank()
        };
        let (layout, header) = (PageLayout::default(), PageHeader::default());
        let writer = PageWriter::create(&path, &layout, header, &fields).unwrap();
        let writer = RefCell::new((writer, steps_sec.iter()));
        let page = VmClock::open(Some(&path), Options::default()).unwrap();
        let asked = RefCell::new(0);
        let told = compare(&page, || {
            *asked.borrow_mut() += 1;
            let (writer, steps) = &mut *writer.borrow_mut();
            if let Some(step_sec) = steps.next() {
                writer.update(|fields| fields.time_sec += step_sec);
            }
            Ok((TAI_SEC.cast_signed() + ahead_sec) * 1_000_000_000)
        });
        (told.unwrap(), asked.into_inner())
    }

    #[test]
    fn a_page_that_steps_while_the_clock_is_read_is_compared_again() {
        // Between where the page's TAI lay before and after, where it never was.
        assert_eq!(compared(15, &[30]), (None, 2));
        // Where it lies from then on.
        assert_eq!(compared(1000, &[1000]), (Some(Timescale::Tai), 2));
        assert_eq!(compared(963, &[1000]), (Some(Timescale::Utc), 2));
        // An update that changes nothing is not told from one that does.
        assert_eq!(compared(0, &[0]), (Some(Timescale::Tai), 2));
    }

    #[test]
    fn a_page_that_changes_all_the_while_decides_nothing() {
        assert_eq!(compared(0, &[0; TRIES]), (None, TRIES));
    }

    #[test]
    fn a_clock_within_one_timescale_alone_tells_that() {
        let (tai, utc) = (around(TAI, 1000), around(NOW, 1000));
        assert_eq!(decide(at(TAI), tai, utc), Some(Timescale::Tai));
        assert_eq!(decide(at(NOW + 1000), tai, utc), Some(Timescale::Utc));
    }

    #[test]
    fn a_clock_outside_both_or_within_both_tells_neither() {
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
    fn a_timescale_that_the_page_does_not_give_may_be_anywhere_that_it_can_be() {
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
        // Where UTC can be is not where it is.
        assert_eq!(decide(at(NOW), around(TAI, 1000), None), None);
        assert_eq!(decide(at(NOW), None, None), None);
    }

    proptest! {
        #[test]
        fn no_answer_is_wrong_while_the_intervals_are_true(
            offset_sec in 10..=255_i128,
            tai_bound in (0..40 * NS_PER_SEC, 0..40 * NS_PER_SEC),
            utc_bound in (0..40 * NS_PER_SEC, 0..40 * NS_PER_SEC),
            given in (any::<bool>(), any::<bool>()),
            tells_tai in any::<bool>(),
        ) {
            let tai = NOW + offset_sec * NS_PER_SEC;
            let interval = |middle: i128, (below, above): (i128, i128), given: bool| {
                given.then_some(Interval { least: middle - below, most: middle + above })
            };
            let (told, truth) = if tells_tai { (tai, Timescale::Tai) } else { (NOW, Timescale::Utc) };
            let answer = decide(at(told), interval(tai, tai_bound, given.0), interval(NOW, utc_bound, given.1));
            prop_assert!(answer.is_none() || answer == Some(truth));
        }
    }
}
