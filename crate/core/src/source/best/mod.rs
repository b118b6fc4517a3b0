//! The best source of time that works now.
//!
//! The kernel's clock is sampled at each step, whatever source gives the time. So its trust, its leap seconds and
//! its baseline are up to date when the time comes from it again. Suspends and jumps of the counter are noticed too.
//!
//! The rule:
//!
//! - The first candidate that gives a time with a bound is used, in the order of their rank. If none does, the
//!   kernel's clock is used.
//! - A candidate that gives none is left at once, for the next best.
//! - A better candidate is taken up again after [`HOLD_DOWN_NS`] in which it gave a bound at each step. It is taken
//!   up at once if the time would have no bound otherwise.
//! - A candidate whose time contradicts its time before is one that fails. One of the two was false, and no baseline
//!   goes on across them.
//! - No candidate is used while the kernel knows of a leap second near: it alone says which second it is in.

use super::{Candidate, Event, Fix, Known, PassedOver, Sample, Scene, TimeSource};
use crate::abi;
use crate::counter::Counter;
use crate::error::Error;
use crate::extension::SourceKind;
use crate::no_bound::{Distrust, NoBound};
use crate::source::clockbound::ClockBound;
use crate::source::kernel::KernelSource;
use crate::source::kernel::clock::KernelClock;
use crate::source::kernel::slew::HiddenSlew;
use crate::source::phc::{MachineCards, PhcSource};
use crate::time::leap::utc_month;
use crate::time::{NS_PER_SEC, fixed, period};

/// A better source must have given bounds for so long before it is taken up again: 10 s.
///
/// Each change of source may move the time by the sum of both errors. A source that fails and returns every second
/// would move it as often. ClockBound's daemon updates its memory every second, and a PTP clock is read up to five
/// times in a second. So 10 s are at least ten chances to fail.
pub const HOLD_DOWN_NS: i128 = 10 * NS_PER_SEC;

/// A leap second counts as near for so long after it: an hour. Figures from before it are given until then at most.
const LEAP_SETTLED_SEC: i128 = 3600;

/// A sample of a candidate has no ceiling for the error of a period: only its bounds count. No period is off by so
/// much, in parts per billion.
const NO_CEILING_PPB: u128 = 1 << 40;

/// The source that a page is to be made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// The best one that works: ClockBound's memory, a PTP hardware clock with a bound, the kernel's clock.
    #[default]
    Auto,
    /// The kernel's clock.
    Kernel,
    /// A PTP hardware clock with a bound.
    Phc,
    /// ClockBound's memory.
    ClockBound,
}

impl From {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Kernel, Self::Phc, Self::ClockBound];

    /// A short name that does not change: `auto`, `kernel`, `phc` or `clockbound`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.kind().map_or("auto", SourceKind::name)
    }

    /// Returns the choice of a name; `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|from| from.name() == name)
    }

    /// Returns the only source that may be used; `None` if the best one may.
    #[must_use]
    pub fn kind(self) -> Option<SourceKind> {
        match self {
            Self::Auto => None,
            Self::Kernel => Some(SourceKind::Kernel),
            Self::Phc => Some(SourceKind::Phc),
            Self::ClockBound => Some(SourceKind::ClockBound),
        }
    }
}

/// A source of this machine beside the kernel's clock.
pub type AnyCandidate = Box<dyn Candidate + Send>;

/// The sources of time of this machine.
pub(crate) type MachineSource = Best<KernelSource<KernelClock>, AnyCandidate>;

/// Returns this machine's candidates, the best first. Nothing is opened yet. `host_error_ns` is the error that the
/// operator states of the host's clock.
pub(crate) fn candidates(from: From, host_error_ns: Option<u64>) -> Vec<AnyCandidate> {
    let phc = PhcSource::new(MachineCards::default(), host_error_ns);
    let all: Vec<AnyCandidate> = vec![Box::new(ClockBound::default()), Box::new(phc)];
    let is_wanted = |kind| from == From::Auto || from.kind() == Some(kind);
    all.into_iter()
        .filter(|candidate| is_wanted(candidate.kind()))
        .collect()
}

/// The kernel's clock, and the candidates that are better.
#[derive(Debug)]
pub struct Best<K, C> {
    kernel: K,
    ranked: Vec<Ranked<C>>,
    /// The operator chose one candidate: the kernel's clock only takes its place, without a bound.
    is_exact: bool,
    /// A candidate has given a time.
    has_begun: bool,
    /// The rank of the source that gave the last time with a bound.
    used: Option<usize>,
    along: Option<Sample>,
}

