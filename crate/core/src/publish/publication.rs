//! What the page says: a state machine over the system's clock and the counter.

use std::collections::VecDeque;
use std::time::Duration;

use super::leap_watch::{LeapWatch, Seen};
use super::rate::{self, NS_PER_SEC, Period};
use super::{Cause, Maintenance, PublishOptions, Shape};
use crate::abi;
use crate::counter::Counter;
use crate::error::Error;
use crate::fixed;
use crate::leap;
use crate::snapshot::RawFields;
use crate::system_clock::{
    Bracket, Discipline, LeapSeconds, MAXERROR_CEILING_US, MAXERROR_GROWTH_US_PER_SEC, SystemClock,
};
use crate::writer::blank;

/// Two samples closer than this make no baseline.
const SHORTEST_BASELINE_NS: i128 = 5_000_000;
/// How long to wait for the second sample while there is no period yet.
const FIRST_BASELINE: Duration = Duration::from_millis(10);
/// Samples are kept this far apart, and for so long: what a counter's rate did half an hour ago
/// says little about now, and by then the quotient is far below the allowance for wander.
const ANCHOR_SPACING_NS: i128 = 64 * NS_PER_SEC;
const OLDEST_ANCHOR_NS: i128 = 1024 * NS_PER_SEC;
/// Less than this is the noise of reading two clocks one after the other.
const SUSPENDED_NOISE_NS: i128 = 1_000_000;
/// What a prediction may be off, beyond all that is accounted for, before a clock or counter
/// counts as having jumped.
const JUMP_NS: u128 = 1_000_000;
/// How often a sample is taken again because the kernel's figures changed while it was taken.
const TRIES: usize = 8;

/// Clock and counter at one instant.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// The counter in the middle of the bracket.
    counter: u64,
    /// Half the bracket around CLOCK_REALTIME, rounded up.
    half_width_ticks: u64,
    /// The whole bracket, CLOCK_MONOTONIC included.
    span_ticks: u64,
    realtime_ns: i128,
    monotonic_ns: i128,
    suspended_ns: i128,
    discipline: Discipline,
    /// How far CLOCK_REALTIME may be off, where that is known.
    claim_ns: Option<u128>,
    /// How far the kernel thinks it is, where that means anything.
    estimate_ns: Option<u128>,
}

impl Sample {
    /// Half the bracket in nanoseconds, and one for CLOCK_REALTIME's own rounding.
    fn half_width_ns(&self, period: &Period) -> u128 {
        period.ticks_ns(self.half_width_ticks) + 1
    }

    fn is_slewing(&self) -> bool {
        self.discipline.offset_ns != 0 || self.discipline.single_shot_ns != 0
    }
}

/// What happened between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Nothing,
    /// CLOCK_REALTIME was set; the counter goes on.
    Step,
    /// The kernel's clock was given another rate.
    Rate,
    /// The counter, or what is known of it, does not go on.
    Disruption,
}

/// A page from a clock and a counter: no thread, no file.
///
/// Each [`Publication::step`] samples both and returns the fields that the page is to show from
/// then on. Until there is a period (the first step, and the first after a disruption of the
/// counter) those fields say "initializing" and readers refuse the time;
/// [`Publication::next_within`] says how soon the next step should follow.
#[derive(Debug)]
pub struct Publication<S: SystemClock, C: Counter> {
    clock: S,
    counter: C,
    options: PublishOptions,
    leap_seconds: Option<LeapSeconds>,
    /// TAI - UTC as the operator stated it, and leap seconds since.
    stated_tai_sec: Option<i16>,
    /// The page that was taken over, until the present has been compared with it.
    taken_over: Option<RawFields>,
    leap: LeapWatch,
    /// The undisrupted stretch: samples to measure the period from, in order.
    anchors: VecDeque<Sample>,
    last: Option<Sample>,
    period: Option<Period>,
    /// `maxerror` was seen reset to 0: its figures are worth nothing.
    zeroed: bool,
    /// The machine was suspended or its counter jumped since `maxerror` was last set.
    stale: bool,
    fields: RawFields,
}

