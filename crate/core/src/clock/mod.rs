//! The clock: a page, a counter and the arithmetic, made into readings.
//!
//! A reader keeps what follows from the page for as long as the page's sequence number stands
//! ([`seqlock::counter_if_unchanged`]), so a stamp is one counter read, one look at the sequence
//! number and one multiplication for each figure. All checks (status, counter, period, timescale)
//! are part of what is kept: a page that may not be used has no short way.

use std::hint;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::counter::{self, Counter, CpuCounter};
use crate::error::Error;
use crate::page::{self, Page};
use crate::seqlock::{self, SharedWords, Stuck};
use crate::snapshot::{Abi, Snapshot};
use crate::time::NS_PER_SEC;
use crate::time::conversion::{ClockPolicy, Conversion, Converter, FastPath};
use crate::time::fixed;
use crate::time::leap::Timescale;
use crate::time::reading::{Continuity, Reading, SlowPath, SystemOffset, TimePoint};

/// How long a reader waits for a page that is being updated: what the kernel's driver waits.
pub const UPDATE_TIMEOUT: Duration = Duration::from_millis(100);

const NS_PER_MS: i64 = 1_000_000;
const MS_PER_NS: f64 = 1e-6;

/// How a page is to be read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The timescale of all readings.
    pub timescale: Timescale,
    /// Which document the page follows.
    pub abi: Abi,
    /// How far the counter's rate may be off, in parts per billion of it, on pages that state no
    /// maximum error of their period. `None`: then the bound is unknown.
    pub assumed_drift_ppb: Option<u32>,
    /// Refuse time from a page whose clock is free-running.
    pub require_synchronized: bool,
    /// Never return a time before one that this clock returned earlier. A page update or a leap
    /// second may step time back; then the last time is held, and the bound grows by what was held.
    pub non_decreasing: bool,
    /// Users besides root and the caller who may own a page that is a regular file.
    pub trusted_uids: Vec<u32>,
}

/// A clock that reads one page. Each reader has its own, with its private cache; clones share the
/// mapping.
#[derive(Debug)]
pub struct VmClock<M = Page, C = CpuCounter> {
    memory: Arc<M>,
    size_bytes: u32,
    counter: C,
    options: Options,
    /// Those of `conversion`.
    short: FastPath,
    conversion: Option<Conversion>,
    /// How many states of the page `short` has been made for.
    states_seen: u64,
    /// The odd sequence number that a read timed out on.
    stuck_seq: Option<u32>,
    /// The latest time returned, for `non_decreasing`; before the first, one that no time is below.
    last_ns: i64,
}

impl<M, C: Clone> Clone for VmClock<M, C> {
    fn clone(&self) -> Self {
        Self {
            memory: Arc::clone(&self.memory),
            size_bytes: self.size_bytes,
            counter: self.counter.clone(),
            options: self.options.clone(),
            short: self.short.clone(),
            conversion: self.conversion.clone(),
            states_seen: self.states_seen,
            stuck_seq: self.stuck_seq,
            last_ns: self.last_ns,
        }
    }
}

impl VmClock {
    /// Opens the page at `path`, or at [`page::default_path`] if there is none.
    ///
    /// A page without time opens too: continuity works on it, and time gives [`Error::NoTime`].
    ///
    /// # Errors
    ///
    /// Those of [`Page::open`].
    pub fn open(path: Option<&Path>, options: Options) -> Result<Self, Error> {
        let path = path.map_or_else(page::default_path, PathBuf::from);
        let page = Page::open(path, &options.trusted_uids)?;
        let size_bytes = page.size_bytes();
        Ok(Self::new(Arc::new(page), size_bytes, CpuCounter, options))
    }

    /// The path as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.memory.path()
    }
}

