//! All that can be asked of a clock, and what would be right to answer.

use std::time::{SystemTime, UNIX_EPOCH};

use vmclock::clock::fast::{FastClock, TimePoint};
use vmclock::snapshot::RawFields;
use vmclock::{Continuity, Error, Reading, VmClock};

use super::machine::{MachineCounter, Memory};
use super::state::{self, Right, State, VERSION_CHANGED};
use crate::exact::{View, big, saturated};

type Clock = VmClock<Memory, MachineCounter>;

/// The clocks that are asked, and what they are asked about.
pub(super) struct Clocks {
    pub(super) plain: Clock,
    /// Never steps back.
    pub(super) held: Clock,
    /// The latest time that `held` told.
    pub(super) last_ns: Option<i64>,
    /// Taken in an earlier state.
    pub(super) token: Continuity,
    /// Captured in an earlier state.
    pub(super) captured: u64,
    /// What is kept of each clock's last whole reading.
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
pub(super) enum Said {
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
    /// All but the last may meet an update: of milliseconds it cannot be told in which of two states
    /// they were said, if these lie near enough to each other.
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

    pub(super) fn make(self, clocks: &mut Clocks) -> Result<Said, Error> {
        let Clocks {
            plain,
            held,
            token,
            captured,
            rests: [rest, held_rest],
            ..
        } = clocks;
        match self {
            Self::Read => plain.read().map(Said::Reading),
            Self::NowNs => plain.now_ns().map(Said::Ns),
            Self::NowMs => plain.now_ms().map(Said::Ms),
            Self::Snapshot => plain.snapshot().map(|snapshot| Said::Page {
                raw: snapshot.raw,
                vm_generation: snapshot.vm_generation(),
                counter: snapshot.counter,
            }),
            Self::HasTime => plain.has_time().map(Said::Whether),
            Self::Continuity => plain.continuity_token().map(Said::Continuity),
            Self::IsContinuous => plain.is_continuous(token).map(Said::Whether),
            Self::Convert => plain.convert(*captured, token).map(Said::Reading),
            Self::Converter => plain.converter(token).map(|converter| {
                Said::Each(two(*captured).map(|counter| converter.epoch_ns(counter).ok()))
            }),
            Self::TimePoint => by_time_point(plain, rest).map(Said::Reading),
            Self::HeldRead => held.read().map(Said::Reading),
            Self::HeldNowNs => held.now_ns().map(Said::Ns),
            Self::HeldTimePoint => by_time_point(held, held_rest).map(Said::Reading),
            Self::HeldNowMs => held.now_ms().map(Said::Ms),
        }
    }

    pub(super) fn right(self, clocks: &Clocks, state: &State, view: &View) -> Right<Said> {
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
            Self::Read | Self::TimePoint => Said::Reading(live()?),
            Self::NowNs => Said::Ns(live()?.epoch_ns),
            Self::NowMs => Said::Ms(state::ms(live()?.epoch_ns)),
            Self::Snapshot => Said::Page {
                raw: state.raw,
                vm_generation: state.continuity.vm_generation,
                counter: state.counter,
            },
            Self::HasTime => {
                Said::Whether(!state::reasons(view, &state.raw).contains(&"ERR_VMCLOCK_NO_TIME"))
            }
            Self::Continuity => Said::Continuity(state.continuity),
            Self::IsContinuous => Said::Whether(same),
            Self::Convert => Said::Reading(captured(clocks.captured)?),
            Self::Converter => {
                let reasons = state::reasons(view, &state.raw);
                if !reasons.is_empty() {
                    return Err(reasons);
                }
                Said::Each(
                    two(clocks.captured)
                        .map(|counter| captured(counter).ok().map(|reading| reading.epoch_ns)),
                )
            }
            Self::HeldRead | Self::HeldTimePoint => Said::Reading(held()?),
            Self::HeldNowNs => Said::Ns(held()?.epoch_ns),
            Self::HeldNowMs => Said::Ms(state::ms(held()?.epoch_ns)),
        })
    }

    fn is_in_ms(self) -> bool {
        matches!(self, Self::NowMs | Self::HeldNowMs)
    }
}

impl Clocks {
    /// What `held` may not go back behind from now on, after it was asked in this state.
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

/// A reading as the glue makes one: of what changes with the counter, where the rest of an earlier one is
/// still right.
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
            counter: point.counter,
            ..*rest
        });
    }
    let reading = clock.read()?;
    *rest = Some((clock.states_seen(), reading));
    Ok(reading)
}

fn time_point_of(clock: &mut Clock) -> Option<TimePoint> {
    match clock.fast_time_point() {
        Ok(point) => Some(point),
        Err(slow_path) => clock.slow_time_point(slow_path),
    }
}

/// A captured counter, and one far from it.
fn two(captured: u64) -> [u64; 2] {
    [captured, captured ^ (1 << 47)]
}

pub(super) fn agree(answer: &Result<Said, Error>, right: &Right<Said>) -> bool {
    match (answer, right) {
        (Ok(Said::Ms(said)), Ok(Said::Ms(right))) => {
            // Within a minute of 1970 a double may be the nearest but one.
            said == right
                || (right.abs() < 60_000.0 && (said - right).abs() <= f64::EPSILON * right.abs())
        }
        (Ok(said), Ok(right)) => said == right,
        (Err(error), Err(codes)) => codes.contains(&error.code()),
        _ => false,
    }
}

/// The system's clock against a page that stands still.
pub(super) fn check_system_offset(clocks: &mut Clocks, state: &State) {
    let system_ns = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i128::try_from(now.as_nanos()).unwrap()
    };
    let before_ns = system_ns();
    let said = clocks.plain.system_offset();
    let after_ns = system_ns();
    if !clocks.plain.timescale().is_utc() {
        assert_eq!(said.unwrap_err().code(), "ERR_VMCLOCK_TIMESCALE");
        return;
    }
    match (said, &state.live) {
        (Ok(said), Ok(right)) => {
            let epoch_ns = i128::from(right.epoch_ns);
            let offset_ns = i128::from(said.offset_ns);
            assert!((before_ns - epoch_ns..=after_ns - epoch_ns).contains(&offset_ns));
            // One for the middle of two readings, which is rounded.
            let bound = right
                .max_error_ns
                .map(|ns| u64::try_from(saturated(big(ns) + 1)).unwrap());
            assert_eq!(said.max_error_ns, bound, "of {right:?}");
        }
        (Err(error), Ok(right)) => {
            let offset_ns = before_ns - i128::from(right.epoch_ns);
            assert_eq!(error.code(), "ERR_VMCLOCK_OUT_OF_RANGE");
            assert!(i64::try_from(offset_ns).is_err(), "{offset_ns}");
        }
        (Err(error), Err(codes)) => assert!(codes.contains(&error.code()), "{error:?}"),
        (said, right) => panic!("{said:?} instead of {right:?}"),
    }
}
