//! Reads the kernel's clocks and their figures.
//!
//! The small trait [`SystemClock`] stands between them and the publisher, so that a simulation can supply
//! virtual clocks.
//!
//! # The rules of this room
//!
//! rustix lacks `adjtimex`. It is called with modes that change nothing and need no privilege. It fills the
//! kernel's own structure (`struct timex`, `include/uapi/linux/timex.h`).

#![allow(
    unsafe_code,
    reason = "adjtimex has no safe wrapper in the libraries that this crate uses"
)]

use std::mem::MaybeUninit;

use rustix::time::{ClockId, clock_gettime};

use super::discipline::{Discipline, LOOP_SHIFT_MAX, LOOP_SHIFT_MIN, LeapState};
use crate::counter::Counter;
use crate::error::Error;
use crate::machine::time_namespace;
use crate::source::SUSPENDED_NOISE_NS;
use crate::time::NS_PER_SEC;

const NS_PER_US: i64 = 1_000;

/// The system's clocks, read between reads of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bracket {
    /// The counter just before CLOCK_REALTIME was read.
    pub counter: u64,
    /// Ticks from there to the counter just after it.
    pub width_ticks: u64,
    /// CLOCK_REALTIME, in nanoseconds since 1970, read in between.
    pub realtime_ns: i128,
    /// CLOCK_MONOTONIC, in nanoseconds, read after that. Nobody can set it, so that it distinguishes a
    /// counter that jumped from a clock that was set.
    pub monotonic_ns: i128,
    /// Ticks from `counter` to the counter just after CLOCK_MONOTONIC was read.
    pub span_ticks: u64,
}

/// The system's clocks, as the publisher sees them.
pub trait SystemClock {
    /// Reads CLOCK_REALTIME and CLOCK_MONOTONIC between counter reads: the narrowest of several tries.
    fn bracket(&self, counter: &impl Counter) -> Bracket;

    /// Reads the kernel's figures about CLOCK_REALTIME.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the system refuses the call.
    fn discipline(&self) -> Result<Discipline, Error>;

    /// Returns how long this machine has been suspended since boot, in nanoseconds: CLOCK_BOOTTIME -
    /// CLOCK_MONOTONIC.
    fn suspended_ns(&self) -> i128;

    /// Returns whether this machine may have been suspended since boot. In a time namespace with other offsets nobody
    /// can tell.
    fn may_have_been_suspended(&self) -> bool {
        self.suspended_ns() > SUSPENDED_NOISE_NS
    }
}

impl<S: SystemClock> SystemClock for &S {
    fn bracket(&self, counter: &impl Counter) -> Bracket {
        (**self).bracket(counter)
    }

    fn discipline(&self) -> Result<Discipline, Error> {
        (**self).discipline()
    }

    fn suspended_ns(&self) -> i128 {
        (**self).suspended_ns()
    }

    fn may_have_been_suspended(&self) -> bool {
        (**self).may_have_been_suspended()
    }
}

/// CLOCK_REALTIME, read between two reads of the counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealtimeBracket {
    /// The counter just before CLOCK_REALTIME was read.
    pub(crate) counter: u64,
    /// Ticks from there to the counter just after it.
    pub(crate) width_ticks: u64,
    /// CLOCK_REALTIME, in nanoseconds since 1970.
    pub(crate) realtime_ns: i128,
}

impl RealtimeBracket {
    /// Takes the narrowest of several brackets.
    pub(crate) fn narrowest(counter: &impl Counter) -> Self {
        narrowest_of(|| Self::take(counter), |bracket| bracket.width_ticks)
    }

    fn take(counter: &impl Counter) -> Self {
        let before = counter.read();
        let realtime_ns = now_ns(ClockId::Realtime);
        let after = counter.read();
        Self {
            counter: before,
            width_ticks: after.wrapping_sub(before),
            realtime_ns,
        }
    }
}

/// How often a bracket is tried. It is some 60 ns wide, unless this thread is interrupted in it; one of
/// this many is not.
const TRIES: usize = 5;

fn narrowest_of<B>(mut take: impl FnMut() -> B, width: impl Fn(&B) -> u64) -> B {
    let mut narrowest = take();
    for _ in 1..TRIES {
        let bracket = take();
        if width(&bracket) < width(&narrowest) {
            narrowest = bracket;
        }
    }
    narrowest
}

