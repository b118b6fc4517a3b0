//! The time of a perfect clock in each timescale, from true TAI and the leap second alone.
//!
//! It follows the definitions of the timescales and uses none of the library's code.

use vmclock::Timescale;

use vmclock_testkit::virtual_machine::{Leap, ONE};

const FINE_PER_SEC: i128 = 1_000_000_000 * ONE;

/// TAI − UTC before the leap second.
pub(crate) const TAI_MINUS_UTC_SEC: i128 = 37;

/// The label of an instant of TAI, both in units of 1 / [`ONE`] ns since 1970.
pub(crate) fn label_fine(timescale: Timescale, tai_fine: i128, leap: Option<Leap>) -> i128 {
    let utc_before = tai_fine - TAI_MINUS_UTC_SEC * FINE_PER_SEC;
    let Some(leap) = leap.filter(|_| timescale != Timescale::Tai) else {
        return if timescale == Timescale::Tai {
            tai_fine
        } else {
            utc_before
        };
    };
    let sign = if leap.inserted { 1 } else { -1 };
    let edge = leap.edge_sec * FINE_PER_SEC;
    let utc_after = utc_before - sign * FINE_PER_SEC;
    // The smear's begin and duration. It shows one second less or more in that time.
    let (begins, takes_sec) = match timescale {
        Timescale::UtcNoonLinear => (edge - 43_200 * FINE_PER_SEC, 86_400 + sign),
        Timescale::UtcSls => (edge + (sign - 1000) * FINE_PER_SEC, 1000),
        // An inserted 23:59:60 shows 23:59:59 again. A deleted 23:59:59 makes midnight follow 23:59:58.
        _ => (edge + sign.min(0) * FINE_PER_SEC, 0),
    };
    let since = utc_before - begins;
    if since < 0 {
        utc_before
    } else if since >= takes_sec * FINE_PER_SEC {
        utc_after
    } else {
        begins + since * (takes_sec - sign) / takes_sec
    }
}

/// The instants of TAI, in nanoseconds, at which a timescale changes: begin and end of the smears, and both
/// ends of the inserted or deleted second.
pub(crate) fn changes_ns(leap: Leap) -> [i128; 6] {
    let sign = if leap.inserted { 1 } else { -1 };
    [
        -43_200,
        sign - 1000,
        sign.min(0),
        0,
        sign.max(0),
        43_200 + sign,
    ]
    .map(|since_edge_sec| (leap.edge_sec + TAI_MINUS_UTC_SEC + since_edge_sec) * 1_000_000_000)
}
