//! The thread that keeps a page up to date.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::lock::Lock;
use super::{Cause, Publication, PublishOptions};
use crate::abi::VMCLOCK_STATUS_UNRELIABLE;
use crate::clock::{Options, VmClock};
use crate::counter::CpuCounter;
use crate::error::Error;
use crate::no_bound::NoBound;
use crate::page::DEVICE_PATH;
use crate::source::kernel::KernelSource;
use crate::source::kernel::clock::KernelClock;
use crate::source::kernel::leap_seconds::LeapSeconds;
use crate::source::kernel::step_alarm::StepAlarm;
use crate::time::reading::Continuity;
use crate::watch::Closer;
use crate::writer::PageWriter;

/// How often tzdata's list is read again: a package update may have replaced it.
const LEAP_SECONDS_AGE: Duration = Duration::from_secs(6 * 3600);

/// A step of the clock, a disruption, a new generation.
const EVENT_KINDS: usize = 3;

/// What the thread and its owner both see.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) wake: OwnedFd,
    pub(super) updates: AtomicU64,
    pub(super) cpu_time_ns: AtomicU64,
    pub(super) failure: Mutex<Option<String>>,
    /// As of the last update.
    pub(super) no_bound: Mutex<Option<NoBound>>,
}

impl Shared {
    /// Ends the thread's wait.
    pub(super) fn wake(&self) {
        // Full only if it is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// What the owner wants, and where it waits for that.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) cause: Cause,
    pub(super) done: SyncSender<Result<(), Error>>,
}

/// A page that this publisher holds: marked unreliable when it is dropped, whatever the reason,
/// and the lock is given up after that.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) writer: PageWriter,
    pub(super) _lock: Lock,
}

impl Drop for Published {
    fn drop(&mut self) {
        self.writer
            .update(|fields| fields.clock_status = VMCLOCK_STATUS_UNRELIABLE);
    }
}

/// What the publisher's thread owns.
pub(super) struct Worker {
    // Dropped in this order: the page is marked and unlocked before anybody waiting is let go.
    pub(super) page: Published,
    pub(super) inbox: Receiver<Command>,
    pub(super) publication: Publication<KernelSource<KernelClock>, CpuCounter>,
    pub(super) alarm: StepAlarm,
    pub(super) device: Option<Device>,
    /// When the page is to be brought up to date again. A wake-up that updates nothing leaves it: a
    /// device that is written all the time must not keep the page from being.
    pub(super) due_at: Instant,
    pub(super) leap_seconds_read: Instant,
    pub(super) shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn run(mut self) {
        let closing = match self.publish() {
            Ok(closing) => closing,
            Err(error) => {
                *locked(&self.shared.failure) = Some(error.to_string());
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
            self.wait()?;
            for _ in 0..EVENT_KINDS {
                let Some(cause) = self.pending_events() else {
                    break;
                };
                self.update(cause)?;
            }
            while let Ok(Command { cause, done }) = self.inbox.try_recv() {
                if cause == Cause::Close {
                    return Ok(Some(done));
                }
                match self.update(cause) {
                    // The caller's mistake, not this thread's.
                    Err(error @ Error::InvalidArgument { .. }) => {
                        let _ = done.send(Err(error));
                    }
                    result => {
                        result?;
                        let _ = done.send(Ok(()));
                    }
                }
            }
            if Instant::now() >= self.due_at {
                if self.leap_seconds_read.elapsed() > LEAP_SECONDS_AGE {
                    self.leap_seconds_read = Instant::now();
                    self.publication.set_leap_seconds(LeapSeconds::load());
                }
                self.update(Cause::Interval)?;
            }
        }
    }

    /// What happened to the clock or the machine that the page does not show yet, one thing at a time.
    fn pending_events(&mut self) -> Option<Cause> {
        if self.alarm.went_off() {
            return Some(Cause::ClockStep);
        }
        let has_generation = self.publication.has_generation();
        let told = self.device.as_mut()?.pending_events()?;
        (told != Cause::BumpGeneration || has_generation).then_some(told)
    }

    /// Waits until an update is due, the clock was set, or somebody has something to say.
    fn wait(&self) -> Result<(), Error> {
        loop {
            let left = self.due_at.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut sources = [
                PollFd::new(&self.alarm, PollFlags::IN),
                PollFd::new(&self.shared.wake, PollFlags::IN),
            ];
            match rustix::event::poll(&mut sources, Some(&timeout)) {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    let mut wakes = [0_u8; 8];
                    // Empty if it was the alarm.
                    let _ = rustix::io::read(self.shared.wake.as_fd(), &mut wakes);
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system("poll", None, errno)),
            }
        }
    }

