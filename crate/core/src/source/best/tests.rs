use super::*;
use crate::counter::Counter;
use crate::source::half_width_ticks;

struct Ticks;

impl Counter for Ticks {
    fn id(&self) -> u8 {
        1
    }

    fn read(&self) -> u64 {
        0
    }
}

/// A kernel's clock whose samples the test sets.
struct Kernel {
    sample: Sample,
    distrusted: Option<Distrust>,
}

impl TimeSource for Kernel {
    fn resume(&mut self, _utc_sec: i128, _leap_indicator: u8) {}

    fn resume_distrust(&mut self, _no_bound: NoBound) {}

    fn sample(&mut self, _counter: &impl Counter, _known: &Known) -> Result<Option<Sample>, Error> {
        Ok(Some(self.sample))
    }

    fn distrust(&mut self, cause: Distrust) -> Option<NoBound> {
        self.distrusted = Some(cause);
        None
    }

    fn forget(&mut self) {}

    fn rough_time_ns(&self, _counter: &impl Counter) -> i128 {
        self.sample.realtime_ns
    }

    fn suspended_ns(&self) -> i128 {
        0
    }
}

/// A candidate that the test lets work or fail.
struct Other {
    kind: SourceKind,
    fault: Option<&'static str>,
    asked: usize,
    disrupted: usize,
}

impl Other {
    fn new(kind: SourceKind) -> Self {
        Self {
            kind,
            fault: None,
            asked: 0,
            disrupted: 0,
        }
    }
}

impl Candidate for Other {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    fn sample(&mut self, _counter: &dyn Counter, _scene: &Scene<'_>) -> Result<Fix, Error> {
        self.asked += 1;
        match self.fault {
            None => Ok(Fix {
                counter: 0,
                half_width_ticks: half_width_ticks(0, 0),
                utc_ns: 7,
                max_error_ns: 10,
                estimate_ns: None,
                is_synchronized: true,
                is_operators: false,
            }),
            Some(reason) => Err(Error::NoSource {
                source_name: "staged",
                path: None,
                reason: reason.to_owned(),
                remedy: "none",
                errno: (reason == "absent").then_some(libc::ENOENT),
            }),
        }
    }

    fn disrupt(&mut self, _cause: Distrust) {
        self.disrupted += 1;
    }
}

fn kernel_sample() -> Sample {
    Sample {
        source: SourceKind::Kernel,
        monotonic_ns: 0,
        suspended_ns: 0,
        counter: 0,
        half_width_ticks: 1,
        realtime_ns: 1,
        claim_ns: Some(1_000_000),
        estimate_ns: Some(500_000),
        no_bound: None,
        is_synchronized: true,
        is_operators: false,
        ceiling_ppb: 600_000,
        hidden_slew: HiddenSlew::default(),
        tai_minus_utc_sec: Some(37),
        tai_change_sec: 0,
        leap_indicator: abi::VMCLOCK_LEAP_NONE,
        is_in_leap_second: false,
        event: Event::Nothing,
        has_unexplained_change: false,
        is_free_at_other_rate: false,
    }
}

struct Staged(Best<Kernel, Other>);

impl Staged {
    fn new(from: From, kinds: &[SourceKind]) -> Self {
        let kernel = Kernel {
            sample: kernel_sample(),
            distrusted: None,
        };
        let others = kinds.iter().map(|kind| Other::new(*kind)).collect();
        Self(Best::new(kernel, others, from))
    }

    fn auto() -> Self {
        Self::new(From::Auto, &[SourceKind::ClockBound, SourceKind::Phc])
    }

    fn kernel(&mut self) -> &mut Sample {
        &mut self.0.kernel.sample
    }

    fn other(&mut self, rank: usize) -> &mut Other {
        &mut self.0.ranked.get_mut(rank).unwrap().candidate
    }

    fn try_sample(&mut self) -> Result<Sample, Error> {
        let sample = self.0.sample(&Ticks, &Known::default())?;
        Ok(sample.unwrap())
    }

    /// The source of a sample that is so much later.
    fn after(&mut self, ns: i128) -> SourceKind {
        self.kernel().monotonic_ns += ns;
        self.try_sample().unwrap().source
    }
}

#[test]
fn the_best_candidate_that_works_gives_the_first_time() {
    let mut staged = Staged::auto();
    let sample = staged.try_sample().unwrap();
    assert_eq!(sample.source, SourceKind::ClockBound);
    assert_eq!((sample.realtime_ns, sample.claim_ns), (7, Some(10)));
    assert_eq!(staged.0.along().unwrap().claim_ns, Some(1_000_000));
    assert_eq!(staged.other(1).asked, 0);
    let mut staged = Staged::auto();
    staged.other(0).fault = Some("absent");
    assert_eq!(staged.after(0), SourceKind::Phc);
    staged.other(1).fault = Some("absent");
    assert_eq!(staged.after(1), SourceKind::Kernel);
    assert!(staged.0.along().is_none());
}

#[test]
fn a_machine_without_candidates_takes_the_kernels_sample_as_it_is() {
    let mut staged = Staged::new(From::Auto, &[]);
    let sample = staged.try_sample().unwrap();
    assert_eq!(format!("{sample:?}"), format!("{:?}", kernel_sample()));
    assert!(staged.0.along().is_none() && staged.0.passed_over().is_empty());
}

