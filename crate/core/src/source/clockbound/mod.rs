//! ClockBound's shared memory as a source of time.
//!
//! ClockBound's daemon writes two files, and the first that serves is used. The file `shm1` (version 3) gives the time
//! at a value of the CPU's counter, the counter's period and the bound. The file `shm0` (version 2) gives the bound of
//! CLOCK_REALTIME.
//!
//! A figure is believed as the daemon's own clients believe it, or less:
//!
//! - The daemon's disruption marker must be the device's. If the daemon looks at no device, the machine must have
//!   none.
//! - Past `void_after` there is no bound. Once `as_of` is 60 s old, or 5 s in version 2, the time is free-running.
//! - The daemon does not notice a suspend. So on a machine that was suspended since its boot there is no bound.
//! - After a jump of the counter that the device does not report, there is no bound under the daemon's present marker.
//! - A file outside of a filesystem in memory may be of an earlier boot: some machines and containers keep /run. It counts
//!   once its content has changed before this process's eyes. No time of the file says more, because the clock may have
//!   been wrong when the machine booted.
//! - In a time namespace whose clocks are shifted there is no bound: neither the age of version 2's figures nor a
//!   suspend can be known.
//! - The counter's period must agree with the one that is measured here.
//! - In version 2 the bound is that of CLOCK_REALTIME while only its daemon adjusts it. So there is none while the
//!   kernel's trust rule distrusts the clock, other than for a disruption: the marker answers for that.

mod segment;

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use segment::{CounterAsOf, Fault, Segment, Status};

use super::kernel::clock::{RealtimeBracket, monotonic_ns};
use super::{Candidate, Event, Fix, Known, SUSPENDED_NOISE_NS, Sample, Scene, half_width_ticks};
use crate::counter::Counter;
use crate::error::Error;
use crate::extension::{DeviceRecord, SourceKind};
use crate::machine::time_namespace;
use crate::no_bound::{Distrust, NoBound};
use crate::open;
use crate::page::check_trust;
use crate::time::period;
use crate::time::{NS_PER_SEC, fixed};

/// The directory of the daemon's files. `/var/run` is a link to `/run`.
const DIRECTORY: &str = "/run/clockbound";
/// The files, the better first.
const FILES: [&str; 2] = ["shm1", "shm0"];
/// A file that did not exist is looked for again after so long.
const ABSENT_NS: i128 = 10 * NS_PER_SEC;
/// Version 3: older figures are free-running.
const FRESH_NS_V3: i128 = 60 * NS_PER_SEC;
/// Version 2: older figures are free-running. Its own client says 5 s, and that of version 3 says 60 s.
const FRESH_NS_V2: i128 = 5 * NS_PER_SEC;
/// The client of version 2 takes CLOCK_MONOTONIC_COARSE to be so far behind itself at most.
const CAUSALITY_NS: i128 = 1000;
/// The daemon and its clients compute in floating point, whose results differ by less.
const ROUNDING_NS: u128 = 2;

const NAME: &str = "ClockBound";

/// ClockBound's shared memory.
#[derive(Debug)]
pub struct ClockBound {
    files: Vec<Memory>,
    void: Void,
    /// CLOCK_MONOTONIC at the sample that showed the last step of CLOCK_REALTIME.
    stepped_ns: Option<i128>,
}

/// The content of the daemon's memory, without a judgement of what depends on the device and the clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The file: the better one that can be read, else the better one that exists.
    pub path: PathBuf,
    /// The daemon's figures, or the fault and the remedy.
    pub content: Result<Figures, (String, &'static str)>,
}

/// The daemon's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The version of the memory: 2 or 3.
    pub version: u8,
    /// `unknown`, `synchronized`, `free-running` or `disrupted`.
    pub status: &'static str,
    /// The bound when it was written, in nanoseconds.
    pub bound_ns: u128,
    /// The disruption marker that the daemon knows of; `None` if it looks at no device.
    pub disruption_marker: Option<u64>,
}