/// The kernel's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelClock;

impl SystemClock for KernelClock {
    fn bracket(&self, counter: &impl Counter) -> Bracket {
        narrowest_of(|| one_bracket(counter), |bracket| bracket.span_ticks)
    }

    fn discipline(&self) -> Result<Discipline, Error> {
        let (state, timex) = adjtimex(0)?;
        // `offset` does not show an `adjtime` in progress.
        let (_, single_shot) = adjtimex(libc::ADJ_OFFSET_SS_READ)?;
        Ok(decode(state, &timex, single_shot.offset))
    }

    fn suspended_ns(&self) -> i128 {
        (0..TRIES)
            .map(|_| {
                let before = now_ns(ClockId::Monotonic);
                let boot = now_ns(ClockId::Boottime);
                let after = now_ns(ClockId::Monotonic);
                (after - before, boot - (before + after) / 2)
            })
            .min()
            .map_or(0, |(_, suspended)| suspended)
    }

    fn may_have_been_suspended(&self) -> bool {
        time_namespace::may_shift_clocks() || self.suspended_ns() > SUSPENDED_NOISE_NS
    }
}

fn one_bracket(counter: &impl Counter) -> Bracket {
    let realtime = RealtimeBracket::take(counter);
    let monotonic_ns = now_ns(ClockId::Monotonic);
    let last = counter.read();
    Bracket {
        counter: realtime.counter,
        width_ticks: realtime.width_ticks,
        realtime_ns: realtime.realtime_ns,
        monotonic_ns,
        span_ticks: last.wrapping_sub(realtime.counter),
    }
}

/// Returns CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> i128 {
    now_ns(ClockId::Monotonic)
}

fn now_ns(clock: ClockId) -> i128 {
    let now = clock_gettime(clock);
    i128::from(now.tv_sec) * NS_PER_SEC + i128::from(now.tv_nsec)
}

fn adjtimex(modes: libc::c_uint) -> Result<(libc::c_int, libc::timex), Error> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `timex` is integers throughout, for which zero bytes are a value.
    let timex = unsafe { timex.assume_init_mut() };
    timex.modes = modes;
    // SAFETY: the pointer is to a whole `timex` that this function owns, and the kernel writes no
    // more than that.
    let state = unsafe { libc::adjtimex(timex) };
    if state < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Error::system("adjtimex", None, error));
    }
    Ok((state, *timex))
}

/// An offset that the kernel cut to whole microseconds, in nanoseconds: never understated.
fn whole_us_as_ns(offset_us: i64) -> i64 {
    // From Linux 5.1 to 6.17 a negative offset is taken for an unsigned one of 32 bits before it is
    // cut (`(u32)txc->offset / NSEC_PER_USEC`, `kernel/time/ntp.c`). None is above half a second.
    const WRAPPED_NS: i64 = 1 << 32;
    let cut_ns = offset_us.saturating_mul(NS_PER_US);
    if (WRAPPED_NS / 2..WRAPPED_NS).contains(&cut_ns) {
        return cut_ns - WRAPPED_NS;
    }
    // The part that was cut off is one more.
    cut_ns.saturating_add(offset_us.signum() * NS_PER_US)
}