impl<M: SharedWords, C: Counter> VmClock<M, C> {
    /// A clock over memory that holds a page of `size_bytes`, with a counter of the caller's.
    pub fn new(memory: Arc<M>, size_bytes: u32, counter: C, options: Options) -> Self {
        Self {
            memory,
            size_bytes,
            counter,
            options,
            short: FastPath::NONE,
            conversion: None,
            states_seen: 0,
            stuck_seq: None,
            last_ns: i64::MIN,
        }
    }

    /// The timescale of all readings.
    #[must_use]
    pub fn timescale(&self) -> Timescale {
        self.options.timescale
    }

    /// Which document the page is read by.
    #[must_use]
    pub fn abi(&self) -> Abi {
        self.options.abi
    }

    /// The memory that the page lies in.
    #[must_use]
    pub fn memory(&self) -> &Arc<M> {
        &self.memory
    }

    /// A reader of the same page in another timescale.
    pub(crate) fn in_timescale(&self, timescale: Timescale) -> Self
    where
        C: Clone,
    {
        let options = Options {
            timescale,
            non_decreasing: false,
            ..self.options.clone()
        };
        let memory = Arc::clone(&self.memory);
        Self::new(memory, self.size_bytes, self.counter.clone(), options)
    }

    /// The time now, in nanoseconds since the timescale's epoch.
    ///
    /// # Errors
    ///
    /// [`Error::NoTime`], [`Error::Unsynchronized`], [`Error::WrongCounter`],
    /// [`Error::CounterMismatch`], [`Error::BadPeriod`], [`Error::OutOfRange`],
    /// [`Error::NoTaiOffset`], [`Error::Timescale`], [`Error::VersionChanged`], [`Error::Timeout`].
    #[inline]
    pub fn now_ns(&mut self) -> Result<i64, Error> {
        match self.fast_now_ns() {
            Ok(ns) => Ok(ns),
            Err(untold) => self.slow_now_ns(untold),
        }
    }

    /// [`VmClock::now_ns`] where nothing stands in the way of it, which is nearly always. An error says
    /// nothing but that [`VmClock::slow_now_ns`] has to tell.
    ///
    /// # Errors
    ///
    /// [`SlowPath`].
    #[inline(always)]
    pub fn fast_now_ns(&mut self) -> Result<i64, SlowPath> {
        let counter = self.fast_counter()?;
        let ns = self
            .short
            .live_ns
            .at(counter)
            .ok_or(SlowPath::At(counter))?;
        Ok(self.held(ns.cast_signed()))
    }

    /// [`VmClock::now_ns`] right after [`VmClock::fast_now_ns`] did not tell: see [`SlowPath`].
    ///
    /// # Errors
    ///
    /// As [`VmClock::now_ns`].
    #[cold]
    pub fn slow_now_ns(&mut self, untold: SlowPath) -> Result<i64, Error> {
        let along = match untold {
            SlowPath::At(counter) => self.short.exact_ns(counter),
            SlowPath::Page => None,
        };
        let ns = match along {
            Some(ns) => ns,
            None => self.ns_anew()?,
        };
        Ok(self.held(ns))
    }

    /// The time now in milliseconds since 1970, as `Date.now()` but with its fraction: the double
    /// that is nearest to the whole nanoseconds. For timescales that follow UTC.
    ///
    /// # Errors
    ///
    /// [`Error::NotUtc`], and those of [`VmClock::now_ns`].
    #[inline]
    pub fn now_ms(&mut self) -> Result<f64, Error> {
        match self.fast_now_ms() {
            Ok(ms) => Ok(ms),
            Err(untold) => self.slow_now_ms(untold),
        }
    }

    /// [`VmClock::now_ms`], as [`VmClock::fast_now_ns`].
    ///
    /// # Errors
    ///
    /// [`SlowPath`].
    #[inline(always)]
    pub fn fast_now_ms(&mut self) -> Result<f64, SlowPath> {
        let counter = self.fast_counter()?;
        let bits = self.short.live_ms_bits.at(counter);
        let bits = bits.ok_or(SlowPath::At(counter))?;
        // What is held back is held in nanoseconds. To keep the counter that long would take a register
        // more from all clocks.
        if self.options.non_decreasing {
            let ns = self.short.live_ns.at(counter).ok_or(SlowPath::Page)?;
            self.goes_on_to(ns.cast_signed()).ok_or(SlowPath::Page)?;
        }
        Ok(f64::from_bits(bits))
    }