/// Reads the daemon's memory in a directory. `None` if there is none.
#[must_use]
pub fn examine(directory: &Path) -> Option<Examined> {
    let mut found: Option<Examined> = None;
    for mut file in ClockBound::at(directory).files {
        let content = match file.read(0) {
            Ok(segment) => Ok(Figures::from(&segment)),
            Err(refusal) if refusal.is_absent() => continue,
            Err(refusal) => Err((refusal.reason, refusal.remedy)),
        };
        let is_first = found.is_none();
        let replaces_fault = found.as_ref().is_some_and(|one| one.content.is_err());
        if is_first || replaces_fault && content.is_ok() {
            let path = file.path;
            found = Some(Examined { path, content });
        }
    }
    found
}

/// Returns the directory of the daemon's memory.
#[must_use]
pub fn directory() -> &'static Path {
    Path::new(DIRECTORY)
}

impl From<&Segment> for Figures {
    fn from(segment: &Segment) -> Self {
        Self {
            version: if segment.counter.is_some() { 3 } else { 2 },
            status: match segment.status {
                Status::Unknown => "unknown",
                Status::Synchronized => "synchronized",
                Status::FreeRunning => "free-running",
                Status::Disrupted => "disrupted",
            },
            bound_ns: segment.bound_ns,
            disruption_marker: segment.marker,
        }
    }
}

/// One of the daemon's files.
#[derive(Debug)]
struct Memory {
    path: PathBuf,
    /// The last content, for a moment in which the daemon updates it.
    last: Option<Segment>,
    /// CLOCK_MONOTONIC until which the file is not looked for.
    absent_until_ns: Option<i128>,
    /// The first content of a file that may be of an earlier boot.
    early: Option<Segment>,
    /// The file is of this boot.
    is_of_this_boot: bool,
}

/// The marker under which the daemon is not believed.
#[derive(Clone, Copy, Debug, Default)]
struct Void {
    /// The device's marker when the counter jumped and the device did not report it; the inner `None` without a device.
    jumped: Option<Option<u64>>,
    /// The counter jumped since the last sample.
    is_pending: bool,
    /// The device's marker at the last sample.
    device: Option<Option<u64>>,
}

impl Void {
    /// Takes note of the device at a sample.
    fn look(&mut self, device: DeviceRecord) {
        let marker = match device {
            DeviceRecord::Seen(device) => Some(device.disruption_marker),
            DeviceRecord::None | DeviceRecord::Unavailable => None,
        };
        if std::mem::take(&mut self.is_pending) {
            self.jumped = Some(marker);
        }
        self.device = Some(marker);
    }

    /// Takes note that the device reports a disruption. A jump that was noticed before came under its marker before.
    fn follow_device(&mut self) {
        if std::mem::take(&mut self.is_pending) {
            self.jumped = self.device;
        }
    }
}

impl Default for ClockBound {
    fn default() -> Self {
        Self::at(Path::new(DIRECTORY))
    }
}

impl ClockBound {
    /// Makes a source of the files in a directory. Nothing is opened yet.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        let files = FILES.map(|name| Memory {
            path: directory.join(name),
            last: None,
            absent_until_ns: None,
            early: None,
            is_of_this_boot: false,
        });
        Self {
            files: files.into(),
            void: Void::default(),
            stepped_ns: None,
        }
    }
}

impl Candidate for ClockBound {
    fn kind(&self) -> SourceKind {
        SourceKind::ClockBound
    }

    fn sample(&mut self, counter: &dyn Counter, scene: &Scene<'_>) -> Result<Fix, Error> {
        let mut refusal: Option<Refusal> = None;
        self.void.look(scene.known.device);
        if scene.kernel.event != Event::Nothing {
            self.stepped_ns = Some(scene.kernel.monotonic_ns);
        }
        for file in &mut self.files {
            let found = file.read(scene.kernel.monotonic_ns);
            let result = found.and_then(|segment| {
                file.check_boot(&segment)
                    .and_then(|()| check_step(&segment, self.stepped_ns))
                    .and_then(|()| fix(&segment, counter, scene, &self.void))
                    .map_err(|fault| Refusal::new(&file.path, fault, WAIT))
            });
            match result {
                Ok(fix) => return Ok(fix),
                // A file that exists says more than one that does not.
                Err(other) if refusal.as_ref().is_none_or(Refusal::is_absent) => {
                    refusal = Some(other);
                }
                Err(_) => {}
            }
        }
        Err(refusal.map_or_else(|| absent(Path::new(DIRECTORY)).into(), Error::from))
    }