fn decode(state: libc::c_int, timex: &libc::timex, single_shot_us: i64) -> Discipline {
    let has = |bit: libc::c_int| timex.status & bit != 0;
    let offset_ns = if has(libc::STA_NANO) {
        timex.offset
    } else {
        whole_us_as_ns(timex.offset)
    };
    let leap = match state {
        libc::TIME_INS => LeapState::Insert,
        libc::TIME_DEL => LeapState::Delete,
        libc::TIME_OOP => LeapState::Inserting,
        libc::TIME_WAIT if has(libc::STA_INS) => LeapState::Inserted,
        libc::TIME_WAIT if has(libc::STA_DEL) => LeapState::Deleted,
        libc::TIME_WAIT => LeapState::Over,
        // The kernel says TIME_ERROR instead of the state while it is unsynchronized; then the
        // announcement shows in the flags alone.
        libc::TIME_ERROR if has(libc::STA_INS) => LeapState::Insert,
        libc::TIME_ERROR if has(libc::STA_DEL) => LeapState::Delete,
        _ => LeapState::None,
    };
    Discipline {
        unsynchronized: has(libc::STA_UNSYNC) || state == libc::TIME_ERROR,
        maxerror_us: timex.maxerror.max(0).cast_unsigned(),
        esterror_us: timex.esterror.max(0).cast_unsigned(),
        offset_ns,
        loop_shift: u32::try_from(timex.constant)
            .unwrap_or(0)
            .saturating_add(LOOP_SHIFT_MIN)
            .min(LOOP_SHIFT_MAX),
        has_loop: has(libc::STA_PLL),
        single_shot_ns: single_shot_us.saturating_mul(NS_PER_US),
        frequency_scaled_ppm: timex.freq,
        tick_us: timex.tick,
        tai_minus_utc_sec: timex.tai,
        leap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(
        state: libc::c_int,
        status: libc::c_int,
        change: fn(&mut libc::timex),
    ) -> Discipline {
        let (_, mut timex) = adjtimex(0).unwrap();
        timex.status = status;
        change(&mut timex);
        decode(state, &timex, 3)
    }

    #[test]
    fn offsets_are_nanoseconds_whatever_unit_the_kernel_was_told_to_use() {
        let nano = decoded(libc::TIME_OK, libc::STA_NANO, |timex| timex.offset = -1500);
        assert_eq!((nano.offset_ns, nano.single_shot_ns), (-1500, 3000));
        // -1.5 µs and 1.5 µs, cut to whole ones: never understated.
        let micro = decoded(libc::TIME_OK, 0, |timex| timex.offset = -1);
        assert_eq!(micro.offset_ns, -2000);
        let micro = decoded(libc::TIME_OK, 0, |timex| timex.offset = 1);
        assert_eq!(micro.offset_ns, 2000);
    }

    #[test]
    fn a_negative_offset_that_the_kernel_took_for_an_unsigned_one_is_negative() {
        // -1 ns, -1 ms and -0.5 s, as Linux 5.1 and later show them in microseconds.
        for (true_ns, shown_us) in [
            (-1, 4_294_967),
            (-1_000_000, 4_293_967),
            (-500_000_000, 3_794_967),
        ] {
            let ns = whole_us_as_ns(shown_us);
            assert!((true_ns - 1000..=true_ns).contains(&ns), "{true_ns}: {ns}");
        }
        assert_eq!(whole_us_as_ns(500_000), 500_001_000);
    }

    #[test]
    fn the_loop_is_as_fast_as_its_time_constant_says() {
        let with = |change| decoded(libc::TIME_OK, 0, change).loop_shift;
        assert_eq!(with(|timex| timex.constant = 0), 2);
        assert_eq!(with(|timex| timex.constant = 10), 12);
        assert_eq!(with(|timex| timex.constant = -1), 2);
    }

    #[test]
    fn a_clock_that_the_kernel_disowns_is_unsynchronized() {
        let with = |state, status| decoded(state, status, |_| ()).unsynchronized;
        assert!(!with(libc::TIME_OK, libc::STA_PLL));
        assert!(with(libc::TIME_OK, libc::STA_UNSYNC));
        assert!(with(libc::TIME_ERROR, 0));
    }

    #[test]
    fn a_leap_second_that_is_over_keeps_its_kind_while_its_flag_stands() {
        let with = |state, status| decoded(state, status, |_| ()).leap;
        assert_eq!(with(libc::TIME_OK, 0), LeapState::None);
        assert_eq!(with(libc::TIME_INS, libc::STA_INS), LeapState::Insert);
        assert_eq!(with(libc::TIME_OOP, libc::STA_INS), LeapState::Inserting);
        assert_eq!(with(libc::TIME_WAIT, libc::STA_INS), LeapState::Inserted);
        assert_eq!(with(libc::TIME_DEL, libc::STA_DEL), LeapState::Delete);
        assert_eq!(with(libc::TIME_WAIT, libc::STA_DEL), LeapState::Deleted);
        assert_eq!(with(libc::TIME_WAIT, 0), LeapState::Over);
        assert_eq!(with(libc::TIME_ERROR, libc::STA_DEL), LeapState::Delete);
    }
}
