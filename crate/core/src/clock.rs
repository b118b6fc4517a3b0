//! The clock: a page, a counter and the arithmetic, made into readings.
//!
//! A reader keeps what follows from the page for as long as the page's sequence number stands
//! ([`seqlock::counter_if_unchanged`]), so a stamp is one counter read, one look at the sequence
//! number and one multiplication or two. All checks (status, counter, period, timescale) are part
//! of what is kept: a page that may not be used has no fast path.

use std::hint;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::abi::{VMCLOCK_COUNTER_INVALID, VMCLOCK_VERSION};
use crate::counter::{self, Counter, CpuCounter};
use crate::error::{Error, NoTime};
use crate::fixed;
use crate::leap::{Mapping, Reference, Timescale};
use crate::page::{self, Page};
use crate::seqlock::{self, SharedWords, Stuck};
use crate::snapshot::{Abi, ClockStatus, LeapIndicator, Snapshot};

/// How long a reader waits for a page that is being updated: what the kernel's driver waits.
pub const UPDATE_TIMEOUT: Duration = Duration::from_millis(100);

const NS_PER_MS: i64 = 1_000_000;
const MS_PER_NS: f64 = 1e-6;
const NS_PER_SEC: i64 = 1_000_000_000;
const PPB: u128 = 1_000_000_000;

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
    pub refuse_free_running: bool,
    /// Never return a time before one that this clock returned earlier. A page update or a leap
    /// second may step time back; then the last time is held, and the bound grows by what was held.
    pub non_decreasing: bool,
    /// Users besides root and the caller who may own a page that is a regular file.
    pub trusted_uids: Vec<u32>,
}

/// A time with its bound, and what the page said in the same breath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds since 1970-01-01 in `timescale` (since the page's own epoch if that is
    /// monotonic).
    pub epoch_ns: i64,
    /// The truth is at most this far from `epoch_ns`; 2^63 - 1 stands for that and more. `None`:
    /// the page states no bound.
    pub max_error_ns: Option<u64>,
    /// The provider's estimate of the error. `None`: the page gives none.
    pub est_error_ns: Option<u64>,
    /// The start of the interval that holds the truth, where there is a bound.
    pub earliest_ns: Option<i64>,
    /// The end of that interval. Near a leap second the interval is not symmetric.
    pub latest_ns: Option<i64>,
    /// The counter that was converted.
    pub counter: u64,
    /// Changes when the counter was disrupted (live migration).
    pub disruption_marker: u64,
    /// Changes when the machine was restored from a snapshot or cloned, where the page has it.
    pub vm_generation: Option<u64>,
    /// The state of the page's clock.
    pub status: ClockStatus,
    /// Whether UTC is in an inserted second, 23:59:60.
    pub leap_second: bool,
    /// The timescale of the times above.
    pub timescale: Timescale,
    /// TAI - UTC at this time, where the page tells it.
    pub tai_minus_utc_sec: Option<i16>,
}

/// What a page says about which machine this is. Good for one page and one boot; clones of one
/// snapshot hold equal ones, so it detects change and is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Continuity {
    /// The page's `disruption_marker`.
    pub disruption_marker: u64,
    /// The page's `vm_generation_counter`, where it has one.
    pub vm_generation: Option<u64>,
}

/// The system clock held against the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemOffset {
    /// CLOCK_REALTIME - page, in nanoseconds: positive where the system clock is ahead.
    pub offset_ns: i64,
    /// How far that may be off: the page's bound and half the bracket around the system clock's
    /// reading. `None`: the page states no bound.
    pub max_error_ns: Option<u64>,
}

/// What follows from the page under one sequence number.
#[derive(Clone, Debug)]
struct Derived {
    seq: u32,
    /// The short way from counter to label, where there is one.
    plain: Option<Plain>,
    /// `None` where the page gives no time: [`VmClock::mapping`] says why.
    mapping: Option<Mapping>,
    snapshot: Snapshot,
}

/// A label that is the page's time plus a constant.
#[derive(Clone, Copy, Debug)]
struct Plain {
    counter_value: u64,
    period: u64,
    shift: u8,
    /// The label at the reference in units of 2^-64 s.
    reference: i128,
    /// The least distance from the reference that a live counter may have: -1 s.
    least_distance_ticks: i64,
}