    /// [`VmClock::now_ms`] right after [`VmClock::fast_now_ms`] did not tell: see [`SlowPath`].
    ///
    /// # Errors
    ///
    /// As [`VmClock::now_ms`].
    #[cold]
    pub fn slow_now_ms(&mut self, untold: SlowPath) -> Result<f64, Error> {
        self.require_utc()?;
        let ns = self.slow_now_ns(untold)?;
        // The whole milliseconds are exact and the rest has their sign, so nothing cancels out. The
        // product is off by less than 2^-52 ms, and from a minute after 1970 on no nanosecond lies so
        // near to the middle between two doubles: the sum is the nearest one.
        Ok((ns / NS_PER_MS) as f64 + (ns % NS_PER_MS) as f64 * MS_PER_NS)
    }

    /// The time now with its bound, and what the page says in the same breath.
    ///
    /// # Errors
    ///
    /// As [`VmClock::now_ns`].
    #[inline]
    pub fn read(&mut self) -> Result<Reading, Error> {
        match self.short_read() {
            Ok(reading) => Ok(reading),
            Err(untold) => self.long_read(untold),
        }
    }

    /// [`VmClock::read`], as [`VmClock::fast_now_ns`].
    ///
    /// # Errors
    ///
    /// [`SlowPath`].
    #[inline(always)]
    pub fn short_read(&mut self) -> Result<Reading, SlowPath> {
        let point = self.fast_time_point()?;
        Ok(self.short.reading(&point))
    }

    /// [`VmClock::read`] right after [`VmClock::short_read`] did not tell: see [`SlowPath`].
    ///
    /// # Errors
    ///
    /// As [`VmClock::now_ns`].
    #[cold]
    pub fn long_read(&mut self, untold: SlowPath) -> Result<Reading, Error> {
        match self.slow_time_point(untold) {
            Some(point) => Ok(self.short.reading(&point)),
            None => self.read_anew(),
        }
    }

    /// What of [`VmClock::read`] changes while [`VmClock::states_seen`] stands, as
    /// [`VmClock::fast_now_ns`]: for whoever keeps the rest of an earlier reading.
    ///
    /// # Errors
    ///
    /// [`SlowPath`].
    #[inline(always)]
    pub fn fast_time_point(&mut self) -> Result<TimePoint, SlowPath> {
        let counter = self.fast_counter()?;
        let untold = SlowPath::At(counter);
        let point = self.short.readings.at(counter).ok_or(untold)?;
        if self.options.non_decreasing {
            self.goes_on_to(point.epoch_ns).ok_or(untold)?;
        }
        Ok(point)
    }

    /// What [`VmClock::fast_time_point`] did not tell right before, where that was for a counter next to a
    /// border between two results: see [`SlowPath`]. `None` says nothing but that [`VmClock::long_read`] has
    /// to tell.
    #[inline]
    pub fn slow_time_point(&mut self, untold: SlowPath) -> Option<TimePoint> {
        let SlowPath::At(counter) = untold else {
            return None;
        };
        let point = self.short.exact_time_point(counter)?;
        if self.options.non_decreasing {
            self.goes_on_to(point.epoch_ns)?;
        }
        Some(point)
    }

    /// How many states of the page this clock has looked at; 0 before the first. Readings of the same
    /// one, taken now, differ in their [`TimePoint`] and in the interval that is made of it, wherever
    /// [`VmClock::fast_time_point`] or [`VmClock::slow_time_point`] gives one.
    #[inline(always)]
    #[must_use]
    pub fn states_seen(&self) -> u64 {
        self.states_seen
    }

