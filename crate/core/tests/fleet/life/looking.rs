//! A guest's calls, and their comparison with the true time.

use vmclock::no_bound::NoBound;
use vmclock::publish::Publication;
use vmclock::time::fixed;
use vmclock::{Reading, Timescale};

use super::{Flaw, Life, NS_PER_SEC, Outcome, PUBLISHED_CLOCKS, Provider, Sight};
use crate::guest::{Capture, Read};
use crate::truth;
use vmclock_testkit::virtual_machine::ONE;

impl Life {
    /// Makes some calls on one clock.
    pub(super) fn look(&mut self) -> Outcome {
        if self.own.is_some() && self.random.chance(4) {
            let last = i64::try_from(self.held.len() - 1).unwrap();
            let which = usize::try_from(self.random.range(PUBLISHED_CLOCKS as i64, last)).unwrap();
            self.note_own();
            return self.read(which);
        }
        let which = usize::try_from(self.random.range(0, 7)).unwrap();
        if self.is_torn {
            // The first call waits for its deadline in real time.
            if self.torn_looks_left > 0 {
                self.torn_looks_left -= 1;
                self.read(which)?;
                self.read(which)?;
            }
            return Ok(());
        }
        if self.sight != Sight::Both {
            // Nobody would notice a migration.
            return self.read(which);
        }
        match self.random.range(0, 9) {
            0 => self.capture(which)?,
            1 | 2 => self.convert(which)?,
            3 | 4 => self.stamp(which)?,
            _ => {}
        }
        self.read(which)
    }

    fn note_own(&mut self) {
        self.tally.note("reading of a page in a process");
    }

    pub(super) fn read(&mut self, which: usize) -> Outcome {
        let result = self.held[which].clock.read();
        let read = self.seat.last_read();
        self.tally.readings += 1;
        let reading = match result {
            Ok(reading) => reading,
            Err(error) => {
                self.tally.refuse(error.code());
                return Ok(());
            }
        };
        if reading.counter != read.counter {
            return Err(self.violation("a reading has another counter value than was read"));
        }
        self.last_marker = Some(reading.disruption_marker);
        self.never_decreases(which, reading.epoch_ns)?;
        self.check(which, &reading, read)
    }

    pub(super) fn never_decreases(&mut self, which: usize, ns: i64) -> Outcome {
        let held = &mut self.held[which];
        let last_ns = held.last_ns.replace(ns);
        if held.non_decreasing && last_ns.is_some_and(|last_ns| last_ns > ns) {
            let name = held.name;
            return Err(self.violation(&format!("{name}: {last_ns:?}, then {ns}")));
        }
        Ok(())
    }

    /// Calls `now_ns`, and compares it with a conversion of the same counter.
    pub(super) fn stamp(&mut self, which: usize) -> Outcome {
        let clock = &mut self.held[which].clock;
        let Ok(token) = clock.continuity_token() else {
            return Ok(());
        };
        let result = clock.now_ns();
        let read = self.seat.last_read();
        self.tally.readings += 1;
        let ns = match result {
            Ok(ns) => ns,
            Err(error) => {
                self.tally.refuse(error.code());
                return Ok(());
            }
        };
        self.never_decreases(which, ns)?;
        let held = &mut self.held[which];
        let Ok(reading) = held.clock.convert(read.counter, &token) else {
            self.tally.unknown += 1;
            return Ok(());
        };
        let fits = if held.non_decreasing {
            ns >= reading.epoch_ns
        } else {
            ns == reading.epoch_ns
        };
        if !fits {
            let text = format!("now_ns gave {ns}, and converted it is {reading:?}");
            return Err(self.violation(&text));
        }
        self.check(which, &reading, read)
    }

    pub(super) fn capture(&mut self, which: usize) -> Outcome {
        let clock = &mut self.held[which].clock;
        if let Ok(token) = clock.continuity_token() {
            let era = self.era.get();
            clock.counter();
            let read = self.seat.last_read();
            let capture = Capture { read, token, era };
            if self.captures.len() < 12 {
                self.captures.push(capture);
            } else {
                let at = usize::try_from(self.random.range(0, 11)).unwrap();
                self.captures[at] = capture;
            }
        }
        Ok(())
    }