impl<S: SystemClock, C: Counter> Publication<S, C> {
    /// A page that nothing has been measured for. `taken_over` are the fields of a valid page that
    /// is to go on: its marker and generation counter are kept, unless its time and the present
    /// disagree beyond their bounds. `leap_seconds` is tzdata's list, where there is one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where an option is outside its range.
    pub fn new(
        clock: S,
        counter: C,
        options: PublishOptions,
        leap_seconds: Option<LeapSeconds>,
        taken_over: Option<RawFields>,
    ) -> Result<Self, Error> {
        options.check()?;
        // Marker and generation tell that something changed and are no identity; but a token taken
        // on a page that was removed must not fit the one that was made in its place, so they
        // begin at an arbitrary number: the time, cut to 64 bits.
        let seed = clock.bracket(&counter).realtime_ns as u64;
        let old = taken_over.as_ref();
        let mut fields = RawFields {
            disruption_marker: old.map_or(seed, |old| old.disruption_marker),
            vm_generation_counter: old
                .filter(|old| old.flags & abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT != 0)
                .map_or(seed, |old| old.vm_generation_counter),
            ..blank()
        };
        match options.shape {
            Shape::Time => {
                fields.flags = abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
                fields.counter_id = counter.id();
                fields.clock_status = abi::VMCLOCK_STATUS_INITIALIZING;
            }
            Shape::Marker => fields.vm_generation_counter = 0,
            Shape::MarkerAndGeneration => {
                fields.flags = abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT
                    | abi::VMCLOCK_FLAG_NOTIFICATION_PRESENT;
            }
        }
        let leap = old.map_or_else(LeapWatch::default, |old| {
            LeapWatch::resume(old.leap_indicator, page_utc_sec(old))
        });
        Ok(Self {
            stated_tai_sec: options.tai_minus_utc_sec,
            taken_over: taken_over.filter(|_| options.shape == Shape::Time),
            clock,
            counter,
            options,
            leap_seconds,
            leap,
            anchors: VecDeque::new(),
            last: None,
            period: None,
            zeroed: false,
            stale: false,
            fields,
        })
    }

    /// The fields that the last step returned.
    #[must_use]
    pub fn fields(&self) -> &RawFields {
        &self.fields
    }

    /// How soon the next step should follow the last: the interval, or less while there is no
    /// period yet.
    #[must_use]
    pub fn next_within(&self) -> Duration {
        if self.options.shape == Shape::Time && self.period.is_none() {
            FIRST_BASELINE
        } else {
            self.options.interval
        }
    }