    /// The counter now, if the page still stands as it was when the short ways were made.
    #[inline(always)]
    fn fast_counter(&self) -> Result<u64, SlowPath> {
        seqlock::counter_if_unchanged(&*self.memory, &self.counter, self.short.seq)
            .ok_or(SlowPath::Page)
    }

    /// The counter now. Needs no page.
    #[inline]
    pub fn counter(&self) -> u64 {
        self.counter.read()
    }

    /// Converts a counter that was captured after `token` was taken. The bound grows with its
    /// distance from the page's reference, on either side.
    ///
    /// # Errors
    ///
    /// [`Error::Disrupted`] if the machine was disrupted since `token`, and those of
    /// [`VmClock::now_ns`] without [`Error::CounterMismatch`].
    pub fn convert(&mut self, counter: u64, token: &Continuity) -> Result<Reading, Error> {
        self.require_continuous(token)?;
        self.conversion()?.reading(counter)
    }

    /// Prepares to convert many counters by one state of the page.
    ///
    /// # Errors
    ///
    /// As [`VmClock::convert`].
    pub fn converter(&mut self, token: &Continuity) -> Result<Converter<'_>, Error> {
        self.require_continuous(token)?;
        self.conversion()?.converter()
    }

    /// Every field of the page, at one sequence number.
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`].
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        let counter = self.look()?;
        Ok(Snapshot {
            counter,
            ..*self.conversion()?.snapshot()
        })
    }

    /// Whether the page carries time for a counter at all. False exactly where time gives
    /// [`Error::NoTime`].
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`].
    pub fn has_time(&mut self) -> Result<bool, Error> {
        self.refresh()?;
        Ok(!matches!(
            self.conversion()?.mapping(),
            Err(Error::NoTime { .. })
        ))
    }

    /// A token for [`VmClock::is_continuous`] and [`VmClock::convert`].
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`].
    pub fn continuity_token(&mut self) -> Result<Continuity, Error> {
        self.refresh()?;
        Ok(self.conversion()?.continuity)
    }

    /// Whether this is the same machine with the same clock as when `token` was taken.
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`].
    #[inline]
    pub fn is_continuous(&mut self, token: &Continuity) -> Result<bool, Error> {
        if self.short_is_continuous(token) {
            return Ok(true);
        }
        Ok(self.continuity_token()? == *token)
    }

    /// Whether [`VmClock::is_continuous`] is true without a look at more than the sequence number.
    /// False says nothing but that `is_continuous` has to tell.
    #[inline(always)]
    pub fn short_is_continuous(&self, token: &Continuity) -> bool {
        seqlock::unchanged(&*self.memory, self.short.seq)
            && self.short.continuity.as_ref() == Some(token)
    }

    /// Whether the page stands as it did in the last of [`VmClock::states_seen`]: for whoever knows that
    /// there was one, and which token was continuous in it. False says nothing but that
    /// [`VmClock::is_continuous`] has to tell.
    #[inline(always)]
    pub fn short_stands(&self) -> bool {
        seqlock::unchanged(&*self.memory, self.short.seq)
    }

    /// CLOCK_REALTIME held against the page, by the narrowest of a few brackets. For timescales
    /// that follow UTC. The system clock is read by way of the vDSO.
    ///
    /// # Errors
    ///
    /// [`Error::NotUtc`], and those of [`VmClock::now_ns`].
    pub fn system_offset(&mut self) -> Result<SystemOffset, Error> {
        const BRACKETS: usize = 5;
        self.require_utc()?;
        // The bracket is converted by the page as it stands afterwards, so a disruption in between
        // means to begin again. A page that is disrupted at every try has no time to offer.
        let mut tries_left: u8 = 3;
        let (before, width, system_ns) = loop {
            let token = self.continuity_token()?;
            let mut narrowest = self.bracket();
            for _ in 1..BRACKETS {
                let bracket = self.bracket();
                if bracket.1 < narrowest.1 {
                    narrowest = bracket;
                }
            }
            if self.is_continuous(&token)? {
                break narrowest;
            }
            tries_left -= 1;
            if tries_left == 0 {
                return Err(Error::Disrupted);
            }
        };
        let conversion = self.conversion()?;
        conversion.require_near(before)?;
        // The counter may have shown that end for a step already.
        let after = before
            .wrapping_add(width)
            .wrapping_add(counter::step_ticks(&self.counter));
        let first = conversion.reading(before)?;
        let last = conversion.reading(after)?;
        let middle_ns = (i128::from(first.epoch_ns) + i128::from(last.epoch_ns)).div_euclid(2);
        // Where UTC steps back between the two ends, it reaches beyond both of them in between, each
        // way by less than the bracket is wide.
        let beyond_ns = if last.epoch_ns < first.epoch_ns {
            conversion.span_ns(before, after)
        } else {
            0
        };
        let max_error_ns = match [first, last].map(|end| whole_interval(&end)) {
            [Some((a, b)), Some((c, d))] => {
                let earliest = a.min(c).min(i128::from(first.epoch_ns)) - beyond_ns;
                let latest = b.max(d).max(i128::from(last.epoch_ns)) + beyond_ns;
                // One for the middle, which was rounded.
                let side = (middle_ns - earliest).max(latest - middle_ns) + 1;
                Some(fixed::saturate(side.unsigned_abs()))
            }
            _ => None,
        };
        let offset_ns = i64::try_from(system_ns - middle_ns).map_err(|_| Error::OutOfRange)?;
        Ok(SystemOffset {
            offset_ns,
            max_error_ns,
        })
    }

    /// CLOCK_REALTIME between two counter reads: the first of these, their distance, and the time.
    fn bracket(&self) -> (u64, u64, i128) {
        let before = self.counter.read();
        let system = clock_gettime(ClockId::Realtime);
        let after = self.counter.read();
        let system_ns = i128::from(system.tv_sec) * NS_PER_SEC + i128::from(system.tv_nsec);
        (before, after.wrapping_sub(before), system_ns)
    }

    #[cold]
    fn read_anew(&mut self) -> Result<Reading, Error> {
        let mut reading = self.plain_reading()?;
        let held_ns = self.held(reading.epoch_ns);
        if held_ns > reading.epoch_ns {
            let by = held_ns.abs_diff(reading.epoch_ns);
            reading.epoch_ns = held_ns;
            let grown = |ns: u64| fixed::saturate(u128::from(ns) + u128::from(by));
            reading.max_error_ns = reading.max_error_ns.map(grown);
            reading.est_error_ns = reading.est_error_ns.map(grown);
            reading.latest_ns = reading.latest_ns.map(|latest| latest.max(held_ns));
        }
        Ok(reading)
    }

    /// The time before anything is held back.
    fn ns_anew(&mut self) -> Result<i64, Error> {
        let counter = self.look()?;
        match self.short.exact_ns(counter) {
            Some(ns) => Ok(ns),
            None => Ok(self.reading_at(counter)?.epoch_ns),
        }
    }

    /// The reading before anything is held back.
    fn plain_reading(&mut self) -> Result<Reading, Error> {
        let counter = self.look()?;
        self.reading_at(counter)
    }

    /// The reading at a counter that was read under the present state of the page.
    fn reading_at(&self, counter: u64) -> Result<Reading, Error> {
        let along = self.short.readings.at(counter);
        if let Some(point) = along.or_else(|| self.short.exact_time_point(counter)) {
            return Ok(self.short.reading(&point));
        }
        let conversion = self.conversion()?;
        conversion.require_near(counter)?;
        conversion.reading(counter)
    }

    #[inline(always)]
    fn held(&mut self, ns: i64) -> i64 {
        if !self.options.non_decreasing {
            return ns;
        }
        self.last_ns = self.last_ns.max(ns);
        self.last_ns
    }

    /// Makes `ns` the latest time returned, unless that would be a step back.
    #[inline(always)]
    fn goes_on_to(&mut self, ns: i64) -> Option<()> {
        (self.last_ns <= ns).then(|| self.last_ns = ns)
    }

    /// Reads the counter under a state of the page that `conversion` then holds.
    #[inline]
    fn look(&mut self) -> Result<u64, Error> {
        if let Some(conversion) = &self.conversion
            && let Some(counter) =
                seqlock::counter_if_unchanged(&*self.memory, &self.counter, conversion.seq)
        {
            return Ok(counter);
        }
        self.reread()
    }

    /// Brings `conversion` up to the page as it stands, without a counter read where nothing changed.
    #[inline]
    fn refresh(&mut self) -> Result<(), Error> {
        if let Some(conversion) = &self.conversion
            && seqlock::unchanged(&*self.memory, conversion.seq)
        {
            return Ok(());
        }
        self.reread().map(|_| ())
    }

    #[cold]
    fn reread(&mut self) -> Result<u64, Error> {
        let stuck_seq = self.stuck_seq;
        let mut patience = RetryDeadline::default();
        let seen = seqlock::read(&*self.memory, &self.counter, |seq| {
            stuck_seq != Some(seq) && patience.lasts()
        });
        match seen {
            Ok(seen) => {
                self.stuck_seq = None;
                let rules = ClockPolicy {
                    counter_id: self.counter.id(),
                    timescale: self.options.timescale,
                    assumed_drift_ppb: self.options.assumed_drift_ppb,
                    require_synchronized: self.options.require_synchronized,
                };
                // Nothing is kept of a page that cannot be read.
                self.conversion = None;
                self.short = FastPath::NONE;
                self.states_seen = self.states_seen.saturating_add(1);
                let conversion = Conversion::new(&seen, self.size_bytes, self.options.abi, rules)?;
                self.short = conversion.fast_path();
                self.conversion = Some(conversion);
                Ok(seen.counter)
            }
            Err(Stuck { seq }) => {
                // An even number will have moved on; an odd one may stand for ever.
                self.stuck_seq = (seq & 1 == 1).then_some(seq);
                Err(Error::Timeout { seq })
            }
        }
    }

    fn conversion(&self) -> Result<&Conversion, Error> {
        // Present after every successful `look` and `refresh`.
        self.conversion.as_ref().ok_or(Error::Timeout { seq: 1 })
    }

    fn require_utc(&self) -> Result<(), Error> {
        let timescale = self.options.timescale;
        if timescale.is_utc() {
            Ok(())
        } else {
            Err(Error::NotUtc { timescale })
        }
    }

    fn require_continuous(&mut self, token: &Continuity) -> Result<(), Error> {
        if self.is_continuous(token)? {
            Ok(())
        } else {
            Err(Error::Disrupted)
        }
    }
}