#[test]
fn a_candidate_that_fails_is_left_at_once_for_the_next_best() {
    let mut staged = Staged::auto();
    assert_eq!(staged.after(0), SourceKind::ClockBound);
    staged.other(0).fault = Some("its daemon stopped");
    assert_eq!(staged.after(1), SourceKind::Phc);
    staged.other(1).fault = Some("EBUSY");
    assert_eq!(staged.after(1), SourceKind::Kernel);
    let reasons: Vec<_> = staged
        .0
        .passed_over()
        .into_iter()
        .map(|passed| (passed.kind, passed.code))
        .collect();
    let code = Some("ERR_VMCLOCK_NO_SOURCE");
    assert_eq!(
        reasons,
        [(SourceKind::ClockBound, code), (SourceKind::Phc, code)]
    );
}

#[test]
fn a_better_candidate_returns_after_10_s_without_a_failure() {
    let mut staged = Staged::auto();
    staged.other(1).fault = Some("absent");
    assert_eq!(staged.after(0), SourceKind::ClockBound);
    staged.other(0).fault = Some("its daemon stopped");
    assert_eq!(staged.after(1), SourceKind::Kernel);
    staged.other(0).fault = None;
    assert_eq!(staged.after(1), SourceKind::Kernel);
    let passed = staged.0.passed_over();
    assert_eq!(passed.len(), 1);
    assert!(passed.iter().all(|passed| passed.code.is_none()));
    assert_eq!(staged.after(HOLD_DOWN_NS - 1), SourceKind::Kernel);
    // One failure starts the time again.
    staged.other(0).fault = Some("its daemon stopped");
    assert_eq!(staged.after(1), SourceKind::Kernel);
    staged.other(0).fault = None;
    assert_eq!(staged.after(1), SourceKind::Kernel);
    assert_eq!(staged.after(HOLD_DOWN_NS - 1), SourceKind::Kernel);
    assert_eq!(staged.after(1), SourceKind::ClockBound);
    assert!(staged.0.passed_over().is_empty());
}

#[test]
fn a_candidate_is_taken_up_at_once_where_there_is_no_bound_otherwise() {
    let mut staged = Staged::auto();
    staged.other(1).fault = Some("absent");
    staged.other(0).fault = Some("its daemon stopped");
    assert_eq!(staged.after(0), SourceKind::Kernel);
    staged.kernel().claim_ns = None;
    staged.other(0).fault = None;
    assert_eq!(staged.after(1), SourceKind::ClockBound);
}

#[test]
fn a_chosen_source_that_fails_at_the_start_is_the_error_of_the_first_sample() {
    let mut staged = Staged::new(From::ClockBound, &[SourceKind::ClockBound]);
    staged.other(0).fault = Some("it is not synchronized");
    let error = staged.try_sample().unwrap_err();
    assert_eq!(error.code(), "ERR_VMCLOCK_NO_SOURCE");
    assert!(error.to_string().contains("it is not synchronized"));
    let error = Staged::new(From::Phc, &[]).try_sample().unwrap_err();
    assert_eq!(error.code(), "ERR_VMCLOCK_NO_SOURCE");
}

#[test]
fn a_chosen_source_that_fails_later_leaves_the_kernels_time_without_a_bound() {
    let mut staged = Staged::new(From::ClockBound, &[SourceKind::ClockBound]);
    assert_eq!(staged.after(0), SourceKind::ClockBound);
    staged.other(0).fault = Some("its daemon stopped");
    let sample = staged.try_sample().unwrap();
    assert_eq!((sample.source, sample.claim_ns), (SourceKind::Kernel, None));
    assert_eq!(sample.no_bound, Some(NoBound::SourceUnavailable));
    assert!(!sample.is_synchronized && sample.estimate_ns.is_none());
    // It has nothing to wait for: there is no bound otherwise.
    staged.other(0).fault = None;
    assert_eq!(staged.after(1), SourceKind::ClockBound);
}

#[test]
fn no_candidate_is_asked_while_a_leap_second_is_near() {
    let mut staged = Staged::auto();
    assert_eq!(staged.after(0), SourceKind::ClockBound);
    // 1 July 2026, at 00:59:59.
    staged.kernel().realtime_ns = (1_782_864_000 + 3599) * NS_PER_SEC;
    for indicator in [
        abi::VMCLOCK_LEAP_PRE_POS,
        abi::VMCLOCK_LEAP_POS,
        abi::VMCLOCK_LEAP_POST_POS,
        abi::VMCLOCK_LEAP_POST_NEG,
    ] {
        staged.kernel().leap_indicator = indicator;
        let asked = staged.other(0).asked;
        assert_eq!(staged.after(1), SourceKind::Kernel);
        assert_eq!(staged.other(0).asked, asked);
    }
    staged.kernel().realtime_ns += NS_PER_SEC;
    assert_eq!(staged.after(0), SourceKind::Kernel);
    assert_eq!(staged.after(HOLD_DOWN_NS), SourceKind::ClockBound);
}

#[test]
fn candidates_learn_of_suspends_and_disruptions_and_of_nothing_else() {
    let mut staged = Staged::auto();
    for (cause, count) in [
        (Distrust::Start, 0),
        (Distrust::TakeOver, 0),
        (Distrust::Disruption, 1),
        (Distrust::Suspend, 2),
    ] {
        staged.0.distrust(cause);
        assert_eq!(staged.0.kernel.distrusted, Some(cause));
        assert_eq!(staged.other(0).disrupted, count, "{cause}");
    }
    staged.kernel().event = Event::Disruption(Distrust::Disruption);
    staged.after(1);
    assert_eq!(
        (staged.other(0).disrupted, staged.other(1).disrupted),
        (3, 3)
    );
    assert_eq!(staged.try_sample().unwrap().event, staged.kernel().event);
}

#[test]
fn every_choice_has_a_name_that_gives_it_back() {
    for from in From::ALL {
        assert_eq!(From::from_name(from.name()), Some(from));
    }
    assert_eq!(From::from_name("ntp"), None);
}
