//! The thread that keeps a page up to date.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::device::{Device, DeviceAlarm};
use super::lock::Lock;
use super::shared::{Shared, locked};
use super::trusted_counter::require_trusted_counter;
use super::{Cause, Publication};
use crate::abi::VMCLOCK_STATUS_UNRELIABLE;
use crate::counter::CpuCounter;
use crate::error::Error;
use crate::extension::Extension;
use crate::machine::vmgenid;
use crate::snapshot::RawFields;
use crate::source::best::MachineSource;
use crate::source::kernel::leap_seconds::LeapSeconds;
use crate::source::kernel::step_alarm::StepAlarm;
use crate::writer::PageWriter;

/// The time after which tzdata's list is read again: a package update may have replaced it.
const LEAP_SECONDS_AGE: Duration = Duration::from_secs(6 * 3600);

/// A request of the owner, and the channel on which it waits for the result.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) cause: Cause,
    pub(super) done: SyncSender<Result<(), Error>>,
}

/// A page that this process writes, in a file or in memory. Dropping it marks the page unreliable, unless it is kept,
/// and then releases the file's lock.
#[derive(Debug)]
pub(super) struct Published {
    writer: PageWriter,
    extension: Extension,
    /// The page stays as it is for the next publisher.
    is_kept: bool,
    lock: Option<Lock>,
}

impl Published {
    /// Takes a page in a file, and the right to publish it.
    pub(super) fn in_file(writer: PageWriter, lock: Lock) -> Self {
        Self {
            writer,
            extension: Extension::default(),
            is_kept: false,
            lock: Some(lock),
        }
    }

    /// Takes a page in memory.
    pub(super) fn in_memory(writer: PageWriter) -> Self {
        Self {
            writer,
            extension: Extension::default(),
            is_kept: false,
            lock: None,
        }
    }

    /// Fails if readers no longer find the page at its path.
    fn require_name(&self) -> Result<(), Error> {
        match self.lock.as_ref().and_then(Lock::lost_name) {
            None => Ok(()),
            Some(reason) => Err(Error::Stopped {
                path: self.path().to_path_buf(),
                reason: reason.to_owned(),
            }),
        }
    }

    /// Returns whether the page lies in a file.
    pub(super) fn is_in_file(&self) -> bool {
        self.lock.is_some()
    }

    /// Returns the page's path as it was given.
    pub(super) fn path(&self) -> &Path {
        self.writer.path()
    }

    /// Shows fields and extension. Returns `false` if the page shows them already.
    fn show(&mut self, fields: &RawFields, extension: &Extension) -> bool {
        let is_new = *fields != self.writer.fields() || *extension != self.extension;
        if is_new {
            self.write(fields, extension);
        }
        is_new
    }

    /// Writes fields and extension in one update.
    pub(super) fn write(&mut self, fields: &RawFields, extension: &Extension) {
        self.extension = *extension;
        // The owner of a file may empty it at any time. `require_name` reports that.
        if !self.lock.as_ref().is_some_and(Lock::is_emptied) {
            self.writer.publish(fields, extension);
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if !self.is_kept {
            let fields = RawFields {
                clock_status: VMCLOCK_STATUS_UNRELIABLE,
                ..self.writer.fields()
            };
            // With the extension, which records the device for the next publisher.
            let extension = self.extension;
            self.write(&fields, &extension);
        }
    }
}

/// The publisher's thread and all that it owns.
pub(super) struct Worker {
    // Dropped in this order: the page is marked and unlocked before a waiting owner gets its result.
    pub(super) page: Published,
    pub(super) inbox: Receiver<Command>,
    pub(super) publication: Publication<MachineSource, CpuCounter, Device>,
    pub(super) alarm: StepAlarm,
    /// The kernel's uevents, if the page follows them.
    pub(super) uevents: Option<vmgenid::Listener>,
    pub(super) _device_alarm: Option<DeviceAlarm>,
    /// The time of the next update. A wake-up that updates nothing does not move it: a device that is written
    /// all the time must not delay the updates.
    pub(super) due_at: Instant,
    pub(super) leap_seconds_read: Instant,
    /// The kernel trusted the counter at the start, and nobody answers for it if that changes.
    pub(super) must_stay_trusted: bool,
    pub(super) shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn run(mut self) {
        let closing = match self.publish() {
            Ok(closing) => closing,
            Err(error) => {
                *locked(&self.shared.failure) = Some(match error {
                    // The owner's error names the path again.
                    Error::Stopped { reason, .. } => reason,
                    error => error.to_string(),
                });
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
            while self.hears_restore() {
                self.update(Cause::Restored)?;
            }
            let is_stepped = self.alarm.went_off();
            if is_stepped || self.publication.sees_disruption() {
                self.update(if is_stepped {
                    Cause::ClockStep
                } else {
                    Cause::Interval
                })?;
            }
            while let Ok(Command { cause, done }) = self.inbox.try_recv() {
                if cause == Cause::Close {
                    self.page.is_kept = self.publication.is_kept();
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
                self.page.require_name()?;
                if self.must_stay_trusted {
                    require_trusted_counter()?;
                }
                self.update(Cause::Interval)?;
            }
        }
    }

    /// Returns whether the kernel announced a restore, or may have.
    fn hears_restore(&mut self) -> bool {
        match self.uevents.as_ref().map(vmgenid::Listener::try_wait) {
            None => false,
            Some(Ok(event)) => event.is_some(),
            // The socket can tell nothing more, and would end each wait.
            Some(Err(_)) => {
                self.uevents = None;
                false
            }
        }
    }

    /// Waits until an update is due, the clock was stepped, or a command, a device notification or a uevent arrives.
    fn wait(&self) -> Result<(), Error> {
        loop {
            let left = self.due_at.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut sources = vec![
                PollFd::new(&self.alarm, PollFlags::IN),
                PollFd::new(&self.shared.wake, PollFlags::IN),
            ];
            sources.extend(
                self.uevents
                    .as_ref()
                    .map(|uevents| PollFd::new(uevents, PollFlags::IN)),
            );
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
        if self.alarm.went_off() {
            // The step may lie before the sample, which then must not be shown.
            fields = self.publication.step(Cause::ClockStep)?;
        }
        self.due_at = Instant::now() + self.publication.next_within();
        *locked(&self.shared.report) = self.publication.report();
        // A page without time rarely changes, and watchers wait for its sequence number.
        if self.page.show(&fields, &self.publication.extension()) {
            self.shared.updates.fetch_add(1, Ordering::Relaxed);
        }
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu_ns = cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs();
        self.shared.cpu_time_ns.store(cpu_ns, Ordering::Relaxed);
        Ok(())
    }
}