impl Plain {
    /// References further from 1970 than this many seconds take the long way, which is exact for
    /// all: here neither the reference nor its sum with a second's ticks overflows.
    const LARGEST_SEC: i128 = 1 << 40;

    fn new(snapshot: &Snapshot, mapping: &Mapping) -> Option<Self> {
        let raw = &snapshot.raw;
        let reference_sec = i128::from(raw.time_sec) + i128::from(mapping.shift_sec()?);
        if !(0..Self::LARGEST_SEC).contains(&reference_sec) {
            return None;
        }
        let per_second =
            fixed::ticks_per_second(raw.counter_period_frac_sec, raw.counter_period_shift);
        Some(Self {
            counter_value: raw.counter_value,
            period: raw.counter_period_frac_sec,
            shift: raw.counter_period_shift,
            reference: (reference_sec << 64) | i128::from(raw.time_frac_sec),
            least_distance_ticks: i64::try_from(per_second).map_or(i64::MIN, |ticks| -ticks),
        })
    }

    /// The label of a live counter; `None` where it needs the long way, to a result or an error.
    #[inline(always)]
    fn live_ns(&self, counter: u64) -> Option<i64> {
        let d = fixed::distance_ticks(counter, self.counter_value);
        if d < self.least_distance_ticks {
            return None;
        }
        self.label_ns(d)
    }

    #[inline(always)]
    fn label_ns(&self, d: i64) -> Option<i64> {
        let elapsed = fixed::elapsed_frac(d, self.period, self.shift);
        let ticks = self.reference.checked_add(elapsed)?;
        // Cut off on purpose: the halves are whole seconds and the fraction.
        let seconds = (ticks >> 64) as i64;
        let fraction = ticks as u64;
        // Strictly inside the range, so that the sum below cannot leave it.
        if seconds.unsigned_abs() >= i64::MAX.unsigned_abs() / NS_PER_SEC.unsigned_abs() {
            return None;
        }
        Some(seconds * NS_PER_SEC + fixed::frac_to_ns(fraction).cast_signed())
    }
}

/// A clock that reads one page. Each reader has its own, with its private cache; clones share the
/// mapping.
#[derive(Debug)]
pub struct VmClock<M = Page, C = CpuCounter> {
    memory: Arc<M>,
    size_bytes: u32,
    counter: C,
    options: Options,
    derived: Option<Derived>,
    /// The odd sequence number that a read timed out on.
    stuck_seq: Option<u32>,
    /// The latest time returned, for `non_decreasing`.
    last_ns: Option<i64>,
}

impl<M, C: Clone> Clone for VmClock<M, C> {
    fn clone(&self) -> Self {
        Self {
            memory: Arc::clone(&self.memory),
            size_bytes: self.size_bytes,
            counter: self.counter.clone(),
            options: self.options.clone(),
            derived: self.derived.clone(),
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
            derived: None,
            stuck_seq: None,
            last_ns: None,
        }
    }

    /// The timescale of all readings.
    #[must_use]
    pub fn timescale(&self) -> Timescale {
        self.options.timescale
    }

    /// The memory that the page lies in.
    #[must_use]
    pub fn memory(&self) -> &Arc<M> {
        &self.memory
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
        if let Some(Derived {
            seq,
            plain: Some(plain),
            ..
        }) = &self.derived
            && let Some(counter) = seqlock::counter_if_unchanged(&*self.memory, &self.counter, *seq)
            && let Some(ns) = plain.live_ns(counter)
        {
            return Ok(self.held(ns));
        }
        self.now_ns_the_long_way()
    }

    /// The time now in milliseconds since 1970, as `Date.now()` but with its fraction. For
    /// timescales that follow UTC.
    ///
    /// # Errors
    ///
    /// [`Error::NotUtc`], and those of [`VmClock::now_ns`].
    #[inline]
    pub fn now_ms(&mut self) -> Result<f64, Error> {
        self.require_utc()?;
        let ns = self.now_ns()?;
        // The whole milliseconds are exact and the rest has their sign, so nothing cancels out. The
        // product is off by less than a unit of its last place, which is at most half a unit of
        // the sum's: the sum is one of the two numbers next to the exact time. A division would
        // keep the next stamp's fence waiting.
        Ok((ns / NS_PER_MS) as f64 + (ns % NS_PER_MS) as f64 * MS_PER_NS)
    }

