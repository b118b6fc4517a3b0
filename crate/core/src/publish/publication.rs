//! Decides what the page says: a state machine over a source of time and the counter.

use std::time::Duration;

use super::baseline::{PeriodEstimator, RateError};
use super::takeover::{is_consistent_with, page_utc_sec, states_bound};
use super::{Cause, Generation, PublishOptions, Shape};
use crate::abi;
use crate::abi::TAI_MINUS_UTC_RANGE_SEC;
use crate::counter::{self, Counter};
use crate::error::Error;
use crate::extension::Extension;
use crate::no_bound::{Distrust, NoBound};
use crate::snapshot::{Maintenance, RawFields};
use crate::source::kernel::leap_seconds::LeapSeconds;
use crate::source::{Event, Known, SUSPENDED_NOISE_NS, Sample, TimeSource};
use crate::time::period::{self, Period};
use crate::time::{NS_PER_SEC, fixed};
use crate::writer::blank;

/// The wait for the second sample while there is no period yet.
const FIRST_BASELINE: Duration = Duration::from_millis(10);

/// A page that is made from a source of time and a counter, without a thread or a file.
///
/// Each [`Publication::step`] samples both and returns the fields that the page is to show from then on.
/// Before there is a period those fields say "initializing", and readers refuse the time: at the first step,
/// and at the first after a disruption of the counter. [`Publication::next_within`] says how soon the next
/// step should follow.
#[derive(Debug)]
pub struct Publication<S: TimeSource, C: Counter> {
    source: S,
    counter: C,
    /// The smallest amount by which the counter advances.
    step_ticks: u64,
    options: PublishOptions,
    leap_seconds: Option<LeapSeconds>,
    /// TAI - UTC as the operator stated it, and the leap seconds since.
    stated_tai_sec: Option<i16>,
    /// The page that was taken over, until it has been compared with the present.
    taken_over: Option<RawFields>,
    period: PeriodEstimator,
    /// The time that the machine had been suspended at the last step.
    suspended_ns: Option<i128>,
    no_bound: Option<NoBound>,
    fields: RawFields,
}

impl<S: TimeSource, C: Counter> Publication<S, C> {
    /// Prepares a page. Nothing is measured yet.
    ///
    /// `taken_over` are the fields of a valid page that is to go on. Its marker and generation counter are
    /// kept, unless its time and the present disagree beyond their bounds. `leap_seconds` is tzdata's list, if
    /// there is one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if an option is outside its range.
    pub fn new(
        mut source: S,
        counter: C,
        options: PublishOptions,
        leap_seconds: Option<LeapSeconds>,
        taken_over: Option<RawFields>,
    ) -> Result<Self, Error> {
        options.check()?;
        // An arbitrary number: the time, cut to 64 bits. A token that was taken on a page that was removed must
        // not fit the one in its place.
        let seed = source.rough_time_ns(&counter) as u64;
        let fields = first_fields(&options, counter.id(), taken_over.as_ref(), seed);
        if let Some(old) = &taken_over {
            source.resume(page_utc_sec(old), old.leap_indicator);
            // The kernel does not know of a migration. A publisher that saw one withdrew its bound, so a page
            // without a bound may hide one.
            if old.time_sec != 0 && !states_bound(old) {
                source.distrust(Distrust::TakeOver);
            }
        }
        Ok(Self {
            period: PeriodEstimator::new(options.wander_ppb, options.max_error_ns.is_some()),
            stated_tai_sec: options.tai_minus_utc_sec,
            taken_over: taken_over.filter(|_| options.shape == Shape::Time),
            step_ticks: counter::step_ticks(&counter),
            source,
            counter,
            options,
            leap_seconds,
            suspended_ns: None,
            no_bound: None,
            fields,
        })
    }

    /// Returns the fields of the last step.
    #[must_use]
    pub fn fields(&self) -> &RawFields {
        &self.fields
    }

    /// Returns why the page states no bound; `None` if it states one, or has no time yet.
    #[must_use]
    pub fn no_bound(&self) -> Option<NoBound> {
        self.no_bound
    }