/// A candidate, and how it did lately.
#[derive(Debug)]
struct Ranked<C> {
    candidate: C,
    /// CLOCK_MONOTONIC since which it has given a bound each time.
    good_since_ns: Option<i128>,
    passed_over: Option<PassedOver>,
    /// Its last time, until a disruption.
    last: Option<Fix>,
}

impl<K: TimeSource, C: Candidate> Best<K, C> {
    /// Makes a source of the kernel's clock and candidates, the best first.
    ///
    /// `from` other than [`From::Auto`] and [`From::Kernel`] needs the candidate of that kind. Its error is an
    /// error of the first sample.
    pub fn new(kernel: K, candidates: Vec<C>, from: From) -> Self {
        let ranked = candidates.into_iter().map(|candidate| Ranked {
            candidate,
            good_since_ns: None,
            passed_over: None,
            last: None,
        });
        Self {
            kernel,
            ranked: ranked.collect(),
            is_exact: !matches!(from, From::Auto | From::Kernel),
            has_begun: false,
            used: None,
            along: None,
        }
    }

    /// Samples the candidates, and returns the rank and the time of the one to use.
    fn choose(
        &mut self,
        counter: &dyn Counter,
        known: &Known,
        kernel: &Sample,
    ) -> Result<Option<(usize, Fix)>, Error> {
        let now_ns = kernel.monotonic_ns;
        let used = self.used;
        let mut is_waiting = None;
        for (rank, ranked) in self.ranked.iter_mut().enumerate() {
            match ranked.sample(counter, &Scene { known, kernel }) {
                Ok(fix) => {
                    let since_ns = *ranked.good_since_ns.get_or_insert(now_ns);
                    let is_better = used.is_some_and(|used| rank < used);
                    if !is_better || now_ns - since_ns >= HOLD_DOWN_NS {
                        ranked.passed_over = None;
                        return Ok(Some((rank, fix)));
                    }
                    ranked.wait();
                    is_waiting.get_or_insert((rank, fix));
                }
                Err(error) if self.is_exact && !self.has_begun => return Err(error),
                Err(error) => ranked.pass_over(&error),
            }
        }
        // Any bound is better than none.
        let needs_one = self.is_exact || kernel.claim_ns.is_none();
        Ok(is_waiting.filter(|_| needs_one))
    }

    /// Returns the sample of a candidate.
    fn sample_of(&self, rank: usize, fix: &Fix, kernel: &Sample) -> Option<Sample> {
        let ranked = self.ranked.get(rank)?;
        Some(Sample {
            source: ranked.candidate.kind(),
            counter: fix.counter,
            half_width_ticks: fix.half_width_ticks,
            realtime_ns: fix.utc_ns,
            claim_ns: Some(fix.max_error_ns),
            estimate_ns: fix.estimate_ns,
            no_bound: None,
            is_synchronized: fix.is_synchronized,
            is_operators: fix.is_operators,
            ceiling_ppb: NO_CEILING_PPB,
            hidden_slew: HiddenSlew::default(),
            is_free_at_other_rate: false,
            ..*kernel
        })
    }
}

impl<C: Candidate> Ranked<C> {
    fn sample(&mut self, counter: &dyn Counter, scene: &Scene<'_>) -> Result<Fix, Error> {
        if is_near_leap(scene.kernel) {
            self.last = None;
            return Err(Error::NoSource {
                source_name: self.candidate.kind().name(),
                path: None,
                reason:
                    "a leap second is near, and only the kernel's clock says which second it is"
                        .to_owned(),
                remedy: "wait until it is over",
                errno: None,
            });
        }
        let fix = self.candidate.sample(counter, scene)?;
        match self.last.replace(fix) {
            Some(last) if contradicts(&last, &fix, scene.known) => Err(Error::NoSource {
                source_name: self.candidate.kind().name(),
                path: None,
                reason: "its time contradicts the one that it gave before".to_owned(),
                remedy: "wait; if it lasts, see the log of the daemon that keeps it",
                errno: None,
            }),
            _ => Ok(fix),
        }
    }

    fn disrupt(&mut self, cause: Distrust) {
        self.last = None;
        self.candidate.disrupt(cause);
    }

    fn pass_over(&mut self, error: &Error) {
        self.good_since_ns = None;
        // A source that this machine does not have is not passed over.
        let is_absent = match error {
            Error::NotFound { .. } | Error::NoPtpDevice { .. } => true,
            Error::NoSource { errno, .. } => *errno == Some(libc::ENOENT),
            _ => false,
        };
        self.passed_over = (!is_absent).then(|| PassedOver {
            kind: self.candidate.kind(),
            code: Some(error.code()),
            reason: error.to_string(),
        });
    }

    fn wait(&mut self) {
        self.passed_over = Some(PassedOver {
            kind: self.candidate.kind(),
            code: None,
            reason: "it failed less than 10 s ago".to_owned(),
        });
    }
}

