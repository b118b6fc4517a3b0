//! Publishes a page: its file, its lock and its thread.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

use super::lock::Lock;
use super::takeover::{Found, take_over};
use super::worker::{Command, Device, Published, Shared, Worker, locked};
use super::{Cause, Publication, PublishOptions, Shape};
use crate::counter::CpuCounter;
use crate::counter::clocksource::kernel_lists_tsc;
use crate::error::Error;
use crate::no_bound::NoBound;
use crate::page::PUBLISHED_PATH;
use crate::snapshot::{Maintenance, RawFields};
use crate::source::kernel::KernelSource;
use crate::source::kernel::clock::KernelClock;
use crate::source::kernel::leap_seconds::LeapSeconds;
use crate::source::kernel::step_alarm::StepAlarm;
use crate::writer::{PageHeader, PageLayout, PageWriter, directory_of, failed};

/// The longest wait for the counter's rate. A counter that advances shows it within 10 ms.
const FIRST_BASELINE_TIMEOUT: Duration = Duration::from_secs(2);

type KernelPublication = Publication<KernelSource<KernelClock>, CpuCounter>;

/// A page that a thread of its own keeps up to date, until it is closed.
///
/// Closing it marks the page unreliable and releases the lock; so do dropping it, and a failure of the thread.
/// The page itself stays. Readers that have it mapped see the mark, later readers get an error that gives the
/// reason, and the next publisher takes the page over in place. A caller that created a
/// directory for the page removes it.
///
/// In a forked child it publishes nothing and does nothing: the page remains the parent's. But the child shares
/// the parent's lock, which is free again when both have ended.
#[derive(Debug)]
pub struct Publisher {
    path: PathBuf,
    shared: Arc<Shared>,
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that the thread runs in. A forked child has this object and not the thread.
    process: u32,
}

impl Publisher {
    /// Publishes a page at `path`, and returns when the page shows its first time. That takes some 10 ms, to
    /// measure the counter's rate.
    ///
    /// A valid page at `path` is taken over in place, and its readers carry on. Its marker changes only if its
    /// time and the present disagree beyond their bounds, or if its last publisher died in the middle of an
    /// update. If there is none, a whole page is put there. The parent directory is created only for the default
    /// path.
    ///
    /// # Errors
    ///
    /// - [`Error::Busy`] while another live publisher holds the page
    /// - [`Error::Untrusted`] if the path is another user's file, or no regular file
    /// - [`Error::BadMagic`] if it is a file of another kind
    /// - [`Error::UntrustedCounter`], [`Error::InvalidArgument`], [`Error::NoDirectory`],
    ///   [`Error::WriteAccess`], [`Error::System`]
    pub fn create(path: &Path, options: PublishOptions) -> Result<Self, Error> {
        options.check()?;
        if options.shape == Shape::Time && !options.allow_untrusted_counter {
            require_trusted_counter()?;
        }
        if path == Path::new(PUBLISHED_PATH) {
            create_default_directory(path)?;
        }
        // Both before the first sample, so that no step and no migration is missed.
        let alarm = StepAlarm::new()?;
        let device = Device::open(path);
        let has_source = device.as_ref().is_some_and(Device::has_generation);
        let options = options.with_generation_source(has_source);
        let lock = Lock::take(path)?;
        let found = take_over(path)?;
        let mode = options.mode;
        let mut publication = Publication::new(
            KernelSource::new(KernelClock),
            CpuCounter,
            options,
            LeapSeconds::load(),
            found.as_ref().map(|found| found.fields),
        )?;
        if found.as_ref().is_some_and(|found| found.is_torn) {
            publication.step(Cause::Disrupt)?;
        }
        let fields = settle(&mut publication, &alarm)?;
        let mut writer = match found {
            Some(Found { writer, file, .. }) => {
                file.set_permissions(Permissions::from_mode(mode))
                    .map_err(|error| failed("fchmod", path, error))?;
                writer
            }
            None => {
                let layout = PageLayout {
                    mode,
                    ..PageLayout::default()
                };
                PageWriter::create(path, &layout, PageHeader::default(), &fields)?
            }
        };
        writer.publish(&fields, &publication.extension());
        let page = Published {
            writer,
            _lock: lock,
        };
        Self::start(path, page, publication, alarm, device)
    }