    /// The time now with its bound, and what the page says in the same breath.
    ///
    /// # Errors
    ///
    /// As [`VmClock::now_ns`].
    #[inline]
    pub fn read(&mut self) -> Result<Reading, Error> {
        let counter = self.look()?;
        self.require_near(counter)?;
        let mut reading = self.reading(counter)?;
        if self.options.non_decreasing {
            let held_ns = self.held(reading.epoch_ns);
            if held_ns > reading.epoch_ns {
                let by = held_ns.abs_diff(reading.epoch_ns);
                reading.epoch_ns = held_ns;
                let grown = |ns: u64| fixed::saturate(u128::from(ns) + u128::from(by));
                reading.max_error_ns = reading.max_error_ns.map(grown);
                reading.est_error_ns = reading.est_error_ns.map(grown);
                reading.latest_ns = reading.latest_ns.map(|latest| latest.max(held_ns));
            }
        }
        Ok(reading)
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
        self.reading(counter)
    }

    /// Prepares to convert many counters by one state of the page.
    ///
    /// # Errors
    ///
    /// As [`VmClock::convert`].
    pub fn converter(&mut self, token: &Continuity) -> Result<Converter<'_>, Error> {
        self.require_continuous(token)?;
        let derived = self.derived()?;
        let mapping = self.mapping(derived)?;
        Ok(Converter { derived, mapping })
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
            ..self.derived()?.snapshot
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
            self.mapping(self.derived()?),
            Err(Error::NoTime { .. })
        ))
    }

    /// A token for [`VmClock::is_continuous`] and [`VmClock::convert`].
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`].
    pub fn continuity(&mut self) -> Result<Continuity, Error> {
        self.refresh()?;
        let snapshot = &self.derived()?.snapshot;
        Ok(Continuity {
            disruption_marker: snapshot.raw.disruption_marker,
            vm_generation: snapshot.vm_generation(),
        })
    }

    /// Whether this is the same machine with the same clock as when `token` was taken.
    ///
    /// # Errors
    ///
    /// [`Error::VersionChanged`], [`Error::Timeout`].
    pub fn is_continuous(&mut self, token: &Continuity) -> Result<bool, Error> {
        Ok(self.continuity()? == *token)
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
            let token = self.continuity()?;
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
        self.require_near(before)?;
        // The counter may have shown that end for a step already.
        let after = before
            .wrapping_add(width)
            .wrapping_add(counter::step_ticks(&self.counter));
        let first = self.reading(before)?;
        let last = self.reading(after)?;
        let middle_ns = (i128::from(first.epoch_ns) + i128::from(last.epoch_ns)).div_euclid(2);
        // Where UTC steps back between the two ends, it reaches beyond both of them in between, each
        // way by less than the bracket is wide.
        let beyond_ns = if last.epoch_ns < first.epoch_ns {
            let derived = self.derived()?;
            let page_ns = |counter| {
                let reference = derived.snapshot.raw.counter_value;
                derived.page_ns(fixed::distance_ticks(counter, reference))
            };
            page_ns(after) - page_ns(before)
        } else {
            0
        };
        let hull = [first, last].map(|end| end.earliest_ns.zip(end.latest_ns));
        let max_error_ns = match hull {
            [Some((a, b)), Some((c, d))] => {
                let earliest = i128::from(a.min(c).min(first.epoch_ns)) - beyond_ns;
                let latest = i128::from(b.max(d).max(last.epoch_ns)) + beyond_ns;
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
        let system_ns =
            i128::from(system.tv_sec) * i128::from(NS_PER_SEC) + i128::from(system.tv_nsec);
        (before, after.wrapping_sub(before), system_ns)
    }

    #[cold]
    fn now_ns_the_long_way(&mut self) -> Result<i64, Error> {
        let counter = self.look()?;
        self.require_near(counter)?;
        let ns = self.reading(counter)?.epoch_ns;
        Ok(self.held(ns))
    }

    #[inline(always)]
    fn held(&mut self, ns: i64) -> i64 {
        if !self.options.non_decreasing {
            return ns;
        }
        let held = self.last_ns.map_or(ns, |last| last.max(ns));
        self.last_ns = Some(held);
        held
    }

    /// Reads the counter under a state of the page that `derived` then holds.
    #[inline]
    fn look(&mut self) -> Result<u64, Error> {
        if let Some(derived) = &self.derived
            && let Some(counter) =
                seqlock::counter_if_unchanged(&*self.memory, &self.counter, derived.seq)
        {
            return Ok(counter);
        }
        self.reread()
    }

    /// Brings `derived` up to the page as it stands, without a counter read where nothing changed.
    #[inline]
    fn refresh(&mut self) -> Result<(), Error> {
        if let Some(derived) = &self.derived
            && seqlock::unchanged(&*self.memory, derived.seq)
        {
            return Ok(());
        }
        self.reread().map(|_| ())
    }

    #[cold]
    fn reread(&mut self) -> Result<u64, Error> {
        let stuck_seq = self.stuck_seq;
        let mut patience = Patience::default();
        let seen = seqlock::read(&*self.memory, &self.counter, |seq| {
            stuck_seq != Some(seq) && patience.lasts()
        });
        match seen {
            Ok(seen) => {
                self.stuck_seq = None;
                let snapshot = Snapshot::new(&seen, self.size_bytes, self.options.abi);
                // A machine that was moved to another host may find another provider's page here.
                // What that means no field tells, so nothing of it is used and nothing is kept.
                if snapshot.raw.version != VMCLOCK_VERSION {
                    self.derived = None;
                    return Err(Error::VersionChanged {
                        found: snapshot.raw.version,
                    });
                }
                let mapping = self.map(&snapshot).ok();
                let plain = mapping.and_then(|mapping| Plain::new(&snapshot, &mapping));
                self.derived = Some(Derived {
                    seq: seen.seq,
                    plain,
                    mapping,
                    snapshot,
                });
                Ok(seen.counter)
            }
            Err(Stuck { seq }) => {
                // An even number will have moved on; an odd one may stand for ever.
                self.stuck_seq = (seq & 1 == 1).then_some(seq);
                Err(Error::Timeout { seq })
            }
        }
    }

    fn derived(&self) -> Result<&Derived, Error> {
        // Present after every successful `look` and `refresh`.
        self.derived.as_ref().ok_or(Error::Timeout { seq: 1 })
    }

    fn mapping(&self, derived: &Derived) -> Result<Mapping, Error> {
        derived
            .mapping
            .map_or_else(|| self.map(&derived.snapshot), Ok)
    }

    /// All that decides whether the page's time may be used, and how.
    fn map(&self, snapshot: &Snapshot) -> Result<Mapping, Error> {
        let raw = &snapshot.raw;
        if !snapshot.covers_time() {
            return Err(Error::NoTime {
                reason: NoTime::Size(snapshot.size_bytes),
            });
        }
        if raw.counter_id == VMCLOCK_COUNTER_INVALID {
            return Err(Error::NoTime {
                reason: NoTime::NoCounter,
            });
        }
        if raw.counter_id != self.counter.id() {
            return Err(Error::WrongCounter {
                found: raw.counter_id,
                expected: self.counter.id(),
            });
        }
        match ClockStatus::from(raw.clock_status) {
            ClockStatus::Synchronized => {}
            ClockStatus::FreeRunning if !self.options.refuse_free_running => {}
            status => return Err(Error::Unsynchronized { status }),
        }
        if raw.counter_period_frac_sec == 0 || raw.counter_period_shift > fixed::MAX_SHIFT {
            return Err(Error::BadPeriod {
                period: raw.counter_period_frac_sec,
                shift: raw.counter_period_shift,
            });
        }
        let reference = Reference {
            time_type: snapshot.time_type(),
            time_sec: raw.time_sec,
            leap_indicator: snapshot.leap_indicator().unwrap_or(LeapIndicator::None),
            tai_offset_sec: raw.tai_offset_sec,
            tai_offset_flagged: snapshot.tai_offset_flagged(),
        };
        Mapping::new(&reference, self.options.timescale)
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

    /// Refuses a live counter that is more than a second behind the reference.
    fn require_near(&self, counter: u64) -> Result<(), Error> {
        let derived = self.derived()?;
        self.mapping(derived)?;
        let raw = &derived.snapshot.raw;
        let d = fixed::distance_ticks(counter, raw.counter_value);
        let per_second =
            fixed::ticks_per_second(raw.counter_period_frac_sec, raw.counter_period_shift);
        if d < 0 && d.unsigned_abs() > per_second {
            return Err(Error::CounterMismatch {
                behind_ticks: d.unsigned_abs(),
            });
        }
        Ok(())
    }

    /// Converts `counter` by `derived`.
    fn reading(&self, counter: u64) -> Result<Reading, Error> {
        let derived = self.derived()?;
        let mapping = self.mapping(derived)?;
        let snapshot = &derived.snapshot;
        let raw = &snapshot.raw;
        let shift = raw.counter_period_shift;
        let d = fixed::distance_ticks(counter, raw.counter_value);
        let page_ns = derived.page_ns(d);
        let bound_ns = snapshot
            .time_max_error_ns()
            .zip(
                snapshot
                    .period_max_error()
                    .or_else(|| self.assumed_period_error(raw.counter_period_frac_sec)),
            )
            .map(|(at_reference, rate)| {
                fixed::bound_ns(at_reference, fixed::growth_ns(d, rate, shift))
            });
        let est_error_ns = snapshot
            .time_est_error_ns()
            .zip(snapshot.period_est_error())
            .map(|(at_reference, rate)| {
                fixed::saturate(u128::from(at_reference) + fixed::growth_ns(d, rate, shift))
            });
        let label = mapping.label(page_ns, bound_ns.unwrap_or(0));
        let epoch_ns = i64::try_from(label.epoch_ns).map_err(|_| Error::OutOfRange)?;
        let side = (label.epoch_ns - label.earliest_ns).max(label.latest_ns - label.epoch_ns);
        Ok(Reading {
            epoch_ns,
            // An error too large for 64 bits saturates; the interval was made before that, so that
            // it still holds every truth that 64 bits can express.
            max_error_ns: bound_ns.map(|_| fixed::saturate(side.unsigned_abs())),
            est_error_ns,
            earliest_ns: bound_ns.map(|_| clamp(label.earliest_ns)),
            latest_ns: bound_ns.map(|_| clamp(label.latest_ns)),
            counter,
            disruption_marker: raw.disruption_marker,
            vm_generation: snapshot.vm_generation(),
            status: raw.clock_status.into(),
            leap_second: mapping.is_leap_second(page_ns),
            timescale: self.options.timescale,
            tai_minus_utc_sec: mapping.tai_minus_utc_sec(page_ns),
        })
    }

    /// The caller's assumption about the counter's rate in the period's own unit, rounded up.
    fn assumed_period_error(&self, period: u64) -> Option<u64> {
        let ppb = u128::from(self.options.assumed_drift_ppb?);
        u64::try_from((u128::from(period) * ppb).div_ceil(PPB)).ok()
    }
}

impl Derived {
    /// The page's own time at `d` ticks from its reference.
    fn page_ns(&self, d: i64) -> i128 {
        let raw = &self.snapshot.raw;
        let elapsed = fixed::elapsed_frac(d, raw.counter_period_frac_sec, raw.counter_period_shift);
        fixed::time_ns(raw.time_sec, raw.time_frac_sec, elapsed)
    }
}

/// Converts counters by one state of the page: [`VmClock::converter`].
#[derive(Debug)]
pub struct Converter<'clock> {
    derived: &'clock Derived,
    mapping: Mapping,
}

impl Converter<'_> {
    /// The time at `counter`, in nanoseconds since the timescale's epoch.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`].
    #[inline]
    pub fn epoch_ns(&self, counter: u64) -> Result<i64, Error> {
        let d = fixed::distance_ticks(counter, self.derived.snapshot.raw.counter_value);
        if let Some(ns) = self.derived.plain.and_then(|plain| plain.label_ns(d)) {
            return Ok(ns);
        }
        let label = self.mapping.label(self.derived.page_ns(d), 0);
        i64::try_from(label.epoch_ns).map_err(|_| Error::OutOfRange)
    }
}

/// The end of an interval, cut off at what 64 bits hold. Times beyond it cannot be expressed, so
/// an interval that is cut off still holds every truth that can.
fn clamp(ns: i128) -> i64 {
    ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// The wait for a page that is being updated: spins first, because an update takes less than a
/// microsecond, then lets others run, because its writer may be waiting for this CPU.
#[derive(Default)]
struct Patience {
    looks: u32,
    deadline: Option<Instant>,
}

impl Patience {
    const SPINS: u32 = 200;

    fn lasts(&mut self) -> bool {
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Instant::now() + UPDATE_TIMEOUT);
        self.looks = self.looks.saturating_add(1);
        if self.looks < Self::SPINS {
            hint::spin_loop();
            return true;
        }
        std::thread::yield_now();
        Instant::now() < deadline
    }
}
