//! The file, the lock and the thread.

use std::fs::{DirBuilder, File, Permissions};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::lock::Lock;
use super::{Cause, Maintenance, Publication, PublishOptions, Shape};
use crate::abi::{SIZE_FULL, VMCLOCK_MAGIC, VMCLOCK_STATUS_UNRELIABLE, VMCLOCK_VERSION};
use crate::clock::{Continuity, Options, VmClock};
use crate::counter::CpuCounter;
use crate::error::Error;
use crate::page::{DEVICE_PATH, PUBLISHED_PATH};
use crate::snapshot::RawFields;
use crate::system_clock::{KernelClock, LeapSeconds, StepAlarm, kernel_lists_tsc};
use crate::writer::{PageHeader, PageLayout, PageWriter, failed, folder_of};

/// How often tzdata's list is read again: a package update may have replaced it.
const LEAP_SECONDS_AGE: Duration = Duration::from_secs(6 * 3600);

/// A page that is kept up to date by a thread of its own, until closed.
///
/// Closing it (or dropping it, or the thread's own failure) marks the page unreliable and gives
/// up the lock. The page itself stays: readers have it mapped and are told, readers to come get a
/// typed refusal that says why, and the next publisher takes it over in place, so that both carry
/// on. Who made a folder for it removes that with it.
#[derive(Debug)]
pub struct Publisher {
    path: PathBuf,
    shared: Arc<Shared>,
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    wake: OwnedFd,
    updates: AtomicU64,
    cpu_time_ns: AtomicU64,
    failure: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Command {
    cause: Cause,
    done: SyncSender<Result<(), Error>>,
}

impl Publisher {
    /// Publishes a page at `path` and returns when its first truthful state stands: some 10 ms
    /// later, for a first look at the counter's rate.
    ///
    /// Where a valid page stands, it is taken over in place and its readers carry on; its marker
    /// changes only if its time and the present disagree beyond their bounds, or if its last
    /// publisher died in the middle of an update. Where none does, one is put there whole. The
    /// parent folder is created only if the path is the default one.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while another live publisher holds the page, [`Error::UntrustedCounter`],
    /// [`Error::InvalidArgument`], [`Error::NoFolder`], [`Error::WriteAccess`],
    /// [`Error::Untrusted`] where the path is somebody else's file or no regular one,
    /// [`Error::BadMagic`] where it is a file of another kind, [`Error::System`].
    pub fn create(path: &Path, options: PublishOptions) -> Result<Self, Error> {
        options.check()?;
        if options.shape == Shape::Time && !options.accept_counter {
            require_trusted_counter()?;
        }
        if path == Path::new(PUBLISHED_PATH) {
            create_default_folder(path)?;
        }
        // Armed before the first sample, so that no step goes unseen.
        let alarm = StepAlarm::new()?;
        let lock = Lock::take(path)?;
        let found = take_over(path)?;
        let mode = options.mode;
        let previous = found.as_ref().map(|found| found.fields);
        let mut publication = Publication::new(
            KernelClock,
            CpuCounter,
            options,
            LeapSeconds::load(),
            previous,
        )?;
        if found.as_ref().is_some_and(|found| found.torn) {
            publication.step(Cause::Disrupt)?;
        }
        let mut fields = publication.step(Cause::Interval)?;
        while !publication.is_settled() {
            std::thread::sleep(publication.next_within());
            fields = publication.step(Cause::Interval)?;
        }
        let writer = match found {
            Some(Found {
                mut writer, file, ..
            }) => {
                file.set_permissions(Permissions::from_mode(mode))
                    .map_err(|error| failed("fchmod", path, error))?;
                writer.update(|page| *page = fields);
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
        let page = Published {
            writer,
            _lock: lock,
        };
        Self::start(path, page, publication, alarm)
    }

    fn start(
        path: &Path,
        page: Published,
        publication: Publication<KernelClock, CpuCounter>,
        alarm: StepAlarm,
    ) -> Result<Self, Error> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::system("eventfd", None, errno))?;
        let shared = Arc::new(Shared {
            wake,
            updates: AtomicU64::new(1),
            cpu_time_ns: AtomicU64::new(0),
            failure: Mutex::new(None),
        });
        let (commands, inbox) = channel();
        let worker = Worker {
            device: Device::open(path),
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
        })
    }

    /// Changes the disruption marker, as a live migration does. Returns when the page shows it.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] once the publisher is closed or had to stop.
    pub fn disrupt(&self) -> Result<(), Error> {
        self.command(Cause::Disrupt)
    }

