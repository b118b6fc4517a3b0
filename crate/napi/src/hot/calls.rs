//! The eight calls: from a clock to its slots.

use std::ffi::CStr;

use vmclock::VmClock;
use vmclock::clock::fast::{FastClock, Order, SlowPath};

use super::Hot;
use super::slots::{Double, Slot};

/// Nanoseconds in a second.
const NS_PER_SEC: i64 = 1_000_000_000;
/// The C interface's answer of a call whose figures are in the slots.
const DONE: f64 = 1.0;

/// A call of JavaScript's `HotCalls`.
pub(super) trait HotCall {
    /// Its name there.
    const NAME: &'static CStr;

    /// True if JavaScript can make the call again, after it was told of a restore.
    const IS_REPEATABLE: bool = true;

    /// Fast path, without a call to any function. `Err` is not a failure: pass it to `slow`. Returns what the C
    /// interface answers, a number from 0 on.
    #[inline(always)]
    fn fast<O: Order>(_clock: &mut VmClock, _hot: &Hot) -> Result<f64, SlowPath> {
        Err(SlowPath::FromPage)
    }

    /// Slow path, right after `fast` returned `slow_path`. Returns the answer, which is `false` only
    /// from [`IsContinuous`].
    fn slow(clock: &mut VmClock, hot: &Hot, slow_path: SlowPath) -> Result<bool, vmclock::Error>;
}

/// Writes `EpochNs`.
pub(super) struct NowNs;

impl HotCall for NowNs {
    const NAME: &'static CStr = c"nowNs";

    #[inline(always)]
    fn fast<O: Order>(clock: &mut VmClock, hot: &Hot) -> Result<f64, SlowPath> {
        hot.slots.set(Slot::EpochNs, clock.fast_now_ns::<O>()?);
        Ok(DONE)
    }

    fn slow(clock: &mut VmClock, hot: &Hot, slow_path: SlowPath) -> Result<bool, vmclock::Error> {
        let ns = clock.slow_now_ns(slow_path)?;
        hot.slots.set(Slot::EpochNs, ns);
        Ok(true)
    }
}

/// Writes the double `NowMs`.
pub(super) struct NowMs;

impl HotCall for NowMs {
    const NAME: &'static CStr = c"nowMs";

    #[inline(always)]
    fn fast<O: Order>(clock: &mut VmClock, hot: &Hot) -> Result<f64, SlowPath> {
        let ms = clock.fast_now_ms::<O>()?;
        hot.slots.set_double(Double::NowMs, ms);
        Ok(ms)
    }

    fn slow(clock: &mut VmClock, hot: &Hot, slow_path: SlowPath) -> Result<bool, vmclock::Error> {
        let ms = clock.slow_now_ms(slow_path)?;
        hot.slots.set_double(Double::NowMs, ms);
        Ok(true)
    }
}

/// Writes the doubles `HrSeconds` and `HrNanoseconds`.
pub(super) struct NowHrTime;

impl HotCall for NowHrTime {
    const NAME: &'static CStr = c"nowHrTime";

    #[inline(always)]
    fn fast<O: Order>(clock: &mut VmClock, hot: &Hot) -> Result<f64, SlowPath> {
        let ns = clock.fast_now_ns::<O>()?;
        let since_ns = ns.wrapping_sub(hot.second_ns.get());
        // Nearly every time lies in the second of the time before. A division would take 10 % longer. The subtraction
        // does not wrap to such a distance: a time of the fast path lies between 1970 and 2106.
        if (0..NS_PER_SEC).contains(&since_ns) {
            hot.slots.set_double(Double::HrNanoseconds, since_ns as f64);
        } else {
            set_hr_time(hot, ns);
        }
        Ok(DONE)
    }

    fn slow(clock: &mut VmClock, hot: &Hot, slow_path: SlowPath) -> Result<bool, vmclock::Error> {
        set_hr_time(hot, clock.slow_now_ns(slow_path)?);
        Ok(true)
    }
}

