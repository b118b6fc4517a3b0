//! Decides what the page says: a state machine over a source of time and the counter.

use std::time::Duration;

use super::baseline::RateError;
use super::guard::{DisruptionSource, Guard, Guarded, Lineage, sample_between_looks};
use super::rates::Rates;
use super::shared::Report;
use super::takeover::{OldPage, is_consistent_with, page_utc_sec, states_bound};
use super::{Cause, Generation, PublishOptions, Shape};
use crate::abi;
use crate::abi::TAI_MINUS_UTC_RANGE_SEC;
use crate::counter::{self, Counter};
use crate::error::Error;
use crate::extension::{DeviceRecord, Extension, SourceKind, StatedError};
use crate::no_bound::{Distrust, NoBound};
use crate::snapshot::{Maintenance, RawFields};
use crate::source::kernel::leap::past_indicator;
use crate::source::kernel::leap_seconds::LeapSeconds;
use crate::source::{Event, Known, PassedOver, SUSPENDED_NOISE_NS, Sample, TimeSource};
use crate::time::period::{self, Period};
use crate::time::{NS_PER_SEC, fixed};
use crate::writer::blank;

/// The wait for the second sample while there is no period yet.
const FIRST_BASELINE: Duration = Duration::from_millis(10);

/// The age from which a page that nobody updates states no bound: 1,000 s.
///
/// Nobody watches for suspends, leap seconds and an unstable counter meanwhile.
pub const VOID_AFTER: Duration = Duration::from_secs(1000);

/// A page that is made from a source of time, a counter and a report of disruptions, without a thread or a file.
///
/// Each [`Publication::step`] samples all of them, and returns the fields that the page is to show from then on.
/// [`Publication::extension`] belongs to these fields, in the same update. The sample lies between two looks at
/// the machine's device. If the second differs from the first, the sample does not count.
///
/// Before there is a period those fields say "initializing", and readers refuse the time: at the first step,
/// and at the first after a disruption of the counter. [`Publication::next_within`] says how soon the next
/// step should follow.
#[derive(Debug)]
pub struct Publication<S: TimeSource, C: Counter, D: DisruptionSource> {
    source: S,
    counter: C,
    guard: Guard<D>,
    /// The smallest amount by which the counter advances.
    step_ticks: u64,
    options: PublishOptions,
    leap_seconds: Option<LeapSeconds>,
    /// TAI - UTC as the operator stated it, and the leap seconds since.
    stated_tai_sec: Option<i16>,
    /// The page that was taken over, until it has been compared with the present.
    taken_over: Option<(RawFields, SourceKind)>,
    rates: Rates,
    /// The source of the time on the page.
    source_kind: SourceKind,
    is_kernel_changed: bool,
    /// A maker noticed a disruption in this boot, and the device has not reported one since.
    has_unreported_jump: bool,
    /// The operator's statement about the host's clock is part of the bound.
    has_host_error: bool,
    /// The time that the machine had been suspended at the last step.
    suspended_ns: Option<i128>,
    no_bound: Option<NoBound>,
    stated: StatedError,
    began_ns: i64,
    fields: RawFields,
}

