//! Chooses the page that a clock opens where the caller names none.
//!
//! The best page that the machine has now is, in this order:
//!
//! 1. the page that `$VMCLOCK_PATH` names, which ends the choice,
//! 2. the hypervisor's device, if it gives a time with a bound,
//! 3. a live publisher's page,
//! 4. a page that this process makes,
//! 5. if none can be made: the device's time without a bound, then a device without time, on which continuity
//!    works, then a published page without time or without a live publisher.
//!
//! An open clock never changes its page. Opening anew chooses anew.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::guard::GuardState;
use crate::clock::{Options, VmClock};
use crate::device;
use crate::error::Error;
use crate::extension::{DeviceRecord, DeviceState, SourceKind, StatedError};
use crate::page::{DEVICE_PATH, PUBLISHED_PATH, Page};
use crate::publish::{From, process_page, require_trusted_counter};

/// The age beyond which a published page has no live publisher. A publisher writes at least once a second, and
/// its lock cannot be read by others.
const LIVE_AGE: Duration = Duration::from_secs(3);

/// The pages that a caller lets [`open`] choose from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The page that the environment variable `VMCLOCK_PATH` names. The crate itself does not read the
    /// environment, because another thread may change that meanwhile.
    pub environment_path: Option<PathBuf>,
    /// The kinds of pages.
    pub source: Pages,
    /// The source of the time.
    pub from: From,
    /// The error of the host's clock in nanoseconds, as the caller states it for a page that this process makes.
    /// See [`crate::publish::PublishOptions::host_error_ns`].
    pub host_error_ns: Option<u64>,
    /// Make a page from a counter that CPUID does not call invariant, or that the kernel does not trust.
    pub allow_untrusted_counter: bool,
}

/// The kinds of pages to choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// Every kind.
    #[default]
    Auto,
    /// Pages that others write: the hypervisor or a publisher.
    Page,
    /// Only the page that this process makes.
    Process,
}

/// The kind of a page, by the way it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The hypervisor's page, which the driver's device shows.
    Device,
    /// A publisher's page at the default path.
    Published,
    /// The page that this process makes.
    Process,
    /// A page that the caller or the environment named.
    Path,
}

impl Kind {
    /// A short name that does not change.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Published => "published",
            Self::Process => "process",
            Self::Path => "path",
        }
    }
}

/// The origin of a page's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The hypervisor.
    Hypervisor,
    /// This machine's kernel.
    Kernel,
    /// A PTP hardware clock of this machine.
    Phc,
    /// ClockBound's memory on this machine.
    ClockBound,
    /// The page does not say.
    Unknown,
}

impl Origin {
    /// A short name that does not change.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hypervisor => "hypervisor",
            Self::Kernel => SourceKind::Kernel.name(),
            Self::Phc => SourceKind::Phc.name(),
            Self::ClockBound => SourceKind::ClockBound.name(),
            Self::Unknown => "unknown",
        }
    }
}

/// When a page's generation counter changes after the machine was restored or cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Before the machine runs again: it is the device's.
    Synchronous,
    /// Some time after the machine runs again: somebody on the machine changes it.
    Asynchronous,
}

impl Timing {
    /// A short name that does not change.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Synchronous => "synchronous",
            Self::Asynchronous => "asynchronous",
        }
    }
}

/// A part of a clock's promise that was not measured, and who answers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumption {
    /// The part.
    pub part: Part,
    /// The one who answers for it.
    pub by: By,
}

/// A part of a clock's promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The error of the time at the page's reference.
    TimeError,
    /// The error of the counter's rate.
    RateError,
    /// The counter's soundness.
    Counter,
    /// That the machine was not disrupted since the page was made.
    Guard,
}

impl Part {
    /// A short name that does not change.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TimeError => "time-error",
            Self::RateError => "rate-error",
            Self::Counter => "counter",
            Self::Guard => "guard",
        }
    }
}

