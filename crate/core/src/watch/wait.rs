//! Waiting for a page to change: by the driver's `poll` where it has one, by a timer elsewhere.
//!
//! The driver answers `POLLIN` until a `read` has seen the page's present sequence number; a look at
//! the mapped page re-arms nothing. So the order is: look, `pread`, look again, then poll. It answers
//! `POLLHUP` where the page's flag 9 (the device notifies) is clear. Kernels before 7.0 have no
//! `.poll` for this device, and the kernel's default answer for such files betrays them by its
//! `POLLOUT`: nobody can write to a vmclock device.
//!
//! What only a driver answers comes by way of [`Driver`], so that it can be injected.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::error::Error;

/// How long a poll may last. A notification ends it at once, so this only bounds what nobody
/// announces: an update without an interrupt, which the driver reports when the time runs out, and
/// another file at the page's path. Six wake-ups a minute are nothing to a machine at rest.
pub(super) const BACKSTOP: Duration = Duration::from_secs(10);

/// Wake-ups by the driver, one after another, without anything new on the page, after which it is
/// not asked for a while: a driver that answers so would otherwise be spun on. One is a matter of
/// course, where the page changes between the `pread` and the look before it.
const FRUITLESS: u8 = 3;

/// Ends a watcher's wait, from any thread.
#[derive(Clone, Debug)]
pub struct Closer(Arc<Closing>);

#[derive(Debug)]
struct Closing {
    wake: OwnedFd,
    closed: AtomicBool,
}

impl Closer {
    pub(super) fn new() -> Result<Self, Error> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::system("eventfd", None, errno))?;
        let closed = AtomicBool::new(false);
        Ok(Self(Arc::new(Closing { wake, closed })))
    }

    /// Closes the watcher: it gives up waiting and tells nothing more. Again: does nothing.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        // Never read, so every later wait ends at once, too.
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
    }

    /// Whether the watcher was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

/// What a waiter asks of the system.
pub(super) trait Driver {
    /// Whether there is a device to be asked at all.
    fn is_device(&self) -> bool;
    /// Tells the driver that the page was looked at.
    fn rearm(&mut self) -> Result<(), Errno>;
    /// Waits for the device or for closing; what the device answered, or nothing at the end of the
    /// time or on closing.
    fn poll(&mut self, timeout: Duration) -> Result<PollFlags, Errno>;
    /// Waits for closing alone.
    fn sleep(&mut self, time: Duration) -> Result<(), Errno>;
}

/// The page's device, if it is one, and the way to be closed.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) file: Option<OwnedFd>,
    pub(super) closer: Closer,
}

impl Driver for Device {
    fn is_device(&self) -> bool {
        self.file.is_some()
    }

    fn rearm(&mut self) -> Result<(), Errno> {
        let Some(file) = &self.file else {
            return Err(Errno::NODEV);
        };
        // As far as the sequence number is enough. At 0 again and again: the device has no lseek.
        let mut head = [0_u8; 16];
        rustix::io::pread(file, &mut head, 0).map(|_| ())
    }

    fn poll(&mut self, timeout: Duration) -> Result<PollFlags, Errno> {
        let wake = self.closer.0.wake.as_fd();
        let Some(file) = &self.file else {
            return Err(Errno::NODEV);
        };
        let mut sources = [
            PollFd::new(file, PollFlags::IN),
            PollFd::new(&wake, PollFlags::IN),
        ];
        rustix::event::poll(&mut sources, Some(&timespec(timeout)))?;
        let [device, _] = sources;
        Ok(device.revents())
    }