    fn disrupt(&mut self, _cause: Distrust) {
        self.void.is_pending = true;
    }

    fn follow_device(&mut self) {
        self.void.follow_device();
    }
}

const WAIT: &str = "wait until its daemon is synchronized; see `cbctl status`, or the daemon's log";
const WRONG: &str = "check which program writes it: ClockBound 2.0.3 and 3.0.0-rc.0 are known";

/// The reason for which a file gives no time.
#[derive(Debug)]
struct Refusal {
    path: PathBuf,
    reason: String,
    remedy: &'static str,
    errno: Option<Errno>,
}

impl Refusal {
    fn new(path: &Path, reason: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            path: path.to_path_buf(),
            reason: reason.into(),
            remedy,
            errno: None,
        }
    }

    fn is_absent(&self) -> bool {
        self.errno == Some(Errno::NOENT)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::NoSource {
            source_name: NAME,
            path: Some(refusal.path),
            reason: refusal.reason,
            remedy: refusal.remedy,
            errno: refusal.errno.map(Errno::raw_os_error),
        }
    }
}

fn absent(path: &Path) -> Refusal {
    Refusal {
        errno: Some(Errno::NOENT),
        ..Refusal::new(
            path,
            "there is no such file",
            "start its daemon (`systemctl start clockbound`), or choose another source",
        )
    }
}

impl Memory {
    /// Reads the file. It is opened each time: a daemon that starts again may put another file in its place.
    fn read(&mut self, now_ns: i128) -> Result<Segment, Refusal> {
        if self.absent_until_ns.is_some_and(|until| now_ns < until) {
            return Err(absent(&self.path));
        }
        self.absent_until_ns = None;
        let file = open(&self.path).inspect_err(|refusal| {
            if refusal.is_absent() {
                self.absent_until_ns = Some(now_ns + ABSENT_NS);
            }
            self.last = None;
            self.early = None;
            self.is_of_this_boot = false;
        })?;
        self.is_of_this_boot |= is_in_memory(&file);
        match segment::read(&file) {
            Ok(segment) => {
                self.last = Some(segment);
                Ok(segment)
            }
            // As the clients do. The figures age meanwhile.
            Err(Fault::Torn) if self.last.is_some() => self.last.ok_or_else(|| absent(&self.path)),
            Err(fault) => {
                self.last = None;
                Err(refused(&self.path, fault))
            }
        }
    }

    /// Refuses a file that may be of an earlier boot. Its counter and its CLOCK_MONOTONIC would be other ones.
    fn check_boot(&mut self, segment: &Segment) -> Result<(), &'static str> {
        if !self.is_of_this_boot {
            self.is_of_this_boot = *self.early.get_or_insert(*segment) != *segment;
        }
        if self.is_of_this_boot {
            return Ok(());
        }
        Err(
            "it may be of an earlier boot, and its daemon has not changed it since this process looks",
        )
    }
}

/// Returns whether a file lies on a filesystem that does not outlive a boot: `tmpfs` or `ramfs`
/// (`include/uapi/linux/magic.h`).
fn is_in_memory(file: &impl std::os::fd::AsFd) -> bool {
    const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    rustix::fs::fstatfs(file)
        .is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|magic| IN_MEMORY.contains(&magic)))
}

fn open(path: &Path) -> Result<std::os::fd::OwnedFd, Refusal> {
    let check = |stat: &Stat| {
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            check_trust(path, stat, &[])
        } else {
            Err(Error::invalid_argument("this is no regular file"))
        }
    };
    let refusal = |errno: Errno| Error::system("open", Some(path), errno);
    let (file, _) = open::for_reading(path, check, refusal).map_err(|error| match error {
        Error::System { source, .. } if source.raw_os_error() == Some(2) => absent(path),
        Error::Untrusted { reason, .. } | Error::InvalidArgument { reason, .. } => {
            Refusal::new(path, reason, "run its daemon as root, which its unit does")
        }
        Error::System { ref source, .. } => Refusal {
            errno: source.raw_os_error().map(Errno::from_raw_os_error),
            ..Refusal::new(
                path,
                error.to_string(),
                "let this process read the file, and enter its directory",
            )
        },
        other => Refusal::new(path, other.to_string(), WRONG),
    })?;
    Ok(file)
}

