//! What an older page makes of the present, and whether a page that is taken over is its past.

use crate::abi;
use crate::snapshot::{RawFields, tai_minus_utc_sec};
use crate::source::Sample;
use crate::time::NS_PER_SEC;
use crate::time::fixed;
use crate::time::period;

/// What two clocks may differ by, beyond all that is accounted for.
const JUMP_NS: u128 = 1_000_000;

/// Whether a page states how far its time may be off, here and later: readers take neither without the
/// other.
pub(super) fn states_bound(fields: &RawFields) -> bool {
    let both = abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID | abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID;
    fields.flags & both == both
}

/// The second of UTC at a page's reference.
pub(super) fn page_utc_sec(fields: &RawFields) -> i128 {
    i128::from(fields.time_sec) - i128::from(page_shift_sec(fields))
}

/// Seconds from UTC to the page's own time.
fn page_shift_sec(fields: &RawFields) -> i16 {
    if fields.time_type == abi::VMCLOCK_TIME_TAI {
        let flagged = fields.flags & abi::VMCLOCK_FLAG_TAI_OFFSET_VALID != 0;
        tai_minus_utc_sec(fields.tai_offset_sec, flagged).unwrap_or(0)
    } else {
        0
    }
}

/// What a page makes of a counter: the time of UTC in nanoseconds, and how far the page's error has grown
/// until then.
pub(super) fn utc_at(page: &RawFields, counter: u64) -> (i128, u128) {
    let ticks = fixed::distance_ticks(counter, page.counter_value);
    let (period, shift) = (page.counter_period_frac_sec, page.counter_period_shift);
    let elapsed = fixed::elapsed_frac(ticks, period, shift);
    let utc_ns = fixed::time_ns(page.time_sec, page.time_frac_sec, elapsed)
        - i128::from(page_shift_sec(page)) * NS_PER_SEC;
    let rate = page.counter_period_maxerror_rate_frac_sec;
    (utc_ns, fixed::growth_ns(ticks, rate, shift))
}

/// Whether the present, read from this machine's clock, is what an older page makes of the counter.
/// A page without time has nothing to disagree with.
pub(super) fn is_consistent_with(
    old: &RawFields,
    now: &Sample,
    counter_id: u8,
    now_error_ns: Option<u128>,
) -> bool {
    if old.counter_period_frac_sec == 0 || old.time_sec == 0 {
        return true;
    }
    let ticks = fixed::distance_ticks(now.counter, old.counter_value);
    if old.counter_id != counter_id || old.counter_period_shift > fixed::MAX_SHIFT || ticks < 0 {
        return false;
    }
    let elapsed = fixed::elapsed_frac(ticks, old.counter_period_frac_sec, old.counter_period_shift);
    let (then_ns, growth_ns) = utc_at(old, now.counter);
    let states_growth = old.flags & abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID != 0;
    // Where the page does not vouch for the figure, that may be anything.
    let growth_ns = if states_growth { growth_ns } else { 0 };
    let allowed_ns = match (states_bound(old), now_error_ns) {
        (true, Some(now_error_ns)) => {
            u128::from(old.time_maxerror_nanosec) + growth_ns + now_error_ns + 2
        }
        // One side does not know how far off it is. Then the two may differ by what the kernel can
        // have slewed meanwhile; a clock that was set while nobody published looks like a counter
        // that jumped, and a marker that changes needlessly is the lesser harm.
        _ => {
            let elapsed_ns = fixed::time_ns(0, 0, elapsed);
            growth_ns + period::share(elapsed_ns.unsigned_abs(), UNKNOWN_SLEW_PPB) + JUMP_NS
        }
    };
    (then_ns - now.realtime_ns).unsigned_abs() <= allowed_ns
}

/// What the kernel can slew by while nobody looks.
const UNKNOWN_SLEW_PPB: u128 = 600_000;