    fn start(
        path: &Path,
        page: Published,
        publication: KernelPublication,
        alarm: StepAlarm,
        mut device: Option<Device>,
    ) -> Result<Self, Error> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::system("eventfd", None, errno))?;
        let shared = Arc::new(Shared {
            wake,
            updates: AtomicU64::new(1),
            cpu_time_ns: AtomicU64::new(0),
            failure: Mutex::new(None),
            no_bound: Mutex::new(publication.no_bound()),
        });
        if let Some(device) = &mut device {
            device.arm(&shared);
        }
        let (commands, inbox) = channel();
        let worker = Worker {
            device,
            due_at: Instant::now() + publication.next_within(),
            leap_seconds_read: Instant::now(),
            shared: Arc::clone(&shared),
            page,
            publication,
            alarm,
            inbox,
        };
        let thread = std::thread::Builder::new()
            .name("vmclock-publish".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| Error::system("clone", None, error))?;
        Ok(Self {
            path: path.to_path_buf(),
            shared,
            commands,
            thread: Mutex::new(Some(thread)),
            process: std::process::id(),
        })
    }

    /// Changes the disruption marker, as a live migration does. Returns when the page shows it.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the publisher is closed or had to stop.
    pub fn disrupt(&self) -> Result<(), Error> {
        self.command(Cause::Disrupt)
    }

    /// Changes the generation counter, as a restore from a snapshot does. Returns when the page
    /// shows it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] on a page without one ([`PublishOptions::generation`]);
    /// [`Error::Stopped`].
    pub fn bump_generation(&self) -> Result<(), Error> {
        self.command(Cause::BumpGeneration)
    }

    /// Announces maintenance, or withdraws the announcement. Returns when the page shows it.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn set_maintenance(&self, maintenance: Maintenance) -> Result<(), Error> {
        self.command(Cause::Maintenance(maintenance))
    }

    /// Returns the page's path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how often the page has been written.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.shared.updates.load(Ordering::Relaxed)
    }

    /// Returns the CPU time that the publisher's thread has used until its last update, in nanoseconds.
    #[must_use]
    pub fn cpu_time_ns(&self) -> u64 {
        self.shared.cpu_time_ns.load(Ordering::Relaxed)
    }

    /// Returns why the thread had to stop; `None` while it publishes. A page whose thread stopped is marked
    /// unreliable.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        locked(&self.shared.failure).clone()
    }

    /// Returns why the page states no bound on its time, as of its last update; `None` if it states one, or has
    /// no time.
    #[must_use]
    pub fn no_bound(&self) -> Option<NoBound> {
        *locked(&self.shared.no_bound)
    }

    /// Marks the page unreliable, releases the lock and ends the thread. Closing again does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the publisher had already stopped by itself, with the reason.
    pub fn close(&self) -> Result<(), Error> {
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

    fn command(&self, cause: Cause) -> Result<(), Error> {
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

impl Drop for Publisher {
    fn drop(&mut self) {
        // Nobody is left to report an error to.
        let _ = self.close();
    }
}

/// Steps a publication until it shows a time, and returns its fields.
fn settle(publication: &mut KernelPublication, alarm: &StepAlarm) -> Result<RawFields, Error> {
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
        // The clock was set between two of these samples.
        fields = publication.step(Cause::ClockStep)?;
    }
}

fn create_default_directory(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o755).create(directory_of(path)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("mkdir", path, error)),
    }
}

fn require_trusted_counter() -> Result<(), Error> {
    let refuse = |reason: &'static str| {
        Err(Error::UntrustedCounter {
            reason,
            remedy: "publish a marker without time, or publish time all the same if you know that \
                     the counter is sound (--allow-untrusted-counter); otherwise the time can be \
                     wrong without notice",
        })
    };
    if !CpuCounter.facts().invariant {
        return refuse(
            "the CPU does not promise that its counter runs at one rate and never stops",
        );
    }
    if cfg!(target_arch = "x86_64") {
        match kernel_lists_tsc() {
            Some(true) => {}
            Some(false) => {
                return refuse(
                    "the kernel does not list `tsc` among its clock sources: it found the counter \
                     untrustworthy or was told not to use it",
                );
            }
            None => {
                return refuse(
                    "the kernel's list of clock sources cannot be read (is /sys mounted?), so \
                     whether it trusts the counter is unknown",
                );
            }
        }
    }
    Ok(())
}