/// The interval that holds the truth, beyond what 64 bits hold: an end that was cut off there is at most
/// the error away.
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

/// The wait for a page that is being updated: spins first, because an update takes less than a
/// microsecond, then lets others run, because its writer may be waiting for this CPU.
#[derive(Default)]
struct RetryDeadline {
    looks: u32,
    deadline: Option<Instant>,
    expired: bool,
}

impl RetryDeadline {
    const SPINS: u32 = 200;

    fn lasts(&mut self) -> bool {
        if self.looks == 0 {
            self.deadline = Instant::now().checked_add(UPDATE_TIMEOUT);
        }
        self.looks = self.looks.saturating_add(1);
        if self.looks < Self::SPINS {
            hint::spin_loop();
            return true;
        }
        // Only a look that began after the deadline is the last one: whoever got this CPU back late
        // finds the page still by then.
        if self.expired {
            return false;
        }
        // A time that cannot be told is never waited for.
        self.expired = self.deadline.is_none_or(|end| Instant::now() >= end);
        std::thread::yield_now();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_back_after_the_deadline_looks_once_more_before_giving_up() {
        let mut late = RetryDeadline {
            looks: RetryDeadline::SPINS,
            deadline: Some(Instant::now()),
            expired: false,
        };
        assert!(late.lasts());
        assert!(!late.lasts());
    }
}