    /// Whether the page is past its first baseline, or never has one.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.options.shape != Shape::Time || self.period.is_some()
    }

    /// Whether the page has a generation counter.
    #[must_use]
    pub fn has_generation(&self) -> bool {
        self.fields.flags & abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT != 0
    }

    /// Replaces tzdata's list by a newer one.
    pub fn set_leap_seconds(&mut self, leap_seconds: Option<LeapSeconds>) {
        self.leap_seconds = leap_seconds;
    }

    /// Brings the page up to date, and returns all of its fields.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a generation counter on a page that has none,
    /// [`Error::OutOfRange`] where the clock shows a time before 1970, and what
    /// [`SystemClock::discipline`] gives. The page is then to be left as it was, or marked
    /// unreliable with [`Cause::Close`].
    pub fn step(&mut self, cause: Cause) -> Result<RawFields, Error> {
        match cause {
            Cause::Close => {
                // The time stays, so that the next publisher can compare it with the present.
                self.fields.clock_status = abi::VMCLOCK_STATUS_UNRELIABLE;
                return Ok(self.fields);
            }
            Cause::BumpGeneration => self.bump_generation()?,
            Cause::Maintenance(maintenance) => self.announce(maintenance),
            Cause::Disrupt => {
                self.change_marker();
                self.anchors.clear();
            }
            Cause::Migrated => self.disrupt(),
            Cause::Interval | Cause::ClockStep => {}
        }
        if self.options.shape == Shape::Time {
            self.update_time(cause)?;
        } else {
            self.watch_suspend();
        }
        Ok(self.fields)
    }

    fn bump_generation(&mut self) -> Result<(), Error> {
        if !self.has_generation() {
            return Err(Error::InvalidArgument(
                "a page of this shape has no generation counter; publish one with time, or with \
                 marker and generation"
                    .to_owned(),
            ));
        }
        self.fields.vm_generation_counter = self.fields.vm_generation_counter.wrapping_add(1);
        Ok(())
    }

    fn announce(&mut self, maintenance: Maintenance) {
        let both = abi::VMCLOCK_FLAG_DISRUPTION_SOON | abi::VMCLOCK_FLAG_DISRUPTION_IMMINENT;
        self.fields.flags &= !both;
        self.fields.flags |= match maintenance {
            Maintenance::None => 0,
            Maintenance::Soon => abi::VMCLOCK_FLAG_DISRUPTION_SOON,
            Maintenance::Imminent => both,
        };
    }

    fn change_marker(&mut self) {
        self.fields.disruption_marker = self.fields.disruption_marker.wrapping_add(1);
    }

    /// The counter does not go on: nothing that was measured holds.
    fn disrupt(&mut self) {
        self.change_marker();
        self.anchors.clear();
        self.last = None;
        self.period = None;
        // The kernel's clock may run on that counter, or was set from another one when the machine
        // woke up, and `maxerror` does not know.
        self.stale = true;
    }

    fn watch_suspend(&mut self) {
        let bracket = self.clock.bracket(&self.counter);
        let suspended_ns = self.clock.suspended_ns();
        if let Some(last) = &self.last
            && suspended_ns - last.suspended_ns > SUSPENDED_NOISE_NS
        {
            self.change_marker();
        }
        let discipline = Discipline::default();
        let realtime_ns = bracket.realtime_ns;
        self.last = Some(sample(&bracket, realtime_ns, suspended_ns, discipline));
    }

    fn update_time(&mut self, cause: Cause) -> Result<(), Error> {
        let Some((mut now, seen)) = self.sample()? else {
            // The kernel's figures never stood still: the page stays as it is, and right.
            return Ok(());
        };
        if let Some(seconds) = &mut self.stated_tai_sec {
            *seconds += seen.tai_change_sec;
        }
        match self.event(&now, cause) {
            Event::Nothing => {}
            Event::Step => self.anchors.clear(),
            Event::Rate => {
                self.anchors.clear();
                if let (Some(period), Some(last)) = (self.period, &self.last) {
                    self.period = Some(period.at_rate(&last.discipline, &now.discipline));
                }
            }
            Event::Disruption => self.disrupt(),
        }
        self.judge(&mut now);
        let error = self.measure(&now);
        self.last = Some(now);
        match (self.period, error) {
            (Some(period), Some(error)) => {
                self.compare_with_taken_over(&now, &period);
                self.show(&now, &seen, &period, &error)
            }
            _ => {
                self.show_initializing();
                Ok(())
            }
        }
    }

    /// Clock, counter and the kernel's figures, all of one moment.
    fn sample(&mut self) -> Result<Option<(Sample, Seen)>, Error> {
        for _ in 0..TRIES {
            let before = self.clock.discipline()?;
            let bracket = self.clock.bracket(&self.counter);
            let suspended_ns = self.clock.suspended_ns();
            let after = self.clock.discipline()?;
            // `maxerror` only grows until the next measurement lowers it; then which of the two it
            // was at the bracket is unknown. The rest must not change at all, but for what a slew
            // takes off the offset.
            let same = Discipline {
                maxerror_us: before.maxerror_us,
                esterror_us: before.esterror_us,
                offset_ns: before.offset_ns,
                single_shot_ns: before.single_shot_ns,
                ..after
            } == before;
            if !same || after.maxerror_us < before.maxerror_us {
                continue;
            }
            let larger = |a: i64, b: i64| {
                if a.unsigned_abs() > b.unsigned_abs() {
                    a
                } else {
                    b
                }
            };
            let discipline = Discipline {
                offset_ns: larger(before.offset_ns, after.offset_ns),
                single_shot_ns: larger(before.single_shot_ns, after.single_shot_ns),
                esterror_us: before.esterror_us.max(after.esterror_us),
                ..after
            };
            let seen = self.leap.look(bracket.realtime_ns, discipline.leap);
            let sample = sample(&bracket, seen.realtime_ns, suspended_ns, discipline);
            return Ok(Some((sample, seen)));
        }
        Ok(None)
    }

    /// What happened since the last sample.
    fn event(&self, now: &Sample, cause: Cause) -> Event {
        let Some(last) = &self.last else {
            return Event::Nothing;
        };
        let ticks = fixed::distance_ticks(now.counter, last.counter);
        let suspended_ns = now.suspended_ns - last.suspended_ns;
        if ticks < 0 || suspended_ns > SUSPENDED_NOISE_NS {
            return Event::Disruption;
        }
        let changed_rate = last.discipline.frequency_scaled_ppm
            != now.discipline.frequency_scaled_ppm
            || last.discipline.tick_us != now.discipline.tick_us;
        if let Some(period) = &self.period {
            let elapsed_ns = period.elapsed_ns(ticks);
            let ceiling_ppb =
                rate::ceiling_ppb(&last.discipline).max(rate::ceiling_ppb(&now.discipline));
            let explained_ns = rate::share_ns(elapsed_ns, 2 * ceiling_ppb + period.noise_ppb)
                + period.ticks_ns(last.span_ticks)
                + period.ticks_ns(now.span_ticks)
                + JUMP_NS;
            let off = |clock_ns: i128| (clock_ns - elapsed_ns).unsigned_abs() > explained_ns;
            // CLOCK_MONOTONIC is never set: if it disagrees, the counter jumped.
            if off(now.monotonic_ns - last.monotonic_ns) {
                return Event::Disruption;
            }
            if off(now.realtime_ns - last.realtime_ns) {
                return Event::Step;
            }
        }
        if cause == Cause::ClockStep {
            Event::Step
        } else if changed_rate {
            Event::Rate
        } else {
            Event::Nothing
        }
    }

    /// Decides what the kernel's figures are worth.
    fn judge(&mut self, now: &mut Sample) {
        let discipline = now.discipline;
        let maxerror_us = discipline.maxerror_us;
        self.zeroed |= maxerror_us == 0;
        if let Some(last) = &self.last
            && maxerror_us < last.discipline.maxerror_us
        {
            self.stale = false;
        }
        if let Some(stated) = self.options.stated_max_error_ns {
            now.claim_ns = Some(u128::from(stated));
            return;
        }
        let counted_up_from_0 = maxerror_us.is_multiple_of(MAXERROR_GROWTH_US_PER_SEC);
        if !is_synchronized(&discipline) || self.zeroed || self.stale || counted_up_from_0 {
            return;
        }
        let to_slew_ns = u128::from(discipline.offset_ns.unsigned_abs())
            + u128::from(discipline.single_shot_ns.unsigned_abs());
        let ns = |us: u64| u128::from(us) * 1000;
        now.claim_ns = Some(ns(maxerror_us) + 1000 + to_slew_ns);
        now.estimate_ns = Some(ns(discipline.esterror_us) + 1000 + to_slew_ns);
    }

    /// Measures the period from the best baseline that there is, and says how far it may be off.
    fn measure(&mut self, now: &Sample) -> Option<RateError> {
        while self.anchors.len() > 1
            && self
                .anchors
                .front()
                .is_some_and(|oldest| now.realtime_ns - oldest.realtime_ns > OLDEST_ANCHOR_NS)
        {
            self.anchors.pop_front();
        }
        let best = self
            .anchors
            .iter()
            .filter_map(|anchor| self.baseline(anchor, now))
            .min_by_key(|(period, error)| (error.max_ppb, period.noise_ppb));
        let result = match best {
            Some((period, error)) => {
                self.period = Some(period);
                Some(error)
            }
            None => self.period.map(|period| RateError {
                max_ppb: self.at_most(now, period.noise_ppb),
                estimate_ppb: None,
            }),
        };
        if self
            .anchors
            .back()
            .is_none_or(|newest| now.realtime_ns - newest.realtime_ns >= ANCHOR_SPACING_NS)
        {
            self.anchors.push_back(*now);
        }
        result
    }

    /// The ceiling of the period's error, and never less than the allowance for wander.
    fn at_most(&self, now: &Sample, noise_ppb: u128) -> u128 {
        rate::ceiling_ppb(&now.discipline).max(u128::from(self.options.wander_ppb)) + noise_ppb
    }

    fn baseline(&self, anchor: &Sample, now: &Sample) -> Option<(Period, RateError)> {
        let length_ns = now.realtime_ns - anchor.realtime_ns;
        let ticks = fixed::distance_ticks(now.counter, anchor.counter);
        if length_ns < SHORTEST_BASELINE_NS {
            return None;
        }
        let period = Period::measured(length_ns, ticks, 0)?;
        let widths_ns = anchor.half_width_ns(&period) + now.half_width_ns(&period);
        let noise_ppb = rate::quotient_ppb(widths_ns, length_ns)?;
        let ceiling_ppb = self
            .at_most(now, noise_ppb)
            .max(self.at_most(anchor, noise_ppb));
        let wander_ppb = u128::from(self.options.wander_ppb);
        let quotient_of =
            |a: Option<u128>, b: Option<u128>| rate::quotient_ppb(a? + b? + widths_ns, length_ns);
        // What an operator states is about the kernel's clock, slews and all, so that it says
        // nothing about the counter's rate while the kernel slews.
        let stated_and_slewing =
            self.options.stated_max_error_ns.is_some() && (anchor.is_slewing() || now.is_slewing());
        let max_ppb = quotient_of(anchor.claim_ns, now.claim_ns)
            .filter(|_| !stated_and_slewing)
            .map_or(ceiling_ppb, |quotient| {
                (quotient + wander_ppb).min(ceiling_ppb)
            });
        let estimate_ppb =
            quotient_of(anchor.estimate_ns, now.estimate_ns).map(|ppb| ppb.min(max_ppb));
        let error = RateError {
            max_ppb,
            estimate_ppb,
        };
        Some((
            Period {
                noise_ppb,
                ..period
            },
            error,
        ))
    }

    /// Changes the marker if the page that was taken over is not the present's past.
    fn compare_with_taken_over(&mut self, now: &Sample, period: &Period) {
        let Some(old) = self.taken_over.take() else {
            return;
        };
        let now_error_ns = now.claim_ns.map(|claim| claim + now.half_width_ns(period));
        if !goes_on(&old, now, self.counter.id(), now_error_ns) {
            self.change_marker();
        }
    }

    fn show_initializing(&mut self) {
        self.fields.clock_status = abi::VMCLOCK_STATUS_INITIALIZING;
        self.fields.flags &= !(abi::VMCLOCK_FLAG_PERIOD_ESTERROR_VALID
            | abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID
            | abi::VMCLOCK_FLAG_TIME_ESTERROR_VALID
            | abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID);
    }

    fn show(
        &mut self,
        now: &Sample,
        seen: &Seen,
        period: &Period,
        error: &RateError,
    ) -> Result<(), Error> {
        let utc_sec = now.realtime_ns.div_euclid(NS_PER_SEC);
        let tai_sec = self.tai_minus_utc_sec(&now.discipline, utc_sec, seen.inserting);
        let reference_sec = utc_sec + i128::from(tai_sec.unwrap_or(0));
        let within_ns = now.realtime_ns.rem_euclid(NS_PER_SEC).unsigned_abs();
        let half_width_ns = now.half_width_ns(period);
        let at_reference = |ns: u128| fixed::saturate(ns + half_width_ns);

        let fields = &mut self.fields;
        fields.time_sec = u64::try_from(reference_sec).map_err(|_| Error::OutOfRange)?;
        // Rounded up, so that the reader's rounding down gives the nanosecond back.
        fields.time_frac_sec = (within_ns << 64).div_ceil(NS_PER_SEC.unsigned_abs()) as u64;
        fields.counter_value = now.counter;
        fields.counter_period_shift = period.shift;
        fields.counter_period_frac_sec = period.frac_sec;
        fields.counter_period_maxerror_rate_frac_sec = period.error(error.max_ppb);
        fields.counter_period_esterror_rate_frac_sec =
            error.estimate_ppb.map_or(0, |ppb| period.error(ppb));
        fields.time_maxerror_nanosec = now.claim_ns.map_or(0, at_reference);
        fields.time_esterror_nanosec = now
            .estimate_ns
            .map_or(0, at_reference)
            .min(fields.time_maxerror_nanosec);
        fields.time_type = if tai_sec.is_some() {
            abi::VMCLOCK_TIME_TAI
        } else {
            abi::VMCLOCK_TIME_UTC
        };
        // The released text's sign: UTC - TAI.
        fields.tai_offset_sec = tai_sec.map_or(0, |seconds| -seconds);
        fields.leap_indicator = seen.indicator;
        let synchronized = self.options.stated_max_error_ns.is_some()
            || (is_synchronized(&now.discipline) && !self.stale);
        fields.clock_status = if synchronized {
            abi::VMCLOCK_STATUS_SYNCHRONIZED
        } else {
            abi::VMCLOCK_STATUS_FREERUNNING
        };
        let valid = [
            (abi::VMCLOCK_FLAG_TAI_OFFSET_VALID, tai_sec.is_some()),
            (abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID, true),
            (
                abi::VMCLOCK_FLAG_PERIOD_ESTERROR_VALID,
                error.estimate_ppb.is_some(),
            ),
            (
                abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID,
                now.claim_ns.is_some(),
            ),
            (
                abi::VMCLOCK_FLAG_TIME_ESTERROR_VALID,
                now.estimate_ns.is_some(),
            ),
        ];
        for (flag, is_valid) in valid {
            fields.flags &= !flag;
            if is_valid {
                fields.flags |= flag;
            }
        }
        Ok(())
    }

    /// TAI - CLOCK_REALTIME as of now: from the kernel, else tzdata, else the operator.
    fn tai_minus_utc_sec(
        &self,
        discipline: &Discipline,
        utc_sec: i128,
        inserting: bool,
    ) -> Option<i16> {
        let plausible = |seconds: &i16| rate::PLAUSIBLE_TAI_SEC.contains(seconds);
        let kernel = i16::try_from(discipline.tai_minus_utc_sec)
            .ok()
            .filter(plausible);
        kernel
            .or_else(|| {
                // The inserted second repeats the label of the one before it, and has the offset of
                // the one after it.
                let second = i64::try_from(utc_sec + i128::from(inserting)).ok()?;
                let list = self.leap_seconds.as_ref()?;
                list.tai_minus_utc_sec(second).filter(plausible)
            })
            .or(self.stated_tai_sec)
    }
}

