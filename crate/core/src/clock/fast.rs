//! The fast path of a clock and the slow path behind it, as two calls.
//!
//! [`VmClock::now_ns`] and its like make both calls. The Node-API callbacks call them separately: the
//! fast call then needs no stack frame. Everything here is for that caller and is no part of the crate's
//! stable interface.
//!
//! A fast call reads the counter, then checks that the page is still the one that the fast path was
//! computed from, then multiplies once for each figure. Every fast call checks the page in
//! `current_counter` or `is_current` and nowhere else.

use crate::clock::VmClock;
use crate::counter::{Counter, Unordered as InAnyOrder};
use crate::error::Error;
use crate::seqlock::{self, SharedWords};
use crate::time::NS_PER_MS;
use crate::time::reading::Continuity;

pub use crate::time::reading::TimePoint;

/// Milliseconds in a nanosecond.
const MS_PER_NS: f64 = 1e-6;

/// Why a fast call gave no result, as what the slow call continues from.
///
/// `Err` is not a failure: pass it to the slow call of the same name. No other call of the same
/// clock may come in between, because it might read the page again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SlowPath {
    /// Start again: read the page if its sequence number changed, and the counter.
    FromPage,
    /// Convert this counter by the formulas. It was read while the page was current, but the fast path has
    /// no result for it. It lies next to a border between two results, out of the fast path's reach, or this
    /// page state has no fast path: it has no usable time, or a leap second is near.
    FromCounter(u64),
}

/// How the fast calls read the counter. It is a type, so that no call has a branch for it.
///
/// The slow calls always read it in order.
pub trait Order {
    /// Returns `counter`, to be read in this order.
    fn of<C: Counter>(counter: &C) -> impl Counter;
}

/// By [`Counter::read`].
#[derive(Clone, Copy, Debug)]
pub struct Ordered;

impl Order for Ordered {
    #[inline(always)]
    fn of<C: Counter>(counter: &C) -> impl Counter {
        counter
    }
}

/// By [`Counter::read_unordered`]. `seqlock` says why the page is never misread.
#[derive(Clone, Copy, Debug)]
pub struct Unordered;

impl Order for Unordered {
    #[inline(always)]
    fn of<C: Counter>(counter: &C) -> impl Counter {
        InAnyOrder(counter)
    }
}

/// The two halves of a clock's calls.
pub trait FastClock {
    /// Fast path of [`VmClock::now_ns`].
    ///
    /// # Errors
    ///
    /// `Err` is not a failure: pass it to [`FastClock::slow_now_ns`].
    fn fast_now_ns<O: Order>(&mut self) -> Result<i64, SlowPath>;

    /// Slow path of [`VmClock::now_ns`], right after [`FastClock::fast_now_ns`] returned `slow_path`.
    ///
    /// # Errors
    ///
    /// As [`VmClock::now_ns`].
    fn slow_now_ns(&mut self, slow_path: SlowPath) -> Result<i64, Error>;

    /// Fast path of [`VmClock::now_ms`].
    ///
    /// # Errors
    ///
    /// `Err` is not a failure: pass it to [`FastClock::slow_now_ms`].
    fn fast_now_ms<O: Order>(&mut self) -> Result<f64, SlowPath>;

    /// Slow path of [`VmClock::now_ms`], right after [`FastClock::fast_now_ms`] returned `slow_path`.
    ///
    /// # Errors
    ///
    /// As [`VmClock::now_ms`].
    fn slow_now_ms(&mut self, slow_path: SlowPath) -> Result<f64, Error>;

    /// Fast path to the figures of [`VmClock::read`] that change while [`FastClock::states_seen`]
    /// does not. The caller keeps the other figures from an earlier reading.
    ///
    /// # Errors
    ///
    /// `Err` is not a failure: pass it to [`FastClock::slow_time_point`].
    fn fast_time_point<O: Order>(&mut self) -> Result<TimePoint, SlowPath>;

    /// The time point, right after [`FastClock::fast_time_point`] returned `slow_path`. `None` is not
    /// a failure: call [`VmClock::read`].
    fn slow_time_point(&mut self, slow_path: SlowPath) -> Option<TimePoint>;

    /// The counter now. There is no slow path.
    fn fast_counter<O: Order>(&self) -> u64;

    /// Fast path of [`VmClock::is_continuous`]. `false` means only that `is_continuous` has to be
    /// called.
    fn fast_is_continuous(&self, token: &Continuity) -> bool;

    /// How many states of the page this clock has read; 0 before the first.
    ///
    /// Readings that were taken under the same number differ only in their [`TimePoint`], and in the
    /// interval that follows from it, as long as [`FastClock::fast_time_point`] or
    /// [`FastClock::slow_time_point`] returns one.
    #[must_use]
    fn states_seen(&self) -> u64;
}