fn refused(path: &Path, fault: Fault) -> Refusal {
    let wrong = |reason: String| Refusal::new(path, reason, WRONG);
    match fault {
        Fault::Short => wrong("its size is not that of its version".to_owned()),
        Fault::Magic => wrong("this is no memory of ClockBound".to_owned()),
        Fault::Version(1) => Refusal::new(
            path,
            "it has version 1, which cannot tell a disruption",
            "update ClockBound to version 2.0 or later",
        ),
        Fault::Version(found) => wrong(format!(
            "it has version 0x{found:04x}, and this release reads 0x0002 and 0x0303"
        )),
        Fault::Empty => Refusal::new(path, "its daemon has not written it yet", WAIT),
        Fault::Torn => Refusal::new(path, "its daemon does not end an update of it", WAIT),
        Fault::Field(name) => wrong(format!("its {name} cannot be true")),
        Fault::Refused(errno) => Refusal {
            errno: Some(errno),
            ..wrong(format!("it cannot be read: {errno}"))
        },
    }
}

/// Returns the time of a segment now, or why it gives none.
fn fix(
    segment: &Segment,
    counter: &dyn Counter,
    scene: &Scene<'_>,
    void: &Void,
) -> Result<Fix, &'static str> {
    check_disruptions(segment, scene, void)?;
    match segment.status {
        Status::Unknown => return Err("its daemon says that the clock's status is unknown"),
        Status::Disrupted => return Err("its daemon says that the clock was disrupted"),
        Status::Synchronized | Status::FreeRunning => {}
    }
    match &segment.counter {
        Some(as_of) => {
            check_period(as_of, segment.max_drift_ppb, scene.known)?;
            fix_v3(segment, as_of, counter.read(), scene.known.step_ticks)
        }
        None => {
            check_kernel(scene.kernel)?;
            // After the segment, as the client does: its bound holds for the clock as it is from then on.
            let bracket = RealtimeBracket::narrowest(&counter);
            fix_v2(segment, &bracket, monotonic_ns(), scene.known.step_ticks)
        }
    }
}

/// Refuses figures of version 2 that are of before a step of CLOCK_REALTIME. They are of that clock.
fn check_step(segment: &Segment, stepped_ns: Option<i128>) -> Result<(), &'static str> {
    let is_before = stepped_ns.is_some_and(|stepped_ns| segment.as_of_ns <= stepped_ns);
    if segment.counter.is_none() && is_before {
        return Err("the kernel's clock was stepped after its daemon measured it");
    }
    Ok(())
}

/// Refuses figures that may be of before a disruption.
fn check_disruptions(
    segment: &Segment,
    scene: &Scene<'_>,
    void: &Void,
) -> Result<(), &'static str> {
    if time_namespace::may_shift_clocks() {
        return Err("this process is in a time namespace, whose clocks are not its daemon's");
    }
    if scene.kernel.suspended_ns > SUSPENDED_NOISE_NS {
        return Err("the machine was suspended since its boot, which its daemon does not notice");
    }
    if void.jumped == Some(segment.marker) {
        return Err("the machine was disrupted, and its daemon's marker has not changed");
    }
    match (segment.marker, scene.known.device) {
        (Some(marker), DeviceRecord::Seen(device)) if marker == device.disruption_marker => Ok(()),
        (Some(_), DeviceRecord::Seen(_)) => {
            Err("the machine was disrupted, and its daemon has not followed yet")
        }
        (None, DeviceRecord::None) => Ok(()),
        (None, _) => Err("its daemon does not look at the machine's vmclock device"),
        (Some(_), _) => {
            Err("its daemon looks at a vmclock device, and this process cannot look at it")
        }
    }
}

/// Refuses a period that is not the one of this machine's counter.
fn check_period(
    as_of: &CounterAsOf,
    max_drift_ppb: u32,
    known: &Known,
) -> Result<(), &'static str> {
    // Some seconds to half a minute.
    const TICKS: u32 = 36;
    // At the first sample there is none. The second follows before a time is shown.
    let Some(period) = &known.period else {
        return Ok(());
    };
    let here_ns = period.ticks_ns(1 << TICKS);
    let there_ns = fixed::growth_ns(1 << TICKS, as_of.period, as_of.period_shift);
    let error_ppb = known.period_error_ppb + as_of.error_of(1_000_000_000) + 1;
    let allowed_ns = period::share(here_ns, error_ppb + u128::from(max_drift_ppb)) + 1;
    if here_ns.abs_diff(there_ns) > allowed_ns {
        return Err("its counter's period is not that of this machine's counter");
    }
    Ok(())
}

