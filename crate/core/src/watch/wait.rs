//! Waiting for a page to change: by the driver's `poll` where it has one, by a timer elsewhere.
//!
//! The driver answers `POLLIN` until a `read` has seen the page's present sequence number; a look at
//! the mapped page re-arms nothing. So the order is: look, `pread`, look again, then poll. It answers
//! `POLLHUP` where the page's flag 9 (the device notifies) is clear. Kernels before 7.0 have no
//! `.poll` for this device, and the kernel's default answer for such files betrays them by its
//! `POLLOUT`: nobody can write to a vmclock device.
//!
//! The driver asks for the device's interrupt once, when it is bound, and only if flag 9 is set then.
//! Where the flag came later, or the host changes the page without a word, nothing ends a poll but its
//! own time, at whose end the driver looks and answers `POLLIN` after all. So a device that was found
//! silent is polled for no longer than the timer's interval, until it proves that it does notify.
//!
//! Linux, up to 7.3 at least, does not bear that the driver is unbound (by hand, through sysfs) while
//! its device is polled: what the poll waits on is freed under it, and on the way out the kernel kills
//! the thread or hangs. Nothing here can prevent that. The module itself cannot be unloaded for as
//! long as a page is mapped.
//!
//! What only a driver answers comes by way of [`Driver`], so that it can be injected.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::DEFAULT_INTERVAL;
use crate::error::Error;

/// How long a poll for a device that notifies may last. A notification ends it at once, so this only bounds what nobody
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
    /// Waits for the device or for closing.
    fn poll(&mut self, timeout: Duration) -> Result<Polled, Errno>;
    /// Waits for closing alone.
    fn sleep(&mut self, time: Duration) -> Result<(), Errno>;
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Polled {
    /// What the device answered; nothing on closing.
    events: PollFlags,
    /// The time was over: the driver was not told of anything.
    ran_out: bool,
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
            ran_out: begun.elapsed() >= timeout,
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

/// Waits between two looks.
#[derive(Debug)]
pub(super) struct Waiter<D> {
    driver: D,
    interval: Duration,
    /// The driver turned out to have no `.poll`, or to be gone.
    cannot_poll: bool,
    /// Nothing speaks against what the page says, that the device notifies.
    notifies: bool,
    fruitless: u8,
}

impl<D: Driver> Waiter<D> {
    pub(super) fn new(driver: D, interval: Duration) -> Self {
        Self {
            driver,
            interval,
            cannot_poll: false,
            notifies: true,
            fruitless: 0,
        }
    }

    /// The page had something new.
    pub(super) fn saw_update(&mut self) {
        self.fruitless = 0;
    }

    /// Waits for the next look at a page that is not being updated, whose flag 9 is `has_flag`, and
    /// on which `is_unchanged` says that nothing came since the last look.
    pub(super) fn wait(&mut self, has_flag: bool, is_unchanged: impl FnOnce() -> bool) {
        // Should the flag come again: the driver may have been bound without it.
        self.notifies &= has_flag;
        if !has_flag || self.cannot_poll || !self.driver.is_device() {
            return self.sleep(self.interval);
        }
        if self.fruitless >= FRUITLESS {
            self.fruitless = 0;
            return self.rest();
        }
        match self.driver.rearm() {
            Ok(()) => {}
            // An update was begun just now; how long that may last is not for the driver to say.
            Err(Errno::TIMEDOUT | Errno::INTR) => {
                self.fruitless += 1;
                return;
            }
            Err(_) => {
                self.cannot_poll = true;
                return;
            }
        }
        // An update before the `pread` is one that the poll will not report.
        if !is_unchanged() {
            return;
        }
        let longest = if self.notifies {
            self.interval.max(BACKSTOP)
        } else {
            self.interval
        };
        match self.driver.poll(longest) {
            Ok(Polled { events, .. }) if events.intersects(PollFlags::OUT | PollFlags::NVAL) => {
                self.cannot_poll = true;
            }
            Ok(Polled { events, ran_out }) if events.contains(PollFlags::IN) => {
                self.notifies = !ran_out;
                self.fruitless += 1;
            }
            // The page lost its flag, and who knows what else happened to it.
            Ok(Polled { events, .. }) if !events.is_empty() => self.fruitless += 1,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => self.cannot_poll = true,
        }
    }

    /// Waits by the timer alone.
    pub(super) fn sleep(&mut self, time: Duration) {
        match self.driver.sleep(time) {
            // Looks a little early.
            Ok(()) | Err(Errno::INTR) => {}
            // Out of memory, or denied by a filter of system calls: a watcher must not spin on that
            // either. Nothing ends this sleep when it is closed, and whoever closes waits for it.
            Err(_) => std::thread::sleep(time.min(DEFAULT_INTERVAL)),
        }
    }

    /// Waits as long as a page, or its driver, that gives no sense is left alone. Nobody tells when it
    /// does again, so this is no longer than the timer's interval is by itself, whatever was asked for
    /// in the belief that the device notifies.
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

    /// Answers by a script, and notes what it was asked.
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

    /// Before the time was over.
    fn soon(events: PollFlags) -> Polled {
        let ran_out = false;
        Polled { events, ran_out }
    }

    /// When the time was over.
    fn late(events: PollFlags) -> Polled {
        let ran_out = true;
        Polled { events, ran_out }
    }

    fn waiter(polls: &[Polled]) -> Waiter<Scripted> {
        let driver = Scripted {
            rearms: VecDeque::new(),
            polls: polls.iter().copied().map(Ok).collect(),
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
        let mut waiter = waiter(&[soon(PollFlags::IN); 2]);
        for _ in 0..2 {
            waiter.wait(true, || true);
            waiter.saw_update();
            assert_eq!(asked(&mut waiter), POLLED);
        }
    }

    #[test]
    fn injected_timeout_a_page_at_rest_is_polled_for_as_long_again() {
        let mut waiter = waiter(&[]);
        waiter.wait(true, || true);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), [POLLED, POLLED].concat());
    }

    #[test]
    fn injected_late_pollin_a_silent_device_is_looked_at_by_the_timer_until_it_notifies() {
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
    fn injected_flag_that_comes_later_is_not_relied_on_before_a_notification() {
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
    fn injected_change_before_the_rearming_read_is_looked_at_and_not_polled_for() {
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
    fn injected_pollhup_the_page_that_lost_its_flag_is_looked_at_at_once() {
        let mut waiter = waiter(&[soon(PollFlags::HUP)]);
        waiter.wait(true, || true);
        assert_eq!(asked(&mut waiter), POLLED);
    }

    #[test]
    fn injected_answers_without_end_are_not_spun_on() {
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
    fn injected_etimedout_of_a_read_is_looked_into_and_not_spun_on() {
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
    fn injected_nonsense_is_not_left_alone_for_longer_than_by_default() {
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