/// The one who answers for an assumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The maker of the page, by a figure that it documents.
    Maker,
    /// The operator, by an option of the publisher.
    Operator,
    /// The caller, by an option of [`open`].
    Caller,
}

impl By {
    /// A short name that does not change.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Maker => "maker",
            Self::Operator => "operator",
            Self::Caller => "caller",
        }
    }
}

/// The source of a clock's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeSource {
    /// The kind of the page.
    pub kind: Kind,
    /// The page's path; `None` for the page of this process.
    pub path: Option<PathBuf>,
    /// The origin of the time.
    pub from: Origin,
    /// How the page is guarded: unavailable while the page or its guard cannot be read.
    pub guard: GuardState,
    /// When the page's generation counter changes; `None` if the page has none.
    pub generation: Option<Timing>,
    /// The assumed parts.
    pub assumed: Vec<Assumption>,
    /// CLOCK_REALTIME at which the page's maker began, in nanoseconds since 1970; `None` if the page does not
    /// say.
    pub began_ns: Option<i64>,
}

/// A clock, and how its page was found.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The clock.
    pub clock: VmClock,
    /// How its page was found.
    pub found: Found,
}

/// How a clock's page was found.
#[derive(Clone, Debug)]
pub struct Found {
    kind: Kind,
    /// The counter is not trusted, and the caller allows it.
    is_counter_assumed: bool,
}

impl Opened {
    fn new(clock: VmClock, kind: Kind) -> Self {
        let found = Found {
            kind,
            is_counter_assumed: false,
        };
        Self { clock, found }
    }

    /// Returns the source of the clock's time, as it is now.
    #[must_use]
    pub fn time_source(&mut self) -> TimeSource {
        self.found.time_source(&mut self.clock)
    }
}

impl Found {
    /// Returns the source of the time of `clock`, whose page was found so, as it is now.
    #[must_use]
    pub fn time_source(&self, clock: &mut VmClock) -> TimeSource {
        let snapshot = clock.snapshot().ok();
        let guard = clock
            .guard()
            .unwrap_or_else(|error| GuardState::Unavailable {
                reason: error.to_string(),
                remedy: error.remedy().unwrap_or_default().into_owned(),
            });
        let extension = snapshot.and_then(|snapshot| snapshot.extension);
        let from = match extension.map(|extension| extension.source) {
            _ if clock.memory().device_number().is_some() => Origin::Hypervisor,
            Some(SourceKind::Kernel) => Origin::Kernel,
            Some(SourceKind::Phc) => Origin::Phc,
            Some(SourceKind::ClockBound) => Origin::ClockBound,
            _ => Origin::Unknown,
        };
        let mut assumed = Vec::new();
        let mut assume = |part, by| assumed.push(Assumption { part, by });
        if extension.is_some_and(|extension| extension.stated_error == StatedError::Holds) {
            assume(Part::TimeError, By::Operator);
        }
        if extension.is_some_and(|extension| extension.has_host_error) {
            // In a page that this process makes, the caller is its operator.
            let by = if self.kind == Kind::Process {
                By::Caller
            } else {
                By::Operator
            };
            assume(Part::TimeError, by);
        }
        let options = clock.options();
        if options.assumed_error_ns.is_some()
            && snapshot.is_some_and(|snapshot| snapshot.may_assume_time_error())
        {
            assume(Part::TimeError, By::Caller);
        }
        if snapshot.is_some_and(|snapshot| snapshot.period_max_error().is_some()) {
            if !matches!(from, Origin::Hypervisor | Origin::Unknown) {
                assume(Part::RateError, By::Maker);
            }
        } else if options.assumed_drift_ppb.is_some() {
            assume(Part::RateError, By::Caller);
        }
        if self.is_counter_assumed {
            assume(Part::Counter, By::Caller);
        }
        if options.allow_unguarded && matches!(guard, GuardState::Unavailable { .. }) {
            assume(Part::Guard, By::Caller);
        }
        let began_ns = extension.map(|extension| extension.began_ns);
        let device = extension.map(|extension| extension.device);
        let shows_device = match guard {
            GuardState::Device => true,
            GuardState::Guarded { .. } => matches!(
                device,
                Some(DeviceRecord::Seen(DeviceState {
                    vm_generation: Some(_),
                    ..
                }))
            ),
            GuardState::None | GuardState::Unavailable { .. } => false,
        };
        let generation = snapshot
            .and_then(|snapshot| snapshot.vm_generation())
            .map(|_| match shows_device {
                true => Timing::Synchronous,
                false => Timing::Asynchronous,
            });
        TimeSource {
            kind: self.kind,
            path: clock.path().map(Path::to_path_buf),
            from,
            guard,
            generation,
            assumed,
            began_ns: began_ns.filter(|began_ns| *began_ns != 0),
        }
    }
}

