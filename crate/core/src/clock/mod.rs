//! The clock: a page, a counter and the arithmetic between them, as readings.
//!
//! A clock caches what follows from the page until the page's sequence number changes. All checks
//! (status, counter, period, timescale) are made when the cache is filled: a page that may not be used
//! has no fast path. A timestamp then takes one read of the counter, one comparison of the sequence
//! number, and one multiplication for each figure.
//!
//! - `fast`: the calls that use the cache alone, and what follows where they cannot.
//! - `guard`: the device that guards a page, and what a change of it means.
//! - `system_offset`: the system clock compared with the page.
//! - `retry`: how long to wait for a page that is being updated.

#[doc(hidden)]
pub mod fast;
pub mod guard;
mod retry;
mod system_offset;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::abi::VMCLOCK_VERSION;
use crate::counter::{Counter, CpuCounter};
use crate::error::Error;
use crate::extension::SourceKind;
use crate::no_bound::NoBound;
use crate::page::Page;
use crate::seqlock::{self, Cached, Consistent, Guarded, SharedWords, Stuck, Tried};
use crate::snapshot::{Abi, Snapshot};
use crate::time::conversion::{ClockPolicy, Conversion, Converter, FastPath, Outlook};
use crate::time::fixed;
use crate::time::reading::{Continuity, Reading};
use crate::timescale::Timescale;

use fast::{FastClock, Ordered, SlowPath};
use guard::{Doubt, Guard, GuardState, Guarding, LastLook, Look};
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
    /// How far the page's time may be off at its reference, in nanoseconds, on pages of others that state no
    /// maximum error of their time. `None`: the bound is unknown on such pages.
    ///
    /// It counts while the page says that its clock is synchronized. It never counts for a page of this package,
    /// whose maker states no bound because none is known.
    pub assumed_error_ns: Option<u64>,
    /// Refuse time from a page whose clock is free-running.
    pub require_synchronized: bool,
    /// Never return a time before one that this clock returned earlier. A page update or a leap
    /// second may step time back. The clock then repeats its last time, and the bound grows by the
    /// difference.
    pub non_decreasing: bool,
    /// Users besides root and the caller who may own a page that is a regular file.
    pub trusted_uids: Vec<u32>,
    /// Give the bound also where nobody can tell whether the machine was migrated since the page was made: it
    /// has a vmclock device that this process or the page's maker cannot look at.
    pub allow_unguarded: bool,
    /// How old the page may be, counted from its reference: [`Error::Stale`] beyond. For pages with an
    /// extension, which this package makes. A hypervisor may update its own page rarely. `None`: any age.
    pub max_age: Option<Duration>,
    /// How large the bound of a time may be, in nanoseconds: [`Error::TooUncertain`] beyond, and for a time
    /// without a bound. `None`: any, or none.
    pub error_limit_ns: Option<u64>,
    /// The only source whose bound counts: a publisher may change the source of its page. `None`: any.
    pub source: Option<SourceKind>,
}

/// Returns new memory in place of memory that a fork has wiped, and `None` in place of any other.
type Renew<M> = fn(&M) -> Result<Option<Arc<M>>, Error>;

/// A clock that reads one page. Each clock has its own cache; clones share the mapping.
#[derive(Debug)]
pub struct VmClock<M = Page, C = CpuCounter> {
    memory: Arc<M>,
    /// The memory of the device that guards the page. A clock without a guard has its own page's here, so that
    /// the fast path needs no branch.
    guard_memory: Arc<M>,
    guard: Arc<Guard<M>>,
    renew: Renew<M>,
    size_bytes: u32,
    counter: C,
    options: Options,
    /// Everything that the fast path loads; made from `conversion`.
    fast: FastPath,
    /// The page as it was read last. `None` before the first read, and where the page is unreadable.
    conversion: Option<Conversion>,
    /// How the page was guarded when it was read last.
    guarding: Guarding,
    /// The reason for which continuity was unknown when the page was read last.
    doubt: Option<Doubt>,
    /// How many states of the page and its guard `fast` was made for.
    states_seen: u64,
    /// The odd sequence number that a read of the page timed out on.
    stuck_seq: Option<u32>,
    /// The odd sequence number that a read of the guard timed out on.
    stuck_guard_seq: Option<u32>,
    /// The last look at the guard that was not stuck.
    last_look: Option<LastLook>,
    /// The last time returned, for `non_decreasing`. `i64::MIN` before the first.
    last_ns: i64,
}