/// Writes a time to both doubles. They are exact, because a double holds every whole number below 2^53.
#[inline(always)]
fn set_hr_time(hot: &Hot, ns: i64) {
    let (seconds, since_ns) = (ns.div_euclid(NS_PER_SEC), ns.rem_euclid(NS_PER_SEC));
    hot.second_ns.set(ns.wrapping_sub(since_ns));
    hot.slots.set_double(Double::HrSeconds, seconds as f64);
    hot.slots.set_double(Double::HrNanoseconds, since_ns as f64);
}

/// Writes the slots of a reading.
pub(super) struct Read;

impl HotCall for Read {
    const NAME: &'static CStr = c"read";

    #[inline(always)]
    fn fast<O: Order>(clock: &mut VmClock, hot: &Hot) -> Result<f64, SlowPath> {
        if hot.filled_for_state.get() != clock.states_seen() {
            return Err(SlowPath::FromPage);
        }
        hot.slots.set_time_point(&clock.fast_time_point::<O>()?);
        Ok(DONE)
    }

    fn slow(clock: &mut VmClock, hot: &Hot, slow_path: SlowPath) -> Result<bool, vmclock::Error> {
        // `fast` returns a counter only where the other slots are filled for this state.
        if let Some(point) = clock.slow_time_point(slow_path) {
            hot.slots.set_time_point(&point);
            return Ok(true);
        }
        hot.slots.set_reading(&clock.read()?);
        hot.filled_for_state.set(clock.states_seen());
        Ok(true)
    }
}

/// Writes `Counter`.
pub(super) struct ReadCounter;

impl HotCall for ReadCounter {
    const NAME: &'static CStr = c"counter";

    #[inline(always)]
    fn fast<O: Order>(clock: &mut VmClock, hot: &Hot) -> Result<f64, SlowPath> {
        hot.slots
            .set_unsigned(Slot::Counter, clock.fast_counter::<O>());
        Ok(DONE)
    }

    fn slow(clock: &mut VmClock, hot: &Hot, _slow_path: SlowPath) -> Result<bool, vmclock::Error> {
        hot.slots.set_unsigned(Slot::Counter, clock.counter());
        Ok(true)
    }
}

/// Takes the counter and the token among the arguments, and writes the slots of a reading.
pub(super) struct Convert;

impl HotCall for Convert {
    const NAME: &'static CStr = c"convert";
    // A listener that calls the clock may replace the arguments.
    const IS_REPEATABLE: bool = false;

    fn slow(clock: &mut VmClock, hot: &Hot, _slow_path: SlowPath) -> Result<bool, vmclock::Error> {
        let counter = hot.slots.argument(Slot::ArgumentCounter).cast_unsigned();
        let reading = clock.convert(counter, &hot.slots.argument_token())?;
        // The next `read` must fill all slots again: figures that are the same in all readings of
        // the present may be others at an old counter.
        hot.filled_for_state.set(0);
        hot.slots.set_reading(&reading);
        Ok(true)
    }
}

/// Writes `DisruptionMarker`, `VmGeneration` and `Known`.
pub(super) struct TakeContinuity;

impl HotCall for TakeContinuity {
    const NAME: &'static CStr = c"continuityToken";

    fn slow(clock: &mut VmClock, hot: &Hot, _slow_path: SlowPath) -> Result<bool, vmclock::Error> {
        let token = clock.continuity_token()?;
        // `Known` no longer belongs to a reading, so the next `read` must fill all slots again.
        hot.filled_for_state.set(0);
        hot.slots.set_continuity(&token);
        Ok(true)
    }
}

/// Takes the token among the arguments.
pub(super) struct IsContinuous;

impl HotCall for IsContinuous {
    const NAME: &'static CStr = c"isContinuous";
    // A listener that calls the clock may replace the arguments.
    const IS_REPEATABLE: bool = false;

    #[inline(always)]
    fn fast<O: Order>(clock: &mut VmClock, hot: &Hot) -> Result<f64, SlowPath> {
        if clock.fast_is_continuous(&hot.slots.argument_token()) {
            Ok(DONE)
        } else {
            Err(SlowPath::FromPage)
        }
    }

    fn slow(clock: &mut VmClock, hot: &Hot, _slow_path: SlowPath) -> Result<bool, vmclock::Error> {
        clock.is_continuous(&hot.slots.argument_token())
    }
}