impl<M: SharedWords, C: Counter> FastClock for VmClock<M, C> {
    #[inline(always)]
    fn fast_now_ns<O: Order>(&mut self) -> Result<i64, SlowPath> {
        let counter = self.current_counter::<O>()?;
        let ns = self.fast.live_ns.at(counter);
        let ns = ns.ok_or(SlowPath::FromCounter(counter))?.cast_signed();
        if self.options.non_decreasing {
            self.advance_last(ns)
                .ok_or(SlowPath::FromCounter(counter))?;
        }
        Ok(ns)
    }

    #[cold]
    fn slow_now_ns(&mut self, slow_path: SlowPath) -> Result<i64, Error> {
        let exact = match slow_path {
            SlowPath::FromCounter(counter) => self.fast.exact_ns(counter),
            SlowPath::FromPage => None,
        };
        let ns = match exact {
            Some(ns) => ns,
            None => self.refresh_and_read_ns()?,
        };
        self.repeated(ns)
    }

    #[inline(always)]
    fn fast_now_ms<O: Order>(&mut self) -> Result<f64, SlowPath> {
        let counter = self.current_counter::<O>()?;
        let bits = self.fast.live_ms_bits.at(counter);
        let bits = bits.ok_or(SlowPath::FromCounter(counter))?;
        // The last time is remembered in nanoseconds. `FromPage` instead of `FromCounter`: returning the
        // counter here would need one more register in every call.
        if self.options.non_decreasing {
            let ns = self.fast.live_ns.at(counter).ok_or(SlowPath::FromPage)?;
            self.advance_last(ns.cast_signed())
                .ok_or(SlowPath::FromPage)?;
        }
        Ok(f64::from_bits(bits))
    }

    #[cold]
    fn slow_now_ms(&mut self, slow_path: SlowPath) -> Result<f64, Error> {
        self.require_utc()?;
        let ns = self.slow_now_ns(slow_path)?;
        // The whole milliseconds are exact, and the rest has their sign, so nothing cancels out. The
        // product is off by less than 2^-52 ms. From a minute after 1970 on, no nanosecond lies that
        // close to the middle between two doubles, so the sum is the nearest double.
        Ok((ns / NS_PER_MS) as f64 + (ns % NS_PER_MS) as f64 * MS_PER_NS)
    }

    #[inline(always)]
    fn fast_time_point<O: Order>(&mut self) -> Result<TimePoint, SlowPath> {
        let counter = self.current_counter::<O>()?;
        let slow_path = SlowPath::FromCounter(counter);
        let point = self.fast.readings.at(counter).ok_or(slow_path)?;
        if self.options.non_decreasing {
            self.advance_last(point.epoch_ns).ok_or(slow_path)?;
        }
        Ok(point)
    }

    #[inline]
    fn slow_time_point(&mut self, slow_path: SlowPath) -> Option<TimePoint> {
        let SlowPath::FromCounter(counter) = slow_path else {
            return None;
        };
        let point = self.fast.exact_time_point(counter)?;
        if self.options.non_decreasing {
            self.advance_last(point.epoch_ns)?;
        }
        Some(point)
    }

    #[inline(always)]
    fn fast_counter<O: Order>(&self) -> u64 {
        O::of(&self.counter).read()
    }

    #[inline(always)]
    fn fast_is_continuous(&self, token: &Continuity) -> bool {
        self.is_current() && self.fast.continuity.as_ref() == Some(token)
    }

    #[inline(always)]
    fn states_seen(&self) -> u64 {
        self.states_seen
    }
}

impl<M: SharedWords, C: Counter> VmClock<M, C> {
    /// The counter now, if page and guard are still those that the fast path was computed from.
    #[inline(always)]
    fn current_counter<O: Order>(&self) -> Result<u64, SlowPath> {
        let (page, guard) = self.cached(self.fast.seq, self.fast.guard_seq);
        seqlock::counter_if_unchanged(&page, &guard, &O::of(&self.counter))
            .ok_or(SlowPath::FromPage)
    }

    /// Returns whether page and guard are still those that the fast path was computed from.
    #[inline(always)]
    fn is_current(&self) -> bool {
        let (page, guard) = self.cached(self.fast.seq, self.fast.guard_seq);
        seqlock::both_unchanged(&page, &guard)
    }

    /// `ns`, or the last time returned where that is later. Refuses a repeated time whose error is then above
    /// the caller's limit.
    fn repeated(&mut self, ns: i64) -> Result<i64, Error> {
        let returned_ns = self.not_before_last(ns);
        if returned_ns > ns && self.options.error_limit_ns.is_some() {
            return Ok(self.read()?.epoch_ns);
        }
        Ok(returned_ns)
    }

    /// `ns`, or the last time returned where that is later and the clock is `non_decreasing`.
    pub(super) fn not_before_last(&mut self, ns: i64) -> i64 {
        if !self.options.non_decreasing {
            return ns;
        }
        self.last_ns = self.last_ns.max(ns);
        self.last_ns
    }

    /// Makes `ns` the last time returned. `None` where that would be a step back.
    #[inline(always)]
    fn advance_last(&mut self, ns: i64) -> Option<()> {
        (self.last_ns <= ns).then(|| self.last_ns = ns)
    }
}