impl<M, C: Clone> Clone for VmClock<M, C> {
    fn clone(&self) -> Self {
        Self {
            memory: Arc::clone(&self.memory),
            guard_memory: Arc::clone(&self.guard_memory),
            guard: Arc::clone(&self.guard),
            renew: self.renew,
            size_bytes: self.size_bytes,
            counter: self.counter.clone(),
            options: self.options.clone(),
            fast: self.fast.clone(),
            conversion: self.conversion.clone(),
            guarding: self.guarding,
            doubt: self.doubt,
            states_seen: self.states_seen,
            stuck_seq: self.stuck_seq,
            stuck_guard_seq: self.stuck_guard_seq,
            last_look: self.last_look,
            last_ns: self.last_ns,
        }
    }
}

impl VmClock {
    /// Opens the page at `path`. A page that is a file is guarded by the machine's vmclock device, if there is
    /// one: [`VmClock::guard`]. [`choose::open`](crate::choose::open) opens the best page that the machine has.
    ///
    /// A page without time opens too: continuity works on it, and time gives [`Error::NoTime`].
    ///
    /// # Errors
    ///
    /// Those of [`Page::open`].
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let page = Page::open(path, &options.trusted_uids)?;
        Ok(Self::open_page(Arc::new(page), options))
    }

    /// Makes a clock over a page that is open, and finds the page's guard.
    #[must_use]
    pub fn open_page(page: Arc<Page>, options: Options) -> Self {
        let size_bytes = page.size_bytes();
        let guard = Guard::find(&page);
        Self {
            renew: |page| Ok(page.renewed()?.map(Arc::new)),
            ..Self::with_guard(page, size_bytes, CpuCounter, options, guard)
        }
    }

    /// Returns the path as it was opened. `None` for a page in this process's memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.memory.path()
    }
}

impl<M: SharedWords, C: Counter> VmClock<M, C> {
    /// Makes a clock over `memory`, which holds a page of `size_bytes`, with the caller's counter. The page is
    /// taken to report its machine's disruptions itself.
    pub fn new(memory: Arc<M>, size_bytes: u32, counter: C, options: Options) -> Self {
        Self::with_guard(memory, size_bytes, counter, options, Guard::OWN)
    }