    /// Changes the generation counter, as a restore from a snapshot does. Returns when the page
    /// shows it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] on a page of [`Shape::Marker`], which has none;
    /// [`Error::Stopped`].
    pub fn bump_generation(&self) -> Result<(), Error> {
        self.command(Cause::BumpGeneration)
    }

    /// Announces maintenance, or calls it off. Returns when the page shows it.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn set_maintenance(&self, maintenance: Maintenance) -> Result<(), Error> {
        self.command(Cause::Maintenance(maintenance))
    }

    /// The page's path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How often the page has been written.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.shared.updates.load(Ordering::Relaxed)
    }

    /// The CPU time that the publisher's thread has used, in nanoseconds, as of its last update.
    #[must_use]
    pub fn cpu_time_ns(&self) -> u64 {
        self.shared.cpu_time_ns.load(Ordering::Relaxed)
    }

    /// Why the thread had to stop, if it had to; the page is then marked unreliable.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.shared.failure).clone()
    }

    /// Marks the page unreliable, gives up the lock and ends the thread. Again: does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the publisher had already stopped by itself, with the reason.
    pub fn close(&self) -> Result<(), Error> {
        let mut thread = lock(&self.thread);
        let Some(thread) = thread.take() else {
            return Ok(());
        };
        let result = self.command(Cause::Close);
        // The worker does not panic; if it did, its page has still been marked by its drop.
        let _ = thread.join();
        result
    }

    fn command(&self, cause: Cause) -> Result<(), Error> {
        let (done, answer) = sync_channel(1);
        let stopped = || Error::Stopped {
            path: self.path.clone(),
            reason: self.failure().unwrap_or_else(|| "it was closed".to_owned()),
        };
        self.commands
            .send(Command { cause, done })
            .map_err(|_| stopped())?;
        // Full only after 2^64 wake-ups that nobody took: the thread is awake then.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        answer.recv().map_err(|_| stopped())?
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.close();
    }
}

/// A page that this publisher holds: marked unreliable when it is dropped, whatever the reason,
/// and the lock is given up after that.
#[derive(Debug)]
struct Published {
    writer: PageWriter,
    _lock: Lock,
}

impl Drop for Published {
    fn drop(&mut self) {
        self.writer
            .update(|fields| fields.clock_status = VMCLOCK_STATUS_UNRELIABLE);
    }
}

/// What the publisher's thread owns.
struct Worker {
    // Dropped in this order: the page is marked and unlocked before anybody waiting is let go.
    page: Published,
    inbox: Receiver<Command>,
    publication: Publication<KernelClock, CpuCounter>,
    alarm: StepAlarm,
    device: Option<Device>,
    leap_seconds_read: Instant,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(mut self) {
        let closing = match self.publish() {
            Ok(closing) => closing,
            Err(error) => {
                *lock(&self.shared.failure) = Some(error.to_string());
                None
            }
        };
        drop(self);
        if let Some(done) = closing {
            let _ = done.send(Ok(()));
        }
    }

    /// Publishes until told to close, and returns whom to tell.
    fn publish(&mut self) -> Result<Option<SyncSender<Result<(), Error>>>, Error> {
        loop {
            let deadline = Instant::now() + self.publication.next_within();
            let mut due = self.wait(deadline)?;
            if self.alarm.went_off() {
                self.update(Cause::ClockStep)?;
                due = false;
            }
            if let Some(device) = &mut self.device {
                let (disrupted, cloned) = device.changed();
                if disrupted {
                    self.update(Cause::Migrated)?;
                }
                if cloned && self.publication.has_generation() {
                    self.update(Cause::BumpGeneration)?;
                }
            }
            while let Ok(Command { cause, done }) = self.inbox.try_recv() {
                if cause == Cause::Close {
                    return Ok(Some(done));
                }
                match self.update(cause) {
                    // The caller's mistake, not this thread's.
                    Err(error @ Error::InvalidArgument(_)) => {
                        let _ = done.send(Err(error));
                    }
                    result => {
                        result?;
                        due = false;
                        let _ = done.send(Ok(()));
                    }
                }
            }
            if due {
                if self.leap_seconds_read.elapsed() > LEAP_SECONDS_AGE {
                    self.leap_seconds_read = Instant::now();
                    self.publication.set_leap_seconds(LeapSeconds::load());
                }
                self.update(Cause::Interval)?;
            }
        }
    }