    fn sleep(&mut self, time: Duration) -> Result<(), Errno> {
        let mut sources = [PollFd::new(&self.closer.0.wake, PollFlags::IN)];
        rustix::event::poll(&mut sources, Some(&timespec(time))).map(|_| ())
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// Waits between two looks.
#[derive(Debug)]
pub(super) struct Waiter<D> {
    driver: D,
    interval: Duration,
    /// The driver turned out to have no `.poll`, or to be gone.
    cannot_poll: bool,
    fruitless: u8,
}

impl<D: Driver> Waiter<D> {
    pub(super) fn new(driver: D, interval: Duration) -> Self {
        Self {
            driver,
            interval,
            cannot_poll: false,
            fruitless: 0,
        }
    }

    /// The page had something new.
    pub(super) fn saw_update(&mut self) {
        self.fruitless = 0;
    }

    /// Waits for the next look at a page that is not being updated, whose flag 9 is `notifies`, and
    /// on which `is_unchanged` says that nothing came since the last look.
    pub(super) fn wait(&mut self, notifies: bool, is_unchanged: impl FnOnce() -> bool) {
        let may_poll = notifies && !self.cannot_poll && self.driver.is_device();
        if !may_poll {
            return self.sleep(self.interval);
        }
        if self.fruitless >= FRUITLESS {
            self.fruitless = 0;
            return self.sleep(self.interval);
        }
        match self.driver.rearm() {
            Ok(()) => {}
            // An update was begun just now; how long that may last is not for the driver to say.
            Err(Errno::TIMEDOUT | Errno::INTR) => return self.sleep(self.interval),
            Err(_) => {
                self.cannot_poll = true;
                return;
            }
        }
        // An update before the `pread` is one that the poll will not report.
        if !is_unchanged() {
            return;
        }
        match self.driver.poll(self.interval.max(BACKSTOP)) {
            Ok(events) if events.intersects(PollFlags::OUT | PollFlags::NVAL) => {
                self.cannot_poll = true;
            }
            // The page's flag changed since the last look, or its driver is being unbound.
            Ok(events) if events.intersects(PollFlags::HUP | PollFlags::ERR) => {
                self.sleep(self.interval);
            }
            Ok(events) if events.contains(PollFlags::IN) => self.fruitless += 1,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => self.cannot_poll = true,
        }
    }

    /// Waits by the timer alone.
    pub(super) fn sleep(&mut self, time: Duration) {
        match self.driver.sleep(time) {
            // Looks a little early.
            Ok(()) | Err(Errno::INTR) => {}
            // Out of memory: a watcher must not spin on that either.
            Err(_) => std::thread::sleep(time.min(self.interval)),
        }
    }

    /// Waits as long as a page at rest is left alone.
    pub(super) fn rest(&mut self) {
        self.sleep(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(7);

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Asked {
        Rearm,
        Poll(Duration),
        Sleep(Duration),
    }

    /// Answers by a script, and notes what it was asked.
    struct Scripted {
        rearms: VecDeque<Result<(), Errno>>,
        polls: VecDeque<Result<PollFlags, Errno>>,
        asked: Vec<Asked>,
    }

    impl Driver for Scripted {
        fn is_device(&self) -> bool {
            true
        }

        fn rearm(&mut self) -> Result<(), Errno> {
            self.asked.push(Asked::Rearm);
            self.rearms.pop_front().unwrap_or(Ok(()))
        }

        fn poll(&mut self, timeout: Duration) -> Result<PollFlags, Errno> {
            self.asked.push(Asked::Poll(timeout));
            self.polls.pop_front().unwrap_or(Ok(PollFlags::empty()))
        }

        fn sleep(&mut self, time: Duration) -> Result<(), Errno> {
            self.asked.push(Asked::Sleep(time));
            Ok(())
        }
    }

    fn waiter(polls: &[Result<PollFlags, Errno>]) -> Waiter<Scripted> {
        let driver = Scripted {
            rearms: VecDeque::new(),
            polls: polls.iter().copied().collect(),
            asked: Vec::new(),
        };
        Waiter::new(driver, INTERVAL)
    }

    fn asked(waiter: &mut Waiter<Scripted>) -> Vec<Asked> {
        std::mem::take(&mut waiter.driver.asked)
    }

    const POLLED: [Asked; 2] = [Asked::Rearm, Asked::Poll(BACKSTOP)];
    const SLEPT: [Asked; 1] = [Asked::Sleep(INTERVAL)];

    #[test]
    fn injected_pollin_every_wait_rearms_before_it_polls() {
        let mut waiter = waiter(&[Ok(PollFlags::IN), Ok(PollFlags::IN)]);
        for _ in 0..2 {
            waiter.wait(true, || true);
            waiter.saw_update();
            assert_eq!(asked(&mut waiter), POLLED);
        }
    }

    #[test]
    fn injected_timeout_an_unannounced_change_is_looked_for_when_the_poll_runs_out() {
        let mut waiter = waiter(&[]);
        waiter.wait(true, || true);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), [POLLED, POLLED].concat());
    }

    #[test]
    fn injected_change_before_the_rearming_read_is_looked_at_and_not_polled_for() {
        let mut waiter = waiter(&[]);
        waiter.wait(true, || false);
        assert_eq!(asked(&mut waiter), [Asked::Rearm]);
    }

    #[test]
    fn injected_pollout_a_driver_without_poll_is_not_polled_again() {
        let mut waiter = waiter(&[Ok(PollFlags::IN | PollFlags::OUT)]);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), POLLED);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), SLEPT);
    }

    #[test]
    fn injected_pollhup_is_waited_out_by_the_timer_and_polled_again() {
        let mut waiter = waiter(&[Ok(PollFlags::HUP)]);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), [&POLLED[..], &SLEPT].concat());
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), POLLED);
    }

    #[test]
    fn injected_pollin_without_end_is_not_spun_on() {
        let mut waiter = waiter(&[Ok(PollFlags::IN); 10]);
        for _ in 0..4 {
            waiter.wait(true, || true);
        }
        assert_eq!(
            asked(&mut waiter),
            [&POLLED[..], &POLLED, &POLLED, &SLEPT].concat()
        );
    }

    #[test]
    fn injected_etimedout_of_a_read_is_waited_out_by_the_timer() {
        let mut waiter = waiter(&[]);
        waiter.driver.rearms = [Err(Errno::TIMEDOUT)].into();
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), [Asked::Rearm, SLEPT[0]]);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), POLLED);
    }

    #[test]
    fn injected_enodev_of_a_read_a_device_that_is_gone_is_left_to_the_timer() {
        let mut waiter = waiter(&[]);
        waiter.driver.rearms = [Err(Errno::NODEV)].into();
        waiter.wait(true, || true);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), [Asked::Rearm, SLEPT[0]]);
    }

    #[test]
    fn closing_ends_every_wait() {
        let closer = Closer::new().unwrap();
        let mut device = Device {
            file: None,
            closer: closer.clone(),
        };
        closer.close();
        // Longer than any test may take.
        for _ in 0..2 {
            assert_eq!(device.sleep(Duration::from_secs(3600)), Ok(()));
        }
    }

    #[test]
    fn without_the_flag_the_timer_looks() {
        let mut waiter = waiter(&[]);
        waiter.wait(false, || true);
        assert_eq!(asked(&mut waiter), SLEPT);
    }
}