    /// Returns the extension that belongs to these fields.
    #[must_use]
    pub fn extension(&self) -> Extension {
        Extension {
            no_bound: self.no_bound,
            ..Extension::default()
        }
    }

    /// Returns how soon the next step should follow the last: the interval, or less while there is no period.
    #[must_use]
    pub fn next_within(&self) -> Duration {
        if self.is_settled() {
            self.options.interval
        } else {
            FIRST_BASELINE
        }
    }

    /// Returns whether the page is past its first baseline, or never has one.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.options.shape != Shape::Time || self.period.period().is_some()
    }

    /// Returns whether the page has a generation counter.
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
    /// After an error the page must stay as it was, or be marked unreliable with [`Cause::Close`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a generation counter on a page that has none, [`Error::OutOfRange`] if
    /// the clock shows a time before 1970, and the errors of [`TimeSource::sample`].
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
                self.withdraw_time();
                self.period.forget();
                self.source.distrust(Distrust::Disruption);
            }
            Cause::Migrated => {
                self.source.forget();
                self.source.distrust(Distrust::Disruption);
                self.begin_again();
            }
            Cause::Interval | Cause::ClockStep => {}
        }
        if self.options.shape == Shape::Time {
            self.update_time(cause == Cause::ClockStep)?;
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

    /// Takes the time and its bound back, also when no sample can be taken now.
    fn withdraw_time(&mut self) {
        if self.options.shape == Shape::Time {
            self.no_bound = None;
            self.show_initializing();
        }
    }

    /// Changes the marker, and forgets all measurements: the counter does not go on.
    fn begin_again(&mut self) {
        self.change_marker();
        self.withdraw_time();
        self.period.reset();
    }

    fn watch_suspend(&mut self) {
        let suspended_ns = self.source.suspended_ns();
        let last_ns = self.suspended_ns.replace(suspended_ns);
        if last_ns.is_some_and(|last_ns| suspended_ns - last_ns > SUSPENDED_NOISE_NS) {
            self.change_marker();
        }
    }

    fn update_time(&mut self, is_alarm: bool) -> Result<(), Error> {
        let known = Known {
            period: self.period.period(),
            period_error_ppb: self.period.period_error_ppb(),
            step_ticks: self.step_ticks,
            is_alarm,
        };
        let Some(mut now) = self.source.sample(&self.counter, &known)? else {
            // The source changed each time: the page stays as it is. A time that a disruption made untrue was
            // withdrawn before.
            return Ok(());
        };
        if let Some(seconds) = &mut self.stated_tai_sec {
            *seconds += now.tai_change_sec;
        }
        self.state_error(&mut now);
        match now.event {
            Event::Nothing => {}
            Event::Step => self.period.step(),
            Event::Disruption(_) => self.begin_again(),
        }
        self.no_bound = now.no_bound;
        if now.is_free_at_other_rate {
            self.period.follow_rate();
        }
        if now.hidden_slew.is_unseen {
            // Since the last sample the kernel may have slewed more than any sample shows.
            self.period.forget();
        }
        let error = self.period.measure(&now);
        match (self.period.period(), error) {
            (Some(period), Some(error)) => {
                self.compare_with_taken_over(&now, &period);
                self.show(&now, &period, &error)
            }
            _ => {
                self.show_initializing();
                Ok(())
            }
        }
    }

    /// Puts the error that the operator states in place of the source's.
    fn state_error(&self, now: &mut Sample) {
        if let Some(stated_ns) = self.options.max_error_ns {
            now.claim_ns = Some(stated_ns.into());
            now.estimate_ns = None;
            now.no_bound = None;
            now.is_synchronized = true;
        }
    }

    /// Changes the marker if the present does not follow from the page that was taken over.
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

    /// Puts a sample and the period into the fields.
    fn show(&mut self, now: &Sample, period: &Period, error: &RateError) -> Result<(), Error> {
        self.show_reference(now, period, error)?;
        let fields = &mut self.fields;
        fields.counter_period_shift = period.shift;
        fields.counter_period_frac_sec = period.frac_sec;
        fields.counter_period_maxerror_rate_frac_sec = period.error(error.max_ppb);
        fields.counter_period_esterror_rate_frac_sec =
            error.estimate_ppb.map_or(0, |ppb| period.error(ppb));
        fields.leap_indicator = now.leap_indicator;
        fields.clock_status = if now.is_synchronized {
            abi::VMCLOCK_STATUS_SYNCHRONIZED
        } else {
            abi::VMCLOCK_STATUS_FREERUNNING
        };
        self.flag(abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID, true);
        self.flag(
            abi::VMCLOCK_FLAG_PERIOD_ESTERROR_VALID,
            error.estimate_ppb.is_some(),
        );
        Ok(())
    }

    /// Puts the reference, its error and its timescale into the fields.
    fn show_reference(
        &mut self,
        now: &Sample,
        period: &Period,
        error: &RateError,
    ) -> Result<(), Error> {
        let utc_sec = now.realtime_ns.div_euclid(NS_PER_SEC);
        let tai_sec = self.tai_minus_utc_sec(now, utc_sec);
        let reference_sec = utc_sec + i128::from(tai_sec.unwrap_or(0));
        let within_ns = now.realtime_ns.rem_euclid(NS_PER_SEC).unsigned_abs();
        let half_width_ns = now.half_width_ns(period);
        let half_width_ns = half_width_ns + period::share(half_width_ns, error.max_ppb);
        let at_reference = |ns: u128| fixed::saturate(ns + half_width_ns);

        let fields = &mut self.fields;
        fields.time_sec = u64::try_from(reference_sec).map_err(|_| Error::OutOfRange)?;
        // Rounded up, so that the reader's rounding down gives the nanosecond back.
        fields.time_frac_sec = (within_ns << 64).div_ceil(NS_PER_SEC.unsigned_abs()) as u64;
        fields.counter_value = now.counter;
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
        self.flag(abi::VMCLOCK_FLAG_TAI_OFFSET_VALID, tai_sec.is_some());
        self.flag(
            abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID,
            now.claim_ns.is_some(),
        );
        self.flag(
            abi::VMCLOCK_FLAG_TIME_ESTERROR_VALID,
            now.estimate_ns.is_some(),
        );
        Ok(())
    }

    fn flag(&mut self, flag: u64, is_set: bool) {
        self.fields.flags &= !flag;
        if is_set {
            self.fields.flags |= flag;
        }
    }

    /// Returns TAI - UTC at a sample: from the source, else from tzdata, else from the operator.
    fn tai_minus_utc_sec(&self, now: &Sample, utc_sec: i128) -> Option<i16> {
        let from_list = || {
            // The inserted second repeats the label of the second before it, and has the offset of the one
            // after it.
            let second = i64::try_from(utc_sec + i128::from(now.is_in_leap_second)).ok()?;
            let list = self.leap_seconds.as_ref()?;
            list.tai_minus_utc_sec(second)
                .filter(|seconds| TAI_MINUS_UTC_RANGE_SEC.contains(seconds))
        };
        now.tai_minus_utc_sec
            .or_else(from_list)
            .or(self.stated_tai_sec)
    }
}

/// Returns the fields of a page without time. Marker and generation counter are those of the page that was taken
/// over, or begin at `seed`. They say that something changed, and identify nothing.
fn first_fields(
    options: &PublishOptions,
    counter_id: u8,
    old: Option<&RawFields>,
    seed: u64,
) -> RawFields {
    let old_generation = old
        .filter(|old| old.flags & abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT != 0)
        .map_or(seed, |old| old.vm_generation_counter);
    let mut fields = RawFields {
        disruption_marker: old.map_or(seed, |old| old.disruption_marker),
        ..blank()
    };
    let has_generation = match options.shape {
        Shape::Time => options.generation == Generation::Always,
        Shape::Marker => false,
        Shape::MarkerAndGeneration => true,
    };
    if has_generation {
        fields.flags = abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
        fields.vm_generation_counter = old_generation;
    }
    match options.shape {
        Shape::Time => {
            fields.counter_id = counter_id;
            fields.clock_status = abi::VMCLOCK_STATUS_INITIALIZING;
        }
        Shape::MarkerAndGeneration => fields.flags |= abi::VMCLOCK_FLAG_NOTIFICATION_PRESENT,
        Shape::Marker => {}
    }
    fields
}
