//! The system clock compared with the page.

use crate::clock::VmClock;
use crate::counter::{self, Counter};
use crate::error::Error;
use crate::seqlock::SharedWords;
use crate::source::kernel::clock::RealtimeBracket;
use crate::time::conversion::Conversion;
use crate::time::fixed;
use crate::time::reading::Reading;

/// How far the system clock is ahead of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemOffset {
    /// CLOCK_REALTIME - page, in nanoseconds: positive where the system clock is ahead.
    pub offset_ns: i64,
    /// How far that may be off: the page's bound, and half the width of the bracket around the
    /// system clock's reading. `None`: the page states no bound.
    pub max_error_ns: Option<u64>,
}

/// The page's time within a bracket: its middle, and how far the truth may be from that.
struct PageTime {
    middle_ns: i128,
    max_error_ns: Option<u64>,
}

impl<M: SharedWords, C: Counter> VmClock<M, C> {
    /// Compares CLOCK_REALTIME with the page, by the narrowest of a few brackets. For timescales that
    /// follow UTC. The system clock is read through the vDSO.
    ///
    /// # Errors
    ///
    /// [`Error::NotUtc`], [`Error::Disrupted`] where the machine was disrupted at every try, and
    /// those of [`VmClock::now_ns`].
    pub fn system_offset(&mut self) -> Result<SystemOffset, Error> {
        self.require_utc()?;
        let bracket = self.continuous_bracket()?;
        let conversion = self.conversion()?;
        conversion.require_near(bracket.counter)?;
        // A counter that moves in steps may have shown the last value for up to a step already.
        let last_counter = bracket
            .counter
            .wrapping_add(bracket.width_ticks)
            .wrapping_add(counter::step_ticks(&self.counter));
        let page = page_time(conversion, bracket.counter, last_counter)?;
        let offset_ns = i64::try_from(bracket.realtime_ns - page.middle_ns);
        Ok(SystemOffset {
            offset_ns: offset_ns.map_err(|_| Error::OutOfRange)?,
            max_error_ns: page.max_error_ns,
        })
    }

    /// The narrowest of several brackets, during which the machine was not disrupted.
    ///
    /// The page converts the bracket afterwards, so a disruption in between needs a new bracket. A
    /// page that is disrupted at every try has no time to offer.
    fn continuous_bracket(&mut self) -> Result<RealtimeBracket, Error> {
        const TRIES: usize = 3;
        for _ in 0..TRIES {
            let token = self.continuity_token()?;
            let bracket = RealtimeBracket::narrowest(&self.counter);
            if self.is_continuous(&token)? {
                return Ok(bracket);
            }
        }
        Err(Error::Disrupted)
    }
}

/// Returns the page's time between two counters, good for every instant between them.
fn page_time(conversion: &Conversion, first: u64, last: u64) -> Result<PageTime, Error> {
    let start = conversion.reading(first)?;
    let end = conversion.reading(last)?;
    let middle_ns = (i128::from(start.epoch_ns) + i128::from(end.epoch_ns)).div_euclid(2);
    // If UTC steps back between the two ends, it exceeds both of them in between, on either side by
    // less than the bracket's width.
    let beyond_ns = if end.epoch_ns < start.epoch_ns {
        conversion.span_ns(first, last)
    } else {
        0
    };
    let max_error_ns = match [start, end].map(|reading| whole_interval(&reading)) {
        [Some((a, b)), Some((c, d))] => {
            let earliest = a.min(c).min(i128::from(start.epoch_ns)) - beyond_ns;
            let latest = b.max(d).max(i128::from(end.epoch_ns)) + beyond_ns;
            // One more, because the middle was rounded.
            let side = (middle_ns - earliest).max(latest - middle_ns) + 1;
            Some(fixed::saturate(side.unsigned_abs()))
        }
        _ => None,
    };
    Ok(PageTime {
        middle_ns,
        max_error_ns,
    })
}

/// Returns the interval that holds the truth, also beyond 64 bits: an end that was cut off there is at
/// most the maximum error away from the time.
fn whole_interval(reading: &Reading) -> Option<(i128, i128)> {
    let error = i128::from(reading.max_error_ns?);
    let epoch = i128::from(reading.epoch_ns);
    let earliest = match reading.earliest_ns? {
        i64::MIN => epoch - error,
        earliest => earliest.into(),
    };
    let latest = match reading.latest_ns? {
        i64::MAX => epoch + error,
        latest => latest.into(),
    };
    Some((earliest, latest))
}
