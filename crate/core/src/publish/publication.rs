//! What the page says: a state machine over the system's clock and the counter.

use std::time::Duration;

use super::baseline::{PeriodEstimator, RateError};
use super::sample::Sample;
use super::takeover::{is_consistent_with, page_utc_sec, states_bound};
use super::{Cause, Generation, PublishOptions, Shape};
use crate::abi;
use crate::counter::{self, Counter};
use crate::error::Error;
use crate::no_bound::{Distrust, NoBound};
use crate::publish::period::{self, Period};
use crate::snapshot::{Maintenance, RawFields};
use crate::source::kernel::clock::SystemClock;
use crate::source::kernel::discipline::{
    Discipline, MAXERROR_CEILING_US, MAXERROR_GROWTH_US_PER_SEC,
};
use crate::source::kernel::leap::{LeapTracker, Seen};
use crate::source::kernel::leap_seconds::LeapSeconds;
use crate::source::kernel::slew::{HiddenSlew, SlewTracker};
use crate::source::kernel::trust::{self, TrustTracker};
use crate::time::NS_PER_SEC;
use crate::time::fixed;
use crate::writer::blank;

/// How long to wait for the second sample while there is no period yet.
const FIRST_BASELINE: Duration = Duration::from_millis(10);
/// Less than this is the noise of reading two clocks one after the other.
const SUSPENDED_NOISE_NS: i128 = 1_000_000;
/// What a prediction may be off, beyond all that is accounted for, before a clock or counter
/// counts as having jumped.
const JUMP_NS: u128 = 1_000_000;
/// How often a sample is taken again because the kernel's figures changed while it was taken.
const TRIES: usize = 8;