    pub(super) fn convert(&mut self, which: usize) -> Outcome {
        if self.captures.is_empty() {
            return Ok(());
        }
        let most = i64::try_from(self.captures.len() - 1).unwrap();
        let at = usize::try_from(self.random.range(0, most)).unwrap();
        let capture = self.captures[at];
        let clock = &mut self.held[which].clock;
        let fits = clock.is_continuous(&capture.token);
        let result = clock.convert(capture.read.counter, &capture.token);
        self.tally.readings += 1;
        if capture.era != self.era.get() {
            if fits.is_ok_and(|fits| fits) || result.is_ok() {
                return Err(self.violation("a token from before a disruption is valid after it"));
            }
            self.tally.note("capture refused after a disruption");
            if self.random.chance(2) {
                self.captures.swap_remove(at);
            }
        }
        match result {
            Ok(reading) => {
                self.tally.note("capture converted");
                self.check(which, &reading, capture.read)
            }
            Err(error) => {
                self.tally.refuse(error.code());
                Ok(())
            }
        }
    }

    /// Compares a reading with the true time at its counter.
    pub(super) fn check(&mut self, which: usize, reading: &Reading, read: Read) -> Outcome {
        let held = &mut self.held[which];
        let (name, timescale) = (held.name, held.timescale);
        let non_decreasing = held.non_decreasing;
        let snapshot = held.clock.snapshot();
        if snapshot
            .as_ref()
            .is_ok_and(|snapshot| snapshot.is_time_monotonic())
        {
            return Err(self.violation("the page claims to be monotonic"));
        }
        let Some((mut earliest, mut latest)) = reading.earliest_ns.zip(reading.latest_ns) else {
            self.tally.unknown += 1;
            let reason = self.publication.as_ref().map(Publication::no_bound);
            self.tally.note(match reason {
                Some(Some(NoBound::Distrusted { .. })) => "no bound, as the clock is distrusted",
                Some(Some(_)) => "no bound, for another reason",
                Some(None) => "no bound of another page",
                None => "no bound, and no publisher",
            });
            return Ok(());
        };
        self.tally.bounded += 1;
        if self.provider == Provider::Guest && self.sight != Sight::Both && self.flaw == Flaw::None
        {
            return Err(self.violation("a bound, although nobody looks at the device"));
        }
        let is_void = i128::from(reading.age_ns) > 1_001 * NS_PER_SEC;
        if self.provider == Provider::Guest && is_void && !non_decreasing {
            return Err(self.violation("a bound of a page that nobody updates any more"));
        }
        if reading.max_error_ns.is_some_and(|ns| ns < 1_000_000) {
            self.tally.note("bound below 1 ms");
        }
        if self.flaw == Flaw::NoHull
            && timescale == Timescale::Utc
            && !non_decreasing
            && let Ok(snapshot) = snapshot
        {
            let raw = snapshot.raw;
            let growth_ns = fixed::growth_ns(
                fixed::distance_ticks(reading.counter, raw.counter_value),
                raw.counter_period_maxerror_rate_frac_sec,
                raw.counter_period_shift,
            );
            let bound_ns = fixed::saturate(fixed::bound_ns(raw.time_maxerror_nanosec, growth_ns));
            earliest = reading.epoch_ns.saturating_sub_unsigned(bound_ns);
            latest = reading.epoch_ns.saturating_add_unsigned(bound_ns);
        }
        let label = truth::label_fine(timescale, read.truth_fine, self.leap);
        let is_within = i128::from(earliest) * ONE <= label && label <= i128::from(latest) * ONE;
        let off_fine = label - i128::from(reading.epoch_ns) * ONE;
        let max_error_ns = reading.max_error_ns.unwrap_or(0);
        if !is_within || off_fine.abs() > i128::from(max_error_ns) * ONE && self.flaw == Flaw::None
        {
            let text = format!(
                "{name}: the true time is {} ns after {}, and the interval is from {} to {}, ± {} ns: {reading:?}",
                off_fine as f64 / ONE as f64,
                reading.epoch_ns,
                earliest - reading.epoch_ns,
                latest - reading.epoch_ns,
                max_error_ns,
            );
            return Err(self.violation(&text));
        }
        if timescale == Timescale::Utc
            && let Some(offset_sec) = reading.tai_minus_utc_sec
        {
            let tai_ns = i128::from(reading.epoch_ns) + i128::from(offset_sec) * NS_PER_SEC;
            if (read.truth_fine - tai_ns * ONE).abs() > i128::from(max_error_ns) * ONE {
                return Err(self.violation(&format!("{name}: wrong TAI offset: {reading:?}")));
            }
        }
        if reading.leap_second {
            self.tally.note("reading in a leap second");
        }
        let strict = truth::label_fine(Timescale::Utc, read.truth_fine, self.leap);
        if timescale != Timescale::Tai && label != strict {
            self.tally.note("reading in a smear");
        }
        // The interval of a held reading ends at the held time.
        if reading.latest_ns == Some(reading.epoch_ns) {
            self.tally.note("reading held");
        }
        Ok(())
    }
}