/// Opens the page at `path`, and no other.
///
/// # Errors
///
/// Those of [`VmClock::open`].
pub fn open_path(path: &Path, options: &Options) -> Result<Opened, Error> {
    let clock = VmClock::open(path, options.clone())?;
    Ok(Opened::new(clock, Kind::Path))
}

/// Opens the best page that the machine has now.
///
/// A page is judged by what a reading under `options` says. The first page that this process makes takes some
/// 10 ms, to measure the counter's rate.
///
/// # Errors
///
/// Those of [`VmClock::open`] for a page that the environment names. [`Error::NotFound`] and the other errors of
/// [`VmClock::open`] if there is no page and none may be made; those of [`process_page`] if none can be made.
pub fn open(choice: &Choice, options: &Options) -> Result<Opened, Error> {
    open_in(&Machine::this(), choice, options)
}

/// The places of a machine where pages are, and what makes one.
struct Machine {
    devices: Vec<PathBuf>,
    published: PathBuf,
    /// [`process_page`].
    make: fn(bool, From, Option<u64>) -> Result<Page, Error>,
}

impl Machine {
    fn this() -> Self {
        Self {
            devices: device::candidates(),
            published: PUBLISHED_PATH.into(),
            make: process_page,
        }
    }
}

/// Pages that serve if no better one can be had, in the order of their rank.
#[derive(Default)]
struct Spares {
    device_with_time: Option<Opened>,
    device: Option<Opened>,
    published: Option<Opened>,
    /// The refusal of the first page that exists and could not be opened.
    refusal: Option<Error>,
}

fn open_in(machine: &Machine, choice: &Choice, options: &Options) -> Result<Opened, Error> {
    let by_others = choice.source != Pages::Process;
    let options = &Options {
        source: choice.from.kind(),
        ..options.clone()
    };
    if let Some(path) = choice.environment_path.as_ref().filter(|_| by_others) {
        return open_path(path, options);
    }
    let mut spares = Spares::default();
    if by_others {
        if choice.from == From::Auto
            && let Some(device) = bounded_device(&machine.devices, options, &mut spares)
        {
            return Ok(device);
        }
        if let Some(published) = live_page(&machine.published, choice.from, options, &mut spares) {
            return Ok(published);
        }
    }
    let unmade = if choice.source == Pages::Page {
        None
    } else {
        match open_process(machine, choice, options) {
            Ok(opened) => return Ok(opened),
            Err(error) => Some(error),
        }
    };
    let Spares {
        device_with_time,
        device,
        published,
        refusal,
    } = spares;
    let spare = device_with_time.or(device).or(published);
    spare.ok_or_else(|| {
        unmade
            .or(refusal)
            .unwrap_or_else(|| no_page(machine, choice.from))
    })
}