/// How far a period may be off, in parts per billion of it.
#[derive(Clone, Copy, Debug)]
struct RateError {
    max_ppb: u128,
    estimate_ppb: Option<u128>,
}

fn is_synchronized(discipline: &Discipline) -> bool {
    !discipline.unsynchronized && discipline.maxerror_us < MAXERROR_CEILING_US
}

fn sample(
    bracket: &Bracket,
    realtime_ns: i128,
    suspended_ns: i128,
    discipline: Discipline,
) -> Sample {
    let half = bracket.width_ticks / 2;
    Sample {
        counter: bracket.counter.wrapping_add(half),
        half_width_ticks: half + 1,
        span_ticks: bracket.span_ticks,
        realtime_ns,
        monotonic_ns: bracket.monotonic_ns,
        suspended_ns,
        discipline,
        claim_ns: None,
        estimate_ns: None,
    }
}

/// The second of UTC at a page's reference.
fn page_utc_sec(fields: &RawFields) -> i128 {
    i128::from(fields.time_sec) - i128::from(page_shift_sec(fields))
}

/// Seconds from UTC to the page's own time.
fn page_shift_sec(fields: &RawFields) -> i16 {
    if fields.time_type == abi::VMCLOCK_TIME_TAI {
        let flagged = fields.flags & abi::VMCLOCK_FLAG_TAI_OFFSET_VALID != 0;
        leap::tai_minus_utc_sec(fields.tai_offset_sec, flagged).unwrap_or(0)
    } else {
        0
    }
}

