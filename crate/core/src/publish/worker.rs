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

/// The time after which tzdata's list is read again: a package update may have replaced it.
const LEAP_SECONDS_AGE: Duration = Duration::from_secs(6 * 3600);

/// The kinds of events: a step of the clock, a disruption, a new generation.
const EVENT_KINDS: usize = 3;

/// The state that the thread shares with its owner.
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
        // This fails only if the thread is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// A request of the owner, and the channel on which it waits for the result.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) cause: Cause,
    pub(super) done: SyncSender<Result<(), Error>>,
}

/// A page that this process writes, in a file or in memory. Dropping it marks the page unreliable and then
/// releases the file's lock.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) writer: PageWriter,
    _lock: Option<Lock>,
}

impl Published {
    /// Takes a page in a file, and the right to publish it.
    pub(super) fn in_file(writer: PageWriter, lock: Lock) -> Self {
        Self {
            writer,
            _lock: Some(lock),
        }
    }

    /// Takes a page in memory.
    pub(super) fn in_memory(writer: PageWriter) -> Self {
        Self {
            writer,
            _lock: None,
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.writer
            .update(|fields| fields.clock_status = VMCLOCK_STATUS_UNRELIABLE);
    }
}

/// The publisher's thread and all that it owns.
pub(super) struct Worker {
    // Dropped in this order: the page is marked and unlocked before a waiting owner gets its result.
    pub(super) page: Published,
    pub(super) inbox: Receiver<Command>,
    pub(super) publication: Publication<KernelSource<KernelClock>, CpuCounter>,
    pub(super) alarm: StepAlarm,
    pub(super) device: Option<Device>,
    /// The time of the next update. A wake-up that updates nothing does not move it: a device that is written
    /// all the time must not delay the updates.
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

    /// Publishes until the owner closes the page, and returns the channel on which it waits.
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
                    // A mistake of the caller, and no failure of this thread.
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

    /// Returns an event of the clock or the machine that the page does not show yet, one at a time.
    fn pending_events(&mut self) -> Option<Cause> {
        if self.alarm.went_off() {
            return Some(Cause::ClockStep);
        }
        let has_generation = self.publication.has_generation();
        let event = self.device.as_mut()?.pending_events()?;
        (event != Cause::BumpGeneration || has_generation).then_some(event)
    }

    /// Waits until an update is due, the clock was stepped, or a command or a device notification arrives.
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
                    // This finds nothing if the alarm ended the wait.
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
            // The event may lie before the sample, which then must not be shown.
            fields = self.publication.step(cause)?;
        }
        self.due_at = Instant::now() + self.publication.next_within();
        *locked(&self.shared.no_bound) = self.publication.no_bound();
        // A page without time rarely changes, and watchers wait for its sequence number.
        if fields != self.page.writer.fields() {
            let extension = self.publication.extension();
            self.page.writer.publish(&fields, &extension);
            self.shared.updates.fetch_add(1, Ordering::Relaxed);
        }
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu_ns = cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs();
        self.shared.cpu_time_ns.store(cpu_ns, Ordering::Relaxed);
        Ok(())
    }
}

/// This machine's own vmclock page, which reports that the machine itself was migrated. Then its counter jumped,
/// and with it the kernel's clock, which runs on the counter.
pub(super) struct Device {
    clock: VmClock,
    last: Continuity,
    alarm: Option<DeviceAlarm>,
}

impl Device {
    /// Opens the device. It must be open before the first sample, so that no migration is missed.
    pub(super) fn open(published: &Path) -> Option<Self> {
        if published == Path::new(DEVICE_PATH) {
            return None;
        }
        let mut clock = VmClock::open(Path::new(DEVICE_PATH), Options::default()).ok()?;
        let last = clock.continuity_token().ok()?;
        Some(Self {
            clock,
            last,
            alarm: None,
        })
    }

    /// Returns whether the device has a generation counter.
    pub(super) fn has_generation(&self) -> bool {
        self.last.vm_generation.is_some()
    }

    /// Lets the driver's notifications wake the publisher from now on.
    ///
    /// Until the publisher notices a migration, its page gives readers a wrong time. If the device cannot be
    /// watched, for example because it is stuck in an update, the publisher looks at each interval.
    pub(super) fn arm(&mut self, shared: &Arc<Shared>) {
        self.alarm = DeviceAlarm::new(&self.clock, Arc::clone(shared)).ok();
        // No notification comes for a change before the watcher's first look.
        shared.wake();
    }

    /// Returns a change of the device's page, one at a time. If the page cannot be read now, a later call
    /// returns the change.
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
        // Without notifications the publisher itself looks at the device, so this interval is the longest.
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
    // The value is always replaced whole, so that a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
