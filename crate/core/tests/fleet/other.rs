//! A source beside the kernel's clock of a simulated machine, which fails, returns, and may be wrong.

use vmclock::Error;
use vmclock::counter::Counter;
use vmclock::extension::{DeviceRecord, SourceKind};
use vmclock::no_bound::Distrust;
use vmclock::publish::From;
use vmclock::source::best::Best;
use vmclock::source::kernel::KernelSource;
use vmclock::source::kernel::clock::SystemClock;
use vmclock::source::{Candidate, Fix, Scene};

use crate::guest::Host;
use vmclock_testkit::virtual_machine::Random;

/// The sources of a maker.
pub(crate) type Source = Best<KernelSource<Host>, Other>;

/// A source like ClockBound's daemon: it knows the time to within its bound, and the device's marker.
pub(crate) struct Other {
    kind: SourceKind,
    host: Host,
    random: Random,
    is_failing: bool,
    /// The device as the daemon knows it. It follows late.
    device: DeviceRecord,
    /// Figures that are given again and again.
    old: Option<Fix>,
    is_lying: bool,
}

/// Returns the sources of a maker on a host. `is_lying` plants a source whose bound is too small.
pub(crate) fn sources(host: Host, seed: u64, has_others: bool, is_lying: bool) -> Source {
    let kernel = KernelSource::new(host.clone());
    let other = |kind, seed| Other {
        kind,
        host: host.clone(),
        random: Random::new(seed),
        is_failing: false,
        device: DeviceRecord::Unavailable,
        old: None,
        is_lying,
    };
    let others = if has_others {
        vec![
            other(SourceKind::ClockBound, seed),
            other(SourceKind::Phc, seed ^ 1),
        ]
    } else {
        Vec::new()
    };
    Best::new(kernel, others, From::Auto)
}

impl Other {
    fn refuse(&mut self, reason: &str) -> Error {
        self.old = None;
        Error::NoSource {
            source_name: "simulated",
            path: None,
            reason: reason.to_owned(),
            remedy: "none",
            errno: None,
        }
    }

    fn fresh(&mut self) -> Fix {
        // The kernel's clock may be slewed while it is read, by as much as its error changes.
        let system_error_ns = || {
            let machine = self.host.seat.machine();
            i128::from(machine.state.borrow().error_ns())
        };
        let before_ns = system_error_ns();
        let bracket = self.host.bracket(&self.host);
        let after_ns = system_error_ns();
        let slewed_ns = (after_ns - before_ns).unsigned_abs();
        let bound_ns = self.random.range(1_000, 2_000_000);
        let error_ns = self.random.range(-bound_ns, bound_ns);
        let claim_ns = u128::from(bound_ns.unsigned_abs()) / if self.is_lying { 2 } else { 1 };
        Fix {
            counter: bracket.counter.wrapping_add(bracket.width_ticks / 2),
            half_width_ticks: bracket.width_ticks / 2 + 1,
            utc_ns: bracket.realtime_ns - after_ns + i128::from(error_ns),
            max_error_ns: claim_ns + slewed_ns,
            estimate_ns: None,
            is_synchronized: true,
            is_operators: false,
        }
    }
}

impl Candidate for Other {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    fn sample(&mut self, _counter: &dyn Counter, scene: &Scene<'_>) -> Result<Fix, Error> {
        // It stays as it is for some 50 samples: often longer than the hold-down, and often not.
        if self.random.chance(50) {
            self.is_failing = !self.is_failing;
        }
        if self.is_failing {
            return Err(self.refuse("it fails"));
        }
        if scene.known.device != self.device {
            if self.random.chance(4) {
                self.device = scene.known.device;
            }
            return Err(self.refuse("its daemon has not followed the device"));
        }
        // Between two of its own updates it gives the same figures.
        if let Some(old) = self.old.filter(|_| !self.random.chance(3)) {
            return Ok(old);
        }
        let fix = self.fresh();
        self.old = Some(fix);
        Ok(fix)
    }

    fn disrupt(&mut self, _cause: Distrust) {
        self.old = None;
    }
}
