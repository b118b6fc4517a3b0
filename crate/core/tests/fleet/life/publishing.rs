//! The publisher of a guest's page, with the order of events of its thread.

use std::rc::Rc;
use std::sync::Arc;

use vmclock::abi::{VMCLOCK_FLAG_PERIOD_MAXERROR_VALID, VMCLOCK_FLAG_TIME_MAXERROR_VALID};
use vmclock::clock::guard::Guard;
use vmclock::extension::{DeviceRecord, Extension, SourceKind};
use vmclock::publish::{Cause, Generation, OldPage, Publication, PublishOptions};
use vmclock::snapshot::RawFields;
use vmclock::source::kernel::leap_seconds::LeapSeconds;
use vmclock::writer::blank;

use super::{
    EDGES_SEC, Flaw, Life, NS_PER_SEC, OffsetSource, Outcome, OwnPage, PUBLISHED_CLOCKS, Provider,
    Sight,
};
use crate::guest::{self, GuestMemory, Host, Intrusion, Seat};
use crate::other::{self, Source};
use crate::truth::TAI_MINUS_UTC_SEC;
use vmclock_testkit::virtual_machine::{Leap, Machine};

fn leap_list(leap: Option<Leap>) -> Option<LeapSeconds> {
    let ntp = |sec: i128| sec + 2_208_988_800;
    let mut text = format!("#@ {}\n3692217600 37\n", ntp(EDGES_SEC[1] + 86_400 * 1000));
    if let Some(leap) = leap {
        let after_sec = TAI_MINUS_UTC_SEC + if leap.inserted { 1 } else { -1 };
        text += &format!("{} {after_sec}\n", ntp(leap.edge_sec));
    }
    LeapSeconds::parse(&text)
}

impl Life {
    pub(super) fn new_publication(
        &mut self,
        old: Option<OldPage>,
    ) -> Publication<Source, Host, Host> {
        let host = self.host();
        // An operator knows the clock's offset, but not in the seconds around a leap second.
        let offset_sec = i16::try_from(self.machine.state.borrow().clock_offset_sec()).unwrap();
        let states_offset =
            self.source == OffsetSource::Operator && !self.is_near_leap(5 * NS_PER_SEC);
        let interval_ms = self.random.range(100, 1000).unsigned_abs();
        self.options = PublishOptions {
            interval: std::time::Duration::from_millis(interval_ms),
            tai_minus_utc_sec: states_offset.then_some(offset_sec),
            generation: Generation::Always,
            max_error_after_migration: self.is_stated && self.holds_after_migration,
            ..PublishOptions::default()
        };
        self.daemon.state_error(&mut self.options);
        if self.misses_step || self.provider == Provider::Hypervisor {
            self.make_aware();
        }
        self.publication_on(host, self.options.clone(), old)
    }

    fn publication_on(
        &self,
        host: Host,
        options: PublishOptions,
        old: Option<OldPage>,
    ) -> Publication<Source, Host, Host> {
        let list = (self.source == OffsetSource::List)
            .then(|| leap_list(self.leap))
            .flatten();
        // An operator states the error of the kernel's clock.
        let has_others = !self.seed.is_multiple_of(3) && options.max_error_ns.is_none();
        let source = other::sources(host.clone(), self.seed, has_others, self.flaw, &self.deeds);
        Publication::new(source, host.clone(), host, options, list, old).unwrap()
    }

    /// The view of a maker on the machine that makes the page.
    fn host(&self) -> Host {
        let (seat, device) = match self.provider {
            Provider::Hypervisor => (
                Seat::new(Rc::clone(&self.machine)),
                Some(DeviceRecord::None),
            ),
            Provider::Guest => (
                self.seat.clone(),
                (self.sight == Sight::MakerBlind).then_some(DeviceRecord::Unavailable),
            ),
        };
        Host {
            seat,
            trusts_zero: self.flaw == Flaw::TrustsZero,
            device,
        }
    }

    /// Returns whether a maker that continues no page can know all that readers need. After a leap second the
    /// kernel does not say which one it was, and smears run on for half a day.
    fn may_begin_anew(&self) -> bool {
        self.leap.is_none_or(|leap| {
            let since_sec = self.truth_ns() / NS_PER_SEC - leap.edge_sec - TAI_MINUS_UTC_SEC;
            !(-100..43_300).contains(&since_sec)
        })
    }