    /// Waits for the deadline, a step of the clock or a command; true at the deadline.
    fn wait(&self, deadline: Instant) -> Result<bool, Error> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut sources = [
                PollFd::new(&self.alarm, PollFlags::IN),
                PollFd::new(&self.shared.wake, PollFlags::IN),
            ];
            match rustix::event::poll(&mut sources, Some(&timeout)) {
                Ok(0) => return Ok(true),
                Ok(_) => {
                    let mut wakes = [0_u8; 8];
                    // Empty if it was the alarm.
                    let _ = rustix::io::read(self.shared.wake.as_fd(), &mut wakes);
                    return Ok(false);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system("poll", None, errno)),
            }
        }
    }

    fn update(&mut self, cause: Cause) -> Result<(), Error> {
        let fields = self.publication.step(cause)?;
        self.page.writer.update(|page| *page = fields);
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu_ns = cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs();
        self.shared.cpu_time_ns.store(cpu_ns, Ordering::Relaxed);
        self.shared.updates.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// This machine's own vmclock page, which tells when the machine itself was migrated: its counter
/// then jumped, and the kernel's clock, which runs on it, jumped with it.
struct Device {
    clock: VmClock,
    last: Continuity,
}

impl Device {
    fn open(published: &Path) -> Option<Self> {
        if published == Path::new(DEVICE_PATH) {
            return None;
        }
        let mut clock = VmClock::open(Some(Path::new(DEVICE_PATH)), Options::default()).ok()?;
        let last = clock.continuity().ok()?;
        Some(Self { clock, last })
    }

    /// Whether marker and generation changed since the last call. A page that cannot be read now
    /// tells it later.
    fn changed(&mut self) -> (bool, bool) {
        let Ok(now) = self.clock.continuity() else {
            return (false, false);
        };
        let before = std::mem::replace(&mut self.last, now);
        (
            before.disruption_marker != now.disruption_marker,
            before.vm_generation != now.vm_generation,
        )
    }
}

/// A valid page to take over.
struct Found {
    file: File,
    writer: PageWriter,
    fields: RawFields,
    /// Its last writer died in the middle of an update.
    torn: bool,
}

/// Opens the page at `path` to go on with it. `None` where there is none, or one that is not worth
/// going on with: too small, another version, or open to others, whom readers refuse.
fn take_over(path: &Path) -> Result<Option<Found>, Error> {
    let untrusted = |reason: String| Error::Untrusted {
        path: path.to_path_buf(),
        reason,
    };
    // Without O_NONBLOCK a FIFO would hang here.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
            return Err(untrusted(
                "a page is published to a regular file, and this is a folder, a link, a device or \
                 a pipe: give another path"
                    .to_owned(),
            ));
        }
        Err(errno) => return Err(failed("open", path, errno.into())),
    };
    let metadata = file
        .metadata()
        .map_err(|error| failed("fstat", path, error))?;
    if !metadata.is_file() {
        return Err(untrusted(
            "a page is published to a regular file, and this is a device or a pipe: give another \
             path"
                .to_owned(),
        ));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(untrusted(format!(
            "this file belongs to user {}; publish to a path of your own",
            metadata.uid()
        )));
    }
    let mut magic = Vec::new();
    (&mut file)
        .take(4)
        .read_to_end(&mut magic)
        .map_err(|error| failed("read", path, error))?;
    if magic != VMCLOCK_MAGIC.to_le_bytes() {
        if metadata.len() == 0 {
            return Ok(None);
        }
        // Never replace what is not a page: somebody mistyped a path.
        magic.resize(4, 0);
        let found = magic
            .iter()
            .rev()
            .fold(0, |word, byte| (word << 8) | u32::from(*byte));
        return Err(Error::BadMagic {
            path: path.to_path_buf(),
            found,
        });
    }
    if metadata.len() < u64::from(SIZE_FULL) || metadata.mode() & 0o022 != 0 {
        return Ok(None);
    }
    let writer = PageWriter::from_file(&file, path, 0)?;
    let header = writer.header();
    let fields = writer.fields();
    if header.size < SIZE_FULL
        || u64::from(header.size) > metadata.len()
        || fields.version != VMCLOCK_VERSION
    {
        return Ok(None);
    }
    let torn = writer.seq_count() & 1 == 1;
    Ok(Some(Found {
        file,
        writer,
        fields,
        torn,
    }))
}

fn create_default_folder(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o755).create(folder_of(path)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("mkdir", path, error)),
    }
}

fn require_trusted_counter() -> Result<(), Error> {
    let refuse = |reason: &str| {
        Err(Error::UntrustedCounter {
            reason: format!(
                "{reason}; time from it can be wrong without notice: publish anyway only if you \
                 know better (--accept-counter), or publish a marker without time"
            ),
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
