//! Waits for a page to change: by the driver's `poll` if it has one, else by a timer.
//!
//! The driver's rules (`ptp_vmclock.c`):
//!
//! - It answers `POLLIN` until a `read` has seen the page's present sequence number. A look at the mapped
//!   page re-arms nothing. So the order is: look, `pread`, look again, then poll.
//! - It answers `POLLHUP` if the page's flag 9 (NOTIFICATION_PRESENT) is clear.
//! - Before Linux 7.0 it has no `.poll`. The kernel's default answer then contains `POLLOUT`, which
//!   identifies such a driver, because nobody can write to a vmclock device.
//! - It requests the device's interrupt once, when it is bound, and only if flag 9 is set then. The flag
//!   may be set later, or the host may change the page without an interrupt. Then only the poll's own
//!   timeout ends the poll, and at that moment the driver looks at the page and may answer `POLLIN`. So
//!   a device that did not notify is polled for one interval at most, until it notifies.
//!
//! Linux up to 7.3 at least has a fault: somebody may unbind the driver (by hand, through sysfs) while a
//! thread polls its device. The kernel frees the object that the poll waits on, and then kills the
//! thread or hangs. Nothing here can prevent that. The module cannot be unloaded while a page is mapped.
//!
//! [`Driver`] is the interface to the driver, so that tests can inject its answers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::DEFAULT_INTERVAL;
use crate::error::Error;

/// The longest poll of a device that notifies, for a watcher that looks at nothing else.
///
/// A notification ends the poll at once. This limit is for the changes that have no notification. One is
/// an update without an interrupt, which the driver reports at the poll's timeout. The other is another
/// file at the page's path. Six wake-ups a minute cost an idle machine nothing that can be measured.
pub(super) const LONGEST_POLL: Duration = Duration::from_secs(10);

/// The number of successive wake-ups without an update after which the driver is not polled for a while.
///
/// Without this limit a driver that always answers would make the watcher spin. A single such wake-up
/// is normal: the page may change between a look and the following `pread`.
const MAX_USELESS_WAKES: u8 = 3;

/// Closes a watcher from any thread, and ends its wait.
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

    /// Closes the watcher: its wait ends, and it returns no more notices. A second call does nothing.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        // Nobody reads this count, so every later wait ends at once too.
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
    }

    /// Returns true if the watcher was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

/// The system calls of a [`Waiter`].
pub(super) trait Driver {
    /// Returns true if the page is a device, which has a driver.
    fn is_device(&self) -> bool;
    /// Reads the device, so that the next poll reports only later updates.
    fn rearm(&mut self) -> Result<(), Errno>;
    /// Waits until the device answers, the watcher is closed, or `timeout` is over.
    fn poll(&mut self, timeout: Duration) -> Result<Polled, Errno>;
    /// Waits until the watcher is closed or `time` is over.
    fn sleep(&mut self, time: Duration) -> Result<(), Errno>;
}

/// The result of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Polled {
    /// The device's answer; empty after closing.
    events: PollFlags,
    /// The timeout ended the poll, so no notification did.
    timed_out: bool,
}