impl<S: TimeSource, C: Counter, D: DisruptionSource> Publication<S, C, D> {
    /// Prepares a page. The device is looked at, and nothing is measured yet.
    ///
    /// `old` is a valid page that is to go on. If it is of this boot and records the machine's device, its marker
    /// and generation counter change by what the device's changed by since. They change by one more if the page's
    /// time and the present disagree beyond their bounds. `leap_seconds` is tzdata's list, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if an option is outside its range.
    pub fn new(
        mut source: S,
        counter: C,
        device: D,
        options: PublishOptions,
        leap_seconds: Option<LeapSeconds>,
        old: Option<OldPage>,
    ) -> Result<Self, Error> {
        options.check()?;
        let began_ns = source.rough_time_ns(&counter);
        // An arbitrary number: the time, cut to 64 bits. A token that was taken on a page that was removed must
        // not fit the one in its place.
        let mut guard = Guard::new(device, began_ns as u64, hides_generation(&options));
        let lineage = old
            .as_ref()
            .map_or(Lineage::New, |old| guard.continue_page(old));
        // A page of another boot says nothing about this one.
        let old = old.filter(|_| lineage != Lineage::New);
        let began_sec = began_ns.div_euclid(NS_PER_SEC);
        let past = leap_seconds
            .as_ref()
            .map_or(abi::VMCLOCK_LEAP_NONE, |list| {
                past_indicator(list, began_sec)
            });
        if past != abi::VMCLOCK_LEAP_NONE {
            source.resume(began_sec, past);
        } else if let Some(old) = &old {
            source.resume(page_utc_sec(&old.fields), old.fields.leap_indicator);
        }
        let old_stated = old
            .as_ref()
            .and_then(|old| old.extension)
            .map(|extension| extension.stated_error);
        let old_extension = old.as_ref().and_then(|old| old.extension);
        if let Some(no_bound) = old_extension.and_then(|extension| extension.no_bound) {
            source.resume_distrust(no_bound);
        }
        // The page says so whatever hides the reason: another source, a stated error, or a device that nobody sees.
        if old_extension.is_some_and(|extension| {
            extension.is_kernel_changed && !is_of_kernel_trust(extension.no_bound)
        }) {
            source.resume_distrust(NoBound::ChangePending);
        }
        let has_unreported_jump = old.as_ref().is_some_and(|old| may_hide_jump(lineage, old));
        if has_unreported_jump {
            source.resume_jump();
        }
        // The extension of a torn page is lost, and with it that a disruption voided an error.
        let is_torn = old.is_some_and(|old| old.is_torn);
        let distrust = first_distrust(lineage, old.as_ref(), guard.record());
        match distrust {
            Some(_) if lineage == Lineage::Disrupted && !is_torn => source.follow_device(),
            Some(cause) => {
                source.distrust(cause);
            }
            None => {}
        }
        let mut publication = Self {
            rates: Rates::new(options.wander_ppb, options.max_error_ns.is_some()),
            source_kind: if options.shape == Shape::Time {
                SourceKind::Kernel
            } else {
                SourceKind::Unknown
            },
            is_kernel_changed: false,
            has_unreported_jump,
            has_host_error: false,
            stated_tai_sec: options.tai_minus_utc_sec,
            stated: if options.max_error_ns.is_some() {
                StatedError::Holds
            } else {
                StatedError::None
            },
            began_ns: i64::try_from(began_ns).unwrap_or(0),
            fields: first_fields(&options, counter.id()),
            taken_over: old
                .filter(|_| options.shape == Shape::Time && lineage != Lineage::Disrupted)
                .map(|old| (old.fields, source_of(&old))),
            step_ticks: counter::step_ticks(&counter),
            source,
            counter,
            guard,
            options,
            leap_seconds,
            suspended_ns: None,
            no_bound: None,
        };
        if lineage == Lineage::Disrupted {
            publication.void_stated_error();
        }
        // Also where no error is stated now: the next publisher of this boot may state one again.
        if (is_torn || ends_stated_error(lineage, old_stated))
            && !publication.options.max_error_after_migration
        {
            publication.stated = StatedError::Void;
            publication.rates.follow_source();
        }
        publication.show_marker();
        Ok(publication)
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
        let has_time = self.options.shape == Shape::Time;
        Extension {
            no_bound: self.no_bound,
            boot_id: self.guard.boot_id(),
            device: self.guard.record(),
            source: self.source_kind,
            is_kernel_changed: self.is_kernel_changed,
            has_unreported_jump: self.has_unreported_jump,
            has_host_error: self.has_host_error && self.no_bound.is_none() && has_time,
            stated_error: self.stated,
            void_after_ns: if has_time {
                fixed::saturate(VOID_AFTER.as_nanos())
            } else {
                0
            },
            began_ns: self.began_ns,
        }
    }

    /// Returns the source of the time on the page.
    #[must_use]
    pub fn source_kind(&self) -> SourceKind {
        self.source_kind
    }

    /// Returns the better sources that the time does not come from, and why.
    #[must_use]
    pub fn passed_over(&self) -> Vec<PassedOver> {
        self.source.passed_over()
    }

