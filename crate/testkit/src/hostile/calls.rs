//! All calls on a clock, and their right answers.

use std::time::{SystemTime, UNIX_EPOCH};

use vmclock::clock::fast::{FastClock, Ordered, TimePoint};
use vmclock::snapshot::RawFields;
use vmclock::{Continuity, Error, Reading, VmClock};

use super::machine::{MachineCounter, Memory};
use super::state::{self, Right, State, VERSION_CHANGED};
use crate::exact::{View, big, saturated};

type Clock = VmClock<Memory, MachineCounter>;

/// The clocks under test, and the arguments of their calls.
pub(super) struct Clocks {
    pub(super) plain: Clock,
    /// Never steps back.
    pub(super) held: Clock,
    /// The latest time that `held` returned.
    pub(super) last_ns: Option<i64>,
    /// Taken in an earlier state.
    pub(super) token: Continuity,
    /// Captured in an earlier state.
    pub(super) captured: u64,
    /// Each clock's last whole reading.
    pub(super) rests: [Rest; 2],
}

/// The state of the page that a reading was taken in, and that reading.
pub(super) type Rest = Option<(u64, Reading)>;

#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Read,
    NowNs,
    NowMs,
    Snapshot,
    HasTime,
    Continuity,
    IsContinuous,
    Convert,
    Converter,
    TimePoint,
    HeldRead,
    HeldNowNs,
    HeldTimePoint,
    HeldNowMs,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Reading(Reading),
    Ns(i64),
    Ms(f64),
    Page {
        raw: RawFields,
        vm_generation: Option<u64>,
        counter: u64,
    },
    Continuity(Continuity),
    Whether(bool),
    Each([Option<i64>; 2]),
}

impl Call {
    /// All calls. All but the last may meet an update: two states near each other can give the same
    /// milliseconds, so that call's state is ambiguous.
    pub(super) const ALL: [Self; 14] = [
        Self::Read,
        Self::NowNs,
        Self::NowMs,
        Self::Snapshot,
        Self::HasTime,
        Self::Continuity,
        Self::IsContinuous,
        Self::Convert,
        Self::Converter,
        Self::TimePoint,
        Self::HeldRead,
        Self::HeldNowNs,
        Self::HeldTimePoint,
        Self::HeldNowMs,
    ];

    pub(super) fn make(self, clocks: &mut Clocks) -> Result<Answer, Error> {
        let Clocks {
            plain,
            held,
            token,
            captured,
            rests: [rest, held_rest],
            ..
        } = clocks;
        match self {
            Self::Read => plain.read().map(Answer::Reading),
            Self::NowNs => plain.now_ns().map(Answer::Ns),
            Self::NowMs => plain.now_ms().map(Answer::Ms),
            Self::Snapshot => plain.snapshot().map(|snapshot| Answer::Page {
                raw: snapshot.raw,
                vm_generation: snapshot.vm_generation(),
                counter: snapshot.counter,
            }),
            Self::HasTime => plain.has_time().map(Answer::Whether),
            Self::Continuity => plain.continuity_token().map(Answer::Continuity),
            Self::IsContinuous => plain.is_continuous(token).map(Answer::Whether),
            Self::Convert => plain.convert(*captured, token).map(Answer::Reading),
            Self::Converter => plain.converter(token).map(|converter| {
                Answer::Each(two(*captured).map(|counter| converter.epoch_ns(counter).ok()))
            }),
            Self::TimePoint => by_time_point(plain, rest).map(Answer::Reading),
            Self::HeldRead => held.read().map(Answer::Reading),
            Self::HeldNowNs => held.now_ns().map(Answer::Ns),
            Self::HeldTimePoint => by_time_point(held, held_rest).map(Answer::Reading),
            Self::HeldNowMs => held.now_ms().map(Answer::Ms),
        }
    }

    pub(super) fn right(self, clocks: &Clocks, state: &State, view: &View) -> Right<Answer> {
        if self.is_in_ms() && !view.timescale.is_utc() {
            return Err(vec!["ERR_VMCLOCK_TIMESCALE"]);
        }
        if !state.has_known_version() {
            return Err(vec![VERSION_CHANGED]);
        }
        let same = clocks.token == state.continuity;
        if !same && matches!(self, Self::Convert | Self::Converter) {
            return Err(vec!["ERR_VMCLOCK_DISRUPTED"]);
        }
        let live = || state.live.clone();
        let held = || live().map(|reading| state::held(reading, clocks.last_ns));
        let captured = |counter| {
            if counter == state.counter {
                state.converted.clone()
            } else {
                state::converted(view, &state.raw, counter)
            }
        };
        Ok(match self {
            Self::Read | Self::TimePoint => Answer::Reading(live()?),
            Self::NowNs => Answer::Ns(live()?.epoch_ns),
            Self::NowMs => Answer::Ms(state::ms(live()?.epoch_ns)),
            Self::Snapshot => Answer::Page {
                raw: state.raw,
                vm_generation: state.continuity.vm_generation,
                counter: state.counter,
            },
            Self::HasTime => {
                Answer::Whether(!state::reasons(view, &state.raw).contains(&"ERR_VMCLOCK_NO_TIME"))
            }
            Self::Continuity => Answer::Continuity(state.continuity),
            Self::IsContinuous => Answer::Whether(same),
            Self::Convert => Answer::Reading(captured(clocks.captured)?),
            Self::Converter => {
                let reasons = state::reasons(view, &state.raw);
                if !reasons.is_empty() {
                    return Err(reasons);
                }
                Answer::Each(
                    two(clocks.captured)
                        .map(|counter| captured(counter).ok().map(|reading| reading.epoch_ns)),
                )
            }
            Self::HeldRead | Self::HeldTimePoint => Answer::Reading(held()?),
            Self::HeldNowNs => Answer::Ns(held()?.epoch_ns),
            Self::HeldNowMs => Answer::Ms(state::ms(held()?.epoch_ns)),
        })
    }