    /// Begins a page in a process of the guest, if there is none.
    pub(super) fn begin_own(&mut self) -> Outcome {
        let is_possible = self.own.is_none() && self.provider == Provider::Guest;
        if !is_possible || self.is_stated || !self.may_begin_anew() {
            return Ok(());
        }
        if self.misses_step {
            self.make_aware();
        }
        let options = PublishOptions {
            allow_unguarded: true,
            ..PublishOptions::default()
        };
        let old = (self.flaw == Flaw::TrustsLateMaker).then(|| self.forged());
        let mut publication = self.publication_on(self.host(), options, old);
        let memory = Arc::new(GuestMemory::default());
        loop {
            if let Err(error) = publication.step(Cause::Interval) {
                return Err(self.violation(&format!("the calibrator failed: {error}")));
            }
            if publication.is_settled() {
                break;
            }
            self.pass(publication.next_within().as_nanos().cast_signed());
        }
        memory.show(publication.fields(), &publication.extension());
        let guard = guest::guard(&self.seat, self.sight != Sight::ReaderBlind);
        let guard = self.flawed(guard);
        self.held.extend(guest::clocks(&memory, &self.seat, &guard));
        self.own = Some(OwnPage {
            publication,
            memory,
            alarm: false,
        });
        self.note("page in a process begins");
        Ok(())
    }

    /// A page with a bound that says that no migration came.
    fn forged(&self) -> OldPage {
        let both = VMCLOCK_FLAG_TIME_MAXERROR_VALID | VMCLOCK_FLAG_PERIOD_MAXERROR_VALID;
        OldPage {
            fields: RawFields {
                // Compare nothing of it with the present.
                time_sec: 1,
                flags: both,
                ..blank()
            },
            extension: Some(Extension {
                boot_id: guest::BOOT_ID,
                device: self.seat.record(),
                ..Extension::default()
            }),
            is_torn: false,
        }
    }

    /// The guard, after planted flaws.
    pub(super) fn flawed(&self, guard: Guard<GuestMemory>) -> Guard<GuestMemory> {
        if self.flaw == Flaw::NoGuard {
            Guard::OWN
        } else {
            guard
        }
    }

    pub(super) fn end_own(&mut self) {
        if self.own.take().is_some() {
            self.held.truncate(PUBLISHED_CLOCKS);
            self.note("page in a process ends");
        }
    }

    /// Brings the process's page up to date.
    fn update_own(&mut self) -> Outcome {
        let Some(own) = &mut self.own else {
            return Ok(());
        };
        let cause = if std::mem::take(&mut own.alarm) {
            Cause::ClockStep
        } else {
            Cause::Interval
        };
        match own.publication.step(cause) {
            Ok(fields) => {
                own.memory.show(&fields, &own.publication.extension());
                Ok(())
            }
            Err(error) => Err(self.violation(&format!("the calibrator failed: {error}"))),
        }
    }

    /// The fields on the page, after planted flaws.
    pub(super) fn shown(&mut self, mut fields: RawFields) -> RawFields {
        const PERIOD_MAXERROR_VALID: u64 = 1 << 4;
        let rate = &mut fields.counter_period_maxerror_rate_frac_sec;
        if self.flaw == Flaw::RateBoundTooSmall {
            *rate = rate.saturating_sub(fields.counter_period_frac_sec / 1_000_000);
        }
        // Only if the drift that a caller assumes instead is true.
        let assumed =
            fields.counter_period_frac_sec / 1_000_000_000 * u64::from(guest::ASSUMED_DRIFT_PPB);
        if self.hides_rate_error && *rate < assumed {
            fields.flags &= !PERIOD_MAXERROR_VALID;
        }
        fields
    }

    pub(super) fn step(&mut self, cause: Cause) -> Result<Option<RawFields>, String> {
        let Some(publication) = &mut self.publication else {
            return Ok(None);
        };
        match publication.step(cause) {
            Ok(fields) => Ok(Some(self.shown(fields))),
            Err(error) => Err(self.violation(&format!("the publisher failed: {error}"))),
        }
    }

