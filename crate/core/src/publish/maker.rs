//! Makes a page: what samples and looks, and the thread that goes on with it. It knows no file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

use super::device::Device;
use super::shared::{Shared, locked};
use super::takeover::OldPage;
use super::trusted_counter::require_trusted_counter;
use super::worker::{Command, Published, Worker};
use super::{Cause, Publication, PublishOptions, Shape};
use crate::counter::CpuCounter;
use crate::device::Unavailable;
use crate::error::Error;
use crate::extension::{Extension, SourceKind};
use crate::machine::vmgenid;
use crate::no_bound::NoBound;
use crate::snapshot::RawFields;
use crate::source::PassedOver;
use crate::source::best::{Best, MachineSource, candidates};
use crate::source::kernel::KernelSource;
use crate::source::kernel::clock::KernelClock;
use crate::source::kernel::leap_seconds::LeapSeconds;
use crate::source::kernel::step_alarm::StepAlarm;

/// The longest wait for the counter's rate. A counter that advances shows it within 10 ms.
const FIRST_BASELINE_TIMEOUT: Duration = Duration::from_secs(2);

/// A page in the making: its publication, and what wakes it. Its file or memory is chosen later.
pub(super) struct Maker {
    publication: Publication<MachineSource, CpuCounter, Device>,
    alarm: StepAlarm,
    unavailable: Option<Unavailable>,
    uevents: Option<vmgenid::Listener>,
}

impl Maker {
    /// Prepares a page. Nothing is sampled yet.
    ///
    /// `published` is the path of the page's file, if it has one, and `old` a page that is to go on.
    pub(super) fn new(
        published: Option<&Path>,
        options: PublishOptions,
        old: Option<OldPage>,
    ) -> Result<Self, Error> {
        check(&options)?;
        // Before the first sample, so that no step is missed.
        let alarm = StepAlarm::new()?;
        let device = Device::find(published);
        let unavailable = device.unavailable().cloned();
        let from = options.used_from();
        let host_error_ns = options.host_error_ns;
        let kernel = KernelSource::new(KernelClock).with_host_error(host_error_ns);
        let source = Best::new(kernel, candidates(from, host_error_ns), from);
        let publication = Publication::new(
            source,
            CpuCounter,
            device,
            options,
            LeapSeconds::load(),
            old,
        )?;
        Ok(Self {
            publication,
            alarm,
            unavailable,
            uevents: None,
        })
    }

    /// Has the page follow the kernel's VMGENID uevents, where this process looks at no device. Call it before the
    /// first sample, so that no restore is missed.
    ///
    /// A sandbox may forbid netlink. Then the kernel tells nothing, as on a machine without VMGENID.
    pub(super) fn hear_restores(&mut self) {
        let is_needed = !matches!(self.publication.device(), Device::Open(_));
        if is_needed && vmgenid::is_present() {
            self.uevents = vmgenid::Listener::open().ok();
        }
    }

    /// Steps the page until it shows a time, and returns its fields.
    pub(super) fn settle(&mut self) -> Result<RawFields, Error> {
        let Self {
            publication, alarm, ..
        } = self;
        let began = Instant::now();
        let mut fields = publication.step(Cause::Interval)?;
        loop {
            while !publication.is_settled() {
                if began.elapsed() > FIRST_BASELINE_TIMEOUT {
                    return Err(Error::UntrustedCounter {
                        reason: "the CPU's counter does not advance with the system's clocks, so \
                                 no time can be published from it",
                        remedy: "publish a marker without time",
                    });
                }
                std::thread::sleep(publication.next_within());
                fields = publication.step(Cause::Interval)?;
            }
            if !alarm.went_off() {
                return Ok(fields);
            }
            // The clock was stepped between two of these samples.
            fields = publication.step(Cause::ClockStep)?;
        }
    }

    /// Returns the extension that belongs to the fields of the last step.
    pub(super) fn extension(&self) -> Extension {
        self.publication.extension()
    }

