//! The clock: a page, a counter and the arithmetic between them, as readings.
//!
//! A clock caches what follows from the page until the page's sequence number changes. All checks
//! (status, counter, period, timescale) are made when the cache is filled: a page that may not be used
//! has no fast path. A timestamp then takes one read of the counter, one comparison of the sequence
//! number, and one multiplication for each figure.
//!
//! - `fast`: the calls that use the cache alone, and what follows where they cannot.
//! - `system_offset`: the system clock compared with the page.
//! - `retry`: how long to wait for a page that is being updated.

#[doc(hidden)]
pub mod fast;
mod retry;
mod system_offset;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::counter::{Counter, CpuCounter};
use crate::error::Error;
use crate::page::{self, Page};
use crate::seqlock::{self, SharedWords, Stuck};
use crate::snapshot::{Abi, Snapshot};
use crate::time::conversion::{ClockPolicy, Conversion, Converter, FastPath};
use crate::time::fixed;
use crate::time::reading::{Continuity, Reading};
use crate::timescale::Timescale;

use fast::{FastClock, SlowPath};
pub(crate) use retry::RetryDeadline;
pub use retry::UPDATE_TIMEOUT;
pub use system_offset::SystemOffset;

/// How a page is to be read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The timescale of all readings. [`Timescale::Page`] becomes the one that the page has when the clock
    /// is made. If the page changes its own later, readings remain in the first one or are refused.
    pub timescale: Timescale,
    /// Which document the page follows.
    pub abi: Abi,
    /// How far the counter's rate may be off, in parts per billion, on pages that state no maximum
    /// error of their period. `None`: the bound is unknown on such pages.
    pub assumed_drift_ppb: Option<u32>,
    /// Refuse time from a page whose clock is free-running.
    pub require_synchronized: bool,
    /// Never return a time before one that this clock returned earlier. A page update or a leap
    /// second may step time back. The clock then repeats its last time, and the bound grows by the
    /// difference.
    pub non_decreasing: bool,
    /// Users besides root and the caller who may own a page that is a regular file.
    pub trusted_uids: Vec<u32>,
}

/// A clock that reads one page. Each clock has its own cache; clones share the mapping.
#[derive(Debug)]
pub struct VmClock<M = Page, C = CpuCounter> {
    memory: Arc<M>,
    size_bytes: u32,
    counter: C,
    options: Options,
    /// Everything that the fast path loads; made from `conversion`.
    fast: FastPath,
    /// The page as it was read last. `None` before the first read, and where the page is unreadable.
    conversion: Option<Conversion>,
    /// How many states of the page `fast` was made for.
    states_seen: u64,
    /// The odd sequence number that a read timed out on.
    stuck_seq: Option<u32>,
    /// The last time returned, for `non_decreasing`. `i64::MIN` before the first.
    last_ns: i64,
}

impl<M, C: Clone> Clone for VmClock<M, C> {
    fn clone(&self) -> Self {
        Self {
            memory: Arc::clone(&self.memory),
            size_bytes: self.size_bytes,
            counter: self.counter.clone(),
            options: self.options.clone(),
            fast: self.fast.clone(),
            conversion: self.conversion.clone(),
            states_seen: self.states_seen,
            stuck_seq: self.stuck_seq,
            last_ns: self.last_ns,
        }
    }
}

impl VmClock {
    /// Opens the page at `path`, or at [`page::default_path`] without one.
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

    /// Returns the path as it was opened. `None` for a page in this process's memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.memory.path()
    }
}

impl<M: SharedWords, C: Counter> VmClock<M, C> {
    /// Makes a clock over `memory`, which holds a page of `size_bytes`, with the caller's counter.
    pub fn new(memory: Arc<M>, size_bytes: u32, counter: C, mut options: Options) -> Self {
        // One load suffices, even within an update: every later reading is checked against its own state of
        // the page.
        let [.., time_type] = memory.load_head().to_le_bytes();
        options.timescale = options.timescale.on_page(time_type.into());
        Self {
            memory,
            size_bytes,
            counter,
            options,
            fast: FastPath::NONE,
            conversion: None,
            states_seen: 0,
            stuck_seq: None,
            last_ns: i64::MIN,
        }
    }

    /// Returns the timescale of all readings, which is never [`Timescale::Page`].
    #[must_use]
    pub fn timescale(&self) -> Timescale {
        self.options.timescale
    }

    /// Returns the document that the page is read by.
    #[must_use]
    pub fn abi(&self) -> Abi {
        self.options.abi
    }

    /// Returns the memory that the page lies in.
    #[must_use]
    pub fn memory(&self) -> &Arc<M> {
        &self.memory
    }

    /// Makes a clock that reads the same page in another timescale.
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