/// What happened between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Nothing,
    /// CLOCK_REALTIME was set; the counter goes on.
    Step,
    /// The counter, or what is known of it, does not go on.
    Disruption(Distrust),
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
    /// How far the counter moves at a time.
    step_ticks: u64,
    options: PublishOptions,
    leap_seconds: Option<LeapSeconds>,
    /// TAI - UTC as the operator stated it, and leap seconds since.
    stated_tai_sec: Option<i16>,
    /// The page that was taken over, until the present has been compared with it.
    taken_over: Option<RawFields>,
    leap: LeapTracker,
    slews: SlewTracker,
    stretch: PeriodEstimator,
    last: Option<Sample>,
    trust: TrustTracker,
    /// Why the page states no bound; `None` if it states one, or has no time yet.
    no_bound: Option<NoBound>,
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
                if options.generation == Generation::Always {
                    fields.flags = abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
                } else {
                    fields.vm_generation_counter = 0;
                }
                fields.counter_id = counter.id();
                fields.clock_status = abi::VMCLOCK_STATUS_INITIALIZING;
            }
            Shape::Marker => fields.vm_generation_counter = 0,
            Shape::MarkerAndGeneration => {
                fields.flags = abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT
                    | abi::VMCLOCK_FLAG_NOTIFICATION_PRESENT;
            }
        }
        // The kernel keeps `maxerror` through a suspend, after which it set its clock from another
        // one that is good to a second. It does not say when that was. Nor does it know of a
        // migration; but a publisher that knew of one took its bound back.
        let mut trust = TrustTracker::default();
        if old.is_some_and(|old| old.time_sec != 0 && !states_bound(old)) {
            trust.disrupt(Distrust::TakeOver);
        } else if clock.suspended_ns() > SUSPENDED_NOISE_NS {
            trust.disrupt(Distrust::Suspend);
        }
        let leap = old.map_or_else(LeapTracker::default, |old| {
            LeapTracker::resume(old.leap_indicator, page_utc_sec(old))
        });
        Ok(Self {
            stretch: PeriodEstimator::new(options.wander_ppb, options.max_error_ns.is_some()),
            stated_tai_sec: options.tai_minus_utc_sec,
            taken_over: taken_over.filter(|_| options.shape == Shape::Time),
            step_ticks: counter::step_ticks(&counter),
            clock,
            counter,
            options,
            leap_seconds,
            leap,
            slews: SlewTracker::default(),
            last: None,
            trust,
            no_bound: None,
            fields,
        })
    }

    /// The fields that the last step returned.
    #[must_use]
    pub fn fields(&self) -> &RawFields {
        &self.fields
    }

    /// Why the page states no bound; `None` if it states one, or has no time yet.
    #[must_use]
    pub fn no_bound(&self) -> Option<NoBound> {
        self.no_bound
    }

    /// How soon the next step should follow the last: the interval, or less while there is no
    /// period yet.
    #[must_use]
    pub fn next_within(&self) -> Duration {
        if self.options.shape == Shape::Time && self.stretch.period().is_none() {
            FIRST_BASELINE
        } else {
            self.options.interval
        }
    }

    /// Whether the page is past its first baseline, or never has one.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.options.shape != Shape::Time || self.stretch.period().is_some()
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
                self.stretch.forget();
                self.trust.disrupt(Distrust::Disruption);
            }
            Cause::Migrated => self.disrupt(Distrust::Disruption),
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
            return Err(Error::InvalidArgument {
                reason: "this page has no generation counter".to_owned(),
                remedy: Some(
                    "publish it with one (`generation: true`, --generation yes), or give the \
                     shape marker-and-generation",
                ),
            });
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

    /// Forgets all that was measured: the counter does not go on.
    fn disrupt(&mut self, cause: Distrust) {
        self.change_marker();
        self.stretch.reset();
        self.last = None;
        // The kernel's clock may run on that counter, or was set from another one when the machine
        // woke up, and `maxerror` does not know.
        self.trust.disrupt(cause);
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
        self.last = Some(Sample::new(
            &bracket,
            self.step_ticks,
            realtime_ns,
            suspended_ns,
            discipline,
            HiddenSlew::default(),
        ));
    }

    fn update_time(&mut self, cause: Cause) -> Result<(), Error> {
        let Some((mut now, seen)) = self.sample()? else {
            // The kernel's figures never stood still: the page stays as it is, and right.
            return Ok(());
        };
        if let Some(seconds) = &mut self.stated_tai_sec {
            *seconds += seen.tai_change_sec;
        }
        let event = self.event(&now, cause);
        match event {
            Event::Nothing => {}
            Event::Step => self.stretch.step(),
            Event::Disruption(cause) => self.disrupt(cause),
        }
        if let Some(last) = self.last {
            self.trust.observe(&trust::Change {
                last: &last.discipline,
                now: &now.discipline,
                last_ns: last.monotonic_ns,
                now_ns: now.monotonic_ns,
                is_step: self.is_step(&last, &now, &seen, cause),
            });
        }
        if let Some(last) = &self.last
            && last.discipline.has_other_rate(&now.discipline)
        {
            self.stretch.change_rate(&last.discipline, &now.discipline);
        }
        if now.hidden_slew.is_unseen {
            // The kernel may have slewed since the last sample more than any sample tells.
            self.stretch.forget();
        }
        self.assess_bound(&mut now);
        let error = self.stretch.measure(&now);
        self.last = Some(now);
        match (self.stretch.period(), error) {
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

    /// Whether somebody set the clock between two samples. The kernel's own leap second does not
    /// count, nor does an alarm for it or for another TAI offset.
    fn is_step(&self, last: &Sample, now: &Sample, seen: &Seen, cause: Cause) -> bool {
        let leap_ns = i128::from(seen.tai_change_sec) * NS_PER_SEC;
        let is_seen = now
            .set_since(last, self.stretch.period())
            .is_some_and(|(by_ns, blur_ns)| (by_ns + leap_ns).unsigned_abs() > blur_ns);
        // The kernel forgets the error of a clock that somebody sets, by however little.
        let has_forgotten = now.discipline.maxerror_us >= MAXERROR_CEILING_US;
        is_seen || cause == Cause::ClockStep && has_forgotten
    }

    /// Clock, counter and the kernel's figures, all of one point.
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
            let hidden_slew = self.slews.look(bracket.monotonic_ns, &discipline);
            let sample = Sample::new(
                &bracket,
                self.step_ticks,
                seen.realtime_ns,
                suspended_ns,
                discipline,
                hidden_slew,
            );
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
        if suspended_ns > SUSPENDED_NOISE_NS {
            return Event::Disruption(Distrust::Suspend);
        }
        if ticks < 0 {
            return Event::Disruption(Distrust::Disruption);
        }
        if let Some(period) = &self.stretch.period() {
            let elapsed_ns = period.elapsed_ns(ticks);
            // What the kernel slews now, and what it slewed while the period was measured.
            let ceiling_ppb = last.ceiling_ppb.max(now.ceiling_ppb);
            let explained_ns = period::share(
                elapsed_ns.unsigned_abs(),
                ceiling_ppb + ceiling_ppb.max(self.stretch.period_error_ppb()) + period.noise_ppb,
            ) + period.ticks_ns(last.span_ticks)
                + period.ticks_ns(now.span_ticks)
                + JUMP_NS;
            let off = |clock_ns: i128| (clock_ns - elapsed_ns).unsigned_abs() > explained_ns;
            // CLOCK_MONOTONIC is never set: if it disagrees, the counter jumped.
            if off(now.monotonic_ns - last.monotonic_ns) {
                return Event::Disruption(Distrust::Disruption);
            }
            if off(now.realtime_ns - last.realtime_ns) {
                return Event::Step;
            }
        }
        let was_set = now
            .set_since(last, self.stretch.period())
            .is_some_and(|(by_ns, blur_ns)| by_ns.unsigned_abs() > blur_ns);
        if cause == Cause::ClockStep || was_set {
            Event::Step
        } else {
            Event::Nothing
        }
    }

    /// Decides how far off the sample's time may be, or why that is unknown.
    fn assess_bound(&mut self, now: &mut Sample) {
        if let Some(stated) = self.options.max_error_ns {
            now.claim_ns = Some(u128::from(stated));
            return;
        }
        let discipline = &now.discipline;
        self.no_bound = self.no_bound_of(discipline);
        if self.no_bound.is_some() {
            return;
        }
        let to_slew_ns = now.unslewed_ns();
        let ns = |us: u64| u128::from(us) * 1000;
        // The kernel adds for a second's drift when that second is over. Daemons cut their figures
        // to whole microseconds.
        let claimed_us = discipline.maxerror_us + MAXERROR_GROWTH_US_PER_SEC;
        now.claim_ns = Some(ns(claimed_us) + 1000 + to_slew_ns);
        now.estimate_ns = Some(ns(discipline.esterror_us) + 1000 + to_slew_ns);
    }

    /// Why the kernel's figures give no bound; `None` if they do.
    fn no_bound_of(&self, discipline: &Discipline) -> Option<NoBound> {
        let is_counted_from_0 = discipline
            .maxerror_us
            .is_multiple_of(MAXERROR_GROWTH_US_PER_SEC);
        if !discipline.is_synchronized() {
            Some(NoBound::Unsynchronized)
        } else if let Some(no_bound) = self.trust.no_bound() {
            Some(no_bound)
        } else if discipline.is_off_nominal() {
            Some(NoBound::OffNominal)
        } else {
            is_counted_from_0.then_some(NoBound::NeverUpdated)
        }
    }

    /// Whether the page calls the clock synchronized: the kernel does, and no known event speaks
    /// against it. A daemon that reports an error of 0 synchronizes the clock all the same.
    fn is_synchronized(&self, discipline: &Discipline) -> bool {
        let is_doubted = match self.no_bound {
            Some(NoBound::Distrusted { cause, .. }) => cause != Distrust::ZeroError,
            _ => false,
        };
        self.options.max_error_ns.is_some() || discipline.is_synchronized() && !is_doubted
    }

    /// Changes the marker if the page that was taken over is not the present's past.
    fn compare_with_taken_over(&mut self, now: &Sample, period: &Period) {
        let Some(old) = self.taken_over.take() else {
            return;
        };
        let now_error_ns = now.claim_ns.map(|claim| claim + now.half_width_ns(period));
        if !is_consistent_with(&old, now, self.counter.id(), now_error_ns) {
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
        let half_width_ns = half_width_ns + period::share(half_width_ns, error.max_ppb);
        let at_reference = |ns: u128| fixed::saturate(ns + half_width_ns);

        let is_synchronized = self.is_synchronized(&now.discipline);

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
        fields.clock_status = if is_synchronized {
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
        let plausible = |seconds: &i16| crate::abi::TAI_MINUS_UTC_RANGE_SEC.contains(seconds);
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