    /// Starts the thread that keeps the page up to date. The page shows the fields of the last step.
    pub(super) fn start(self, page: Published) -> Result<Making, Error> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::system("eventfd", None, errno))?;
        let path = page.path().to_path_buf();
        let shared = Arc::new(Shared {
            wake,
            updates: AtomicU64::new(1),
            cpu_time_ns: AtomicU64::new(0),
            failure: Mutex::new(None),
            report: Mutex::new(self.publication.report()),
        });
        let (commands, inbox) = channel();
        let options = self.publication.options();
        // Clocks of this process answer for the counter each for itself, and share the page.
        let is_answered_for = options.allow_untrusted_counter && page.is_in_file();
        let must_stay_trusted =
            options.shape == Shape::Time && !is_answered_for && require_trusted_counter().is_ok();
        let worker = Worker {
            _device_alarm: self.publication.device().alarm(&shared),
            due_at: Instant::now() + self.publication.next_within(),
            leap_seconds_read: Instant::now(),
            must_stay_trusted,
            shared: Arc::clone(&shared),
            page,
            publication: self.publication,
            alarm: self.alarm,
            uevents: self.uevents,
            inbox,
        };
        let thread = std::thread::Builder::new()
            .name("vmclock-publish".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| Error::system("clone", None, error))?;
        Ok(Making {
            path,
            unavailable: self.unavailable,
            shared,
            commands,
            thread: Mutex::new(Some(thread)),
            process: std::process::id(),
        })
    }
}

/// A page whose thread runs. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Making {
    /// The page's path as it was given; a name if the page lies in memory.
    path: PathBuf,
    unavailable: Option<Unavailable>,
    shared: Arc<Shared>,
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that the thread runs in. A forked child has this object and not the thread.
    process: u32,
}

impl Making {
    /// Returns the page's path as it was given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns why this process cannot look at the machine's device; `None` if it can, or if there is none.
    pub(super) fn unavailable(&self) -> Option<&Unavailable> {
        self.unavailable.as_ref()
    }

    /// Returns how often the page has been written.
    pub(super) fn updates(&self) -> u64 {
        self.shared.updates.load(Ordering::Relaxed)
    }

    /// Returns the CPU time that the thread has used until its last update, in nanoseconds.
    pub(super) fn cpu_time_ns(&self) -> u64 {
        self.shared.cpu_time_ns.load(Ordering::Relaxed)
    }

    /// Returns why the thread had to stop; `None` while it runs.
    pub(super) fn failure(&self) -> Option<String> {
        locked(&self.shared.failure).clone()
    }

    /// Returns why the page states no bound, as of its last update.
    pub(super) fn no_bound(&self) -> Option<NoBound> {
        locked(&self.shared.report).no_bound
    }

    /// Returns the source of the time, as of the last update.
    pub(super) fn source(&self) -> SourceKind {
        locked(&self.shared.report).source
    }

    /// Returns the better sources that the time does not come from, and why, as of the last update.
    pub(super) fn passed_over(&self) -> Vec<PassedOver> {
        locked(&self.shared.report).passed_over.clone()
    }

    /// Ends the page and the thread. Ending it again does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the thread had already stopped by itself, with the reason.
    pub(super) fn close(&self) -> Result<(), Error> {
        let mut thread = locked(&self.thread);
        let Some(thread) = thread.take() else {
            return Ok(());
        };
        if self.is_forked() {
            // This process does not have the thread.
            std::mem::forget(thread);
            return Err(self.stopped());
        }
        let result = self.command(Cause::Close);
        // The worker does not panic. If it did, its drop has marked the page.
        let _ = thread.join();
        result
    }

    /// Has the thread bring the page up to date for a reason, and returns when the page shows it.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`], and the errors of [`Publication::step`] that are the caller's mistake.
    pub(super) fn command(&self, cause: Cause) -> Result<(), Error> {
        if self.is_forked() {
            return Err(self.stopped());
        }
        let (done, answer) = sync_channel(1);
        self.commands
            .send(Command { cause, done })
            .map_err(|_| self.stopped())?;
        // This fails only after 2^64 wake-ups that the thread has not taken: it is awake then.
        self.shared.wake();
        answer.recv().map_err(|_| self.stopped())?
    }

    /// Returns whether this is a forked child's copy, which publishes nothing.
    fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    fn stopped(&self) -> Error {
        let reason = if self.is_forked() {
            "it belongs to the process that this one was forked from".to_owned()
        } else {
            self.failure().unwrap_or_else(|| "it was closed".to_owned())
        };
        Error::Stopped {
            path: self.path.clone(),
            reason,
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Nobody is left to report an error to.
        let _ = self.close();
    }
}

/// Refuses options out of their range, and a counter that no time can be made from.
pub(super) fn check(options: &PublishOptions) -> Result<(), Error> {
    options.check()?;
    if options.shape == Shape::Time && !options.allow_untrusted_counter {
        require_trusted_counter()?;
    }
    Ok(())
}
