//! Facts about this machine for the doctor.

use std::path::Path;

use napi::bindgen_prelude::{BigInt, Either};
use napi_derive::napi;
use vmclock::counter::{CpuCounter, ReadCost, read_cost};
use vmclock::machine::{hypervisor, supervisor, terminal, udev};
use vmclock::source::clockbound;
use vmclock::source::kernel::clock::{KernelClock, SystemClock};

use crate::failure::{Outcome, outcome};
use crate::page::own;

/// The cost of reading the counter.
#[napi(object, object_from_js = false)]
pub struct CounterCost {
    /// Nanoseconds for each read in the median batch.
    pub median_ns: f64,
    /// Nanoseconds for each read in the fastest batch.
    pub least_ns: f64,
    /// True if even the fastest batch took longer than `trappedAboveNs`, as trapped reads do.
    pub trapped: bool,
    pub trapped_above_ns: f64,
}

/// How the kernel's clock is disciplined, from `adjtimex`.
#[napi(object, object_from_js = false)]
pub struct NativeDiscipline {
    pub unsynchronized: bool,
    // Both are at most about 2^31 microseconds, so a double holds them exactly.
    pub max_error_us: f64,
    pub est_error_us: f64,
    /// TAI - CLOCK_REALTIME; 0 if the kernel was not given it.
    pub tai_minus_utc_sec: i32,
}

/// ClockBound's shared memory.
#[napi(object, object_from_js = false)]
pub struct NativeClockBound {
    pub path: String,
    /// The figures, or else `fault` and `remedy`.
    pub figures: Either<NativeClockBoundFigures, ()>,
    pub fault: Either<String, ()>,
    pub remedy: Either<&'static str, ()>,
}

/// The figures of ClockBound's daemon.
#[napi(object, object_from_js = false)]
pub struct NativeClockBoundFigures {
    pub version: u8,
    /// `unknown`, `synchronized`, `free-running` or `disrupted`.
    pub status: &'static str,
    pub bound_ns: BigInt,
    pub disruption_marker: Either<BigInt, ()>,
}

/// Reads ClockBound's memory below a root; undefined if there is none.
#[napi]
pub fn examine_clock_bound(root: String) -> Either<NativeClockBound, ()> {
    let directory = clockbound::directory();
    let below_root = directory.strip_prefix("/").unwrap_or(directory);
    let Some(examined) = clockbound::examine(&Path::new(&root).join(below_root)) else {
        return Either::B(());
    };
    let (figures, fault, remedy) = match examined.content {
        Ok(figures) => (Some(figures), None, None),
        Err((fault, remedy)) => (None, Some(fault), Some(remedy)),
    };
    Either::A(NativeClockBound {
        path: examined.path.to_string_lossy().into_owned(),
        figures: own(figures.map(|figures| NativeClockBoundFigures {
            version: figures.version,
            status: figures.status,
            bound_ns: BigInt::from(figures.bound_ns),
            disruption_marker: own(figures.disruption_marker.map(BigInt::from)),
        })),
        fault: own(fault),
        remedy: own(remedy),
    })
}

/// The udev rules, and the path of the file that they belong in.
#[napi(object, object_from_js = false)]
pub struct UdevRules {
    pub path: String,
    pub text: String,
}

#[napi]
pub fn hypervisor_signature() -> Option<String> {
    hypervisor::signature()
}

#[napi]
pub fn counter_cost() -> CounterCost {
    let cost = read_cost(&CpuCounter);
    CounterCost {
        median_ns: cost.median_ns,
        least_ns: cost.least_ns,
        trapped: cost.is_trapped(),
        trapped_above_ns: ReadCost::TRAPPED_NS,
    }
}

#[napi]
pub fn system_discipline() -> Outcome<NativeDiscipline> {
    outcome(KernelClock.discipline().map(|discipline| NativeDiscipline {
        unsynchronized: discipline.unsynchronized,
        max_error_us: discipline.maxerror_us as f64,
        est_error_us: discipline.esterror_us as f64,
        tai_minus_utc_sec: discipline.tai_minus_utc_sec,
    }))
}

#[napi]
pub fn notify_supervisor(socket: String, state: String) -> Outcome<()> {
    outcome(supervisor::notify(&socket, &state))
}

#[napi]
pub fn ignore_terminal_stops() -> Outcome<()> {
    outcome(terminal::ignore_terminal_stops())
}

#[napi]
pub fn udev_rules() -> UdevRules {
    UdevRules {
        path: udev::RULES_PATH.to_owned(),
        text: udev::RULES.to_owned(),
    }
}