/// Whether the present, read from this machine's clock, is what an older page makes of the counter.
/// A page without time has nothing to disagree with.
fn goes_on(old: &RawFields, now: &Sample, counter_id: u8, now_error_ns: Option<u128>) -> bool {
    if old.counter_period_frac_sec == 0 || old.time_sec == 0 {
        return true;
    }
    let ticks = fixed::distance_ticks(now.counter, old.counter_value);
    if old.counter_id != counter_id || old.counter_period_shift > fixed::MAX_SHIFT || ticks < 0 {
        return false;
    }
    let elapsed = fixed::elapsed_frac(ticks, old.counter_period_frac_sec, old.counter_period_shift);
    let then_ns = fixed::time_ns(old.time_sec, old.time_frac_sec, elapsed)
        - i128::from(page_shift_sec(old)) * NS_PER_SEC;
    let growth_ns = fixed::growth_ns(
        ticks,
        old.counter_period_maxerror_rate_frac_sec,
        old.counter_period_shift,
    );
    let stated = old.flags & abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID != 0;
    let allowed_ns = match (stated, now_error_ns) {
        (true, Some(now_error_ns)) => {
            u128::from(old.time_maxerror_nanosec) + growth_ns + now_error_ns + 2
        }
        // One side does not know how far off it is. Then the two may differ by what the kernel can
        // have slewed meanwhile; a clock that was set while nobody published looks like a counter
        // that jumped, and a marker that changes needlessly is the lesser harm.
        _ => growth_ns + rate::share_ns(elapsed_to_ns(elapsed), UNKNOWN_SLEW_PPB) + JUMP_NS,
    };
    (then_ns - now.realtime_ns).unsigned_abs() <= allowed_ns
}

/// What the kernel can slew by while nobody looks.
const UNKNOWN_SLEW_PPB: u128 = 600_000;

fn elapsed_to_ns(elapsed_frac: i128) -> i128 {
    fixed::time_ns(0, 0, elapsed_frac)
}
