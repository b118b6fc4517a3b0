//! The tally of a life, or of the whole fleet.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) readings: u64,
    pub(crate) bounded: u64,
    pub(crate) unknown: u64,
    /// Counts by error code.
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// Counts of events and other observations, by name.
    pub(crate) seen: BTreeMap<&'static str, u64>,
    pub(crate) simulated_sec: u64,
}

impl Tally {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(crate) fn refuse(&mut self, code: &'static str) {
        *self.refused.entry(code).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.readings += other.readings;
        self.bounded += other.bounded;
        self.unknown += other.unknown;
        self.simulated_sec += other.simulated_sec;
        for (into, from) in [
            (&mut self.refused, &other.refused),
            (&mut self.seen, &other.seen),
        ] {
            for (name, count) in from {
                *into.entry(name).or_default() += count;
            }
        }
    }
}

/// Observations without which a fleet would prove too little.
const OCCURS: [&str; 44] = [
    "PTP clock goes away",
    "PTP clock refuses",
    "PTP clock returns",
    "PTP clock without a known error",
    "a second clone",
    "bound below 1 ms",
    "capture converted",
    "capture refused after a disruption",
    "clock stepped by another process",
    "clock stepped by its daemon",
    "daemon unaware of a disruption",
    "daemon unaware that the clock was stepped",
    "disruption declared",
    "from limit to limit",
    "honest daemon",
    "leap second's flag cleared",
    "migration",
    "migration in a step of the maker",
    "migration of a guest within a reading",
    "migration within a reading",
    "migration without a publisher",
    "no daemon",
    "oscillator changes its course",
    "page from the best source",
    "page from the second source",
    "page in a process begins",
    "page updated",
    "pause",
    "publisher closed",
    "publisher killed",
    "publisher killed in an update",
    "publisher restarted",
    "publisher started without a page",
    "reading held",
    "reading in a leap second",
    "reading of a page in a process",
    "reading in a smear",
    "restored",
    "saved",
    "skip to a change of timescale",
    "suspend",
    "suspend, counter continues",
    "update within a reading",
    "zeroing daemon",
];
const REFUSED: [&str; 4] = [
    "ERR_VMCLOCK_DISRUPTED",
    "ERR_VMCLOCK_NO_TAI_OFFSET",
    "ERR_VMCLOCK_TIMEOUT",
    "ERR_VMCLOCK_UNSYNCHRONIZED",
];

impl Tally {
    /// Fails if a whole fleet saw too little to prove anything.
    pub(crate) fn assert_not_vacuous(&self) {
        for name in OCCURS {
            assert!(self.seen.contains_key(name), "never seen: {name}");
        }
        for code in REFUSED {
            assert!(self.refused.contains_key(code), "never refused: {code}");
        }
        let share_of = |count: u64| count as f64 / self.readings as f64;
        // After each migration there is none until the daemon has updated 8 times.
        assert!(share_of(self.bounded) > 0.3, "too few bounds: {self}");
        assert!(share_of(self.unknown) > 0.05, "too few unknown: {self}");
        assert_eq!(
            self.bounded + self.unknown + self.refused.values().sum::<u64>(),
            self.readings
        );
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |count: u64| 100.0 * count as f64 / self.readings.max(1) as f64;
        writeln!(
            f,
            "{} readings in {} simulated hours: {:.1} % bounded, {:.1} % without a bound, {:.1} % refused",
            self.readings,
            self.simulated_sec / 3600,
            share(self.bounded),
            share(self.unknown),
            share(self.refused.values().sum()),
        )?;
        for (title, counts) in [("refused", &self.refused), ("seen", &self.seen)] {
            let items: Vec<_> = counts
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            writeln!(f, "  {title}: {}", items.join(", "))?;
        }
        Ok(())
    }
}