    /// Returns the time now, in nanoseconds since the timescale's epoch.
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
            Err(slow_path) => self.slow_now_ns(slow_path),
        }
    }

    /// Returns the time now in milliseconds since 1970, as `Date.now()` but with its fraction: the double
    /// that is nearest to the whole nanoseconds. For timescales that follow UTC.
    ///
    /// # Errors
    ///
    /// [`Error::NotUtc`], and those of [`VmClock::now_ns`].
    #[inline]
    pub fn now_ms(&mut self) -> Result<f64, Error> {
        match self.fast_now_ms() {
            Ok(ms) => Ok(ms),
            Err(slow_path) => self.slow_now_ms(slow_path),
        }
    }

    /// Returns the time now with its bound, and what the page says at the same instant.
    ///
    /// # Errors
    ///
    /// As [`VmClock::now_ns`].
    #[inline]
    pub fn read(&mut self) -> Result<Reading, Error> {
        match self.fast_read() {
            Ok(reading) => Ok(reading),
            Err(slow_path) => self.slow_read(slow_path),
        }
    }

    /// Returns the counter now. Works on any page.
    #[inline]
    pub fn counter(&self) -> u64 {
        self.counter.read()
    }

    /// Converts a counter that was captured after `token` was taken. The bound grows with the
    /// counter's distance from the page's reference, on either side.
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

    /// Returns every field of the page, at one sequence number.
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`].
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        let counter = self.refresh_and_read_counter()?;
        Ok(Snapshot {
            counter,
            ..*self.conversion()?.snapshot()
        })
    }

    /// Returns whether the page carries time for a counter at all. False exactly where a call for the time
    /// returns [`Error::NoTime`].
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

    /// Takes a token for [`VmClock::is_continuous`] and [`VmClock::convert`].
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`].
    pub fn continuity_token(&mut self) -> Result<Continuity, Error> {
        self.refresh()?;
        Ok(self.conversion()?.continuity)
    }

    /// Returns whether this is the same machine with the same clock as when `token` was taken.
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`].
    #[inline]
    pub fn is_continuous(&mut self, token: &Continuity) -> Result<bool, Error> {
        if self.fast_is_continuous(token) {
            return Ok(true);
        }
        Ok(self.continuity_token()? == *token)
    }

    /// Fast path of [`VmClock::read`]. Written out in `read` itself, it takes six instructions more.
    #[inline(always)]
    fn fast_read(&mut self) -> Result<Reading, SlowPath> {
        let point = self.fast_time_point()?;
        Ok(self.fast.reading(&point))
    }

    /// Slow path of [`VmClock::read`].
    #[cold]
    fn slow_read(&mut self, slow_path: SlowPath) -> Result<Reading, Error> {
        match self.slow_time_point(slow_path) {
            Some(point) => Ok(self.fast.reading(&point)),
            None => self.refresh_and_read(),
        }
    }

    /// The reading now, by the page as it is now.
    #[cold]
    fn refresh_and_read(&mut self) -> Result<Reading, Error> {
        let counter = self.refresh_and_read_counter()?;
        let mut reading = self.reading_at(counter)?;
        let returned_ns = self.not_before_last(reading.epoch_ns);
        if returned_ns > reading.epoch_ns {
            let by = returned_ns.abs_diff(reading.epoch_ns);
            let widened = |ns: u64| fixed::saturate(u128::from(ns) + u128::from(by));
            reading.epoch_ns = returned_ns;
            reading.max_error_ns = reading.max_error_ns.map(widened);
            reading.est_error_ns = reading.est_error_ns.map(widened);
            reading.latest_ns = reading.latest_ns.map(|latest| latest.max(returned_ns));
        }
        Ok(reading)
    }

    /// The time now, by the page as it is now; it may be before the last time returned.
    fn refresh_and_read_ns(&mut self) -> Result<i64, Error> {
        let counter = self.refresh_and_read_counter()?;
        match self.fast.exact_ns(counter) {
            Some(ns) => Ok(ns),
            None => Ok(self.reading_at(counter)?.epoch_ns),
        }
    }

    /// The reading at a counter that was read while the page was as `conversion` has it.
    fn reading_at(&self, counter: u64) -> Result<Reading, Error> {
        let point = self.fast.readings.at(counter);
        if let Some(point) = point.or_else(|| self.fast.exact_time_point(counter)) {
            return Ok(self.fast.reading(&point));
        }
        let conversion = self.conversion()?;
        conversion.require_near(counter)?;
        conversion.reading(counter)
    }

    /// Reads the counter while the page is as `conversion` has it. Reads the page if that changed.
    #[inline]
    fn refresh_and_read_counter(&mut self) -> Result<u64, Error> {
        if let Some(conversion) = &self.conversion
            && let Some(counter) =
                seqlock::counter_if_unchanged(&*self.memory, &self.counter, conversion.seq)
        {
            return Ok(counter);
        }
        self.reread()
    }

    /// Reads the page, if that changed since `conversion` was made.
    #[inline]
    fn refresh(&mut self) -> Result<(), Error> {
        if let Some(conversion) = &self.conversion
            && seqlock::unchanged(&*self.memory, conversion.seq)
        {
            return Ok(());
        }
        self.reread().map(|_| ())
    }

    /// Reads the page and the counter, and makes `conversion` and `fast` from the page.
    #[cold]
    fn reread(&mut self) -> Result<u64, Error> {
        let stuck_seq = self.stuck_seq;
        let mut deadline = RetryDeadline::default();
        let read = seqlock::read(&*self.memory, &self.counter, |seq| {
            stuck_seq != Some(seq) && deadline.allows_retry()
        });
        match read {
            Ok(seen) => {
                self.stuck_seq = None;
                // Discarded first: nothing may be left of the old page if the new one is unreadable.
                self.conversion = None;
                self.fast = FastPath::NONE;
                self.states_seen = self.states_seen.saturating_add(1);
                let conversion =
                    Conversion::new(&seen, self.size_bytes, self.options.abi, self.policy())?;
                self.fast = conversion.fast_path();
                self.conversion = Some(conversion);
                Ok(seen.counter)
            }
            Err(Stuck { seq }) => {
                // An even number will change again. An odd one may stay for ever.
                self.stuck_seq = (seq & 1 == 1).then_some(seq);
                Err(Error::Timeout { seq })
            }
        }
    }

    fn policy(&self) -> ClockPolicy {
        ClockPolicy {
            counter_id: self.counter.id(),
            timescale: self.options.timescale,
            assumed_drift_ppb: self.options.assumed_drift_ppb,
            require_synchronized: self.options.require_synchronized,
        }
    }

    fn conversion(&self) -> Result<&Conversion, Error> {
        // Present after every `refresh` and `refresh_and_read_counter` that succeeded.
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