    pub(super) fn write(&mut self, fields: &RawFields) {
        let extension = self.extension();
        self.memory.show(fields, &extension);
        self.is_torn = false;
        match extension.source {
            SourceKind::ClockBound => self.tally.note("page from the best source"),
            SourceKind::Phc => self.tally.note("page from the second source"),
            _ => {}
        }
        self.tally.note("page updated");
    }

    pub(super) fn publish(&mut self, cause: Cause) -> Outcome {
        if let Some(fields) = self.step(cause)? {
            self.write(&fields);
        }
        Ok(())
    }

    /// Updates the page, in the order in which the publisher's thread looks at its wake-ups.
    pub(super) fn update(&mut self) -> Outcome {
        if let Some(own) = &mut self.own {
            own.alarm |= self.alarm;
            self.update_own()?;
        }
        if self.publication.is_some() && std::mem::take(&mut self.alarm) {
            if self.random.chance(8) {
                // The alarm fired just after the thread looked at it.
                self.publish(Cause::Interval)?;
            }
            return self.publish(Cause::ClockStep);
        }
        self.publish(Cause::Interval)
    }

    /// Updates until the page is past its first baseline. The guest may read meanwhile.
    pub(super) fn settle(&mut self) -> Outcome {
        while let Some(publication) = &self.publication
            && !publication.is_settled()
        {
            let within_ns = publication.next_within().as_nanos().cast_signed();
            self.pass(within_ns / 2);
            if self.random.chance(2) {
                self.look()?;
            }
            self.pass(within_ns / 2);
            self.update()?;
        }
        Ok(())
    }

    /// The extension of the publisher's last step.
    fn extension(&self) -> Extension {
        let publication = self.publication.as_ref();
        let mut extension = publication.map(Publication::extension).unwrap_or_default();
        if self.flaw == Flaw::RecordsLater && matches!(extension.device, DeviceRecord::Seen(_)) {
            extension.device = self.seat.record();
        }
        extension
    }

    /// The page as its next publisher finds it. The host keeps no extension.
    pub(super) fn found(&self) -> OldPage {
        let (fields, extension) = self.memory.shown();
        OldPage {
            fields,
            extension: extension.filter(|_| self.provider == Provider::Guest),
            is_torn: self.is_torn,
        }
    }

    /// Starts another publisher on the page. It writes nothing before it has settled.
    pub(super) fn restart(&mut self) -> Outcome {
        self.alarm = false;
        let is_lost = self.provider == Provider::Guest
            && !self.is_stated
            && self.may_begin_anew()
            && self.random.chance(4);
        let old = if is_lost {
            self.note("publisher started without a page");
            None
        } else {
            Some(self.found())
        };
        let publication = self.new_publication(old);
        self.publication = Some(publication);
        let mut fields = self.step(Cause::Interval)?;
        while let Some(publication) = &self.publication
            && !publication.is_settled()
        {
            let within_ns = publication.next_within().as_nanos().cast_signed();
            self.pass(within_ns);
            self.look()?;
            fields = self.step(Cause::Interval)?;
        }
        if let Some(fields) = fields {
            self.write(&fields);
        }
        self.note("publisher restarted");
        if std::mem::take(&mut self.alarm) {
            self.publish(Cause::ClockStep)?;
            self.settle()?;
        }
        Ok(())
    }

    /// Plans a new page state, and perhaps a new host, within the next counter read.
    pub(super) fn intrude(&mut self, fields: RawFields, machine: Option<Rc<Machine>>) {
        let extension = self.extension();
        let memory = Arc::clone(&self.memory);
        let seat = self.seat.clone();
        let era = Rc::clone(&self.era);
        self.tally.note(if machine.is_some() {
            "migration within a reading"
        } else {
            "update within a reading"
        });
        self.is_torn = false;
        self.seat.intrude(Intrusion {
            before_counter: self.random.chance(2),
            happen: Box::new(move || {
                if let Some(machine) = machine {
                    seat.move_to(machine);
                    era.set(era.get() + 1);
                }
                memory.show(&fields, &extension);
            }),
        });
    }
}