    /// Returns what the owner of the page may know about the last step.
    pub(super) fn report(&self) -> Report {
        Report {
            no_bound: self.no_bound,
            source: self.source_kind,
            passed_over: self.passed_over(),
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
        self.options.shape != Shape::Time || self.rates.period().is_some()
    }

    /// Returns whether the page has a generation counter.
    #[must_use]
    pub fn has_generation(&self) -> bool {
        self.fields.flags & abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT != 0
    }

    /// Returns the options.
    pub(super) fn options(&self) -> &PublishOptions {
        &self.options
    }

    /// Returns the source of disruptions.
    pub(super) fn device(&self) -> &D {
        self.guard.source()
    }

    /// Returns whether the device reports a disruption that the page does not show yet.
    pub(super) fn sees_disruption(&mut self) -> bool {
        self.guard.sees_disruption()
    }

    /// Returns whether the page is left for a successor when the publisher ends.
    pub(super) fn is_kept(&self) -> bool {
        self.options.keep_on_exit
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
        if cause == Cause::Close {
            // The time stays, so that the next publisher can compare it with the present.
            self.fields.clock_status = abi::VMCLOCK_STATUS_UNRELIABLE;
            return Ok(self.fields);
        }
        match cause {
            Cause::BumpGeneration => self.bump_generation()?,
            Cause::Restored => {
                self.guard.restore();
                self.follow_restore();
                self.has_unreported_jump = true;
            }
            Cause::Maintenance(maintenance) => self.announce(maintenance),
            Cause::Disrupt => {
                self.guard.disrupt();
                self.has_unreported_jump = true;
                self.withdraw_time();
                self.rates.forget();
                self.source.distrust(Distrust::Disruption);
                self.void_stated_error();
            }
            Cause::Interval | Cause::ClockStep | Cause::Close => {}
        }
        let mut attempt = Attempt {
            jumps: 0,
            is_alarm: cause == Cause::ClockStep,
            publication: self,
        };
        sample_between_looks(&mut attempt)?;
        self.show_marker();
        Ok(self.fields)
    }

    /// Follows a disruption that the device reports.
    fn follow_device(&mut self) {
        self.follow_restore();
        self.has_unreported_jump = false;
    }

    /// Forgets everything about the counter, which is another one.
    fn follow_restore(&mut self) {
        self.source.follow_device();
        self.withdraw_time();
        self.rates.reset();
        self.taken_over = None;
        self.suspended_ns = None;
        self.void_stated_error();
    }

    /// Puts marker and generation counter into the fields.
    fn show_marker(&mut self) {
        self.fields.disruption_marker = self.guard.marker();
        if self.options.shape == Shape::Time && self.options.generation == Generation::Auto {
            let has_generation = self.guard.has_generation();
            self.flag(abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT, has_generation);
            if !has_generation {
                self.fields.vm_generation_counter = 0;
            }
        }
        if self.has_generation() {
            self.fields.vm_generation_counter = self.guard.generation();
        }
    }

    /// Ends the validity of the error that the operator states, unless it holds after a migration too.
    fn void_stated_error(&mut self) {
        if !self.options.max_error_after_migration && self.stated != StatedError::None {
            self.stated = StatedError::Void;
            self.rates.follow_source();
        }
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
        self.guard.bump_generation();
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

    /// Takes the time and its bound back, also when no sample can be taken now.
    fn withdraw_time(&mut self) {
        if self.options.shape == Shape::Time {
            self.no_bound = None;
            self.show_initializing();
        }
    }

    /// Changes the marker, and forgets all measurements: the counter does not go on.
    fn begin_again(&mut self) {
        self.guard.disrupt();
        self.has_unreported_jump = true;
        self.withdraw_time();
        self.rates.reset();
        self.void_stated_error();
    }

    fn watch_suspend(&mut self) {
        let suspended_ns = self.source.suspended_ns();
        let last_ns = self.suspended_ns.replace(suspended_ns);
        if last_ns.is_some_and(|last_ns| suspended_ns - last_ns > SUSPENDED_NOISE_NS) {
            self.guard.disrupt();
        }
    }

    fn update_time(&mut self, is_alarm: bool) -> Result<(), Error> {
        let known = Known {
            period: self.rates.period(),
            period_error_ppb: self.rates.period_error_ppb(),
            step_ticks: self.step_ticks,
            is_alarm,
            device: self.guard.record(),
        };
        let Some(mut now) = self.source.sample(&self.counter, &known)? else {
            // The source changed each time: the page stays as it is. A time that a disruption made untrue was
            // withdrawn before.
            return Ok(());
        };
        // The kernel's sample, also where another source gives the time.
        let kernel = self.source.along().copied();
        if let Some(seconds) = &mut self.stated_tai_sec {
            *seconds += now.tai_change_sec;
        }
        match now.event {
            Event::Nothing => {}
            Event::Step => self.rates.step(),
            Event::Disruption(_) => self.begin_again(),
        }
        self.source_kind = now.source;
        self.is_kernel_changed = now.has_unexplained_change;
        self.has_host_error = now.is_operators;
        self.state_error(&mut now);
        self.no_bound = now.no_bound;
        let mut error = self.rates.measure(&now, kernel.as_ref());
        let is_left = self
            .taken_over
            .is_some_and(|(_, source)| is_beside_kernel(source) && !is_beside_kernel(now.source));
        if let (Some(period), Some(_)) = (self.rates.period(), error)
            && !self.continues_taken_over(&now, kernel.as_ref(), &period)
        {
            self.guard.disrupt();
            self.void_stated_error();
            // Two sources differ by the errors of both. If one of them is unknown, this says nothing about the
            // counter, and the marker changes only because a needless change does less harm than none.
            let is_evident = !is_left || now.claim_ns.is_some();
            self.has_unreported_jump |= is_evident;
            // The source may know as little of this disruption as of one that the device reports.
            let reason = self.source.distrust(if is_evident {
                Distrust::Disruption
            } else {
                Distrust::TakeOver
            });
            if self.stated != StatedError::Holds {
                now.claim_ns = None;
                now.estimate_ns = None;
                now.is_synchronized = false;
                now.no_bound = now.no_bound.or(reason);
                self.explain_void(&mut now);
                self.no_bound = now.no_bound;
                self.rates.forget();
                error = self.rates.measure(&now, kernel.as_ref());
            }
        }
        match (self.rates.period(), error) {
            (Some(period), Some(error)) if self.may_show(&now) => self.show(&now, &period, &error),
            _ => {
                self.show_initializing();
                Ok(())
            }
        }
    }

    /// Puts the error that the operator states in place of the source's. Takes the bound away where nobody looks
    /// at the machine's device.
    fn state_error(&self, now: &mut Sample) {
        if self.stated == StatedError::Holds
            && let Some(stated_ns) = self.options.max_error_ns
        {
            now.claim_ns = Some(stated_ns.into());
            now.estimate_ns = None;
            now.no_bound = None;
            now.is_synchronized = true;
        }
        self.explain_void(now);
        if self.guard.record() == DeviceRecord::Unavailable && !self.options.allow_unguarded {
            now.claim_ns = None;
            now.estimate_ns = None;
            now.no_bound = Some(NoBound::Unguarded);
        }
    }

    /// Gives the reason for a missing bound where an operator's would stand but for a disruption.
    fn explain_void(&self, now: &mut Sample) {
        if self.stated == StatedError::Void && self.options.max_error_ns.is_some() {
            now.no_bound = now.no_bound.map(|_| NoBound::StatedErrorVoided);
        }
    }

    /// Returns whether the present follows from the page that was taken over. It is compared once.
    ///
    /// A page of the kernel's time is compared with the kernel's clock. Another source's time differs from that by
    /// the error of both, however large, and the counter goes on all the same.
    fn continues_taken_over(
        &mut self,
        now: &Sample,
        kernel: Option<&Sample>,
        period: &Period,
    ) -> bool {
        let Some((old, source)) = self.taken_over.take() else {
            return true;
        };
        let now = kernel.filter(|_| !is_beside_kernel(source)).unwrap_or(now);
        let offset_ns = i128::from(self.options.offset_ns);
        let error_ns = now.half_width_ns(period) + offset_ns.unsigned_abs();
        let now_error_ns = now.claim_ns.map(|claim| claim + error_ns);
        let shown = Sample {
            realtime_ns: now.realtime_ns + offset_ns,
            ..*now
        };
        is_consistent_with(&old, &shown, self.counter.id(), now_error_ns)
    }

    /// Returns whether a sample's time can be shown. Readers take the edge of a leap second from the reference, so
    /// an offset would put the edge at a false second.
    fn may_show(&self, now: &Sample) -> bool {
        self.options.offset_ns == 0 || now.leap_indicator == abi::VMCLOCK_LEAP_NONE
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
        // The truth is as far from the shown time as from the clock's, and the offset more.
        let offset_ns = i128::from(self.options.offset_ns);
        let shown_ns = now.realtime_ns + offset_ns;
        let reference_sec = shown_ns.div_euclid(NS_PER_SEC) + i128::from(tai_sec.unwrap_or(0));
        let within_ns = shown_ns.rem_euclid(NS_PER_SEC).unsigned_abs();
        let half_width_ns = now.half_width_ns(period);
        let half_width_ns = half_width_ns + period::share(half_width_ns, error.max_ppb);
        let half_width_ns = half_width_ns + offset_ns.unsigned_abs();
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

/// A step of a publication, between two looks at the device.
struct Attempt<'step, S: TimeSource, C: Counter, D: DisruptionSource> {
    publication: &'step mut Publication<S, C, D>,
    /// The disruptions that the last sample showed.
    jumps: u64,
    is_alarm: bool,
}

impl<S: TimeSource, C: Counter, D: DisruptionSource> Guarded for Attempt<'_, S, C, D> {
    type Error = Error;

    fn look(&mut self) -> bool {
        self.publication.guard.look()
    }

    fn sample(&mut self) -> Result<(), Error> {
        let publication = &mut *self.publication;
        let before = publication.guard.marker();
        if publication.options.shape == Shape::Time {
            publication.update_time(self.is_alarm)?;
        } else {
            publication.watch_suspend();
        }
        self.jumps = publication.guard.marker().wrapping_sub(before);
        Ok(())
    }

    fn follow(&mut self) {
        // If the sample showed a jump, it is the disruption that the device reports.
        self.publication
            .guard
            .take_back(std::mem::take(&mut self.jumps));
        self.publication.follow_device();
    }
}

/// Returns why the source's bounds do not count at first; `None` if they do.
///
/// A daemon does not know of a migration. Only a page with a bound that came from the source, made on the present
/// device in its present state, shows that none came after the daemon's last update.
fn first_distrust(
    lineage: Lineage,
    old: Option<&OldPage>,
    device: DeviceRecord,
) -> Option<Distrust> {
    let has_time = old.is_some_and(|old| old.fields.time_sec != 0);
    let is_vouched = old.is_some_and(|old| {
        let stated = old.extension.map(|extension| extension.stated_error);
        let has_own_bound = !is_beside_kernel(source_of(old)) && stated != Some(StatedError::Holds);
        has_time && states_bound(&old.fields) && has_own_bound
    });
    match (lineage, device) {
        (Lineage::Disrupted, _) => Some(Distrust::Disruption),
        // A publisher that saw a disruption withdrew its bound, so a page without one may hide it.
        (Lineage::Same | Lineage::Unknown, _) if has_time && !is_vouched => {
            Some(Distrust::TakeOver)
        }
        (_, DeviceRecord::None) => None,
        (Lineage::Same, DeviceRecord::Seen(_)) if is_vouched => None,
        _ => Some(Distrust::Start),
    }
}

/// Returns whether the reason for a missing bound says by itself how the kernel's clock was changed.
fn is_of_kernel_trust(no_bound: Option<NoBound>) -> bool {
    matches!(
        no_bound,
        Some(NoBound::ChangePending | NoBound::StatedErrorVoided | NoBound::Distrusted { .. })
    ) && !matches!(
        no_bound,
        // It may come after an unexplained change.
        Some(NoBound::Distrusted {
            cause: Distrust::ZeroError,
            ..
        })
    )
}

/// Returns whether another program's figures may be of before a disruption that the device did not report.
fn may_hide_jump(lineage: Lineage, old: &OldPage) -> bool {
    let reported = lineage == Lineage::Disrupted && !old.is_torn;
    // A page without an extension tells nothing.
    let has_jump = old
        .extension
        .is_none_or(|extension| extension.has_unreported_jump);
    has_jump && !reported
}

/// Returns whether a source is not the kernel's clock.
fn is_beside_kernel(source: SourceKind) -> bool {
    matches!(source, SourceKind::Phc | SourceKind::ClockBound)
}

/// Returns the source of a page's time.
fn source_of(page: &OldPage) -> SourceKind {
    page.extension
        .map_or(SourceKind::Unknown, |extension| extension.source)
}

/// Returns whether a disruption ended the error that was stated for an earlier page of this boot.
fn ends_stated_error(lineage: Lineage, old: Option<StatedError>) -> bool {
    match old {
        Some(StatedError::Void) => true,
        Some(StatedError::Holds) => lineage == Lineage::Disrupted,
        Some(StatedError::None) | None => false,
    }
}

/// Returns whether a page has no generation counter even where the device has one.
fn hides_generation(options: &PublishOptions) -> bool {
    match options.shape {
        Shape::Time => options.generation == Generation::Never,
        Shape::Marker => true,
        Shape::MarkerAndGeneration => false,
    }
}

/// Returns the fields of a page without time, marker and generation counter.
fn first_fields(options: &PublishOptions, counter_id: u8) -> RawFields {
    let mut fields = blank();
    let has_generation = match (options.shape, options.generation) {
        (Shape::Time, generation) => generation == Generation::Always,
        (Shape::Marker, _) => false,
        (Shape::MarkerAndGeneration, _) => true,
    };
    if has_generation {
        fields.flags = abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
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