/// The page's device, if the page is one, and the watcher's closer.
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
        // The first 16 bytes include the sequence number. The offset is always 0: the device has no
        // lseek.
        let mut head = [0_u8; 16];
        rustix::io::pread(file, &mut head, 0).map(|_| ())
    }

    fn poll(&mut self, timeout: Duration) -> Result<Polled, Errno> {
        let wake = self.closer.0.wake.as_fd();
        let Some(file) = &self.file else {
            return Err(Errno::NODEV);
        };
        let mut sources = [
            PollFd::new(file, PollFlags::IN),
            PollFd::new(&wake, PollFlags::IN),
        ];
        let begun = Instant::now();
        rustix::event::poll(&mut sources, Some(&timespec(timeout)))?;
        let [device, _] = sources;
        Ok(Polled {
            events: device.revents(),
            timed_out: begun.elapsed() >= timeout,
        })
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

/// Waits between two looks at the page.
#[derive(Debug)]
pub(super) struct Waiter<D> {
    driver: D,
    interval: Duration,
    /// The longest poll of a device that notifies.
    longest_poll: Duration,
    /// The driver has no `.poll`, or it was removed.
    cannot_poll: bool,
    /// The device is expected to notify: flag 9 says so, and no poll has shown otherwise.
    notifies: bool,
    /// The number of successive wake-ups without an update.
    useless_wakes: u8,
}

impl<D: Driver> Waiter<D> {
    pub(super) fn new(driver: D, interval: Duration, longest_poll: Duration) -> Self {
        Self {
            driver,
            interval,
            longest_poll,
            cannot_poll: false,
            notifies: true,
            useless_wakes: 0,
        }
    }

    /// Notes that the last look found an update.
    pub(super) fn saw_update(&mut self) {
        self.useless_wakes = 0;
    }

    /// Waits for the next look at a page that is not being updated.
    ///
    /// `has_flag` is the page's flag 9. `is_unchanged` looks at the page and returns true if no update
    /// came since the last look.
    pub(super) fn wait(&mut self, has_flag: bool, is_unchanged: impl FnOnce() -> bool) {
        // A flag that is set again proves nothing: the driver may have been bound while it was clear.
        self.notifies &= has_flag;
        if !has_flag || self.cannot_poll || !self.driver.is_device() {
            return self.sleep(self.interval);
        }
        if self.useless_wakes >= MAX_USELESS_WAKES {
            self.useless_wakes = 0;
            return self.rest();
        }
        // The poll does not report an update that came before the `pread`.
        if self.rearm() && is_unchanged() {
            self.poll();
        }
    }

    /// Re-arms the driver, and returns true if a poll may follow.
    fn rearm(&mut self) -> bool {
        match self.driver.rearm() {
            Ok(()) => return true,
            // An update is in progress. The watcher decides how long that may last.
            Err(Errno::TIMEDOUT | Errno::INTR) => self.useless_wakes += 1,
            Err(_) => self.cannot_poll = true,
        }
        false
    }

    fn poll(&mut self) {
        let timeout = if self.notifies {
            self.interval.max(self.longest_poll)
        } else {
            self.interval
        };
        match self.driver.poll(timeout) {
            Ok(Polled { events, .. }) if events.intersects(PollFlags::OUT | PollFlags::NVAL) => {
                self.cannot_poll = true;
            }
            Ok(Polled { events, timed_out }) if events.contains(PollFlags::IN) => {
                self.notifies = !timed_out;
                self.useless_wakes += 1;
            }
            // Flag 9 is clear now, or the device has an error; the next look sees the page itself.
            Ok(Polled { events, .. }) if !events.is_empty() => self.useless_wakes += 1,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => self.cannot_poll = true,
        }
    }

    /// Waits by the timer alone.
    pub(super) fn sleep(&mut self, time: Duration) {
        match self.driver.sleep(time) {
            // After an interrupt the next look comes a little early.
            Ok(()) | Err(Errno::INTR) => {}
            // The system is out of memory, or a filter denies the system call. The watcher must not spin
            // on that. Closing does not end this sleep, and a thread that closes the watcher waits for it.
            Err(_) => std::thread::sleep(time.min(DEFAULT_INTERVAL)),
        }
    }

    /// Waits before the next look at a page, or the next poll of a driver, that has a fault.
    ///
    /// Nobody reports the end of the fault. So this never waits longer than the default interval: a
    /// caller may have chosen a longer interval because the device notifies.
    pub(super) fn rest(&mut self) {
        self.sleep(self.interval.min(DEFAULT_INTERVAL));
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

    /// A driver that answers by a script, and records the calls.
    struct Scripted {
        rearms: VecDeque<Result<(), Errno>>,
        polls: VecDeque<Result<Polled, Errno>>,
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

        fn poll(&mut self, timeout: Duration) -> Result<Polled, Errno> {
            self.asked.push(Asked::Poll(timeout));
            self.polls
                .pop_front()
                .unwrap_or(Ok(late(PollFlags::empty())))
        }

        fn sleep(&mut self, time: Duration) -> Result<(), Errno> {
            self.asked.push(Asked::Sleep(time));
            Ok(())
        }
    }

    /// A poll that ended before its timeout.
    fn soon(events: PollFlags) -> Polled {
        let timed_out = false;
        Polled { events, timed_out }
    }

    /// A poll that its timeout ended.
    fn late(events: PollFlags) -> Polled {
        let timed_out = true;
        Polled { events, timed_out }
    }

    fn waiter(polls: &[Polled]) -> Waiter<Scripted> {
        let driver = Scripted {
            rearms: VecDeque::new(),
            polls: polls.iter().copied().map(Ok).collect(),
            asked: Vec::new(),
        };
        Waiter::new(driver, INTERVAL, LONGEST_POLL)
    }

    fn asked(waiter: &mut Waiter<Scripted>) -> Vec<Asked> {
        std::mem::take(&mut waiter.driver.asked)
    }

    const POLLED: [Asked; 2] = [Asked::Rearm, Asked::Poll(LONGEST_POLL)];
    const SLEPT: [Asked; 1] = [Asked::Sleep(INTERVAL)];

    #[test]
    fn injected_pollin_every_wait_rearms_before_it_polls() {
        let mut waiter = waiter(&[soon(PollFlags::IN); 2]);
        for _ in 0..2 {
            waiter.wait(true, || true);
            waiter.saw_update();
            assert_eq!(asked(&mut waiter), POLLED);
        }
    }

    #[test]
    fn injected_timeout_without_an_update_the_next_poll_is_as_long() {
        let mut waiter = waiter(&[]);
        waiter.wait(true, || true);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), [POLLED, POLLED].concat());
    }

    #[test]
    fn injected_late_pollin_a_silent_device_is_polled_for_one_interval_until_it_notifies() {
        let mut waiter = waiter(&[
            late(PollFlags::IN),
            late(PollFlags::empty()),
            soon(PollFlags::IN),
        ]);
        let briefly = [Asked::Rearm, Asked::Poll(INTERVAL)];
        for expected in [POLLED, briefly, briefly, POLLED] {
            waiter.wait(true, || true);
            waiter.saw_update();
            assert_eq!(asked(&mut waiter), expected);
        }
    }

    #[test]
    fn injected_late_flag_is_not_relied_on_before_a_notification() {
        let mut waiter = waiter(&[late(PollFlags::empty()), soon(PollFlags::IN)]);
        waiter.wait(false, || true);
        assert_eq!(asked(&mut waiter), SLEPT);
        let briefly = [Asked::Rearm, Asked::Poll(INTERVAL)];
        for expected in [briefly, briefly, POLLED] {
            waiter.wait(true, || true);
            waiter.saw_update();
            assert_eq!(asked(&mut waiter), expected);
        }
    }

    #[test]
    fn injected_change_before_the_rearming_read_prevents_the_poll() {
        let mut waiter = waiter(&[]);
        waiter.wait(true, || false);
        assert_eq!(asked(&mut waiter), [Asked::Rearm]);
    }

    #[test]
    fn injected_pollout_a_driver_without_poll_is_not_polled_again() {
        let mut waiter = waiter(&[soon(PollFlags::IN | PollFlags::OUT)]);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), POLLED);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), SLEPT);
    }

    #[test]
    fn injected_pollhup_a_page_without_its_flag_is_looked_at_at_once() {
        let mut waiter = waiter(&[soon(PollFlags::HUP)]);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), POLLED);
    }

    #[test]
    fn injected_endless_answers_do_not_make_it_spin() {
        for answer in [PollFlags::IN, PollFlags::HUP, PollFlags::ERR] {
            let mut waiter = waiter(&[soon(answer); 10]);
            for _ in 0..4 {
                waiter.wait(true, || true);
            }
            assert_eq!(
                asked(&mut waiter),
                [&POLLED[..], &POLLED, &POLLED, &SLEPT].concat()
            );
        }
    }

    #[test]
    fn injected_etimedout_of_a_read_does_not_make_it_spin() {
        let mut waiter = waiter(&[]);
        waiter.driver.rearms = [Err(Errno::TIMEDOUT); 10].into();
        for _ in 0..4 {
            waiter.wait(true, || true);
        }
        assert_eq!(
            asked(&mut waiter),
            [Asked::Rearm, Asked::Rearm, Asked::Rearm, SLEPT[0]]
        );
    }

    #[test]
    fn injected_endless_answers_delay_the_next_look_by_the_default_interval_at_most() {
        let hour = Duration::from_secs(3600);
        let mut waiter = waiter(&[soon(PollFlags::IN); 10]);
        waiter.interval = hour;
        for _ in 0..4 {
            waiter.wait(true, || true);
        }
        let polled = [Asked::Rearm, Asked::Poll(hour)];
        assert_eq!(
            asked(&mut waiter),
            [
                &polled[..],
                &polled,
                &polled,
                &[Asked::Sleep(DEFAULT_INTERVAL)]
            ]
            .concat()
        );
    }

    #[test]
    fn injected_enodev_of_a_read_a_removed_device_is_left_to_the_timer() {
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
        // No test may take that long.
        for _ in 0..2 {
            assert_eq!(device.sleep(Duration::from_secs(3600)), Ok(()));
        }
    }

    #[test]
    fn without_the_flag_the_timer_is_used() {
        let mut waiter = waiter(&[]);
        waiter.wait(false, || true);
        assert_eq!(asked(&mut waiter), SLEPT);
    }
}