    fn is_in_ms(self) -> bool {
        matches!(self, Self::NowMs | Self::HeldNowMs)
    }
}

impl Clocks {
    /// Remembers the time that `held` returned in this state: it may not step back behind it.
    pub(super) fn remember(&mut self, call: Call, state: &State, view: &View) {
        let is_asked = match call {
            Call::HeldRead | Call::HeldNowNs | Call::HeldTimePoint => true,
            Call::HeldNowMs => view.timescale.is_utc(),
            _ => false,
        };
        if let Ok(live) = &state.live
            && is_asked
        {
            self.last_ns = Some(state::held(*live, self.last_ns).epoch_ns);
        }
    }
}

/// Takes a reading as the glue does: the figures that depend on the counter, and the rest from an earlier
/// reading of the same page state.
fn by_time_point(clock: &mut Clock, rest: &mut Rest) -> Result<Reading, Error> {
    if let Some((state, rest)) = rest
        && *state == clock.states_seen()
        && let Some(point) = time_point_of(clock)
    {
        let side_ns = point.max_error_ns.map(u64::cast_signed);
        return Ok(Reading {
            epoch_ns: point.epoch_ns,
            max_error_ns: point.max_error_ns,
            est_error_ns: point.est_error_ns,
            earliest_ns: side_ns.map(|side| point.epoch_ns - side),
            latest_ns: side_ns.map(|side| point.epoch_ns + side),
            age_ns: rest.age_ns + (point.epoch_ns - rest.epoch_ns),
            counter: point.counter,
            ..*rest
        });
    }
    let reading = clock.read()?;
    *rest = Some((clock.states_seen(), reading));
    Ok(reading)
}

fn time_point_of(clock: &mut Clock) -> Option<TimePoint> {
    match clock.fast_time_point::<Ordered>() {
        Ok(point) => Some(point),
        Err(slow_path) => clock.slow_time_point(slow_path),
    }
}

/// A captured counter, and one far from it.
fn two(captured: u64) -> [u64; 2] {
    [captured, captured ^ (1 << 47)]
}

pub(super) fn agree(answer: &Result<Answer, Error>, right: &Right<Answer>) -> bool {
    match (answer, right) {
        (Ok(Answer::Ms(answer)), Ok(Answer::Ms(right))) => {
            // Within a minute of 1970 the double may be next to the nearest.
            answer == right
                || (right.abs() < 60_000.0 && (answer - right).abs() <= f64::EPSILON * right.abs())
        }
        (Ok(answer), Ok(right)) => answer == right,
        (Err(error), Err(codes)) => codes.contains(&error.code()),
        _ => false,
    }
}

/// Checks `system_offset` on a page that does not change.
pub(super) fn check_system_offset(clocks: &mut Clocks, state: &State) {
    let system_ns = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i128::try_from(now.as_nanos()).unwrap()
    };
    let before_ns = system_ns();
    let answer = clocks.plain.system_offset();
    let after_ns = system_ns();
    if !clocks.plain.timescale().is_utc() {
        assert_eq!(answer.unwrap_err().code(), "ERR_VMCLOCK_TIMESCALE");
        return;
    }
    match (answer, &state.live) {
        (Ok(answer), Ok(right)) => {
            let epoch_ns = i128::from(right.epoch_ns);
            let offset_ns = i128::from(answer.offset_ns);
            assert!((before_ns - epoch_ns..=after_ns - epoch_ns).contains(&offset_ns));
            // One, because the middle of two readings is rounded.
            let bound = right
                .max_error_ns
                .map(|ns| u64::try_from(saturated(big(ns) + 1)).unwrap());
            assert_eq!(answer.max_error_ns, bound, "of {right:?}");
        }
        (Err(error), Ok(right)) => {
            let offset_ns = before_ns - i128::from(right.epoch_ns);
            assert_eq!(error.code(), "ERR_VMCLOCK_OUT_OF_RANGE");
            assert!(i64::try_from(offset_ns).is_err(), "{offset_ns}");
        }
        (Err(error), Err(codes)) => assert!(codes.contains(&error.code()), "{error:?}"),
        (answer, right) => panic!("{answer:?} instead of {right:?}"),
    }
}