    /// Makes a clock over `memory` with the caller's counter and guard.
    pub fn with_guard(
        memory: Arc<M>,
        size_bytes: u32,
        counter: C,
        mut options: Options,
        guard: Guard<M>,
    ) -> Self {
        // One load suffices, even within an update: every later reading is checked against its own state of
        // the page.
        let [.., time_type] = memory.load_head().to_le_bytes();
        options.timescale = options.timescale.on_page(time_type.into());
        Self {
            guard_memory: Arc::clone(guard.memory().unwrap_or(&memory)),
            memory,
            guard: Arc::new(guard),
            renew: |_| Ok(None),
            size_bytes,
            counter,
            options,
            fast: FastPath::NONE,
            conversion: None,
            guarding: Guarding::Device,
            doubt: None,
            states_seen: 0,
            stuck_seq: None,
            stuck_guard_seq: None,
            last_look: None,
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

    /// Returns how the page is read. The timescale is never [`Timescale::Page`].
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
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
        Self {
            renew: self.renew,
            ..Self::with_guard(
                Arc::clone(&self.memory),
                self.size_bytes,
                self.counter.clone(),
                options,
                Guard::clone(&self.guard),
            )
        }
    }

    /// Returns the machine's device, which the page is guarded by.
    pub(crate) fn guard_parts(&self) -> &Guard<M> {
        &self.guard
    }

    /// Returns the caller's limit of the page's age.
    pub(crate) fn max_age(&self) -> Option<Duration> {
        self.options.max_age
    }

    /// Returns how the page is guarded.
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`], [`Error::Forked`].
    pub fn guard(&mut self) -> Result<GuardState, Error> {
        self.refresh()?;
        Ok(self.guarding.state(&self.guard.device))
    }

    /// Returns the time now, in nanoseconds since the timescale's epoch.
    ///
    /// # Errors
    ///
    /// [`Error::NoTime`], [`Error::Unsynchronized`], [`Error::WrongCounter`],
    /// [`Error::CounterMismatch`], [`Error::BadPeriod`], [`Error::OutOfRange`],
    /// [`Error::NoTaiOffset`], [`Error::Timescale`], [`Error::VersionChanged`], [`Error::Timeout`],
    /// [`Error::Stale`], [`Error::TooUncertain`], [`Error::OtherBoot`], [`Error::Forked`].
    #[inline]
    pub fn now_ns(&mut self) -> Result<i64, Error> {
        match self.fast_now_ns::<Ordered>() {
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
        match self.fast_now_ms::<Ordered>() {
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

    /// Returns whether a call for the time succeeds now, under this clock's options.
    pub fn is_usable(&mut self) -> bool {
        self.read().is_ok()
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
        Ok(self.conversion()?.snapshot(counter))
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
    /// [`Error::VersionChanged`], [`Error::Timeout`] also where the device that guards the page is stuck in an
    /// update, [`Error::OtherBoot`], [`Error::Forked`].
    pub fn continuity_token(&mut self) -> Result<Continuity, Error> {
        self.refresh()?;
        match self.doubt {
            Some(doubt) => Err(doubt.error()),
            None => Ok(self.conversion()?.outlook.continuity),
        }
    }

    /// Returns whether this is the same machine with the same clock as when `token` was taken.
    ///
    /// # Errors
    ///
    /// As [`VmClock::continuity_token`].
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
        let point = self.fast_time_point::<Ordered>()?;
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
            reading.age_ns = reading.age_ns.saturating_add_unsigned(by);
            reading.epoch_ns = returned_ns;
            reading.max_error_ns = reading.max_error_ns.map(widened);
            reading.est_error_ns = reading.est_error_ns.map(widened);
            reading.latest_ns = reading.latest_ns.map(|latest| latest.max(returned_ns));
            self.conversion()?.require_certain(reading.max_error_ns)?;
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

    /// Reads the counter while page and guard are as `conversion` has them. Reads them if they changed.
    #[inline]
    fn refresh_and_read_counter(&mut self) -> Result<u64, Error> {
        if let Some(conversion) = &self.conversion {
            let (page, guard) = self.cached(conversion.seq, conversion.outlook.guard_seq);
            if let Some(counter) = seqlock::counter_if_unchanged(&page, &guard, &self.counter) {
                return Ok(counter);
            }
        }
        self.reread()
    }

    /// Reads page and guard, if one of them changed since `conversion` was made.
    #[inline]
    fn refresh(&mut self) -> Result<(), Error> {
        if let Some(conversion) = &self.conversion {
            let (page, guard) = self.cached(conversion.seq, conversion.outlook.guard_seq);
            if seqlock::both_unchanged(&page, &guard) {
                return Ok(());
            }
        }
        self.reread().map(|_| ())
    }

    /// The page and its guard, to be compared with these sequence numbers.
    #[inline(always)]
    fn cached(&self, seq: u32, guard_seq: u32) -> (Cached<'_, M>, Cached<'_, M>) {
        let memory = &*self.guard_memory;
        let guard = Cached {
            memory,
            seq: guard_seq,
        };
        let memory = &*self.memory;
        (Cached { memory, seq }, guard)
    }

    /// Reads page, guard and counter, and makes `conversion` and `fast` from them.
    #[cold]
    fn reread(&mut self) -> Result<u64, Error> {
        if self.memory.load_seq() == 0
            && let Some(renewed) = (self.renew)(&self.memory)?
        {
            // The guard is a device, which a fork does not wipe.
            if self.guard.memory().is_none() {
                self.guard_memory = Arc::clone(&renewed);
            }
            self.memory = renewed;
            self.stuck_seq = None;
        }
        let (seen, look) = self.read_guarded()?;
        // Discarded first: nothing may be left of the old page if the new one is unreadable.
        self.conversion = None;
        self.fast = FastPath::NONE;
        self.states_seen = self.states_seen.saturating_add(1);
        let snapshot = Snapshot::new(&seen, self.size_bytes, self.options.abi);
        // After a migration another provider's page may be here. No field of another version has a known
        // meaning, so none is used.
        let found = snapshot.raw.version;
        if found != VMCLOCK_VERSION {
            return Err(Error::VersionChanged { found });
        }
        let conversion = self.conversion_of(snapshot, look);
        self.fast = conversion.fast_path();
        self.conversion = Some(conversion);
        Ok(seen.counter)
    }

    /// Reads page, guard and counter as of one instant, within one deadline each.
    fn read_guarded(&mut self) -> Result<(Consistent, Look), Error> {
        let (stuck_seq, mut stuck_guard_seq) = (self.stuck_seq, self.stuck_guard_seq);
        let (mut deadline, mut guard_deadline) =
            (RetryDeadline::default(), RetryDeadline::default());
        let mut again = |tried, seq| match tried {
            Tried::Page => stuck_seq != Some(seq) && deadline.allows_retry(),
            Tried::Guard => {
                let allows = stuck_guard_seq != Some(seq) && guard_deadline.allows_retry();
                if !allows {
                    // The maker updates its page while this call waits for the device. The next try must
                    // not wait again.
                    stuck_guard_seq = Some(seq);
                }
                allows
            }
        };
        // An even number will change again. An odd one may stay for ever.
        let odd = |Stuck { seq }| (seq & 1 == 1).then_some(seq);
        let memory = &*self.memory;
        let read = if self.guard.memory().is_some() {
            seqlock::read_guarded(memory, &*self.guard_memory, &self.counter, again)
                .map(|Guarded { page, guard }| (page, Some(guard)))
        } else {
            seqlock::read(memory, &self.counter, |seq| again(Tried::Page, seq))
                .map(|page| (page, None))
        };
        match read {
            Ok((page, guard)) => {
                self.stuck_seq = None;
                self.stuck_guard_seq = guard.and_then(Result::err).and_then(odd);
                let look = guard.map_or(Look::None, |guard| self.guard.look(&guard));
                Ok((page, look))
            }
            Err(stuck) => {
                self.stuck_seq = odd(stuck);
                Err(Error::Timeout { seq: stuck.seq })
            }
        }
    }

    /// Decides what page and guard mean, and prepares to convert counters by it.
    fn conversion_of(&mut self, snapshot: Snapshot, look: Look) -> Conversion {
        let allow = self.options.allow_unguarded;
        let verdict = guard::judge(&snapshot, &self.guard, look, allow, &mut self.last_look);
        self.guarding = verdict.guarding;
        self.doubt = verdict.doubt;
        let is_of_source = self.options.source.is_none_or(|kind| {
            let extension = snapshot.extension.as_ref();
            extension.is_some_and(|extension| extension.source == kind)
        });
        let of_source = (!is_of_source).then_some(NoBound::SourceUnavailable);
        let outlook = Outlook {
            guard_seq: look.seq().unwrap_or(snapshot.seq_count),
            continuity: verdict.continuity,
            is_in_doubt: verdict.doubt.is_some(),
            is_other_boot: verdict.doubt == Some(Doubt::OtherBoot),
            no_bound: verdict.no_bound.or(of_source),
        };
        Conversion::new(snapshot, self.policy(), outlook)
    }

    fn policy(&self) -> ClockPolicy {
        ClockPolicy {
            counter_id: self.counter.id(),
            timescale: self.options.timescale,
            assumed_drift_ppb: self.options.assumed_drift_ppb,
            assumed_error_ns: self.options.assumed_error_ns,
            require_synchronized: self.options.require_synchronized,
            max_age_ns: self
                .options
                .max_age
                .map(|age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)),
            error_limit_ns: self.options.error_limit_ns,
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