/// Refuses CLOCK_REALTIME while others than its daemon may have changed it.
fn check_kernel(kernel: &Sample) -> Result<(), &'static str> {
    if kernel.has_unexplained_change {
        return Err("another process than the time daemon changed the kernel's clock");
    }
    match kernel.no_bound {
        None
        | Some(
            NoBound::NeverUpdated
            | NoBound::Distrusted {
                cause:
                    Distrust::Start | Distrust::Disruption | Distrust::TakeOver | Distrust::ZeroError,
                ..
            },
        ) => Ok(()),
        Some(_) => Err("the kernel's clock is not synchronized, or adjusted faster than 500 ppm"),
    }
}

/// Returns the time of version 3 at a value of the counter.
fn fix_v3(
    segment: &Segment,
    as_of: &CounterAsOf,
    counter: u64,
    step_ticks: u64,
) -> Result<Fix, &'static str> {
    let ticks = fixed::distance_ticks(counter, as_of.counter);
    let Ok(ticks) = u64::try_from(ticks) else {
        return Err("its counter is ahead of this machine's");
    };
    let elapsed = fixed::elapsed_frac(ticks.cast_signed(), as_of.period, as_of.period_shift);
    let elapsed_ns = fixed::time_ns(0, 0, elapsed);
    let now_ns = segment.as_of_ns + elapsed_ns;
    let age_ns = elapsed_ns.unsigned_abs() + 1;
    check_void(segment, now_ns)?;
    let growth_ns = period::share(age_ns, segment.max_drift_ppb.into()) + as_of.error_of(age_ns);
    Ok(Fix {
        counter,
        half_width_ticks: half_width_ticks(0, step_ticks),
        utc_ns: now_ns,
        max_error_ns: segment.bound_ns + growth_ns + ROUNDING_NS,
        estimate_ns: None,
        is_synchronized: segment.is_synchronized_at(now_ns, FRESH_NS_V3),
        is_operators: false,
    })
}

/// Returns the time of version 2, which is CLOCK_REALTIME.
fn fix_v2(
    segment: &Segment,
    realtime: &RealtimeBracket,
    monotonic_ns: i128,
    step_ticks: u64,
) -> Result<Fix, &'static str> {
    let age_ns = monotonic_ns - segment.as_of_ns;
    if age_ns < -CAUSALITY_NS {
        return Err("its figures are of the future");
    }
    check_void(segment, monotonic_ns)?;
    let age_ns = age_ns.max(0).unsigned_abs();
    let growth_ns = period::share(age_ns, segment.max_drift_ppb.into());
    Ok(Fix {
        counter: realtime.counter.wrapping_add(realtime.width_ticks / 2),
        half_width_ticks: half_width_ticks(realtime.width_ticks, step_ticks),
        utc_ns: realtime.realtime_ns,
        max_error_ns: segment.bound_ns + growth_ns + ROUNDING_NS,
        estimate_ns: None,
        is_synchronized: segment.is_synchronized_at(monotonic_ns, FRESH_NS_V2),
        is_operators: false,
    })
}

fn check_void(segment: &Segment, now_ns: i128) -> Result<(), &'static str> {
    if now_ns >= segment.void_after_ns {
        return Err("its daemon has not updated it for too long");
    }
    Ok(())
}

impl Segment {
    /// Returns whether the daemon keeps the clock near UTC at a time of the segment's own timescale.
    fn is_synchronized_at(&self, now_ns: i128, fresh_ns: i128) -> bool {
        self.status == Status::Synchronized && now_ns < self.as_of_ns + fresh_ns
    }
}

impl CounterAsOf {
    /// Returns the error of a quantity that the period's relative error makes, rounded up.
    fn error_of(&self, quantity: u128) -> u128 {
        // The error is below 2^64, and a quantity of 2^64 nanoseconds is 584 years.
        let quantity = quantity.min(u64::MAX.into());
        let product = quantity * u128::from(self.error);
        (product >> 64 >> self.error_shift) + 1
    }
}

#[cfg(test)]
mod tests;