    fn update(&mut self, cause: Cause) -> Result<(), Error> {
        let mut fields = self.publication.step(cause)?;
        if let Some(cause) = self.pending_events() {
            // Perhaps from before this sample was taken, which then must not be shown.
            fields = self.publication.step(cause)?;
        }
        self.due_at = Instant::now() + self.publication.next_within();
        *locked(&self.shared.no_bound) = self.publication.no_bound();
        // A page without time has nothing new to say at most wake-ups, and its sequence number is
        // what watchers wait for.
        if fields != self.page.writer.fields() {
            let no_bound = self.publication.no_bound();
            self.page.writer.publish(&fields, no_bound);
            self.shared.updates.fetch_add(1, Ordering::Relaxed);
        }
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu_ns = cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs();
        self.shared.cpu_time_ns.store(cpu_ns, Ordering::Relaxed);
        Ok(())
    }
}

/// This machine's own vmclock page, which tells when the machine itself was migrated: its counter
/// then jumped, and the kernel's clock, which runs on it, jumped with it.
pub(super) struct Device {
    clock: VmClock,
    last: Continuity,
    alarm: Option<DeviceAlarm>,
}

impl Device {
    /// To be opened before the first sample, so that no migration goes unseen.
    pub(super) fn open(published: &Path) -> Option<Self> {
        if published == Path::new(DEVICE_PATH) {
            return None;
        }
        let mut clock = VmClock::open(Some(Path::new(DEVICE_PATH)), Options::default()).ok()?;
        let last = clock.continuity_token().ok()?;
        Some(Self {
            clock,
            last,
            alarm: None,
        })
    }

    /// Whether the device has a generation counter.
    pub(super) fn has_generation(&self) -> bool {
        self.last.vm_generation.is_some()
    }

    /// From now on the publisher is woken as soon as the driver notifies. Until its publisher has seen a
    /// migration, a page gives readers a time that it has no right to, so this does not wait for the
    /// interval to end. Where it cannot be had, as on a device that is stuck in an update, the
    /// interval remains.
    pub(super) fn arm(&mut self, shared: &Arc<Shared>) {
        self.alarm = DeviceAlarm::new(&self.clock, Arc::clone(shared)).ok();
        // What changed before the watcher's first look, nobody will tell.
        shared.wake();
    }

    /// What changed on the device's page, one thing at a time. A page that cannot be read now tells it
    /// later.
    fn pending_events(&mut self) -> Option<Cause> {
        let now = self.clock.continuity_token().ok()?;
        if now.disruption_marker != self.last.disruption_marker {
            self.last.disruption_marker = now.disruption_marker;
            return Some(Cause::Migrated);
        }
        let before = std::mem::replace(&mut self.last, now);
        (before.vm_generation != now.vm_generation).then_some(Cause::BumpGeneration)
    }
}

/// A thread that sleeps until the driver notifies.
struct DeviceAlarm {
    closer: Closer,
    thread: Option<JoinHandle<()>>,
}

impl DeviceAlarm {
    fn new(device: &VmClock, shared: Arc<Shared>) -> Result<Self, Error> {
        // Where nobody notifies, the publisher looks by itself, so as seldom as any publisher does.
        let mut watcher = device.watch(Some(PublishOptions::INTERVAL_MAX))?;
        let closer = watcher.closer();
        let thread = std::thread::Builder::new()
            .name("vmclock-device".to_owned())
            .spawn(move || {
                while watcher.wait().is_some() {
                    shared.wake();
                }
            })
            .map_err(|error| Error::system("clone", None, error))?;
        Ok(Self {
            closer,
            thread: Some(thread),
        })
    }
}

impl Drop for DeviceAlarm {
    fn drop(&mut self) {
        self.closer.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Locks what two threads share.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