/// Returns the error for a machine without a page of others whose time comes from the wanted source.
fn no_page(machine: &Machine, from: From) -> Error {
    if from == From::Auto {
        return Error::NotFound {
            path: DEVICE_PATH.into(),
        };
    }
    Error::NoSource {
        source_name: from.name(),
        path: Some(machine.published.clone()),
        reason: "no page is published here".to_owned(),
        remedy: "publish one with that source (`vmclock publish --from`), or let this process make one \
                 (`source: 'auto'`, --source auto)",
        errno: Some(libc::ENOENT),
    }
}

/// Returns the first device that gives a time with a bound.
fn bounded_device(devices: &[PathBuf], options: &Options, spares: &mut Spares) -> Option<Opened> {
    for path in devices {
        let mut clock = match VmClock::open(path, options.clone()) {
            Ok(clock) => clock,
            Err(error) => {
                spares.refusal.get_or_insert(error);
                continue;
            }
        };
        let reading = clock.read();
        let opened = Opened::new(clock, Kind::Device);
        match reading {
            Ok(reading) if reading.max_error_ns.is_some() => return Some(opened),
            Ok(_) => spares.device_with_time.get_or_insert(opened),
            Err(_) => spares.device.get_or_insert(opened),
        };
    }
    None
}

/// Returns the published page, if its publisher is alive and its time is of the wanted origin.
fn live_page(path: &Path, from: From, options: &Options, spares: &mut Spares) -> Option<Opened> {
    let clock = match VmClock::open(path, options.clone()) {
        Ok(clock) => clock,
        Err(Error::NotFound { .. }) => return None,
        Err(error) => {
            spares.refusal.get_or_insert(error);
            return None;
        }
    };
    let is_live = is_live(&clock, options);
    if let Some(other) = other_source(&clock, from) {
        spares.refusal.get_or_insert(Error::NoSource {
            source_name: from.name(),
            path: Some(path.to_path_buf()),
            reason: format!("the time of this page comes from {other}"),
            remedy: "publish with that source (`vmclock publish --from`), or choose another one",
            errno: None,
        });
        return None;
    }
    let opened = Opened::new(clock, Kind::Published);
    if is_live {
        return Some(opened);
    }
    if from == From::Auto {
        spares.published = Some(opened);
    }
    None
}

/// Returns whether a page has a usable time that is kept up to date, whatever its age and error may be at most.
/// The page of this process would be no better in those.
fn is_live(clock: &VmClock, options: &Options) -> bool {
    let options = Options {
        max_age: Some(LIVE_AGE),
        error_limit_ns: None,
        ..options.clone()
    };
    let limit_ns = i64::try_from(LIVE_AGE.as_nanos()).unwrap_or(i64::MAX);
    let reading = VmClock::open_page(Arc::clone(clock.memory()), options).read();
    // A page of another publisher has no extension, so its age is not limited by the option.
    reading.is_ok_and(|reading| reading.age_ns <= limit_ns)
}

/// Returns the name of the source of a page's time, if the caller chose another one.
fn other_source(clock: &VmClock, from: From) -> Option<&'static str> {
    let wanted = from.kind()?;
    let snapshot = clock.clone().snapshot().ok()?;
    let found = snapshot
        .extension
        .map_or(SourceKind::Unknown, |extension| extension.source);
    (found != wanted).then(|| found.name())
}

fn open_process(machine: &Machine, choice: &Choice, options: &Options) -> Result<Opened, Error> {
    let page = (machine.make)(
        choice.allow_untrusted_counter,
        choice.from,
        choice.host_error_ns,
    )?;
    let clock = VmClock::open_page(Arc::new(page), options.clone());
    let mut opened = Opened::new(clock, Kind::Process);
    opened.found.is_counter_assumed =
        choice.allow_untrusted_counter && require_trusted_counter().is_err();
    Ok(opened)
}

/// Returns the remedy for a page without time on this machine: the page that has time, or how to make one.
#[must_use]
pub fn no_time_remedy() -> String {
    no_time_remedy_in(Path::new(PUBLISHED_PATH), require_trusted_counter())
}