/// Returns whether a leap second is near, by the kernel's knowledge. The kernel reports a past one for two weeks.
fn is_near_leap(kernel: &Sample) -> bool {
    let utc_sec = kernel.realtime_ns.div_euclid(NS_PER_SEC);
    match kernel.leap_indicator {
        abi::VMCLOCK_LEAP_NONE => false,
        abi::VMCLOCK_LEAP_POST_POS | abi::VMCLOCK_LEAP_POST_NEG => {
            utc_sec - utc_month(utc_sec).0 < LEAP_SETTLED_SEC
        }
        _ => true,
    }
}

/// Returns whether two times of one source cannot both be true. The counter carries the first to the second. They
/// contradict each other if they then differ by more than both errors and that of the period.
fn contradicts(last: &Fix, now: &Fix, known: &Known) -> bool {
    let Some(period) = &known.period else {
        return false;
    };
    let elapsed_ns = period.elapsed_ns(fixed::distance_ticks(now.counter, last.counter));
    let widths_ticks = last.half_width_ticks.saturating_add(now.half_width_ticks);
    let allowed_ns = last.max_error_ns
        + now.max_error_ns
        + period.ticks_ns(widths_ticks)
        + period::share(elapsed_ns.unsigned_abs(), known.period_error_ppb)
        + 2;
    (now.utc_ns - last.utc_ns - elapsed_ns).unsigned_abs() > allowed_ns
}

impl<K: TimeSource, C: Candidate> TimeSource for Best<K, C> {
    fn resume(&mut self, utc_sec: i128, leap_indicator: u8) {
        self.kernel.resume(utc_sec, leap_indicator);
    }

    fn resume_distrust(&mut self, no_bound: NoBound) {
        self.kernel.resume_distrust(no_bound);
    }

    fn sample(&mut self, counter: &impl Counter, known: &Known) -> Result<Option<Sample>, Error> {
        let Some(kernel) = self.kernel.sample(counter, known)? else {
            return Ok(None);
        };
        self.along = None;
        if self.ranked.is_empty() && !self.is_exact {
            return Ok(Some(kernel));
        }
        if let Event::Disruption(cause) = kernel.event {
            for ranked in &mut self.ranked {
                ranked.disrupt(cause);
            }
        }
        let chosen = self.choose(counter, known, &kernel)?;
        if chosen.is_none() && self.is_exact && !self.has_begun {
            return Err(Error::NoSource {
                source_name: "the chosen source",
                path: None,
                reason: "this machine has none".to_owned(),
                remedy: "choose another source, or none",
                errno: None,
            });
        }
        let sample = chosen.and_then(|(rank, fix)| self.sample_of(rank, &fix, &kernel));
        if let (Some((rank, _)), Some(sample)) = (chosen, sample) {
            self.has_begun = true;
            self.used = Some(rank);
            self.along = Some(kernel);
            return Ok(Some(sample));
        }
        self.used = kernel.claim_ns.map(|_| self.ranked.len());
        if self.is_exact {
            return Ok(Some(Sample {
                claim_ns: None,
                estimate_ns: None,
                no_bound: Some(NoBound::SourceUnavailable),
                is_synchronized: false,
                ..kernel
            }));
        }
        Ok(Some(kernel))
    }

    fn follow_device(&mut self) {
        for ranked in &mut self.ranked {
            ranked.last = None;
            ranked.candidate.follow_device();
        }
        self.kernel.follow_device();
    }

    fn resume_jump(&mut self) {
        for ranked in &mut self.ranked {
            ranked.disrupt(Distrust::Disruption);
        }
    }

    fn along(&self) -> Option<&Sample> {
        self.along.as_ref()
    }

    fn passed_over(&self) -> Vec<PassedOver> {
        let before = match self.used {
            Some(used) => self.ranked.get(..used).unwrap_or(&self.ranked),
            None => &self.ranked,
        };
        before
            .iter()
            .filter_map(|ranked| ranked.passed_over.clone())
            .collect()
    }

    fn distrust(&mut self, cause: Distrust) -> Option<NoBound> {
        if matches!(cause, Distrust::Suspend | Distrust::Disruption) {
            for ranked in &mut self.ranked {
                ranked.disrupt(cause);
            }
        }
        self.kernel.distrust(cause)
    }

    fn forget(&mut self) {
        self.kernel.forget();
    }

    fn rough_time_ns(&self, counter: &impl Counter) -> i128 {
        self.kernel.rough_time_ns(counter)
    }

    fn suspended_ns(&self) -> i128 {
        self.kernel.suspended_ns()
    }
}

#[cfg(test)]
mod tests;