fn no_time_remedy_in(published: &Path, trust: Result<(), Error>) -> String {
    let options = Options::default();
    let is_published = live_page(published, From::Auto, &options, &mut Spares::default());
    if is_published.is_some() {
        return format!(
            "open the page that is published here and has time: {}",
            published.display()
        );
    }
    let remedy = match trust {
        Ok(()) => "open a clock without a path, which makes a page with time in this process",
        Err(_) => {
            "use continuity and watching, which work on this page; or open a clock without a path and with \
             allowUntrustedCounter, if you know that the counter is sound"
        }
    };
    remedy.to_owned()
}

/// Lists the pages that exist on this machine: the one that the environment names, the driver's devices in order,
/// and the publisher's page.
#[must_use]
pub fn list(environment_path: Option<PathBuf>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = environment_path.into_iter().collect();
    found.extend(device::paths());
    found.push(PUBLISHED_PATH.into());
    let mut seen = HashSet::new();
    found.retain(|path| path.exists() && seen.insert(path.clone()));
    found
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::abi;
    use crate::extension::Extension;
    use crate::machine;
    use crate::publish::{PublishOptions, Publisher, Shape};
    use crate::snapshot::RawFields;
    use crate::writer::{PageHeader, PageLayout, PageWriter, blank};

    const AUTO: Choice = Choice {
        environment_path: None,
        source: Pages::Auto,
        from: From::Auto,
        host_error_ns: None,
        allow_untrusted_counter: true,
    };
    const MADE_ELSEWHERE: u128 = 1;

    /// A machine whose pages are files.
    struct Staged {
        directory: TempDir,
        machine: Machine,
    }

    impl Staged {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let machine = Machine {
                devices: Vec::new(),
                published: directory.path().join("page"),
                make: process_page,
            };
            Self { directory, machine }
        }

        /// A machine on which no page can be made.
        fn without_making() -> Self {
            let mut staged = Self::new();
            staged.machine.make = |_, _, _| {
                Err(Error::UntrustedCounter {
                    reason: "staged",
                    remedy: "none",
                })
            };
            staged
        }

        /// Adds a device with this content.
        fn device(mut self, fields: RawFields) -> Self {
            let number = self.machine.devices.len();
            let path = self.directory.path().join(format!("vmclock{number}"));
            write(&path, &fields, None);
            self.machine.devices.push(path);
            self
        }

        /// Publishes a page with this content, as the kernel's time of this boot.
        fn published(self, fields: RawFields) -> Self {
            self.published_in(fields, machine::boot_id().unwrap())
        }

        fn published_in(self, fields: RawFields, boot_id: u128) -> Self {
            let extension = Extension {
                boot_id,
                device: DeviceRecord::None,
                source: SourceKind::Kernel,
                began_ns: 5,
                ..Extension::default()
            };
            write(&self.machine.published, &fields, Some(&extension));
            self
        }

        fn open(&self, choice: &Choice) -> Result<Opened, Error> {
            open_in(&self.machine, choice, &Options::default())
        }

        fn kind(&self, choice: &Choice) -> Kind {
            self.open(choice).unwrap().time_source().kind
        }

        fn path(&self, choice: &Choice) -> String {
            let opened = self.open(choice).unwrap();
            let name = opened.clock.path().unwrap().file_name().unwrap();
            name.to_str().unwrap().to_owned()
        }
    }

    fn write(path: &Path, fields: &RawFields, extension: Option<&Extension>) {
        let (layout, header) = (PageLayout::default(), PageHeader::default());
        let mut writer = PageWriter::create(path, &layout, header, fields).unwrap();
        if let Some(extension) = extension {
            writer.publish(fields, extension);
        }
    }

    fn marker_only() -> RawFields {
        blank()
    }

    /// The kernel's time now, as a publisher publishes it, with a stated bound.
    fn bounded() -> RawFields {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let options = PublishOptions {
            max_error_ns: Some(1_000_000),
            allow_untrusted_counter: true,
            shape: Shape::Time,
            ..PublishOptions::default()
        };
        let _publisher = Publisher::create(&path, options).unwrap();
        VmClock::open(&path, Options::default())
            .unwrap()
            .snapshot()
            .unwrap()
            .raw
    }

    fn boundless() -> RawFields {
        let mut fields = bounded();
        fields.flags &= !abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID;
        fields
    }

    fn unreliable() -> RawFields {
        RawFields {
            clock_status: abi::VMCLOCK_STATUS_UNRELIABLE,
            ..bounded()
        }
    }

    /// A page that was right some seconds ago, and was not updated since.
    fn aged(seconds: u64) -> RawFields {
        let mut fields = bounded();
        let shift = u32::from(fields.counter_period_shift);
        let ticks =
            (u128::from(seconds) << (64 + shift)) / u128::from(fields.counter_period_frac_sec);
        fields.counter_value -= u64::try_from(ticks).unwrap();
        fields.time_sec -= seconds;
        fields
    }

    #[test]
    fn the_environments_page_ends_the_choice_even_if_it_does_not_open() {
        let staged = Staged::new().device(bounded()).published(bounded());
        let named = staged.directory.path().join("named");
        let choice = Choice {
            environment_path: Some(named.clone()),
            ..AUTO
        };
        assert!(matches!(
            staged.open(&choice),
            Err(Error::NotFound { path }) if path == named
        ));
        write(&named, &marker_only(), None);
        for source in [Pages::Auto, Pages::Page] {
            let choice = Choice {
                source,
                ..choice.clone()
            };
            assert_eq!(
                (staged.kind(&choice), staged.path(&choice).as_str()),
                (Kind::Path, "named")
            );
        }
        // A caller who wants a page of its own process gets it.
        let source = Pages::Process;
        assert_eq!(staged.kind(&Choice { source, ..choice }), Kind::Process);
    }

    #[test]
    fn the_first_device_with_a_bound_goes_before_all_others() {
        let staged = Staged::new()
            .device(marker_only())
            .device(bounded())
            .device(bounded())
            .published(bounded());
        assert_eq!(staged.kind(&AUTO), Kind::Device);
        assert_eq!(staged.path(&AUTO), "vmclock1");
    }

    #[test]
    fn a_live_publisher_goes_before_devices_without_a_bound() {
        let staged = Staged::new().device(marker_only()).device(boundless());
        assert_eq!(staged.kind(&AUTO), Kind::Process);
        assert_eq!(staged.published(boundless()).kind(&AUTO), Kind::Published);
    }

    #[test]
    fn only_a_live_publisher_of_this_boot_is_taken() {
        for fields in [marker_only(), unreliable(), aged(4)] {
            assert_eq!(Staged::new().published(fields).kind(&AUTO), Kind::Process);
        }
        assert_eq!(
            Staged::new().published(aged(2)).kind(&AUTO),
            Kind::Published
        );
        let elsewhere = Staged::new().published_in(bounded(), MADE_ELSEWHERE);
        assert_eq!(elsewhere.kind(&AUTO), Kind::Process);
        // A page of another program has no extension.
        let other = Staged::new();
        write(&other.machine.published, &aged(4), None);
        assert_eq!(other.kind(&AUTO), Kind::Process);
        write(&other.machine.published, &bounded(), None);
        assert_eq!(other.kind(&AUTO), Kind::Published);
    }

    #[test]
    fn limits_of_age_and_error_do_not_turn_a_live_publisher_down() {
        let staged = Staged::new().published(boundless());
        let options = Options {
            error_limit_ns: Some(1),
            max_age: Some(Duration::from_nanos(1)),
            ..Options::default()
        };
        let mut opened = open_in(&staged.machine, &AUTO, &options).unwrap();
        assert_eq!(opened.time_source().kind, Kind::Published);
        let refused = opened.clock.now_ns().unwrap_err().code();
        assert!(["ERR_VMCLOCK_STALE", "ERR_VMCLOCK_TOO_UNCERTAIN"].contains(&refused));
    }

    #[test]
    fn what_cannot_be_made_is_replaced_by_the_best_page_there_is() {
        let staged = Staged::without_making().published(unreliable());
        assert_eq!(staged.kind(&AUTO), Kind::Published);
        let staged = staged.device(marker_only());
        assert_eq!(staged.path(&AUTO), "vmclock0");
        let staged = staged.device(boundless());
        assert_eq!(staged.path(&AUTO), "vmclock1");
        let refused = Staged::without_making().open(&AUTO).unwrap_err();
        assert_eq!(refused.code(), "ERR_VMCLOCK_UNTRUSTED_COUNTER");
    }

    #[test]
    fn the_caller_chooses_the_kind_of_the_page_and_the_origin_of_the_time() {
        let page = Choice {
            source: Pages::Page,
            ..AUTO
        };
        let process = Choice {
            source: Pages::Process,
            ..AUTO
        };
        let kernel = Choice {
            from: From::Kernel,
            ..AUTO
        };
        let refused = Staged::new().open(&page).unwrap_err();
        assert_eq!(refused.code(), "ERR_VMCLOCK_NOT_FOUND");
        let staged = Staged::new().device(bounded());
        assert_eq!(staged.kind(&page), Kind::Device);
        assert_eq!(staged.kind(&process), Kind::Process);
        assert_eq!(staged.kind(&kernel), Kind::Process);
        let staged = staged.published(bounded());
        assert_eq!(staged.kind(&process), Kind::Process);
        assert_eq!(staged.kind(&kernel), Kind::Published);
        // The page does not say that its time is the kernel's.
        write(&staged.machine.published, &bounded(), None);
        assert_eq!(staged.kind(&kernel), Kind::Process);
        let refused = staged
            .open(&Choice {
                source: Pages::Page,
                ..kernel
            })
            .unwrap_err();
        assert_eq!(refused.code(), "ERR_VMCLOCK_NO_SOURCE");
    }

    #[test]
    fn a_chosen_source_that_a_publisher_leaves_later_gives_no_bound() {
        let staged = Staged::new().published(bounded());
        let fields = bounded();
        let of = |source| Extension {
            boot_id: machine::boot_id().unwrap(),
            device: DeviceRecord::None,
            source,
            began_ns: 5,
            ..Extension::default()
        };
        let (layout, header) = (PageLayout::default(), PageHeader::default());
        let mut writer =
            PageWriter::create(&staged.machine.published, &layout, header, &fields).unwrap();
        writer.publish(&fields, &of(SourceKind::ClockBound));
        let choice = Choice {
            from: From::ClockBound,
            ..AUTO
        };
        let mut opened = staged.open(&choice).unwrap();
        assert_eq!(opened.time_source().kind, Kind::Published);
        // The publisher's own choice is auto: its daemon stopped.
        writer.publish(&fields, &of(SourceKind::Kernel));
        let reading = opened.clock.read();
        assert!(
            reading
                .as_ref()
                .is_ok_and(|reading| reading.max_error_ns.is_none()),
            "{reading:?}"
        );
    }

    #[test]
    fn a_page_that_the_environment_names_has_a_bound_of_the_chosen_source_only() {
        let staged = Staged::new().published(bounded());
        let bound_of = |from| {
            let mut opened = staged
                .open(&Choice {
                    environment_path: Some(staged.machine.published.clone()),
                    from,
                    ..AUTO
                })
                .unwrap();
            opened.clock.read().unwrap().max_error_ns
        };
        assert!(bound_of(From::Auto).is_some());
        assert!(bound_of(From::Kernel).is_some());
        assert_eq!(bound_of(From::Phc), None);
    }

    #[test]
    fn a_page_of_another_source_than_the_chosen_one_is_told() {
        let staged = Staged::new().published(bounded());
        let choice = Choice {
            source: Pages::Page,
            from: From::Phc,
            ..AUTO
        };
        let refused = staged.open(&choice).unwrap_err();
        assert!(
            refused.to_string().contains("kernel"),
            "{} {:?} {refused}",
            refused.code(),
            refused.remedy()
        );
    }

    #[test]
    fn a_machine_without_a_page_of_the_chosen_source_names_that_source() {
        for from in [From::Kernel, From::Phc, From::ClockBound] {
            let choice = Choice {
                source: Pages::Page,
                from,
                ..AUTO
            };
            let refused = Staged::new().open(&choice).unwrap_err();
            let seen = (refused.code(), refused.errno());
            assert_eq!(seen, ("ERR_VMCLOCK_NO_SOURCE", Some(libc::ENOENT)));
            assert!(refused.to_string().contains(from.name()), "{refused}");
        }
    }

    #[test]
    fn a_device_that_cannot_be_opened_is_the_reason_if_no_other_page_is_there() {
        let mut staged = Staged::new();
        let path = staged.directory.path().join("vmclock0");
        std::fs::write(&path, [7; 4096]).unwrap();
        staged.machine.devices.push(path);
        let page = Choice {
            source: Pages::Page,
            ..AUTO
        };
        assert_eq!(
            staged.open(&page).unwrap_err().code(),
            "ERR_VMCLOCK_BAD_MAGIC"
        );
        assert_eq!(staged.kind(&AUTO), Kind::Process);
        let unmade = Staged::without_making().machine.make;
        staged.machine.make = unmade;
        let refused = staged.open(&AUTO).unwrap_err();
        assert_eq!(refused.code(), "ERR_VMCLOCK_UNTRUSTED_COUNTER");
    }

    #[test]
    fn the_source_says_who_calibrates_and_who_answers() {
        let maker = Assumption {
            part: Part::RateError,
            by: By::Maker,
        };
        let caller = Assumption {
            part: Part::RateError,
            by: By::Caller,
        };
        let staged = Staged::new().published(bounded());
        let published = staged.open(&AUTO).unwrap().time_source();
        let expected = TimeSource {
            kind: Kind::Published,
            path: Some(staged.machine.published.clone()),
            from: Origin::Kernel,
            guard: published.guard.clone(),
            generation: None,
            assumed: vec![maker],
            began_ns: Some(5),
        };
        assert_eq!(published, expected);
        let mut fields = bounded();
        fields.flags &= !abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID;
        let path = staged.directory.path().join("named");
        write(&path, &fields, None);
        let options = Options {
            assumed_drift_ppb: Some(1),
            ..Options::default()
        };
        let named = open_path(&path, &options).unwrap().time_source();
        assert_eq!(
            (named.kind, named.from, named.assumed),
            (Kind::Path, Origin::Unknown, vec![caller])
        );
        assert_eq!(named.began_ns, None);
        let process = Choice {
            source: Pages::Process,
            ..AUTO
        };
        let process = staged.open(&process).unwrap().time_source();
        assert_eq!((process.kind, process.path), (Kind::Process, None));
    }

    #[test]
    fn the_remedy_for_no_time_names_the_page_that_has_time_or_how_to_make_one() {
        let staged = Staged::new().published(bounded());
        let published = &staged.machine.published;
        let remedy = no_time_remedy_in(published, Ok(()));
        assert!(remedy.contains(published.to_str().unwrap()), "{remedy}");
        write(published, &unreliable(), None);
        assert!(no_time_remedy_in(published, Ok(())).contains("makes a page"));
        let untrusted = Error::invalid_argument("staged");
        assert!(no_time_remedy_in(published, Err(untrusted)).contains("continuity"));
    }
}
